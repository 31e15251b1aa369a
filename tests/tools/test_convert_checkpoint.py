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
"""Conversion of weights: values there and back, complete or refused, and real torch files where torch is installed."""
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from src.checkpoint import load_network, read_metadata, read_weights, torch_name
from src.modeling.build_sam import build_sam
from tests.checkpoint import torch_writer as tw
from tools.convert_checkpoint import main

ROOT = Path(__file__).resolve().parents[2]

# Real state dicts, and one with every kind of tensor that torch stores differently, beside what they should read as.
REFERENCE = """
import sys
import numpy as np
import torch
try:  # some builds of torchvision lack their compiled operators, which nothing here calls
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
except RuntimeError:
    pass
from mobile_sam import sam_model_registry as mobile_sam
from segment_anything import sam_model_registry as segment_anything
folder = sys.argv[1]
torch.manual_seed(0)
for name, network in (("vit_t", mobile_sam["vit_t"]()), ("vit_b", segment_anything["vit_b"]())):
    torch.save(network.state_dict(), f"{folder}/{name}.pth")
    chosen = {k: v.numpy().ravel()[:7] for k, v in network.state_dict().items()}
    np.savez(f"{folder}/{name}.npz", **chosen)
base = torch.arange(24.).reshape(2, 3, 4)
kinds = {"plain": base, "permuted": base.permute(2, 0, 1), "sliced": base[:, 1:, ::2], "half": base.half(),
         "bfloat16": base.bfloat16(), "double": base.double(), "long": base.long(), "bool": base > 3,
         "scalar": base[1, 1, 1], "parameter": torch.nn.Parameter(base[0]), "empty": base[:0]}
torch.save({"model": kinds, "epoch": 3}, f"{folder}/kinds.pt")
torch.save(kinds, f"{folder}/kinds_4.pt", pickle_protocol=4)
np.savez(f"{folder}/kinds.npz", **{k: v.detach().float().numpy() for k, v in kinds.items()})
torch.save(base, f"{folder}/old.pth", _use_new_zipfile_serialization=False)
torch.save(torch.nn.Linear(2, 2), f"{folder}/module.pth")
"""


def released(network):
    """Torch name -> array, with what MobileSAM's file holds beside the parameters."""
    weights = {torch_name(name): parameter.asnumpy() for name, parameter in network.parameters_and_names()}
    return {**weights, "image_encoder.head.weight": np.zeros((10, 4), np.float32),
            "image_encoder.patch_embed.seq.0.bn.num_batches_tracked": np.array(5)}


@pytest.fixture(scope="module")
def nano():
    return build_sam("nano", 64, seed=3)


def test_torch_to_ckpt_to_safetensors_to_ckpt(nano, tmp_path, capsys):
    weights = released(nano)
    source = tw.write_state_dict(tmp_path / "nano.pth", weights)
    paths = [tmp_path / name for name in ("nano.ckpt", "nano.safetensors", "again.ckpt")]
    assert main(["--variant", "nano", "--image-size", "64", str(source), str(paths[0])]) == 0
    printed = capsys.readouterr().out.splitlines()
    count, total = len(weights) - 2, sum(array.size for array in weights.values()) - 40 - 1
    assert printed[0] == f"{count} parameters, {total} numbers: all of the network's, all found"
    assert printed[1] == "2 known extras left out, first image_encoder.head.weight"
    digests = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in (source, paths[0])}
    assert printed[2:] == [f"sha256 {digest}  {path}" for path, digest in digests.items()]
    for before, after in zip(paths, paths[1:]):
        assert main([str(before), str(after)]) == 0
    for path in paths:
        assert read_metadata(path) == {"variant": "nano", "image_size": 64}
        found = read_weights(path)
        assert len(found) == count
        for name, array in found.items():
            np.testing.assert_array_equal(array, weights[name])
    load_network(nano, paths[-1])


def refused(capsys, target, *arguments):
    """Run, expect exit status 2 and no file; return (lines of stdout, the one line of stderr)."""
    assert main([str(argument) for argument in (*arguments, target)]) == 2
    printed = capsys.readouterr()
    assert not target.exists() and not list(target.parent.glob(".*"))
    assert printed.err.count("\n") == 1
    return printed.out.splitlines(), printed.err.rstrip("\n")


def test_incomplete_weights_are_listed_and_nothing_is_written(nano, tmp_path, capsys):
    weights = released(nano)
    names = ["mask_decoder.iou_token.weight", "prompt_encoder.no_mask_embed.weight"]
    for name in names:
        del weights[name]
    weights["mask_decoder.new.weight"] = np.zeros(2, np.float32)
    weights["image_encoder.neck.0.weight"] = np.zeros((1, 2), np.float32)
    source = tw.write_state_dict(tmp_path / "nano.pth", weights)
    shape = list(released(nano)["image_encoder.neck.0.weight"].shape)
    lines, error = refused(capsys, tmp_path / "nano.ckpt", "--variant", "nano", source)
    assert sorted(lines) == sorted([f"missing: {name}" for name in names] + [
        "unexpected: mask_decoder.new.weight", f"shape: image_encoder.neck.0.weight [1, 2] instead of {shape}"])
    assert error.startswith(f"{source} does not fit variant nano (image_size 512): 2 of {len(released(nano)) - 2} "
                            "parameters missing, first ")


