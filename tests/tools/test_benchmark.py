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
"""tools/benchmark.py: sides that agree, arithmetic of its tables, multiply-accumulates by hand, refusals."""
import importlib.util
import json
import os
import subprocess

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from src.checkpoint import save_network
from src.data.synthetic import write_coco
from src.export.mindir import MindirGraph, Node, TensorType
from src.modeling.build_sam import build_sam
from tests.root_scripts import run
from tools import benchmark
from tools.benchmark_ours import count_macs
from tools.benchmark_worker import sampled, timed, training_batch


def test_sides_run_and_agree(tmp_path, monkeypatch, capsys):
    """A nano at 64 px; with TINYSAM_REFERENCE_PYTHON the reference too. A second run measures nothing again."""
    if importlib.util.find_spec("openvino") is None:  # not imported: a training step crashes beside it
        pytest.skip("needs the package openvino: pip install -r requirements-edge.txt")
    python = os.environ.get("TINYSAM_REFERENCE_PYTHON")
    if python and subprocess.run([python, "-c", "import torch"], capture_output=True, timeout=300).returncode:
        monkeypatch.delenv("TINYSAM_REFERENCE_PYTHON")
    arguments = ["--variant", "nano", "--image-size", "64", "--only", "encoder", "--repeats", "2", "--threads", "1",
                 "--output", str(tmp_path)]
    assert benchmark.main(arguments) == 0, capsys.readouterr().err
    content = json.loads((tmp_path / "benchmark.json").read_text())
    sides = content["sections"]["encoder"]["sides"]
    assert {"mindspore", "openvino"} <= set(sides) and (tmp_path / "benchmark.png").stat().st_size > 1000
    for side in sides.values():
        assert len(side["all_seconds"]) == 2 and side["seconds"] == np.mean(side["all_seconds"])
        assert side["peak_bytes"] >= side["model_bytes"] > 100e6
    for agreement in content["sections"]["encoder"].get("agreement", {}).values():
        assert agreement["largest_difference"] < 1e-4
    capsys.readouterr()
    monkeypatch.setattr(benchmark, "measure", None)
    assert benchmark.main(arguments) == 0
    assert "encoder: measured before" in capsys.readouterr().out
    assert benchmark.main([*arguments, "--train-prompts", "3"]) == 2
    assert capsys.readouterr().err == (f"benchmark.py: {tmp_path}/benchmark.json: holds results of another "
                                       "train_prompts (16, now 3); give another --output\n")


def test_int8_is_a_side_of_its_own(monkeypatch, capsys, tmp_path):
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("needs the package openvino: pip install -r requirements-edge.txt")
    monkeypatch.delenv("TINYSAM_REFERENCE_PYTHON", raising=False)
    checkpoint, labels = tmp_path / "nano.ckpt", tmp_path / "set" / "instances.json"
    save_network(checkpoint, build_sam("nano", image_size=64, seed=1))
    write_coco(tmp_path / "set", 2, 64, 3)
    code, _, err = run(monkeypatch, capsys, "quantize.py", "--runtime.device=cpu", "--data.format=coco",
                       f"--data.paths=[{labels}]", f"--quantize.checkpoint={checkpoint}", "--quantize.preset=ascend",
                       f"--quantize.output_dir={tmp_path}", "--quantize.metric=mse", "--quantize.candidates=3",
                       "--quantize.rounds=1", "--quantize.prompts=2", "--quantize.images=2")
    assert code == 0, err
    arguments = ["--checkpoint", str(checkpoint), "--scales", str(tmp_path / "scales.json"), "--only", "encoder",
                 "--repeats", "1", "--threads", "1", "--output", str(tmp_path / "out")]
    assert benchmark.main(arguments) == 0, capsys.readouterr().err
    section = json.loads((tmp_path / "out" / "benchmark.json").read_text())["sections"]["encoder"]
    assert list(section["sides"]) == ["mindspore", "openvino", "openvino_int8"]
    assert "openvino_int8" in capsys.readouterr().out


def test_ratios_agreement_and_floor():
    def side(seconds, *values):
        return {"seconds": seconds, "cpu_seconds": seconds**2, "result": {"values": list(values)},
                "peak_bytes": 3 << 20, "model_bytes": 1 << 20}

    stored = benchmark.summary("product", {"reference": side(2.0, 1, -4), "mindspore": side(0.5, 1.5, -4)},
                               {"product_size": 100})
    assert stored["ratio"] == {"reference": 1.0, "mindspore": 0.25}
    assert stored["cpu_ratio"] == {"reference": 1.0, "mindspore": 0.0625}  # 0.25 of 4
    assert stored["agreement"] == {"mindspore": {"largest_difference": 0.125}}  # 0.5 of 4
    assert stored["macs_per_second"] == 2e6  # 100^3 in half a second
    content = {"sections": {"product": stored, "encoder": {"sides": {"mindspore": {
        "seconds": 8.0, "peak_bytes": 3 << 20, "model_bytes": 1 << 20}}}}, "macs": {"encoder": 4e6}}
    lines = benchmark.section_lines("encoder", content)
    assert lines[0].split() == ["encoder", "mindspore", "8.0000", "s", "3", "MiB,", "2", "beyond", "the", "network"]
    assert lines[1].split()[:4] == ["encoder", "floor", "2.0000", "s"]  # 4e6 at 2e6 a second


