# Copyright 2026 TinySAM on MindSpore contributors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
# ============================================================================
"""quantize.py, eval.py --eval.scales and demo.py --scales as a user runs them, and what calibration refuses."""
import json
import os
import subprocess
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from PIL import Image

from src.checkpoint import save_network
from src.data.synthetic import write_coco
from src.modeling.build_sam import build_sam
from src.quantization.calibrate import Calibration, check_examples
from src.quantization.scales_file import read_scales
from src.quantization.sensitivity import proposal
from src.quantization.settings import QuantizeSettings
from tests.quantization.conftest import small_examples, small_sam
from tests.root_scripts import run

ROOT = Path(__file__).resolve().parent.parent.parent
SHA = "5a" * 32


def test_proposal_takes_the_largest_until_nine_tenths_are_reached():
    assert proposal([("a", 4.0), ("b", 3.0), ("c", 2.1), ("d", 1.0)]) == ["a", "b", "c"]
    assert proposal([(str(index), 1.0) for index in range(20)]) == [str(index) for index in range(12)]  # and no more
    assert proposal([("a", 19.0), ("b", 1.0)]) == ["a"]


@pytest.mark.parametrize("change, message", [
    (lambda e: e[:1], "1 calibration picture; give at least 2, the paper takes 8"),
    (lambda e: [e[0], e[1]._replace(image=np.full_like(e[1].image, -2.1))],
     "1 of 2 calibration pictures are of a single colour, the first is number 2; give photographs"),
    (lambda e: [e[0]._replace(image=np.where(np.arange(64) > 40, 0, -2.1).astype(np.float32)
                              * np.ones((1, 3, 64, 64), np.float32))] * 2, "2 of 2 calibration pictures are"),
    (lambda e: [e[0], e[1]._replace(image=e[1].image * np.nan)], "picture 2 of 2 holds a value that is not finite"),
    (lambda e: [e[0], e[1]._replace(image=e[0].image.copy()), e[0]],
     "3 calibration pictures, but only 1 distinct; give at least 2 that differ, the paper takes 8"),
    (lambda e: [x._replace(valid=0 * x.valid) for x in e], "none of the 2 calibration pictures has a mask to prompt"),
])
def test_pictures_that_scales_cannot_be_learned_from(change, message):
    check_examples(small_examples())
    with pytest.raises(ValueError) as caught:
        check_examples(change(small_examples()))
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("settings, message", [
    ({"weight_bits": 1}, "quantize.weight_bits is 1; it must be an integer from 2 to 8"),
    ({"activation_bits": 9}, "quantize.activation_bits is 9; it must be an integer from 2 to 8"),
    ({"wide_bits": 16}, "quantize.wide_bits is 16; it must be an integer from 2 to 8"),
    ({"wider": ("a",)}, "quantize.wide_bits is 8; with 8 bits elsewhere it must be more, 32 for float"),
    ({"wider": ("a",), "weight_bits": 4, "wide_bits": 6},
     "quantize.wide_bits is 6; with W4A8 elsewhere it must be at least 8, 32 for float"),
    ({"wider": ("a",), "weight_bits": 6, "activation_bits": 4, "wide_bits": 4},
     "quantize.wide_bits is 4; with W6A4 elsewhere it must be at least 6, 32 for float"),
    ({"sign_trick": True, "preset": "ascend"},
     "quantize.sign_trick flips keys of the decoder's attention, which is float by preset ascend; add "
     "--quantize.decoder_attention=quantized, or leave sign_trick out"),
    ({"sign_trick": True, "decoder_attention": "float"}, "which is float by quantize.decoder_attention; add"),
    ({"preset": "other"}, "quantize.preset is 'other'; it must be one of paper, ascend"),
])
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        QuantizeSettings(**settings)


@pytest.mark.parametrize("weight_bits, activation_bits, wide_bits", [(4, 8, 8), (8, 4, 8), (6, 6, 7), (8, 8, 32)])
def test_wider_is_more_of_one_width_and_less_of_none(weight_bits, activation_bits, wide_bits):
    settings = QuantizeSettings(weight_bits=weight_bits, activation_bits=activation_bits, wider=("a",),
                                wide_bits=wide_bits)
    assert (settings.bits("a.b"), settings.bits("b")) == ((wide_bits,) * 2, (weight_bits, activation_bits))


