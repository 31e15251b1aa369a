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
"""tools/benchmark_everything.py: its slow ways give what the fast ones give; tables; one run on a tiny network."""
import json
import re
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from PIL import Image

from src.checkpoint import save_network
from src.inference.everything import Counts
from src.inference.mask_filters import box_nms
from src.inference.mask_records import encode_masks
from src.modeling.build_sam import build_sam
from tools.benchmark_everything import compare_records, main, mode_costs, mode_table, run_modes
from tools.everything_steps import STEPS, lengths_of_one, pairwise_nms, step_costs, step_table


def test_run_lengths_of_one_mask_equal_the_encoders():
    masks = np.random.default_rng(0).random((3, 7, 5)) < 0.4
    masks[0] = False
    masks[1, 0, 0] = True  # starts with foreground
    assert [lengths_of_one(np.ascontiguousarray(mask.T).view(np.uint8)) for mask in masks] == encode_masks(masks)


def test_pairwise_suppression_equals_the_vectorised():
    rng = np.random.default_rng(1)
    corners = rng.integers(0, 40, (60, 2))
    boxes = np.concatenate([corners, corners + rng.integers(0, 30, (60, 2))], axis=1)
    scores = rng.integers(0, 9, 60) / 10  # with equal ones
    kept = box_nms(boxes, scores, 0.4).tolist()
    assert pairwise_nms(boxes.tolist(), scores, 0.4) == kept and 5 < len(kept) < 60


def record(mask, iou, point=(1.0, 2.0)):
    return {"segmentation": encode_masks(mask[None])[0], "predicted_iou": iou, "stability_score": 0.9,
            "point_coords": [list(point)]}


def test_records_are_compared_in_order():
    one, other = np.zeros((2, 4, 4), bool)
    one[:2], other[:3] = True, True  # 8 and 12 pixels, IoU 2/3
    empty = np.zeros((4, 4), bool)
    found = compare_records([record(one, 0.5), record(empty, 0.4)], [record(other, 0.75), record(empty, 0.4)])
    assert found == {"masks": [2, 2], "least_iou": pytest.approx(2 / 3), "same_points": True,
                     "largest_difference_predicted_iou": 0.25, "largest_difference_stability_score": 0.0}
    moved = compare_records([record(one, 0.5)], [record(one, 0.5, point=(3.0, 2.0)), record(one, 0.5)])
    assert moved["masks"] == [1, 2] and not moved["same_points"] and moved["least_iou"] == 1.0


def test_costs_are_medians_of_rounds_and_means_of_pictures():
    def counts(seconds):
        return Counts(points=16, decoder_calls=2, candidates=5, full_size_masks=3, encoder_seconds=1.0,
                      decoder_seconds=seconds / 2, seconds=seconds, grid_points=16, largest_logit=None)

    runs = {"a.jpg": {"counts": [counts(2.0), counts(9.0), counts(4.0)], "records": [{}]},
            "b.jpg": {"counts": [counts(8.0)], "records": [{}, {}]}}
    plain = mode_costs(runs)
    assert (plain["seconds"], plain["decoder_seconds"], plain["masks"], plain["points"]) == (6.0, 3.0, 1.5, 16)
    fast = {**plain, "decoder_seconds": 1.5, "seconds": 3.0}
    rows = [line.split() for line in mode_table({"full_plain": plain, "full": fast})]
    assert rows[1] == ["full_plain", "1.5", "16.0", "3.0", "1.000", "3.000", "100.0%", "6.000", "100.0%"]
    assert rows[2][5:] == ["1.500", "50.0%", "3.000", "50.0%"]


def test_everything_is_compiled_before_the_clock_starts():
    events = []

    class Generator:
        def __init__(self, name):
            self.name = name

        def warm_up(self, image):
            events.append(("warm up", self.name, image))

        def run(self, image):
            events.append(("run", self.name, image))
            return [{}], image

    runs = run_modes({"full": Generator("full"), "plain": Generator("plain")}, [("a", 1), ("b", 2)], repeats=1)
    assert events == [("warm up", "full", 1), ("warm up", "plain", 1), ("run", "full", 1), ("run", "plain", 1),
                      ("run", "full", 2), ("run", "plain", 2)]
    assert runs["full"] == {"a": {"counts": [1], "records": [{}]}, "b": {"counts": [2], "records": [{}]}}


