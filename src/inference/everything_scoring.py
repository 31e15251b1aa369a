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
"""From low-res logits to kept masks of one image or crop (SAM's generator, arXiv 2304.02643, appendix B).

What surprises: a mask that a bound at low resolution shows to be unstable never gets the image's size, and those that
do are upscaled one by one onto a canvas of transposed masks, which COCO's encoder turns into run lengths in one call.
"""
from typing import NamedTuple

import cv2
import numpy as np

from src.inference.mask_filters import StabilityBound, box_nms, near_crop_edge, stability_score
from src.inference.mask_records import encode_transposed_masks, rle_boxes

CANVAS_BYTES = 64 * 2 ** 20  # masks of image size that wait for their encoding; at least one


class Candidate(NamedTuple):
    """A mask that passed the filters. box and crop_box: (x0, y0, x1, y1) in pixels of the image, x1 and y1 of the box
    the last column and row; point: (x, y) likewise; largest_logit: of the mask at the image's size."""

    rle: dict
    box: tuple
    predicted_iou: float
    stability_score: float
    point: tuple
    crop_box: tuple
    largest_logit: float


class MaskScorer:
    """Scores the masks of one crop and turns the stable ones into run lengths of the image's size.

    Args:
        settings: `EverythingSettings`.
        predictor: with the crop as its image.
        crop_box: (x0, y0, x1, y1) of the crop in the image.
        image_size: (height, width) of the image.
        points: [N, 2] (x, y) all points of the crop, in its own pixels.

    `confident` [N] bool: points inside a kept mask with a logit above high_score_thresh. `full_size_masks`: how many
    masks were brought to the image's size.
    """

    def __init__(self, settings, predictor, crop_box, image_size, points):
        self.settings, self.predictor, self.crop_box, self.image_size = settings, predictor, crop_box, image_size
        self.full_size_masks = 0
        x0, y0, x1, y1 = crop_box
        self.columns, self.rows = points.astype(np.int64).T  # a point lies in the pixel of its whole part
        self.confident = np.zeros(len(points), bool)
        image_height, image_width = image_size
        length = max(1, CANVAS_BYTES // (image_height * image_width))
        length = min(length, 3 * settings.points_per_batch)
        # Zeroed memory becomes real only where it is written. Outside the crop it stays background.
        self.canvas = np.zeros((length, image_width, image_height), np.uint8)
        self.crop_canvas = self.canvas[:, x0:x1, y0:y1]
        self.bound = None
        if settings.fast and settings.stability_score_thresh > 0:
            self.bound = StabilityBound(predictor.image_size // 4, predictor.image_size, predictor.input_size,
                                        predictor.original_size, settings.stability_score_offset)

    def score(self, points, low_res_masks, predicted_iou, mark_confident):
        """Candidates among masks [K] of points [K, 2] in pixels of the crop: stable, and whole within the crop."""
        settings = self.settings
        order = np.arange(len(points))
        if self.bound is not None:  # a little below: the score itself is float32
            order = order[self.bound(low_res_masks) >= settings.stability_score_thresh - 1e-6]
        found, waiting = [], []
        for index in order:
            logits = self.predictor.upscale(low_res_masks[index:index + 1], return_logits=True)[0]
            self.full_size_masks += 1
            stability = stability_score(logits, settings.stability_score_offset)
            if settings.stability_score_thresh > 0 and not stability >= np.float32(settings.stability_score_thresh):
                continue
            self.crop_canvas[len(waiting)] = cv2.transpose((logits > 0).view(np.uint8))
            sure = logits[self.rows, self.columns] > settings.high_score_thresh if mark_confident else None
            waiting.append((index, stability, sure, float(logits.max())))
            if len(waiting) == len(self.canvas):
                found += self._encode(waiting, points, predicted_iou)
                waiting = []
        return found + self._encode(waiting, points, predicted_iou)

    def _encode(self, waiting, points, predicted_iou):
        """Candidates of the masks on the canvas; `waiting` holds (index, stability, confident points or None,
        largest logit)."""
        if not waiting:
            return []
        rles = encode_transposed_masks(self.canvas[:len(waiting)])
        boxes = last_pixel_boxes(rles, self.crop_box[:2])
        cut_off = near_crop_edge(boxes, self.crop_box, self.image_size)
        found = []
        for rle, box, cut, (index, stability, sure, largest_logit) in zip(rles, boxes, cut_off, waiting):
            if cut:
                continue
            point = tuple((points[index] + self.crop_box[:2]).tolist())
            found.append(Candidate(rle, box, float(predicted_iou[index]), float(stability), point, self.crop_box,
                                   largest_logit))
            if sure is not None:
                self.confident |= sure
        return found


def without_duplicates(candidates, scores, iou_threshold):
    """Candidates by falling score without those whose box overlaps a better one's."""
    keep = box_nms([candidate.box for candidate in candidates], scores, iou_threshold)
    return [candidates[index] for index in keep]


def last_pixel_boxes(rles, corner=(0, 0)):
    """Boxes (x0, y0, x1, y1), x1 and y1 the last column and row; an empty mask has `corner` (x, y) for both corners.

    SAM moves the boxes of a crop by its corner, an empty mask's zeros too, so that in an inner crop they are cut off.
    """
    boxes = rle_boxes(rles)
    empty = boxes[:, 2] == boxes[:, 0]
    boxes[:, 2:] -= 1
    boxes[empty] = (*corner, *corner)
    return [tuple(box) for box in boxes.tolist()]
