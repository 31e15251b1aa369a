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
"""The protocols as eval.py sees them: settings, tables, files; the everything mode with a real, tiny network."""
import json
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
from PIL import Image

from src.checkpoint.file_hash import file_sha256
from src.data.coco import CocoDataset
from src.data.records import SkipLog
from src.evaluation.box_sources import read_labels
from src.evaluation.protocols import (
    BoxProtocol,
    EverythingProtocol,
    Inputs,
    PointsProtocol,
    ResultsProtocol,
    read_annotators,
)
from src.evaluation.results_log import ResultsLog
from src.inference.everything import EverythingSettings
from src.inference.predictor import SamPredictor
from src.modeling.build_sam import build_sam

SQUARE = [[2, 3, 12, 3, 12, 13, 2, 13]]


@pytest.fixture
def annotations_path(tmp_path):
    """Two pictures of 30 x 40 pixels with a square each, labelled by A and B; federated like LVIS."""
    (tmp_path / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    for number in (1, 2):
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({
        "images": [{"id": number, "file_name": f"{number}.png", "height": 30, "width": 40,
                    "neg_category_ids": [2], "not_exhaustive_category_ids": []} for number in (1, 2)],
        "categories": [{"id": 1, "frequency": "c"}, {"id": 2, "frequency": "r"}],
        "annotations": [{"id": number, "image_id": number, "category_id": 1, "segmentation": SQUARE,
                         "bbox": [2, 3, 10, 10], "area": 100, "annotator": annotator}
                        for number, annotator in ((1, "A"), (2, "B"))]}))
    return path


@pytest.fixture
def inputs(annotations_path):
    dataset, skipped = CocoDataset([annotations_path], only_usable=False), SkipLog()
    return Inputs(dataset, dataset.image_ids, read_labels(annotations_path, dataset, [1, 2], skipped), skipped)


def section(path, **changes):
    """The section `eval` of the configuration."""
    return SimpleNamespace(**{
        "annotations": str(path), "boxes": "ground_truth", "metric": "coco", "max_detections": 100, "max_points": 2,
        "mask_choice": "confident", "first_mask": "confident", "feed_mask": False, "modes": ("full", "hierarchical"),
        "annotators": "together", "prompt_batch": 4, **changes})


class Filler:
    """Stands in for a SamPredictor: fills each box, or everything where there is none."""

    def set_image(self, image):
        self.size = image.shape[:2]

    def wait(self):
        pass

    def predict_low_res(self, boxes=None, point_coords=None, multimask_output=True, **_):
        count = len(boxes if boxes is not None else point_coords)
        masks = np.ones((count, 3 if multimask_output else 1, *self.size), np.float32)
        for index, (x0, y0, x1, y1) in enumerate(np.zeros((0, 4), int) if boxes is None else boxes.astype(int)):
            masks[index] = -1
            masks[index, :, y0:y1, x0:x1] = 1
        return masks, np.full(masks.shape[:2], 0.75, np.float32)

    def upscale(self, low_res_mask):
        return low_res_mask > 0


def run(protocol, predictor, folder):
    with ResultsLog(folder / "log", protocol.settings) as log:
        scores = protocol.evaluate(predictor, log)
    json.dumps(scores)  # it goes to results.json
    return scores, {title: cells for title, *cells in protocol.rows(scores)}, protocol.write(folder, scores)


def test_box_protocol_prints_what_the_score_rests_on(annotations_path, inputs, tmp_path):
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps([{"image_id": 1, "category_id": 1, "bbox": [2, 3, 10, 10], "score": 0.5}]))
    protocol = BoxProtocol(section(annotations_path, boxes=str(boxes)), inputs)
    digest = file_sha256(boxes)
    assert protocol.settings == {"boxes": "detections", "boxes_sha256": digest, "max_detections": 100,
                                 "prompt_batch": 4, "mask_choice": "confident"}
    scores, rows, (written,) = run(protocol, Filler(), tmp_path / "out")
    assert rows["boxes"] == [f"{boxes} (sha256 {digest[:12]})"]
    assert rows["mask choice"] == ["highest predicted IoU of three masks"]
    assert rows["mask score"] == ["the detection's score"] and rows["maxDets"] == ["100 of an image and category"]
    # One of two labels found: precision 1 at 51 of 101 recalls.
    assert rows["mask AP"] == [f"{51 / 101:.3f}"] and rows["mean IoU"] == ["-"]
    assert [mask["score"] for mask in json.loads(written.read_text())] == [0.5]