def test_the_sign_trick_goes_with_quantized_attention():
    for options in ({}, {"preset": "ascend", "decoder_attention": "quantized"}):
        assert QuantizeSettings(sign_trick=True, **options).quantizes_decoder_attention()


def test_sensitivity_of_layers_that_depend_on_each_other_is_refused(monkeypatch, capsys):
    for option in ("reparametrise", "sign_trick"):
        code, _, err = run(monkeypatch, capsys, "quantize.py", "--quantize.sensitivity_images=2",
                           f"--quantize.{option}=true")
        assert code == 2 and err.startswith("quantize.py: quantize.sensitivity_images measures one layer at a time")


def test_wider_must_name_products_and_teachers_are_refused(tmp_path, pynative):
    with pytest.raises(ValueError, match="quantize.wider: 'image_encoder.layer' is no product of small, nor a part"):
        Calibration(small_sam(), QuantizeSettings(wider=("image_encoder.layer",), wide_bits=32), SHA, tmp_path)
    kept = Calibration(small_sam(), QuantizeSettings(wider=("image_encoder.neck",), wide_bits=32), SHA, tmp_path).kept
    assert kept["image_encoder.neck.2"] == "named by quantize.wider, float by quantize.wide_bits"
    sam = small_sam()
    sam.image_encoder = ms.nn.Identity()
    with pytest.raises(ValueError, match="variant small has no TinyViT encoder; students are quantized"):
        Calibration(sam, QuantizeSettings(), SHA, tmp_path)


@pytest.mark.parametrize("preset, setting, quantized", [
    ("paper", "preset", True), ("paper", "float", False), ("ascend", "preset", False), ("ascend", "quantized", True)])
def test_the_decoder_s_attention_is_quantized_as_asked(tmp_path, pynative, preset, setting, quantized):
    """Scores, sums and the product that makes masks; nothing of the encoder."""
    made = Calibration(small_sam(), QuantizeSettings(preset=preset, decoder_attention=setting), SHA, tmp_path)
    names = {product.name for product in made.products}
    attention = {"scores", "weighted_sum", "mask_product"}
    found = {name.rpartition(".")[2] for name in names if name.startswith("mask_decoder")} & attention
    assert found == (attention if quantized else set())
    other = Calibration(small_sam(), QuantizeSettings(preset=preset, decoder_attention="float"), SHA, tmp_path)
    changed = names - {product.name for product in other.products}
    assert len(changed) == (15 if quantized else 0)
    assert all("quantize.decoder_attention" in other.kept[name] and name not in made.kept for name in changed)


RUNTIME = ("--runtime.device=cpu", "--runtime.mode=pynative")


def test_one_readable_picture_of_several_is_one(monkeypatch, capsys, tmp_path):
    """The loader puts a usable picture in the place of each broken one, and what is seen twice teaches nothing new."""
    save_network(tmp_path / "nano.ckpt", build_sam("nano", image_size=64, seed=1))
    write_coco(tmp_path / "set", 3, 64, 3)
    for number in (1, 3):
        (tmp_path / "set" / "images" / f"00000{number}.png").write_bytes(b"broken")
    code, _, err = run(monkeypatch, capsys, "quantize.py", f"--quantize.checkpoint={tmp_path / 'nano.ckpt'}",
                       "--data.format=coco", f"--data.paths=[{tmp_path / 'set' / 'instances.json'}]",
                       f"--quantize.output_dir={tmp_path / 'out'}", *RUNTIME)
    assert code == 2 and not (tmp_path / "out" / "scales.json").exists()
    assert err.splitlines()[-1].startswith("quantize.py: 1 calibration picture; give at least 2, the paper takes 8")


