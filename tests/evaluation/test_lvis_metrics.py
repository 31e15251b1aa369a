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
"""LVIS AP by hand, and against a plain implementation of the protocol on drawn masks."""
import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from src.evaluation.coco_metrics import average_precision
from src.evaluation.lvis_metrics import Federation, lvis_average_precision, read_federation
from src.inference.mask_records import encode_masks

HEIGHT, WIDTH = 120, 160
NONE = frozenset()


def rle(x0, y0, x1, y1):
    mask = np.zeros((1, HEIGHT, WIDTH), bool)
    mask[0, y0:y1, x0:x1] = True
    return encode_masks(mask)[0]


def label(segmentation, category_id=1, image_id=1):
    return {"id": 0, "image_id": image_id, "category_id": category_id, "segmentation": segmentation,
            "area": int(coco_mask.area(segmentation)), "iscrowd": 0}


def result(segmentation, score=0.9, category_id=1, image_id=1):
    return {"image_id": image_id, "category_id": category_id, "segmentation": segmentation, "score": score}


def federation(negative=(), not_exhaustive=(), frequency=(), images=(1, 2, 3)):
    return Federation({**{image: NONE for image in images}, **dict(negative)},
                      {**{image: NONE for image in images}, **dict(not_exhaustive)}, dict(frequency))


LEFT, RIGHT = rle(0, 0, 60, 100), rle(80, 0, 150, 100)


def test_wrong_masks_count_only_where_the_category_was_looked_for():
    """Category 1 is labelled on image 1. A better scored wrong mask on image 2 halves the precision only if image 2
    lists category 1 as absent."""
    labels, results = [label(LEFT)], [result(LEFT, 0.8), result(RIGHT, 0.9, image_id=2)]
    unknown = lvis_average_precision([1, 2], labels, results, federation())
    assert unknown["ap"] == pytest.approx(1) and unknown["ar"] == pytest.approx(1)
    absent = lvis_average_precision([1, 2], labels, results, federation(negative={2: frozenset([1])}))
    assert absent["ap"] == pytest.approx(0.5) and absent["ar"] == pytest.approx(1)
    other = lvis_average_precision([1, 2], labels, results, federation(negative={2: frozenset([7])}))
    assert other["ap"] == pytest.approx(1)
    # On an image with labels of the category a wrong mask always counts.
    same_image = [result(LEFT, 0.8), result(RIGHT, 0.9)]
    assert lvis_average_precision([1], labels, same_image, federation())["ap"] == pytest.approx(0.5)


def test_unmatched_masks_are_ignored_where_labels_are_not_exhaustive():
    labels, results = [label(LEFT)], [result(LEFT, 0.8), result(RIGHT, 0.9), result(rle(0, 0, 0, 0), 0.95)]
    assert lvis_average_precision([1], labels, results, federation())["ap"] == pytest.approx(1 / 3)
    some = federation(not_exhaustive={1: frozenset([1])})
    assert lvis_average_precision([1], labels, results, some)["ap"] == pytest.approx(1)
    # The label still has to be found: only one of two is.
    two = [label(LEFT), label(rle(0, 105, 50, 118))]
    assert lvis_average_precision([1], two, results, some)["ap"] == pytest.approx(51 / 101)
    # Not exhaustive for another category: no difference.
    other = federation(not_exhaustive={1: frozenset([2])})
    assert lvis_average_precision([1], labels, results, other)["ap"] == pytest.approx(1 / 3)


def test_frequencies_are_averaged_apart():
    labels = [label(LEFT, category_id=1), label(LEFT, category_id=2), label(LEFT, category_id=3)]
    # Category 1 found; 2 with IoU 50 / 60 = 0.833 (7 of 10 thresholds); 3 not found.
    results = [result(LEFT, category_id=1), result(rle(0, 0, 50, 100), category_id=2)]
    scores = lvis_average_precision([1], labels, results, federation(frequency={1: "f", 2: "f", 3: "r"}))
    assert scores["ap_frequent"] == pytest.approx((1 + 0.7) / 2) and scores["ap_rare"] == 0
    assert scores["ap_common"] is None and scores["ap"] == pytest.approx(1.7 / 3)
    assert scores["ap50"] == pytest.approx(2 / 3) and scores["ar"] == pytest.approx(1.7 / 3)
    assert (scores["ap_small"], scores["ap_medium"]) == (None, pytest.approx(1.7 / 3))  # 6000 pixels


def test_only_the_best_masks_of_an_image_count_over_all_categories():
    labels = [label(LEFT, category_id=1), label(RIGHT, category_id=2)]
    results = [result(LEFT, 0.5, category_id=1), result(RIGHT, 0.9, category_id=2)]
    assert lvis_average_precision([1], labels, results, federation(), max_detections=1)["ap"] == pytest.approx(0.5)
    assert lvis_average_precision([1], labels, results, federation(), max_detections=2)["ap"] == pytest.approx(1)
    # A mask of a category that does not count takes a place all the same, as in the released implementation.
    results.append(result(RIGHT, 0.95, category_id=9))
    assert lvis_average_precision([1], labels, results, federation(), max_detections=2)["ap"] == pytest.approx(0.5)


def test_nothing_predicted_is_zero():
    scores = lvis_average_precision([1, 2], [label(LEFT)], [], federation(frequency={1: "c"}))
    assert (scores["ap"], scores["ap_common"], scores["ar"]) == (0, 0, 0)