def test_box_protocol_with_lvis(annotations_path, inputs, tmp_path):
    """A wrong mask of category 2 on image 1, which lists it as absent, hurts no labelled category."""
    settings = section(annotations_path, metric="lvis", max_detections=300)
    scores, rows, _ = run(BoxProtocol(settings, inputs), Filler(), tmp_path / "out")
    assert scores["ap"] == scores["ap_common"] == pytest.approx(1) and scores["ap_rare"] is None
    assert rows["LVIS AP common"] == ["1.000"] and rows["LVIS AP rare"] == ["-"] and rows["LVIS AR"] == ["1.000"]
    assert rows["maxDets"] == ["300 of an image, all categories"] and rows["mean IoU"] == ["1.000"]


def test_results_protocol_claims_no_boxes_and_no_choice_of_its_own(annotations_path, inputs, tmp_path):
    """Which boxes the masks of a file are of is what eval.boxes says, unless that is its default."""
    results, boxes = tmp_path / "results.json", tmp_path / "boxes.json"
    results.write_text(json.dumps([{"image_id": 1, "category_id": 1, "segmentation": SQUARE, "score": 0.5}]))
    boxes.write_text(json.dumps([{"image_id": 1, "category_id": 1, "bbox": [2, 3, 10, 10], "score": 0.5}]))
    protocol = ResultsProtocol(section(annotations_path, results=str(results)), inputs)
    scores, rows, _ = run(protocol, None, tmp_path / "out")
    assert (scores["boxes_from"], scores["mask_choice"], scores["mask_score"]) == ("as in the file",) * 3
    assert (protocol.settings["boxes"], protocol.settings["mask_choice"]) == ("as in the file",) * 2
    assert rows["boxes"] == rows["mask choice"] == ["as in the file"]
    protocol = ResultsProtocol(section(annotations_path, results=str(results), boxes=str(boxes)), inputs)
    scores, rows, _ = run(protocol, None, tmp_path / "other")
    assert scores["boxes_from"] == str(boxes) and protocol.settings["boxes"] == "detections"
    assert protocol.settings["boxes_sha256"] == file_sha256(boxes)
    assert protocol.settings["mask_choice"] == "as in the file"


def test_points_protocol(annotations_path, inputs, tmp_path):
    protocol = PointsProtocol(section(annotations_path), inputs)
    assert protocol.settings == {"max_points": 2, "first_mask": "confident", "feed_mask": False, "prompt_batch": 4}
    scores, rows, (plot,) = run(protocol, Filler(), tmp_path / "out")
    assert scores["miou"] == pytest.approx([100 / 1200] * 2)  # everything is filled
    assert rows["mean IoU, 1 point"] == rows["mean IoU, 2 points"] == ["0.083"]
    with Image.open(plot) as picture:
        assert picture.format == "PNG" and picture.width > 300


@pytest.fixture
def pynative():
    ms.set_context(mode=ms.PYNATIVE_MODE)
    yield
    ms.set_context(mode=ms.GRAPH_MODE)