def test_what_is_refused_before_any_weight_is_read(nano, tmp_path, capsys):
    source, target = tw.write_state_dict(tmp_path / "nano.pth", released(nano)), tmp_path / "nano.ckpt"
    assert refused(capsys, tmp_path / "out.pth", "--variant", "nano", source)[1] == (
        f"{tmp_path / 'out.pth'}: can write .ckpt and .safetensors only")
    assert refused(capsys, target, source)[1].startswith(
        f"{source} does not say which network it is for; add --variant (")
    assert refused(capsys, target, "--variant", "vit_x", source)[1].startswith("unknown variant 'vit_x'; did you mean")
    assert refused(capsys, target, "--variant", "nano", "--image-size", "100", source)[1] == (
        "image_size (100) must be a positive multiple of 64")
    assert str(tmp_path / "absent.pth") in refused(capsys, target, "--variant", "nano", tmp_path / "absent.pth")[1]


def test_another_variant_than_the_file_says(nano, tmp_path, capsys):
    source = tmp_path / "nano.ckpt"
    assert main(["--variant", "nano", "--image-size", "64",
                 str(tw.write_state_dict(tmp_path / "nano.pth", released(nano))), str(source)]) == 0
    capsys.readouterr()
    _, error = refused(capsys, tmp_path / "out.safetensors", "--variant", "nano_teacher", source)
    assert error.startswith(f"{source} holds variant nano (image_size 64), not variant nano_teacher (image_size 512): ")


def test_a_foreign_class_ends_the_conversion(tmp_path, capsys):
    source = tw.write_archive(tmp_path / "evil.pth", tw.program(tw.global_name("os", "system") + b"(X\2\0\0\0idtR"))
    assert refused(capsys, tmp_path / "evil.ckpt", "--variant", "nano", source) == (
        [], f"{source}: pickle asks for os.system; only tensors are read")


def test_help_runs_from_the_repository_root_and_shows_examples():
    command = [sys.executable, "tools/convert_checkpoint.py", "--help"]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300,
                          env={**os.environ, "PYTHONPATH": ""})
    assert made.returncode == 0, made.stderr
    assert "python tools/convert_checkpoint.py --variant vit_b sam_vit_b_01ec64.pth sam_vit_b.ckpt" in made.stdout


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    # TINYSAM_REFERENCE_PYTHON: an interpreter with torch, where this one has none
    python = os.environ.get("TINYSAM_REFERENCE_PYTHON", sys.executable)
    if subprocess.run([python, "-c", "import torch"], capture_output=True, timeout=300).returncode:
        pytest.skip("needs torch, segment-anything and mobilesam-mirror here or in TINYSAM_REFERENCE_PYTHON")
    folder = tmp_path_factory.mktemp("reference")
    made = subprocess.run([python, "-c", REFERENCE, str(folder)], capture_output=True, text=True, timeout=600)
    assert made.returncode == 0, made.stderr
    yield folder
    for path in folder.iterdir():  # 0.8 GB
        path.unlink()


@pytest.mark.reference
@pytest.mark.parametrize("name, variant, extras", [("vit_t", "tinyvit_5m", 31), ("vit_b", "vit_b", 0)])
def test_state_dicts_of_the_reference_networks_convert_completely(name, variant, extras, reference, capsys):
    source, target = reference / f"{name}.pth", reference / f"{variant}.ckpt"
    assert main(["--variant", variant, str(source), str(target)]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith(f"{extras} known extras left out")
    expected, weights = np.load(reference / f"{name}.npz"), read_weights(target)
    assert len(weights) == len(expected.files) - extras
    for key, array in weights.items():
        np.testing.assert_array_equal(array.ravel()[:7], expected[key])


@pytest.mark.reference
@pytest.mark.parametrize("name", ["kinds", "kinds_4"])
def test_tensors_of_every_kind_that_torch_writes(name, reference):
    expected, weights = np.load(reference / "kinds.npz"), read_weights(reference / f"{name}.pt")
    assert sorted(weights) == sorted(expected.files)
    for key in expected.files:
        assert weights[key].shape == expected[key].shape
        np.testing.assert_array_equal(weights[key].astype(np.float32), expected[key])
    assert [str(weights[key].dtype) for key in ("half", "bfloat16", "double", "long", "bool")] == [
        "float16", "float32", "float64", "int64", "bool"]


@pytest.mark.reference
def test_torch_files_of_other_kinds_are_named(reference):
    with pytest.raises(ValueError, match="a bare pickle or the torch format before 1.6, which is not read"):
        read_weights(reference / "old.pth")
    with pytest.raises(ValueError, match=r"pickle asks for torch\.nn\.modules\.linear\.Linear; only tensors are read"):
        read_weights(reference / "module.pth")