def plain_lvis_ap(image_ids, labels, results, federated, areas=(0, 1e10), max_detections=300):
    """Mean AP by the text of the protocol: loops over categories, thresholds, masks."""
    kept = []
    for image_id in image_ids:
        found = [item for item in results if item["image_id"] == image_id]
        kept += sorted(found, key=lambda item: item["score"], reverse=True)[:max_detections]
    precisions = []
    for category_id in sorted({item["category_id"] for item in labels}):
        for threshold in np.linspace(0.5, 0.95, 10):
            rows, total = [], 0  # rows: (score, is right)
            for image_id in image_ids:
                truth = [item for item in labels if (item["image_id"], item["category_id"]) == (image_id, category_id)]
                if not truth and category_id not in federated.negative[image_id]:
                    continue
                inside = [areas[0] <= item["area"] <= areas[1] for item in truth]
                total += sum(inside)
                taken = [False] * len(truth)
                found = [item for item in kept if (item["image_id"], item["category_id"]) == (image_id, category_id)]
                for item in sorted(found, key=lambda item: -item["score"]):
                    ious = [coco_mask.iou([item["segmentation"]], [other["segmentation"]], [0])[0, 0]
                            for other in truth]
                    free = [index for index in range(len(truth))
                            if not taken[index] and ious[index] >= min(threshold, 1 - 1e-10)]
                    # Labels of the right size come first, among them the best IoU.
                    best = max(free, key=lambda index: (inside[index], ious[index]), default=None)
                    if best is not None:
                        taken[best] = True
                        if inside[best]:
                            rows.append((item["score"], True))
                        continue
                    right_size = areas[0] <= coco_mask.area(item["segmentation"]) <= areas[1]
                    if right_size and category_id not in federated.not_exhaustive[image_id]:
                        rows.append((item["score"], False))
            if not total:
                continue
            rows.sort(key=lambda row: -row[0])
            right = np.cumsum([row[1] for row in rows])
            recall, precision = right / total, right / np.arange(1, len(rows) + 1)
            precisions.append(np.mean([max(precision[recall >= point], default=0)
                                       for point in np.linspace(0, 1, 101)]))
    return np.mean(precisions)


def drawn_set(rng):
    """Labels of 4 categories on 6 images, moved copies of them and random boxes as results, and a federation."""
    def box(low=4, high=70):
        x, y, w, h = rng.integers(0, WIDTH - 40), rng.integers(0, HEIGHT - 40), *rng.integers(low, high, 2)
        return int(x), int(y), int(min(WIDTH, x + w)), int(min(HEIGHT, y + h))

    images, labels, results = range(1, 7), [], []
    for image_id in images:
        for _ in range(rng.integers(2, 7)):
            category_id, corners = int(rng.integers(1, 5)), box()
            labels.append(label(rle(*corners), category_id, image_id))
            moved = [max(0, value + int(rng.integers(-3, 4))) for value in corners]
            results.append(result(rle(*moved), float(rng.random()), category_id, image_id))
        for _ in range(6):
            results.append(result(rle(*box()), float(rng.random()), int(rng.integers(1, 6)), image_id))
    def pick():
        return {image: frozenset(rng.choice(5, 2, replace=False).tolist()) for image in images}

    labelled = {(item["image_id"], item["category_id"]) for item in labels}
    negative = {image: frozenset(c for c in chosen if (image, c) not in labelled) for image, chosen in pick().items()}
    return list(images), labels, results, Federation(negative, pick(), {})


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_plain_implementation(seed):
    image_ids, labels, results, federated = drawn_set(np.random.default_rng(seed))
    scores = lvis_average_precision(image_ids, labels, results, federated, max_detections=8)
    for name, areas in {"ap": (0, 1e10), "ap_small": (0, 1024), "ap_medium": (1024, 9216)}.items():
        assert scores[name] == pytest.approx(plain_lvis_ap(image_ids, labels, results, federated, areas, 8)), name
    # The federation matters on this set: COCO's AP, which knows none, is another number.
    assert abs(scores["ap"] - average_precision(image_ids, labels, results)["ap"]) > 1e-3


def write(path, images, categories):
    path.write_text(json.dumps({"images": images, "annotations": [{"id": 1}], "categories": categories}))
    return path


def test_federation_is_read_from_the_file(tmp_path):
    images = [{"id": 1, "neg_category_ids": [3, 4], "not_exhaustive_category_ids": [5]},
              {"id": 2, "neg_category_ids": [], "not_exhaustive_category_ids": []}]
    path = write(tmp_path / "lvis.json", images, [{"id": 3, "frequency": "r"}])
    assert read_federation(path, [1]) == Federation({1: frozenset([3, 4])}, {1: frozenset([5])}, {3: "r"})
    assert read_federation(path, [1, 2]).negative[2] == frozenset()


@pytest.mark.parametrize("images, categories, key", [
    ([{"id": 1, "not_exhaustive_category_ids": []}], [{"id": 3, "frequency": "r"}], "neg_category_ids"),
    ([{"id": 1, "neg_category_ids": []}], [{"id": 3, "frequency": "r"}], "not_exhaustive_category_ids"),
    ([{"id": 1, "neg_category_ids": [], "not_exhaustive_category_ids": []}], [{"id": 3}], "frequency")])
def test_a_coco_file_is_no_lvis_file(tmp_path, images, categories, key):
    path = write(tmp_path / "coco.json", images, categories)
    message = f"coco.json: not an LVIS file, '{key}' is missing; set eval.metric=coco for COCO's AP"
    with pytest.raises(ValueError, match=message):
        read_federation(path, [1])
