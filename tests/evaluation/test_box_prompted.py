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
"""Box-prompted evaluation with "networks" whose masks are known: the filled box and its inscribed ellipse."""
import json

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from src.data.coco import CocoDataset
from src.data.records import SkipLog
from src.evaluation.box_prompted import evaluate_boxes, segment_boxes
from src.evaluation.box_sources import BoxPrompt, detected_boxes, ground_truth_boxes, read_labels
from src.evaluation.results_log import ResultsLog


def filled_box(box, height, width):
    x0, y0, x1, y1 = (round(value) for value in box)
    mask = np.zeros((height, width), np.uint8)
    mask[y0:y1, x0:x1] = 1
    return mask


def inscribed_ellipse(box, height, width):
    """Pixels whose centre lies in the ellipse."""
    x0, y0, x1, y1 = box
    y, x = np.mgrid[:height, :width] + 0.5
    return ((2 * x - x0 - x1) / (x1 - x0)) ** 2 + ((2 * y - y0 - y1) / (y1 - y0)) ** 2 <= 1


def drawn_ellipse(box, height, width):
    """OpenCV's ellipse of whole-pixel centre and half axes, which loses up to a pixel on each side."""
    x0, y0, x1, y1 = box
    mask = np.zeros((height, width), np.uint8)
    return cv2.ellipse(mask, (int((x0 + x1) / 2), int((y0 + y1) / 2)), (int((x1 - x0) / 2), int((y1 - y0) / 2)),
                       0, 0, 360, 1, -1)


class Drawing:
    """Stands in for a SamPredictor: `draw` gives its best mask of three, the other two are empty; the single mask is
    what `draw` gives without its first row."""

    def __init__(self, draw=filled_box):
        self.draw, self.images = draw, 0

    def set_image(self, image):
        self.size = image.shape[:2]
        self.images += 1

    def wait(self):
        pass

    def predict_low_res(self, boxes, prompt_batch, multimask_output):
        if not multimask_output:
            masks = np.array([self.draw(box, *self.size) for box in boxes], np.int8)
            masks[np.arange(len(boxes)), masks.any(axis=2).argmax(axis=1)] = 0
            return masks[:, None], np.full((len(boxes), 1), 0.4, np.float32)
        masks = np.zeros((len(boxes), 3, *self.size), np.int8)
        masks[:, 1] = [self.draw(box, *self.size) for box in boxes]
        return masks, np.tile(np.array([0.2, 0.7, 0.1], np.float32), (len(boxes), 1))

    def upscale(self, low_res_mask):
        return low_res_mask > 0


IMAGES = [{"id": number, "file_name": f"{number}.png", "height": 20, "width": 30} for number in (1, 2, 3)]
# Image 1: a 10 x 10 square whose box is exact, and one whose box is twice as wide: filled boxes have IoU 1 and 1/2.
ANNOTATIONS = [
    {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[2, 3, 12, 3, 12, 13, 2, 13]], "bbox": [2, 3, 10, 10]},
    {"id": 2, "image_id": 1, "category_id": 2, "segmentation": [[5, 5, 15, 5, 15, 15, 5, 15]], "bbox": [5, 5, 20, 10]},
    {"id": 3, "image_id": 3, "category_id": 1, "segmentation": [[2, 3, 12, 3, 12, 13, 2, 13]], "bbox": [2, 3, 10, 10]},
]


@pytest.fixture
def annotations_path(tmp_path):
    """Three images: 1 has two labels, 2 has none, 3 has one."""
    (tmp_path / "images").mkdir()
    for record in IMAGES:
        Image.new("RGB", (30, 20)).save(tmp_path / "images" / record["file_name"])
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({"images": IMAGES, "annotations": ANNOTATIONS, "categories": [{"id": 1}, {"id": 2}]}))
    return path


def evaluate(predictor, path, log_path, boxes=None, **options):
    dataset, skipped = CocoDataset([path], only_usable=False), SkipLog()
    labels = read_labels(path, dataset, dataset.image_ids, skipped)
    prompts = (ground_truth_boxes(labels, dataset, skipped) if boxes is None
               else detected_boxes(boxes, dataset, dataset.image_ids, 100, skipped))
    with ResultsLog(log_path, {}) as log:
        scores, results = evaluate_boxes(predictor, dataset, prompts, labels, log, skipped, **options)
    return scores, results, skipped


def test_scores_by_hand(annotations_path, tmp_path):
    scores, results, skipped = evaluate(Drawing(), annotations_path, tmp_path / "log")
    assert (scores["images"], scores["masks"]) == (3, 3)
    assert scores["mean_iou"] == pytest.approx((1 + 0.5 + 1) / 3)
    # Category 1 is perfect; IoU 0.5 of category 2 passes one of ten thresholds.
    assert scores["ap"] == pytest.approx((1 + 0.1) / 2)
    assert scores["ap50"] == pytest.approx(1) and scores["ap75"] == pytest.approx(0.5)
    assert [result["score"] for result in results] == [pytest.approx(0.7)] * 3  # the predicted IoU
    for phase in ("encode", "decode", "post"):
        assert 0 < scores["seconds_per_image"][phase]["median"] < 5
    assert not skipped