def test_steps_say_what_they_saved_and_whether_they_agree():
    steps = [step_costs("first", [(2.0, 0.5, 3e-6), (4.0, 1.0, 1e-6)]), step_costs("second", [(1.0, 1.5, 0.0)]),
             step_costs("third", [(1.0, 1.0, 0.0), (1.0, 0.5, float("inf"))])]
    assert steps[0] == {"step": "first", "plain_seconds": 3.0, "fast_seconds": 0.75, "saved": 0.75, "same_masks": True,
                        "largest_difference": 3e-6}
    assert (steps[2]["same_masks"], steps[2]["largest_difference"]) == (False, None)
    lines = step_table(steps, {"nothing_shared_seconds": 8.0, "fast_seconds": 2.0, "share": 0.25})
    assert [line.split() for line in lines[1:4]] == [
        ["first", "3.0000", "0.7500", "75.0%", "within", "3e-06"], ["second", "1.0000", "1.5000", "-50.0%", "equal"],
        ["third", "1.0000", "0.7500", "25.0%", "other", "masks"]]
    assert lines[4] == "decoder: 8.0000 s with nothing shared, 2.0000 s on the fast path, 25.0% of it"


def test_the_steps_are_the_rows_of_the_document():
    text = (Path(__file__).resolve().parents[2] / "docs" / "everything.md").read_text()
    rows = re.findall(r"^\| (.+?) \|", text[text.index("| step |"):].split("\n\n")[0], re.MULTILINE)
    assert [row.split(":")[0].lower() for row in rows[1:]] == list(STEPS)


@pytest.mark.slow
def test_a_run_on_a_network(tmp_path, capsys):
    save_network(tmp_path / "fresh.ckpt", build_sam("nano", image_size=64, seed=1))
    pixels = np.random.default_rng(2).integers(0, 256, (40, 56, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    status = main(["--checkpoint", str(tmp_path / "fresh.ckpt"), "--images", str(tmp_path / "photo.png"),
                   "--repeats", "1", "--output", str(tmp_path / "b.json"), "--runtime.mode=pynative",
                   "--everything.points_per_side=2", "--everything.points_per_batch=4",
                   "--everything.pred_iou_thresh=0", "--everything.stability_score_thresh=0",
                   "--everything.box_nms_thresh=1"])
    ms.set_context(mode=ms.GRAPH_MODE)
    assert status == 0
    result = json.loads((tmp_path / "b.json").read_text())
    assert {mode: (costs["points"], costs["masks"]) for mode, costs in result["modes"].items()} == {
        "full_plain": (4, 12), "full": (4, 12), "hierarchical": (4, 12)}
    equality = result["equality"]["photo.png"]
    assert equality["masks"] == [12, 12] and equality["same_points"] and equality["least_iou"] > 0.99
    assert [step["step"] for step in result["steps"]] == list(STEPS)
    assert all(step["same_masks"] and step["largest_difference"] < 1e-4 for step in result["steps"])
    decoder = result["decoder"]
    assert decoder["share"] == pytest.approx(decoder["fast_seconds"] / decoder["nothing_shared_seconds"])
    assert decoder["nothing_shared_seconds"] == pytest.approx(result["steps"][0]["plain_seconds"])
    assert decoder["fast_seconds"] == pytest.approx(result["steps"][2]["fast_seconds"])
    assert "full against full_plain:" in capsys.readouterr().out


def test_wrong_arguments_are_one_line(tmp_path, capsys):
    assert main(["--checkpoint", "none.ckpt", "--images", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"benchmark_everything.py: {tmp_path}: no picture in this folder")
    assert main(["--checkpoint", "none.ckpt", "--images", str(tmp_path), "--repeats", "0"]) == 2
    assert capsys.readouterr().err == "benchmark_everything.py: --repeats (0) must be at least 1\n"
    assert main(["--checkpoint", "none.ckpt", "--images", str(tmp_path), "--everything.hierarchical=true"]) == 2
    assert capsys.readouterr().err == (
        "benchmark_everything.py: everything.hierarchical=true changes nothing: each mode (full_plain, full, "
        "hierarchical) has its own plan of points; leave it out\n")