def test_masks_are_matched_picture_by_picture():
    def rle(first, last):
        mask = np.zeros((4, 4), np.uint8, order="F")
        mask[:, first:last] = 1
        return coco_mask.encode(mask)

    left, right, most = rle(0, 2), rle(2, 4), rle(0, 3)
    # Picture 1: left matches most by 8 / 12, right by 4 / 16; picture 2: nothing found for left.
    found = benchmark.compare({"records": [[left, right], [left]]}, {"records": [[most], []]})
    assert found["masks"] == [3, 1] and found["mean_best_iou"] == pytest.approx((8 / 12 + 4 / 16 + 0) / 3)
    assert benchmark.compare({"records": [[]]}, {"records": [[left]]}) == {"masks": [0, 1], "mean_best_iou": None}


def test_multiply_accumulates_by_hand():
    """[6, 5] x [5, 7]; [2, 3, 4, 8]^T x [2, 3, 4, 9] over 4; a depthwise and a full 3 x 3 convolution on 8 x 8."""
    floats = np.dtype(np.float32)

    def node(op, name, shape, *inputs):
        return Node(op, name, inputs, {}, TensorType(shape, floats))

    graph = MindirGraph(
        {"a": TensorType((6, 5), floats), "x": TensorType((2, 3, 4, 8), floats), "i": TensorType((1, 4, 8, 8), floats)},
        {"w": np.zeros((5, 7), floats), "d": np.zeros((4, 1, 3, 3), floats), "f": np.zeros((10, 4, 3, 3), floats)},
        {"yes": True, "no": False},
        [node("MatMul", "m", (6, 7), "a", "w", "no", "no"),
         node("BatchMatMul", "b", (2, 3, 8, 9), "x", "x", "yes", "no"),
         node("Conv2D", "d1", (1, 4, 8, 8), "i", "d"), node("Conv2D", "f1", (1, 10, 4, 4), "i", "f"),
         node("Add", "s", (6, 7), "m", "m")], "s")
    assert count_macs(graph) == 6 * 7 * 5 + 2 * 3 * 8 * 9 * 4 + 4 * 64 * 9 + 10 * 16 * 4 * 9


def test_inputs_of_all_sides():
    batch = training_batch({"train_size": 64, "train_prompts": 5})
    assert batch["images"].shape == (1, 3, 64, 64) and batch["gt_masks"].shape == (1, 5, 16, 16)
    for mask, (x, y) in zip(batch["gt_masks"][0], batch["point_coords"][0, :, 0] / 4):
        assert mask.sum() == 0 or mask[min(15, int(y)), min(15, int(x))] == 1  # a click lies on its disc
    assert batch["gt_masks"].sum() > 20 and batch["point_labels"][0].tolist() == [[1, -1]] * 5
    values = sampled(np.arange(1000.0), np.full(3, 7.0))["values"]
    assert len(values) == 1024 and values[512:] == [7.0] * 512 and len(set(values[:512])) > 300
    seconds, cpu_seconds, found = timed(lambda: sum(range(10**6)))
    assert found == 499999500000 and seconds > 0 and cpu_seconds > 0


def test_a_side_that_fails_says_why():
    options = {"threads": 1, "checkpoint": "nowhere.ckpt", "image_size": 64}
    with pytest.raises(ValueError, match="the side mindspore has ended with code 1 and said: FileNotFoundError: chec"):
        benchmark.Side("mindspore", "encoder", options)


@pytest.mark.parametrize("arguments, message", [
    (["--repeats", "0"], "--repeats, --threads and --limit must be at least 1"),
    (["--variant", "vit_b"], "variant vit_b is measured by none of the sides; it must be one of tinyvit_5m, nano_"),
    (["--images", "nowhere"], "nowhere: no such"),
    (["--scales", "s.json"], "--scales s.json belongs to a checkpoint; give it as --checkpoint"),
    (["--everything.points=3"], "command line: unknown key 'everything.points'; did you mean"),
])
def test_refusals_are_one_line(capsys, arguments, message):
    assert benchmark.main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"benchmark.py: {message}") and said.count("\n") == 1
