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
"""export.py as a user runs it, and eval.py on what it wrote."""
import json

import numpy as np
import pytest
from PIL import Image

import export as export_script
from src.checkpoint import save_network
from src.checkpoint.file_hash import file_sha256
from src.config import load_config
from src.export.exporter import ExportSettings
from src.modeling.build_sam import build_sam
from src.quantization.scales_file import write_scales
from tests.export.quantized_products import quantization_of
from tests.root_scripts import run


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """(checkpoint of a 64 px nano, annotation JSON of one image with one label)."""
    folder = tmp_path_factory.mktemp("export_script")
    save_network(folder / "nano.ckpt", build_sam("nano", image_size=64, seed=1))
    (folder / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "images" / "1.png")
    (folder / "labels.json").write_text(json.dumps({
        "images": [{"id": 1, "file_name": "1.png", "height": 30, "width": 40}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 3, 10, 10], "area": 100, "iscrowd": 0,
                         "segmentation": [[2, 3, 12, 3, 12, 13, 2, 13]]}],
        "categories": [{"id": 1, "name": "square"}]}))
    return folder / "nano.ckpt", folder / "labels.json"


def test_export_then_evaluate_as_the_checkpoint(monkeypatch, capsys, tmp_path, files):
    checkpoint, labels = files
    folder = tmp_path / "a folder" / "export"  # the framework itself refuses a blank in a path
    code, out, err = run(monkeypatch, capsys, "export.py", f"--export.checkpoint={checkpoint}",
                         f"--export.output_dir={folder}", "--export.formats=[mindir, onnx]", "--export.decoders=[1x3]",
                         "--runtime.device=cpu")
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0] == f"{checkpoint} (nano, 64 px) as float32 to {folder}"
    assert [line.split()[0] for line in lines[1:-1]] == [
        "image_encoder.mindir", "image_encoder.onnx", "mask_decoder_p1_n3.mindir", "mask_decoder_p1_n3.onnx"]
    assert lines[-1] == f"wrote {folder / 'manifest.json'}"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["checkpoint"] == {"name": "nano.ckpt", "sha256": file_sha256(checkpoint)}
    assert set(manifest["versions"]) == {"mindspore", "tinysam"}

    scores = {}
    for name, value in (("checkpoint", checkpoint), ("mindir", folder), ("onnx", folder)):
        output = tmp_path / name
        code, out, err = run(monkeypatch, capsys, "eval.py", f"--eval.{name}={value}", f"--eval.annotations={labels}",
                             f"--eval.output_dir={output}", "--runtime.device=cpu", "--runtime.mode=pynative")
        assert code == 0, err
        scores[name] = json.loads((output / "results.json").read_text())
        assert "(nano, 64 px)" in out
    for name in ("mindir", "onnx"):
        assert scores[name]["settings"]["engine"] == name
        assert scores[name]["settings"]["checkpoint_sha256"] == file_sha256(folder / "manifest.json")
        assert scores[name]["mean_iou"] == pytest.approx(scores["checkpoint"]["mean_iou"], abs=0.01)
    assert "engine" not in scores["checkpoint"]["settings"]


def test_lite_with_pictures(monkeypatch, capsys, tmp_path, files):
    """The one picture of the set, resized to 64 x 48 and normalised, beside the converter's configuration."""
    checkpoint, labels = files
    scales, folder = tmp_path / "scales.json", tmp_path / "out"
    write_scales(scales, quantization_of(build_sam("nano", image_size=64, seed=1), file_sha256(checkpoint)))
    code, out, err = run(monkeypatch, capsys, "export.py", "--quantized", scales, f"--export.checkpoint={checkpoint}",
                         f"--export.output_dir={folder}", "--export.formats=[lite]", "--export.decoders=[1x3]",
                         "--data.format=coco", f"--data.paths=[{labels}]", "--runtime.device=cpu")
    assert code == 0, err
    assert "no data.paths" not in out
    assert sorted(path.name for path in folder.iterdir()) == [
        "calibration", "image_encoder.lite.cfg", "image_encoder.lite.onnx", "manifest.json",
        "mask_decoder_p1_n3.lite.onnx"]
    assert "calibrate_size=1\n" in (folder / "image_encoder.lite.cfg").read_text()
    assert [path.name for path in (folder / "calibration").iterdir()] == ["0000.bin"]
    found = np.fromfile(folder / "calibration" / "0000.bin", "<f4").reshape(3, 64, 64)
    with Image.open(labels.parent / "images" / "1.png") as picture:
        resized = np.asarray(picture.resize((64, 48), Image.Resampling.BILINEAR), np.float64)
    wanted = (resized - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]
    np.testing.assert_allclose(found[:, :48], wanted.transpose(2, 0, 1), atol=1e-5)
    assert not found[:, 48:].any()


