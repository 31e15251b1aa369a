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
"""LVIS v1 mask average precision (Gupta et al., arXiv 1908.03195, section 3; used in arXiv 2312.13789, section 4).

LVIS labels are federated: an image is annotated for some of the 1203 categories only. A category counts on an image
when the image has labels of it or lists it in `neg_category_ids`; where the image lists it in
`not_exhaustive_category_ids`, masks that match no label count neither way. At most 300 masks of an image count, over
all categories. The rest is COCO's AP, so COCOeval does it: a label that covers the whole image and is marked as a crowd
is COCO's way to say that unmatched masks count neither way. Categories are evaluated one by one on the few images
where they count. tests/evaluation/test_lvis_metrics.py compares with a plain implementation of the protocol.
"""
from collections import defaultdict
from typing import Dict, FrozenSet, NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from src.data.coco_json import load_coco_json
from src.evaluation.coco_metrics import coco_evaluation, mean_precisions, mean_valid

FREQUENCIES = {"ap_rare": "r", "ap_common": "c", "ap_frequent": "f"}


class Federation(NamedTuple):
    """What an LVIS file says beside its labels, by image and by category."""
    negative: Dict[int, FrozenSet[int]]
    not_exhaustive: Dict[int, FrozenSet[int]]
    frequency: Dict[int, str]


def read_federation(path, image_ids):
    """Federation of the images `image_ids` of an LVIS JSON.

    Raises:
        ValueError: the file lacks `neg_category_ids`, `not_exhaustive_category_ids` or the categories' `frequency`.
    """
    content = load_coco_json(path)
    wanted = set(image_ids)
    try:
        images = [record for record in content["images"] if record["id"] in wanted]
        return Federation({record["id"]: frozenset(record["neg_category_ids"]) for record in images},
                          {record["id"]: frozenset(record["not_exhaustive_category_ids"]) for record in images},
                          {category["id"]: category["frequency"] for category in content["categories"]})
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: not an LVIS file, {error} is missing; set eval.metric=coco for COCO's AP") from None


def lvis_average_precision(image_ids, labels, results, federation, max_detections=300):
    """LVIS mask AP.

    Args:
        image_ids: the images that count.
        labels: dicts with image_id, category_id, segmentation (compressed RLE), area (pixels), iscrowd.
        results: COCO results dicts (image_id, category_id, segmentation, score).
        federation: Federation of these images.
        max_detections: of each image over all categories, by score.

    Returns:
        dict of ap, ap50, ap75, ap_small, ap_medium, ap_large, ap_rare, ap_common, ap_frequent and ar (average recall at
        max_detections) in 0..1; None where no label is of that kind.
    """
    image_ids = sorted(set(image_ids))
    labels_of, results_of = _by_category(labels), defaultdict(list)
    positive = {category_id: {label["image_id"] for label in of_category}
                for category_id, of_category in labels_of.items()}
    for result in _best_of_each_image(results, max_detections):
        category_id, image_id = result["category_id"], result["image_id"]
        if image_id in positive.get(category_id, ()) or category_id in federation.negative[image_id]:
            results_of[category_id].append(result)
    precisions, recalls, frequencies, params = [], [], [], None
    for category_id in sorted(labels_of):
        found, open_ended = _with_open_ends(results_of[category_id], category_id, federation)
        counted = positive[category_id] | {result["image_id"] for result in found}
        evaluation = coco_evaluation(sorted(counted), labels_of[category_id] + open_ended, found, max_detections)
        precisions.append(evaluation.eval["precision"][:, :, 0, :, 0])
        recalls.append(evaluation.eval["recall"][:, 0, 0, 0])  # of all areas
        frequencies.append(federation.frequency.get(category_id))
        params = evaluation.params
    precision = np.stack(precisions, axis=2)  # [thresholds, recalls, categories, areas]
    by_frequency = {name: mean_valid(precision[:, :, np.array(frequencies) == letter, 0])
                    for name, letter in FREQUENCIES.items()}
    return {**mean_precisions(precision, params), **by_frequency, "ar": mean_valid(np.stack(recalls))}


def _by_category(items):
    groups = defaultdict(list)
    for item in items:
        groups[item["category_id"]].append(item)
    return groups


def _best_of_each_image(results, max_detections):
    """The results without those beyond the `max_detections` best of their image; equal scores keep their order."""
    of_image = defaultdict(list)
    for result in results:
        of_image[result["image_id"]].append(result)
    for found in of_image.values():
        yield from sorted(found, key=lambda result: -result["score"])[:max_detections]


def _with_open_ends(results, category_id, federation):
    """Results and whole-image crowd labels of one category for the images not labelled exhaustively for it.

    An empty mask there matches nothing and is to count neither way, but a crowd would not take it either: left out.
    """
    kept, sizes = [], {}
    for result in results:
        if category_id in federation.not_exhaustive[result["image_id"]]:
            if not coco_mask.area(result["segmentation"]):
                continue
            sizes[result["image_id"]] = result["segmentation"]["size"]
        kept.append(result)
    crowds = []
    for image_id, (height, width) in sizes.items():
        whole = coco_mask.frPyObjects({"size": [height, width], "counts": [0, height * width]}, height, width)
        crowds.append({"image_id": image_id, "category_id": category_id, "area": height * width, "iscrowd": 1,
                       "segmentation": {"size": [height, width], "counts": whole["counts"].decode("ascii")}})
    return kept, crowds
