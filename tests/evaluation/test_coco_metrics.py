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
"""COCO mask AP on cases worked out by hand. The squares below have 100 x 100 pixels: "large" ones."""
import numpy as np
import pytest

from src.evaluation.coco_metrics import average_precision, mask_iou
from src.inference.mask_records import encode_masks


def rle(x0, y0, x1, y1):
    mask = np.zeros((1, 200, 300), bool)
    mask[0, y0:y1, x0:x1] = True
    return encode_masks(mask)[0]


def label(segmentation, category_id=1, image_id=1, area=10000, iscrowd=0, annotation_id=0):
    return {"id": annotation_id, "image_id": image_id, "category_id": category_id, "segmentation": segmentation,
            "area": area, "iscrowd": iscrowd}


def result(segmentation, score=0.9, category_id=1, image_id=1):
    return {"image_id": image_id, "category_id": category_id, "segmentation": segmentation, "score": score}


FIRST, SECOND = rle(0, 0, 100, 100), rle(150, 0, 250, 100)


def test_iou_by_hand():
    # 100 x 100 and the same moved by 20: 80 * 100 shared of 12000.
    assert mask_iou(FIRST, rle(20, 0, 120, 100)) == pytest.approx(8000 / 12000)
    assert mask_iou(FIRST, FIRST) == 1
    assert mask_iou(FIRST, SECOND) == 0
    assert mask_iou(rle(0, 0, 0, 0), rle(0, 0, 0, 0)) == 0
    # A label is never treated as a crowd, whose IoU would be 1 here.
    assert mask_iou(rle(0, 0, 10, 10), FIRST) == pytest.approx(0.01)


def test_perfect_masks_give_one():
    scores = average_precision([1], [label(FIRST), label(SECOND)], [result(FIRST), result(SECOND, 0.8)])
    assert scores == {"ap": pytest.approx(1), "ap50": pytest.approx(1), "ap75": pytest.approx(1), "ap_small": None,
                      "ap_medium": None, "ap_large": pytest.approx(1)}


def test_half_right():
    # One of two labels found: precision 1 up to recall 0.5, which is 51 of the 101 recall points.
    scores = average_precision([1], [label(FIRST), label(SECOND)], [result(FIRST)])
    assert scores["ap"] == pytest.approx(51 / 101)
    # Wrong one first: precision 1/2 up to recall 1/2.
    scores = average_precision([1], [label(FIRST), label(SECOND)], [result(rle(0, 150, 50, 200), 0.95), result(FIRST)])
    assert scores["ap"] == pytest.approx(51 / 101 / 2)


def test_thresholds_count_by_tenths():
    # IoU 8000 / 12000 = 0.667 passes .50 .55 .60 .65: four of ten thresholds.
    scores = average_precision([1], [label(FIRST)], [result(rle(20, 0, 120, 100))])
    assert scores["ap"] == pytest.approx(0.4)
    assert (scores["ap50"], scores["ap75"]) == (pytest.approx(1), 0)


def test_sizes_go_by_the_labels_area():
    labels = [label(FIRST, area=500), label(SECOND, area=5000)]
    scores = average_precision([1], labels, [result(FIRST)])
    assert (scores["ap_small"], scores["ap_medium"], scores["ap_large"]) == (pytest.approx(1), 0, None)


def test_categories_and_images_are_kept_apart():
    labels = [label(FIRST, category_id=1), label(FIRST, category_id=2, image_id=2)]
    right = [result(FIRST, category_id=1), result(FIRST, category_id=2, image_id=2)]
    wrong = [result(FIRST, category_id=1), result(FIRST, category_id=1, image_id=2)]
    assert average_precision([1, 2], labels, right)["ap"] == pytest.approx(1)
    assert average_precision([1, 2], labels, wrong)["ap"] == pytest.approx(0.5)  # category 2: nothing found


def test_masks_on_a_crowd_count_neither_way():
    labels = [label(FIRST), label(rle(150, 0, 300, 200), iscrowd=1)]
    results = [result(SECOND, 0.95), result(FIRST)]
    assert average_precision([1], labels, results)["ap"] == pytest.approx(1)
    assert average_precision([1], labels[:1], results)["ap"] == pytest.approx(0.5)


def test_only_the_best_detections_count():
    results = [result(SECOND, 0.95), result(FIRST, 0.9)]
    assert average_precision([1], [label(FIRST)], results, max_detections=1)["ap"] == 0
    assert average_precision([1], [label(FIRST)], results, max_detections=2)["ap"] == pytest.approx(0.5)


def test_nothing_predicted_is_zero_and_the_arguments_stay():
    labels, results = [label(FIRST)], [result(FIRST)]
    assert average_precision([1, 2], labels, [])["ap"] == 0
    average_precision([1], labels, results)
    assert results == [result(FIRST)] and labels == [label(FIRST)]
