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
"""Box-prompted instance segmentation (arXiv 2312.13789, section 4, zero-shot instance segmentation).

Boxes of a detector, or of the labels, prompt the network; of the three masks of each box the one with the highest
predicted IoU is kept. Masks are scored by COCO AP, with the labels' own boxes also by their mean IoU with the labels.
A mask's score is its detection's; with the labels' boxes, which have none, it is the predicted IoU.
"""
import time

import numpy as np

from src.evaluation.coco_metrics import average_precision, mask_iou
from src.evaluation.image_loop import evaluate_images, seconds_per_image
from src.inference.mask_records import coco_result, encode_masks

BOXES_AT_ONCE = 64  # whose low-resolution masks are held, 50 MB at 1024 px; a multiple of the predictor's batches

def segment_boxes(predictor, image, prompts, prompt_batch, mask_choice="confident"):
    """Masks of one image's boxes.

    Args:
        predictor: a SamPredictor.
        image: [H, W, 3] uint8 RGB.
        prompts: BoxPrompts of the image.
        prompt_batch: boxes decoded together.
        mask_choice: "confident", the mask of the highest predicted IoU of three, or "single", the one mask that the
            network gives for prompts without ambiguity.

    Returns:
        segmentations (compressed RLE) and predicted IoUs, one per box, and seconds {"encode", "decode", "post"}: image
        to embedding, boxes to low resolution masks, best masks to run lengths at the original size.
    """
    start = time.perf_counter()
    predictor.set_image(image)
    predictor.wait()  # else the encoder's time would be counted with the decoder's
    seconds = {"encode": time.perf_counter() - start, "decode": 0.0, "post": 0.0}
    segmentations, ious = [], []
    for first in range(0, len(prompts), BOXES_AT_ONCE):
        start = time.perf_counter()
        boxes = np.array([prompt.box for prompt in prompts[first:first + BOXES_AT_ONCE]])
        low_res_masks, iou_predictions = predictor.predict_low_res(boxes=boxes, prompt_batch=prompt_batch,
                                                                   multimask_output=mask_choice != "single")
        decoded = time.perf_counter()
        rows, best = np.arange(len(boxes)), iou_predictions.argmax(axis=1)
        for low_res_mask in low_res_masks[rows, best]:  # one at a time: masks of a large image would fill the memory
            segmentations += encode_masks(predictor.upscale(low_res_mask)[None])
        ious += iou_predictions[rows, best].tolist()
        seconds["decode"] += decoded - start
        seconds["post"] += time.perf_counter() - decoded
    return segmentations, ious, seconds


def evaluate_boxes(predictor, dataset, prompts, labels, log, skipped, prompt_batch=16, max_detections=100,
                   metric=average_precision, mask_choice="confident"):
    """Segment all boxes and score the masks.

    Args:
        predictor: a SamPredictor.
        dataset: a CocoDataset, for the pictures.
        prompts: {image_id: [BoxPrompt]}, the images that count.
        labels: {image_id: [label]} of `read_labels`.
        log: a ResultsLog; images that it holds are not predicted again.
        skipped: SkipLog that counts unreadable images.
        prompt_batch: boxes decoded together.
        max_detections: for AP.
        metric: the AP; a function of (image_ids, labels, results, max_detections) that returns a dict of scores.
        mask_choice: as in `segment_boxes`.

    Returns:
        (scores, results): scores as in `score_masks`; results, the COCO results dicts of all masks.

    Raises:
        ValueError: no image could be read.
    """
    def evaluate_image(image_id, image):
        if not prompts[image_id]:
            return {"masks": [], "seconds": None}
        segmentations, ious, seconds = segment_boxes(predictor, image, prompts[image_id], prompt_batch,
                                                     mask_choice)
        masks = [{"category_id": prompt.category_id, "annotation_id": prompt.annotation_id, "box": list(prompt.box),
                  "score": prompt.score, "predicted_iou": iou, "segmentation": segmentation}
                 for prompt, segmentation, iou in zip(prompts[image_id], segmentations, ious)]
        return {"masks": masks, "seconds": seconds}

    records = evaluate_images(dataset, list(prompts), log, skipped, evaluate_image, "box prompts")
    return score_masks(records, labels, max_detections, metric)


def score_masks(records, labels, max_detections=100, metric=average_precision):
    """Scores of predicted masks.

    Args:
        records: of the images that count: {"image_id", "masks", "seconds"} as `evaluate_boxes` logs them.
        labels: {image_id: [label]}.
        max_detections, metric: as in `evaluate_boxes`.

    Returns:
        scores: dict of images, masks, what `metric` returns, mean_iou (over masks that belong to a label; None where
            there are none) and `seconds_per_image`.
        results: COCO results dicts.
    """
    image_ids = [record["image_id"] for record in records]
    results, ious = [], []
    for record in records:
        by_annotation = {label["annotation_id"]: label for label in labels[record["image_id"]] if not label["iscrowd"]}
        for mask in record["masks"]:
            score = mask["predicted_iou"] if mask["score"] is None else mask["score"]
            results.append(coco_result(record["image_id"], mask["category_id"], mask["segmentation"], score))
            if mask["annotation_id"] is not None:
                ious.append(mask_iou(mask["segmentation"], by_annotation[mask["annotation_id"]]["segmentation"]))
    truth = [label for image_id in image_ids for label in labels[image_id]]
    timed = [record["seconds"] for record in records if record["seconds"]]
    return {
        "images": len(records), "masks": len(results),
        **metric(image_ids, truth, results, max_detections),
        "mean_iou": float(np.mean(ious)) if ious else None,
        "seconds_per_image": seconds_per_image(timed),
    }, results
