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
"""tools/report.py on results as eval.py writes them."""
import json

import pytest
from PIL import Image

from tools.report import main

SETTINGS = {"variant": "nano", "image_size": 256, "boxes_sha256": None, "max_detections": 100,
            "first_mask": "confident"}
COMMON = {"checkpoint": "student.ckpt", "annotations": "some/where/coco_val2017/instances.json", "settings": SETTINGS,
          "command": "eval.py --eval.limit=3"}
APS = {"ap": 0.25, "ap50": 0.5, "ap75": 0.125, "ap_small": None, "ap_medium": 0.1, "ap_large": 0.4}
BOX = {**COMMON, **APS, "protocol": "box", "metric": "coco", "images": 3, "masks": 9, "mean_iou": 0.75,
       "boxes_from": "ground_truth", "mask_choice": "highest predicted IoU of three masks",
       "mask_score": "predicted IoU"}
LVIS = {**BOX, "metric": "lvis", "ap_rare": 0.1, "ap_common": 0.2, "ap_frequent": None, "mean_iou": None,
        "boxes_from": "far/vitdet.json", "settings": {**SETTINGS, "boxes_sha256": "0123456789abcdef" * 4}}
POINTS = {**COMMON, "protocol": "points", "images": 3, "masks": 9, "miou": [0.5, 0.625, 0.75]}


def mode(miou, seconds):
    return {"miou": miou, "ar100": 0.2, "ar1000": 0.3, "masks_per_image": 40.0, "points_per_image": 1024.0,
            "decoder_calls_per_image": 16.0, "seconds_per_image": {
                phase: {"mean": value, "median": value}
                for phase, value in (("encode", 0.5), ("decode", 1.0), ("other", 0.1), ("total", seconds))}}


EVERYTHING = {**COMMON, "protocol": "everything", "images": 3, "labels": 9,
              "settings": {**SETTINGS, "annotators": "apart", "everything.points_per_side": 32,
                           "everything.coarse_ratio": 0.25, "everything.high_score_thresh": 8.5,
                           "everything.pred_iou_thresh": 0.6, "everything.stability_score_thresh": 0.95},
              "modes": {"full": mode(0.8, 2.0), "hierarchical": mode(0.788, 0.9)}}


def write(folder, **results):
    for name, content in results.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "results.json").write_text(json.dumps(content))
    return [str(folder / name) for name in results]


def lines_of(folder, *arguments):
    assert main([*arguments, "--output", str(folder)]) == 0
    return (folder / "report.md").read_text().splitlines()


