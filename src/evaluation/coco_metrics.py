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
"""Scores of predicted masks: IoU with a label, and COCO's mask average precision (AP) through pycocotools.

AP follows cocodataset.org: the mean over ten IoU thresholds .50:.05:.95 and over categories; small, medium and large
are label areas below 32 x 32, up to 96 x 96, and above. Masks are compressed RLE throughout.
"""
import contextlib
import io

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

AREAS = {"ap_small": "small", "ap_medium": "medium", "ap_large": "large"}


def mask_iou(segmentation, label):
    """IoU of two masks given as compressed RLE of one size; 0 where both are empty."""
    if not coco_mask.area(segmentation) and not coco_mask.area(label):
        return 0.0
    return float(coco_mask.iou([segmentation], [label], [0])[0, 0])


def coco_evaluation(image_ids, labels, results, max_detections=100):
    """pycocotools' COCOeval, run and accumulated for masks.

    Args:
        image_ids, labels, results, max_detections: as in `average_precision`.

    Returns:
        COCOeval. Its `eval["precision"]` is [10 thresholds, 101 recalls, categories of the labels, 4 areas, 1] and
        `eval["recall"]` the same without recalls; -1 where no label is of that kind.
    """
    sizes = {item["image_id"]: item["segmentation"]["size"] for item in [*results, *labels]}
    truth = COCO()
    truth.dataset = {
        "images": [{"id": image_id, "height": height, "width": width}
                   for image_id in image_ids for height, width in [sizes.get(image_id, (0, 0))]],
        "categories": [{"id": category_id} for category_id in sorted({label["category_id"] for label in labels})],
        # COCOeval takes a match with annotation id 0 for none: count from 1.
        "annotations": [{**label, "id": number} for number, label in enumerate(labels, start=1)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        if results:
            # loadRes writes into the dicts it is given.
            predicted = truth.loadRes([dict(result) for result in results])
        else:
            predicted = COCO()
            predicted.dataset = {"images": truth.dataset["images"], "categories": truth.dataset["categories"],
                                 "annotations": []}
            predicted.createIndex()
        evaluation = COCOeval(truth, predicted, "segm")
        evaluation.params.imgIds = list(image_ids)
        evaluation.params.maxDets = [max_detections]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def mean_precisions(precision, params):
    """Averages of a precision table [10 thresholds, 101 recalls, categories, 4 areas] over its entries other than -1.

    Args:
        precision: the table.
        params: COCOeval's parameters, for the names of thresholds and areas.

    Returns:
        dict of ap, ap50, ap75, ap_small, ap_medium, ap_large in 0..1; None where no label is of that kind.
    """
    area_index = {name: index for index, name in enumerate(params.areaRngLbl)}
    every_area = precision[..., area_index["all"]]
    return {"ap": mean_valid(every_area), "ap50": mean_valid(every_area[np.isclose(params.iouThrs, 0.5)]),
            "ap75": mean_valid(every_area[np.isclose(params.iouThrs, 0.75)]),
            **{name: mean_valid(precision[..., area_index[area]]) for name, area in AREAS.items()}}


def mean_valid(part):
    """Mean of the entries above -1, or None where there are none."""
    valid = part[part > -1]
    return float(valid.mean()) if valid.size else None


def average_precision(image_ids, labels, results, max_detections=100):
    """COCO mask AP.

    Args:
        image_ids: the images that count.
        labels: dicts with image_id, category_id, segmentation (compressed RLE), area (pixels), iscrowd. Masks that fall
            on a crowd label count neither way.
        results: COCO results dicts (image_id, category_id, segmentation, score).
        max_detections: of each image and category, by score.

    Returns:
        dict of ap, ap50, ap75, ap_small, ap_medium, ap_large in 0..1; None where no label is of that kind.
    """
    evaluation = coco_evaluation(image_ids, labels, results, max_detections)
    return mean_precisions(evaluation.eval["precision"][..., 0], evaluation.params)