def test_everything_protocol_with_a_network(annotations_path, inputs, tmp_path, pynative):
    """4 x 4 points with every mask kept. The first round asks four points; as every logit is confident, all of the
    picture is, and the second round asks none."""
    base = EverythingSettings(points_per_side=4, points_per_batch=8, pred_iou_thresh=0, stability_score_thresh=0,
                              coarse_ratio=0.5, high_score_thresh=-1000)
    protocol = EverythingProtocol(section(annotations_path), inputs, base)
    assert protocol.settings["everything.points_per_side"] == 4 and "everything.hierarchical" not in protocol.settings
    predictor = SamPredictor(build_sam("nano", image_size=64, seed=1))
    scores, rows, written = run(protocol, predictor, tmp_path / "out")
    full, hierarchical = scores["modes"]["full"], scores["modes"]["hierarchical"]
    assert (full["points_per_image"], full["decoder_calls_per_image"]) == (16, 2)
    assert (hierarchical["points_per_image"], hierarchical["decoder_calls_per_image"]) == (4, 1)
    assert 0 < hierarchical["masks_per_image"] <= full["masks_per_image"] and full["miou"] > 0
    assert rows[""] == ["full", "hierarchical", "hierarchical / full"]
    assert rows["points decoded"] == ["16.0", "4.0", "25.0%"] and rows["batches of points"] == ["2.0", "1.0", "50.0%"]
    assert rows["points saved"] == ["0.0%", "75.0%"] and hierarchical["points_saved"] == 0.75
    assert rows["largest logit, median"][0] == f"{full['largest_logit']:.1f}"
    assert rows["seconds, total"][0] == f"{full['seconds_per_image']['total']['mean']:.3f}"
    assert rows["mean IoU of best mask"][0] == f"{full['miou']:.4f}"
    assert written == []


def test_no_mask_in_any_mode_is_said_with_the_way_out(annotations_path, inputs):
    protocol = EverythingProtocol(section(annotations_path), inputs, EverythingSettings())
    seconds = {phase: {"mean": 1.0} for phase in ("encode", "decode", "other", "total")}
    none = {"miou": 0.0, "ar100": 0.0, "ar1000": 0.0, "masks_per_image": 0.0, "points_per_image": 4.0,
            "decoder_calls_per_image": 1.0, "points_saved": 0.0, "largest_logit": None, "seconds_per_image": seconds}
    hint = ("no mask passed the thresholds; lower --everything.pred_iou_thresh or --everything.stability_score_thresh, "
            "or with the weights that ship give --config configs/nano_everything.yaml",)
    scores = {"images": 1, "labels": 1, "modes": {"full": none, "hierarchical": none}}
    assert protocol.rows(scores)[-1] == hint
    scores["modes"]["full"] = {**none, "masks_per_image": 0.5}
    assert hint not in protocol.rows(scores)


def test_plain_decoding_is_a_mode(annotations_path, inputs):
    settings = section(annotations_path, modes=("full_plain",), annotators="apart")
    assert EverythingProtocol(settings, inputs, EverythingSettings()).settings["modes"] == ["full_plain"]


def test_annotators(annotations_path, inputs):
    assert read_annotators(annotations_path) == {1: "A", 2: "B"}
    whole = annotations_path.read_text()
    for key, value, number in (("annotator", None, 2), ("annotator", ["B"], 2), ("id", None, None)):
        content = json.loads(whole)
        content["annotations"][1][key] = value
        annotations_path.write_text(json.dumps(content))
        message = f"labels.json: annotation {number} names no 'annotator' or has no id; set eval.annotators=together"
        with pytest.raises(ValueError, match=message):
            EverythingProtocol(section(annotations_path, annotators="apart"), inputs, EverythingSettings())


def test_a_plan_beside_the_modes_own_is_refused(annotations_path, inputs):
    message = (r"^everything.hierarchical=true changes nothing: each mode \(full, hierarchical\) has its own plan of "
               "points; leave it out$")
    with pytest.raises(ValueError, match=message):
        EverythingProtocol(section(annotations_path), inputs, EverythingSettings(hierarchical=True))


def test_no_mode_is_refused(annotations_path, inputs):
    with pytest.raises(ValueError, match="eval.modes is empty; name some of full, hierarchical, full_plain"):
        EverythingProtocol(section(annotations_path, modes=()), inputs, EverythingSettings())