def test_one_document_of_all_protocols(tmp_path):
    arguments = write(tmp_path, boxes=BOX, lvis=LVIS, clicks=POINTS, all=EVERYTHING)
    lines = lines_of(tmp_path / "out", *arguments)
    network = "nano, 256 px | coco_val2017/instances.json"
    aps = "0.250 | 0.500 | 0.125 | - | 0.100 | 0.400"
    assert f"| boxes | {network} | 3 | of the labels | 100 | {aps} | 0.750 |" in lines
    assert (f"| lvis | {network} | 3 | vitdet.json, sha256 0123456789ab | 100 | {aps}"
            " | 0.100 | 0.200 | - | - |") in lines
    assert f"| clicks | {network} | 9 | confident | 0.500 | 0.625 | 0.750 |" in lines
    tail = "0.200 | 0.300 | 40.0 | 1024.0 | 16.0 | 0.500 | 1.000"
    row = f"| all | {network} | 3 | 9 | apart"
    assert f"{row} | full | 32 | - | 0.6, 0.95 | 0.800 | 100.0% | {tail} | 2.000 | 100.0% |" in lines
    assert f"{row} | hierarchical | 8 of 32 | 8.5 | 0.6, 0.95 | 0.788 | 98.5% | {tail} | 0.900 | 45.0% |" in lines
    assert any("| masks | points | batches of points | s encode | s decode |" in line for line in lines)
    assert "- clicks: `eval.py --eval.limit=3`" in lines
    for name in ("points.png", "everything.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert picture.width > 300


def test_masks_of_a_file_have_no_network(tmp_path):
    of_a_file = {**BOX, "settings": {key: value for key, value in SETTINGS.items()
                                     if key not in ("variant", "image_size", "checkpoint_sha256")}}
    lines = lines_of(tmp_path, *write(tmp_path, lite=of_a_file))
    assert any(line.startswith("| lite | masks of a file | ") for line in lines)
    lines = lines_of(tmp_path / "out", *write(tmp_path / "new", lite={**of_a_file, "boxes_from": "as in the file"}))
    assert any(line.startswith("| lite | ") and "| 3 | as in the file | 100 |" in line for line in lines)


def test_rows_are_told_apart_by_engine_and_quantization(tmp_path):
    engine = f"openvino w8a8 ascend, scales sha256 {'0123456789abcdef' * 4}"
    results = {name: {**BOX, "settings": {**SETTINGS, "engine": value}} for name, value in (
        ("plain", "mindspore"), ("graph", "mindir"), ("int8", engine))}
    lines = lines_of(tmp_path / "out", *write(tmp_path, **results))
    for name, cell in (("plain", "nano, 256 px"), ("graph", "nano, 256 px, mindir"),
                       ("int8", "nano, 256 px, openvino w8a8 ascend, scales sha256 0123456789ab")):
        assert any(line.startswith(f"| {name} | {cell} | coco_val2017/") for line in lines)


def test_commands_say_what_they_ran_on(tmp_path):
    versions = {"python": "3.11.7", "mindspore": "2.10.0", "machine": "x86_64, Xeon, 2 cores"}
    result = {**POINTS, "settings": {**SETTINGS, "device": "CPU"}, "versions": versions}
    lines = lines_of(tmp_path / "out", *write(tmp_path, clicks=result, bare={**POINTS, "versions": versions}))
    stack = "python 3.11.7, mindspore 2.10.0, x86_64, Xeon, 2 cores"
    assert lines[-2:] == [f"- clicks: `eval.py --eval.limit=3`; CPU; {stack}",
                          f"- bare: `eval.py --eval.limit=3`; {stack}"]


def test_no_mask_is_a_number_of_one_decimal(tmp_path):
    scores = {"full": {**mode(0.0, 2.0), "masks_per_image": 0.0}}
    lines = lines_of(tmp_path / "out", *write(tmp_path, all={**EVERYTHING, "modes": scores}))
    assert any(line.startswith("| all |") and "| 0.0 | 1024.0 | 16.0 |" in line for line in lines)


def test_figures_of_the_paper_are_marked(tmp_path):
    lines = lines_of(tmp_path / "out", *write(tmp_path, boxes=BOX, all=EVERYTHING))
    (tiny,) = [line for line in lines if line.startswith("| TinySAM (paper)")]
    assert "COCO val2017 | all | ViTDet-H | - | 0.423 |" in tiny
    assert sum("(paper" in line for line in lines if line.startswith("|")) == 6 + 6
    everything = [line for line in lines if "(paper, V100)" in line]
    # PAPER.md: points a side, tau, mean IoU; seconds. Shares of 0.6137 and 1.779 s.
    for line, (start, end) in zip(everything, (
            ("full | 32 | - | - | 0.614 | 100.0% |", "| 1.779 | 100.0% |"),
            ("hierarchical | 8 of 32 | 8.5 | - | 0.606 | 98.8% |", "| 0.930 | 52.3% |"),
            ("hierarchical | 4 of 16 | 8.5 | - | 0.552 | 90.0% |", "| 0.357 | 20.1% |"),
            ("hierarchical | 10 of 32 | 8.5 | - | 0.608 | 99.0% |", "| 1.278 | 71.8% |"),
            ("hierarchical | 8 of 32 | 7 | - | 0.602 | 98.1% |", "| 0.815 | 45.8% |"),
            ("hierarchical | 8 of 32 | 10 | - | 0.607 | 98.9% |", "| 1.182 | 66.4% |"))):
        assert f"| {start}" in line and line.endswith(end)
    widths = {line.count("|") for line in lines if line.startswith("| TinySAM (paper)") or line.startswith("| boxes")}
    assert len(widths) == 1  # rows of the paper fill the same columns
    assert len({line.count("|") for line in lines if "V100)" in line or line.startswith("| all")}) == 1


def without(content, *keys):
    return {key: value for key, value in content.items() if key not in keys}


def test_what_an_older_result_lacks_is_a_dash(tmp_path):
    scores = {"full": without(mode(0.8, 2.0), "ar1000", "decoder_calls_per_image"),
              "hierarchical": without(mode(0.7, 1.0), "seconds_per_image")}
    lines = lines_of(tmp_path / "out", *write(
        tmp_path, boxes=without(BOX, "metric", "mask_choice", "mask_score", "ap_small", "boxes_from"),
        clicks={**without(POINTS, "command"), "settings": without(SETTINGS, "first_mask")},
        all={**without(EVERYTHING, "labels"), "settings": SETTINGS, "modes": scores}))
    network = "nano, 256 px | coco_val2017/instances.json"
    aps = "0.250 | 0.500 | 0.125 | - | 0.100 | 0.400"
    assert f"| boxes | {network} | 3 | of the labels | 100 | {aps} | 0.750 |" in lines
    assert f"| clicks | {network} | 9 | - | 0.500 | 0.625 | 0.750 |" in lines and "- clicks: `-`" in lines
    assert (f"| all | {network} | 3 | - | - | full | - | - | - | 0.800 | 100.0% | 0.200 | - | 40.0 | 1024.0 | - "
            "| 0.500 | 1.000 | 2.000 | 100.0% |") in lines
    assert [line for line in lines if "| hierarchical | - |" in line][0].endswith("| - | - | - | - |")


def test_a_result_without_its_scores_is_refused(tmp_path, capsys):
    path, = write(tmp_path, run=without(EVERYTHING, "modes"))
    assert main([path, "--output", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.endswith(
        "results.json: no 'modes' of protocol 'everything'; run this evaluation again\n")


def test_a_path_may_hold_an_equals_sign(tmp_path):
    path, = write(tmp_path / "tau=7", run=POINTS)
    other, = write(tmp_path / "tau=8", run=POINTS)
    lines = lines_of(tmp_path / "out", path, f"mine={other}")
    assert any(line.startswith("| run |") for line in lines) and any(line.startswith("| mine |") for line in lines)


def test_only_what_is_there_is_shown(tmp_path):
    lines = lines_of(tmp_path / "out", f"my student={write(tmp_path, clicks={**POINTS, 'miou': None, 'masks': 0})[0]}")
    assert [line for line in lines if line.startswith("## ")] == [
        "## Point prompts, mean IoU after 1, 2, ... points", "## Commands"]
    assert any(line.startswith("| my student |") for line in lines)
    assert not (tmp_path / "out" / "points.png").exists()


@pytest.mark.parametrize("content, message", [
    (None, "results.json: no such file; give a results.json of eval.py or its folder"),
    ("{", "results.json: not a JSON file"),
    ("[]", "results.json: not a results.json of eval.py"),
    ('{"protocol": "box"}', "results.json: not a results.json of eval.py")])
def test_other_files_are_refused(tmp_path, capsys, content, message):
    path = tmp_path / "results.json"
    if content is not None:
        path.write_text(content)
    assert main([str(path), "--output", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_equal_names_are_refused(tmp_path, capsys):
    first, = write(tmp_path / "a", run=BOX)
    second, = write(tmp_path / "b", run=POINTS)
    assert main([first, second, "--output", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == "report.py: two results are named 'run'; name them apart: NAME=PATH\n"
