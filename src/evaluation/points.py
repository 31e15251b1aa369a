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
"""Point-prompted segmentation: mean IoU against the number of points (arXiv 2304.02643, section 7.1; arXiv 2312.13789,
section 4, points to mask).

The first point of a label is its deepest pixel, each next one the deepest pixel of the larger error region, as
src/prompts/clicks.py has it. One point is ambiguous: of the three masks that the network gives for it, SAM's protocol
keeps the one with the highest predicted IoU ("confident"); "oracle" keeps the one that fits the label best, "single"
asks for one mask. From two points on the network gives one mask. All labels of an image go through a round together.
A mask that equals its label needs no further point and keeps its IoU of 1 in the rounds that follow.
"""
import time

import numpy as np
from pycocotools import mask as coco_mask

from src.evaluation.image_loop import evaluate_images, seconds_per_image
from src.prompts.clicks import deepest_pixel, next_click
from src.prompts.labels import EMPTY, FOREGROUND

FIRST_MASKS = ("confident", "oracle", "single")


def evaluate_points(predictor, dataset, image_ids, labels, log, skipped, max_points=9, first_mask="confident",
                    feed_mask=False, prompt_batch=16):
    """Click every label of every image up to `max_points` times.

    Args:
        predictor: a SamPredictor.
        dataset: a CocoDataset, for the pictures.
        image_ids: the images that count.
        labels: {image_id: [label]} of `read_labels`. Crowds are left out; labels without a pixel are counted.
        log: a ResultsLog; images that it holds are not predicted again.
        skipped: SkipLog.
        max_points: largest number of points.
        first_mask: "confident", "oracle" or "single", which mask answers the first point.
        feed_mask: also give the network the logits of the last round.
        prompt_batch: prompts decoded together.

    Returns:
        scores: dict of images, masks, miou (a list: mean IoU over labels after 1, 2, ... points), seconds_per_image.

    Raises:
        ValueError: no image could be read, an unknown first_mask, or no label with a pixel.
    """
    if first_mask not in FIRST_MASKS:
        raise ValueError(f"first_mask ({first_mask!r}) must be one of {', '.join(FIRST_MASKS)}")
    wanted = {image_id: [] for image_id in image_ids}
    for image_id in image_ids:
        for label in labels[image_id]:
            if label["iscrowd"]:
                continue
            if coco_mask.area(label["segmentation"]):
                wanted[image_id].append(label)
            else:
                skipped.add("labels without a pixel", f"annotation {label['annotation_id']}")
    if not any(wanted.values()):
        raise ValueError(f"no label with a pixel on {len(image_ids)} images; {skipped}")

    def evaluate_image(image_id, image):
        if not wanted[image_id]:
            return {"masks": [], "seconds": None}
        start = time.perf_counter()
        predictor.set_image(image)
        predictor.wait()
        encoded = time.perf_counter()
        segmentations = [label["segmentation"] for label in wanted[image_id]]
        ious, clicks = click_rounds(predictor, segmentations, max_points, first_mask, feed_mask, prompt_batch)
        seconds = {"encode": encoded - start, "rounds": time.perf_counter() - encoded}
        return {"masks": [{"annotation_id": label["annotation_id"], "ious": ious_of_label, "clicks": clicks_of_label}
                          for label, ious_of_label, clicks_of_label in zip(wanted[image_id], ious, clicks)],
                "seconds": seconds}

    records = evaluate_images(dataset, image_ids, log, skipped, evaluate_image, "points")
    return score_points(records)


def score_points(records):
    """Scores of `evaluate_points` from the records of its log."""
    ious = np.array([mask["ious"] for record in records for mask in record["masks"]])
    return {"images": len(records), "masks": len(ious),
            "miou": [float(value) for value in ious.mean(axis=0)] if len(ious) else None,
            "seconds_per_image": seconds_per_image([record["seconds"] for record in records if record["seconds"]])}


def click_rounds(predictor, segmentations, max_points, first_mask="confident", feed_mask=False, prompt_batch=16):
    """Click the labels of the predictor's image, one more point each round.

    Args:
        predictor: a SamPredictor whose image is set.
        segmentations: the labels, N compressed RLEs of the image's size with at least one pixel each.
        max_points, first_mask, feed_mask, prompt_batch: as in `evaluate_points`.

    Returns:
        ious: N lists of max_points IoUs.
        clicks: N lists of at most max_points [x, y, point_label], in pixel indices of the image.
    """
    count = len(segmentations)
    # All rounds have max_points slots, the later ones empty: one shape, so one compilation in graph mode.
    point_coords = np.zeros((count, max_points, 2), np.float32)
    point_labels = np.full((count, max_points), EMPTY, np.int32)
    ious, clicks = [[] for _ in range(count)], [[] for _ in range(count)]
    mask_input, active = None, np.arange(count)

    def add_click(index, x, y, point_label):
        slot = len(clicks[index])
        point_coords[index, slot], point_labels[index, slot] = (x, y), point_label
        clicks[index].append([x, y, point_label])

    for index, segmentation in enumerate(segmentations):
        (x, y), _ = deepest_pixel(_decode(segmentation))
        add_click(index, x, y, FOREGROUND)
    for round_number in range(max_points):
        low_res_masks, predictions = predictor.predict_low_res(
            point_coords=point_coords[active], point_labels=point_labels[active],
            mask_input=None if mask_input is None else mask_input[active],
            multimask_output=round_number == 0 and first_mask != "single", prompt_batch=prompt_batch)
        if feed_mask and mask_input is None:
            mask_input = np.zeros((count, 1, *low_res_masks.shape[-2:]), np.float32)
        unfinished = []
        for row, index in enumerate(active):  # one at a time: all masks of a large image would fill the memory
            label = _decode(segmentations[index])
            channels = [predictions[row].argmax()] if first_mask != "oracle" else range(predictions.shape[1])
            iou, mask, channel = _best_mask(predictor, low_res_masks[row], channels, label)
            ious[index].append(iou)
            click = next_click(mask, label)
            if click is None:
                ious[index] += [1.0] * (max_points - round_number - 1)
                continue
            unfinished.append(index)
            if round_number + 1 < max_points:
                add_click(index, *click)
            if feed_mask:
                mask_input[index, 0] = low_res_masks[row, channel]
        active = np.array(unfinished, int)
        if active.size == 0:
            break
    return ious, clicks


def _best_mask(predictor, low_res_masks, channels, label):
    """(IoU, mask [H, W], channel) of the candidate among `channels` that fits the label best."""
    best = None
    for channel in channels:
        mask = predictor.upscale(low_res_masks[channel])
        iou = float(np.count_nonzero(mask & label) / np.count_nonzero(mask | label))
        if best is None or iou > best[0]:
            best = iou, mask, channel
    return best


def _decode(segmentation):
    return coco_mask.decode(segmentation).astype(bool)