def test_lite_with_a_black_picture_ends_in_one_line(monkeypatch, capsys, tmp_path, files):
    checkpoint, labels = files
    scales, folder = tmp_path / "scales.json", tmp_path / "out"
    write_scales(scales, quantization_of(build_sam("nano", image_size=64, seed=1), file_sha256(checkpoint)))
    (tmp_path / "images").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "images" / "1.png")
    (tmp_path / "labels.json").write_bytes(labels.read_bytes())
    code, _, err = run(monkeypatch, capsys, "export.py", "--quantized", scales, f"--export.checkpoint={checkpoint}",
                       f"--export.output_dir={folder}", "--export.formats=[lite]", "--export.decoders=[1x3]",
                       "--data.format=coco", f"--data.paths=[{tmp_path / 'labels.json'}]", "--runtime.device=cpu")
    assert code == 2 and not folder.exists()
    assert err == ("export.py: 1 of 1 calibration pictures are of a single colour, the first is number 1; give "
                   "photographs like those the network will see\n")


def test_what_lite_calibrates_with(capsys):
    """Without paths there are no pictures, which a line says where they would have been; synthetic sets need none."""
    def read(file_format, *options):
        config = load_config(["--quantize.images=2", *options])
        return export_script.read_pictures(config, ExportSettings(formats=(file_format,)), 64), capsys.readouterr().out

    assert read("onnx") == ([], "")
    assert read("lite") == ([], "no data.paths: no image_encoder.lite.cfg\n")
    pictures, out = read("lite", "--data.format=synthetic")
    assert [picture.shape for picture in pictures] == [(1, 3, 64, 64)] * 2 and out == ""
    assert not np.array_equal(*pictures)


@pytest.mark.parametrize("arguments, message", [
    (["--export.checkpoint=no.ckpt"], "checkpoint no.ckpt does not exist; name a file of weights"),
    (["--export.formats=[tflite]"],
     "command line: 'export.formats'[0] is 'tflite'; it must be one of mindir, onnx, air, lite, amct, npu"),
    (["--export.formats=air", "--export.checkpoint=no.ckpt"],
     "export.formats: air is written on an Ascend device only, and this runs on a CPU; leave it out: the converter of "
     "MindSpore Lite takes mindir"),
    (["--export.decoders=[16]", "--export.checkpoint=no.ckpt"],
     "export.decoders: '16' must be prompts x slots, such as 16x11: at least one prompt, and two slots, which a click "
     "or a box takes"),
    (["--export.dtype=int8"], "command line: 'export.dtype' is 'int8'; it must be one of float32, float16"),
])
def test_what_cannot_be_exported_ends_in_one_line(monkeypatch, capsys, tmp_path, arguments, message):
    arguments = [*arguments, f"--export.output_dir={tmp_path / 'out'}", "--runtime.device=cpu"]
    assert run(monkeypatch, capsys, "export.py", *arguments) == (2, "", f"export.py: {message}\n")
    assert not (tmp_path / "out").exists()


def test_weights_of_another_variant_end_in_one_line(monkeypatch, capsys, tmp_path):
    """Without metadata the model section says what the weights are, and they must fit."""
    network = build_sam("nano", image_size=64, seed=1)
    for name in ("variant", "image_size"):
        object.__delattr__(network, name)
    save_network(tmp_path / "bare.safetensors", network)
    code, out, err = run(monkeypatch, capsys, "export.py", f"--export.checkpoint={tmp_path / 'bare.safetensors'}",
                         f"--export.output_dir={tmp_path / 'out'}", "--model.student=tinyvit_5m",
                         "--model.image_size=64", "--runtime.device=cpu")
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert err.startswith(f"export.py: {tmp_path / 'bare.safetensors'} does not fit variant tinyvit_5m")
    assert not (tmp_path / "out").exists()


def test_evaluation_of_what_is_no_export_ends_in_one_line(monkeypatch, capsys, tmp_path, files):
    arguments = [f"--eval.annotations={files[1]}", "--runtime.device=cpu"]
    code, _, err = run(monkeypatch, capsys, "eval.py", f"--eval.mindir={tmp_path}", *arguments)
    assert (code, err) == (2, f"eval.py: {tmp_path}: no manifest.json there; give the folder of an export "
                              "(docs/export.md)\n")
    code, _, err = run(monkeypatch, capsys, "eval.py", "--eval.mindir=a", "--eval.onnx=b", *arguments)
    assert (code, err) == (2, "eval.py: 'eval.mindir' and 'eval.onnx' are set; an evaluation has one of them\n")


def test_help_shows_an_example_and_the_keys(monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "export.py", "--help")
    assert code == 0
    assert "python export.py --export.checkpoint=output/train/student.ckpt" in out and "single_graph: false" in out