def test_scripts_from_a_checkpoint_to_scores_and_a_drawing(monkeypatch, capsys, tmp_path):
    save_network(tmp_path / "nano.ckpt", build_sam("nano", image_size=64, seed=1))
    save_network(tmp_path / "other.ckpt", build_sam("nano", image_size=64, seed=2))
    write_coco(tmp_path / "set", 2, 64, 3)
    labels, scales = tmp_path / "set" / "instances.json", tmp_path / "out" / "scales.json"
    settings = ("--data.format=coco", f"--data.paths=[{labels}]", f"--quantize.output_dir={tmp_path / 'out'}", *RUNTIME)
    code, out, err = run(monkeypatch, capsys, "quantize.py", f"--quantize.checkpoint={tmp_path / 'nano.ckpt'}",
                         *settings, "--quantize.preset=ascend", "--quantize.metric=mse", "--quantize.candidates=3",
                         "--quantize.rounds=1", "--quantize.prompts=2", "--quantize.images=2")
    assert code == 0, err
    assert "| W8A8, ascend |" in out and "products quantized" in out and "search: 100%" in err
    assert sorted(path.name for path in scales.parent.iterdir()) == ["cost.md", "scales.json", "scales_codes.npz"]
    quantization = read_scales(scales)
    assert (quantization.variant, quantization.image_size, quantization.preset) == ("nano", 64, "ascend")
    assert all(q.kind == "uniform" and q.record()["zero_point"] == 0 for layer in quantization.layers
               for q in layer.inputs)
    assert "mask_decoder.mask_product" in quantization.kept

    evaluate = (f"--eval.annotations={labels}", "--eval.limit=1", f"--eval.scales={scales}", *RUNTIME)
    code, out, err = run(monkeypatch, capsys, "eval.py", f"--eval.checkpoint={tmp_path / 'nano.ckpt'}", *evaluate,
                         f"--eval.output_dir={tmp_path / 'eval'}")
    assert code == 0, err
    results = json.loads((tmp_path / "eval" / "results.json").read_text())
    assert results["settings"]["engine"].startswith("w8a8 ascend, scales sha256 ")
    code, _, err = run(monkeypatch, capsys, "eval.py", f"--eval.checkpoint={tmp_path / 'other.ckpt'}", *evaluate,
                       f"--eval.output_dir={tmp_path / 'eval'}")
    assert code == 2 and err.count("\n") == 1 and "give the checkpoint it was made from" in err

    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)).save(tmp_path / "a.png")
    code, out, err = run(monkeypatch, capsys, "demo.py", "--image", tmp_path / "a.png", "--box", "5,5,30,30",
                         "--checkpoint", tmp_path / "nano.ckpt", "--scales", scales, "--device", "cpu", "--mode",
                         "pynative", "--output", tmp_path / "a_masks.png")
    assert code == 0 and (tmp_path / "a_masks.png").is_file(), err


@pytest.mark.parametrize("script, arguments, message", [
    ("quantize.py", ["--quantize.weight_bits=12"], "command line: 'quantize.weight_bits' is 12; it must be at most 8"),
    ("quantize.py", ["--quantize.checkpoint=no.ckpt"],
     "checkpoint no.ckpt does not exist; name a file of weights"),
    ("eval.py", ["--eval.scales=s.json", "--eval.mindir=x"],
     "'eval.scales' quantizes a checkpoint; leave exports and results away"),
])
def test_what_cannot_be_used_ends_in_one_line(monkeypatch, capsys, script, arguments, message):
    assert run(monkeypatch, capsys, script, *RUNTIME, *arguments) == (2, "", f"{script}: {message}\n")


def test_script_checks_its_arguments_and_passes_the_rest_on(tmp_path):
    fake = tmp_path / "python"  # says what it is called with, and where
    fake.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$PWD" "$@"\n')
    fake.chmod(0o755)
    for name in ("a.ckpt", "b.json"):
        (tmp_path / name).touch()

    def script(*arguments):
        return subprocess.run(["bash", str(ROOT / "scripts" / "run_quantize.sh"), *arguments], cwd=tmp_path, timeout=60,
                              capture_output=True, text=True, env={**os.environ, "PYTHON": str(fake)})

    assert script("a.ckpt", "b.json", "--quantize.preset=ascend").stdout.splitlines() == [
        str(ROOT), "quantize.py", f"--quantize.checkpoint={tmp_path / 'a.ckpt'}", "--data.format=coco",
        f"--data.paths=[{tmp_path / 'b.json'}]", "--quantize.preset=ascend"]
    refused = script("a.ckpt")
    assert refused.returncode == 2 and refused.stderr.startswith("run_quantize.sh: usage: bash scripts/run_quantize.sh")