def test_the_single_mask_instead_of_the_most_confident(annotations_path, tmp_path):
    """It lacks one of ten rows: 90 of 100 pixels twice, 90 of 100 + 110 once (100 pixels are the label's)."""
    scores, results, _ = evaluate(Drawing(), annotations_path, tmp_path / "log", mask_choice="single")
    assert scores["mean_iou"] == pytest.approx((0.9 + 90 / 190 + 0.9) / 3)
    assert [result["score"] for result in results] == [pytest.approx(0.4)] * 3


def test_detections_keep_their_score_and_have_no_mean_iou(annotations_path, tmp_path):
    # The better box scores lower: precision is 1/2 wherever category 1 of image 1 is found; image 3 stays unfound.
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps([{"image_id": 1, "category_id": 1, "bbox": [2, 3, 10, 10], "score": 0.3},
                                 {"image_id": 1, "category_id": 1, "bbox": [20, 3, 5, 5], "score": 0.4}]))
    scores, results, _ = evaluate(Drawing(), annotations_path, tmp_path / "log", boxes)
    assert [result["score"] for result in results] == [0.4, 0.3]
    assert scores["mean_iou"] is None
    # Category 1: 51 of 101 recall points at precision 1/2; category 2: nothing.
    assert scores["ap"] == pytest.approx(51 / 101 / 2 / 2)


def test_second_run_continues_and_gives_the_same_scores(annotations_path, tmp_path):
    first = evaluate(Drawing(), annotations_path, tmp_path / "log")
    lines = (tmp_path / "log").read_text().splitlines()
    (tmp_path / "log").write_text("\n".join(lines[:2]) + "\n")  # cut off after image 1; 2 and 3 are missing
    predictor = Drawing()
    second = evaluate(predictor, annotations_path, tmp_path / "log")
    assert predictor.images == 1  # image 3; image 2 has no box
    first[0].pop("seconds_per_image"), second[0].pop("seconds_per_image")
    assert first[:2] == second[:2]
    done = Drawing()
    evaluate(done, annotations_path, tmp_path / "log")
    assert done.images == 0


def test_unreadable_images_are_counted_and_tried_again(annotations_path, tmp_path):
    broken = tmp_path / "images" / "3.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:40])
    scores, _, skipped = evaluate(Drawing(), annotations_path, tmp_path / "log")
    assert dict(skipped.counts) == {"unreadable images": 1} and "3.png" in str(skipped)
    # Labels of an image that was not seen do not count as missed.
    assert scores["images"] == 2 and scores["ap"] == pytest.approx((1 + 0.1) / 2)
    broken.write_bytes(whole)
    assert evaluate(Drawing(), annotations_path, tmp_path / "log")[0]["images"] == 3


def test_no_readable_image_is_refused(annotations_path, tmp_path):
    for record in IMAGES:
        (tmp_path / "images" / record["file_name"]).unlink()
    with pytest.raises(ValueError, match="none of 3 images could be evaluated; skipped 3: 3 unreadable images"):
        evaluate(Drawing(), annotations_path, tmp_path / "log")


@pytest.mark.data
@pytest.mark.parametrize("draw, mean_iou", [(filled_box, 0.5920), (inscribed_ellipse, 0.6247), (drawn_ellipse, 0.6166)])
def test_known_shapes_on_coco(data_root, tmp_path, draw, mean_iou):
    scores, _, _ = evaluate(Drawing(draw), data_root / "eval" / "coco_val2017" / "instances.json", tmp_path / "log")
    assert scores["mean_iou"] == pytest.approx(mean_iou, abs=5e-5)
    assert (scores["images"], scores["masks"]) == (122, 931)


def test_many_boxes_are_decoded_in_parts():
    """150 boxes in parts of 64, 64 and 22; order and masks are as with one call."""
    class Counting(Drawing):
        parts = []

        def predict_low_res(self, boxes, prompt_batch, multimask_output):
            self.parts.append(len(boxes))
            masks, ious = super().predict_low_res(boxes, prompt_batch, multimask_output)
            ious[:, 1] = 0.5 + boxes[:, 2] / 1000
            return masks, ious

    boxes = [(0.0, 0.0, 1.0 + number % 30, 10.0) for number in range(150)]
    segmentations, ious, seconds = segment_boxes(Counting(), np.zeros((20, 30, 3), np.uint8),
                                                 [BoxPrompt(box, 1) for box in boxes], 16)
    assert Counting.parts == [64, 64, 22]
    assert [coco_mask.area(rle) for rle in segmentations] == [10 * (1 + number % 30) for number in range(150)]
    np.testing.assert_allclose(ious, [0.501 + number % 30 / 1000 for number in range(150)], atol=1e-6)
    assert set(seconds) == {"encode", "decode", "post"} and min(seconds.values()) > 0
