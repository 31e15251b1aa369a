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
"""Filters of the everything mode: stability, duplicates, crop borders, small regions (arXiv 2304.02643, appendix B).

Boxes here are (x0, y0, x1, y1) with x1 and y1 the last column and row of the mask, as in SAM's generator: a mask of one
column has width 0. Scores and overlaps are float32 like the reference's, so equal masks meet equal thresholds.
"""
import cv2
import numpy as np

CROP_EDGE_TOLERANCE = 20  # pixels


def stability_score(logits, offset):
    """IoU of the masks logits > offset and logits > -offset, as float32; 0 where both are empty (SAM: nan).

    The stricter mask lies inside the looser one, so its area is the intersection.
    """
    inside = np.float32(np.count_nonzero(logits > offset))
    union = np.float32(np.count_nonzero(logits > -offset))
    return inside / np.maximum(union, np.float32(1))


class StabilityBound:
    """An upper bound on the stability score at image resolution, from low-res logits alone.

    Upscaling is bilinear, twice, so every pixel of the image is a weighted mean of low-res logits, all of which lie in
    one 3 x 3 window. It can exceed a threshold only if the window's maximum does, and must if the minimum does. A mask
    is discarded by the bound only when its exact score would discard it too.

    Args:
        side: S/4, side of low-res masks.
        image_size: S.
        input_size, original_size: (h, w) of the resized picture and of the picture.
        offset: of the stability score.
    """

    def __init__(self, side, image_size, input_size, original_size, offset):
        self._rows = _window_weights(side, image_size, input_size[0], original_size[0])
        self._columns = _window_weights(side, image_size, input_size[1], original_size[1])
        self._offset = offset

    def __call__(self, low_res_masks):
        """[N, S/4, S/4] logits -> [N] float64, inf where nothing can be said."""
        # Float32 weights of a mean may add up to a little more than 1: thresholds give way by more than that.
        slack = 1e-5 * (1 + np.abs(low_res_masks).max(axis=(1, 2), keepdims=True, initial=0))
        possible = (low_res_masks > self._offset - slack).astype(np.uint8)
        certain = (low_res_masks > -self._offset + slack).astype(np.uint8)
        window = np.ones((3, 3), np.uint8)
        for index in range(len(low_res_masks)):
            possible[index] = cv2.dilate(possible[index], window)
            certain[index] = cv2.erode(certain[index], window)
        most_inside = possible.astype(np.float64) @ self._columns @ self._rows
        least_union = certain.astype(np.float64) @ self._columns @ self._rows
        with np.errstate(divide="ignore", invalid="ignore"):
            bound = most_inside / least_union
        return np.where(least_union > 0, bound, np.inf)


def _window_weights(side, image_size, input_length, original_length):
    """[side] how many pixels of the image have all that they depend on in the window around each low-res pixel."""
    margin = 1e-3  # far more than float32 places of OpenCV are off
    places = (np.arange(original_length) + 0.5) * (input_length / original_length) - 0.5
    first = np.clip(np.floor(places - margin), 0, input_length - 1)
    lowest = np.floor((first + 0.5) * (side / image_size) - 0.5)
    centres = np.clip(lowest + 1, 1 if side > 1 else 0, side - 1).astype(np.int64)
    return np.bincount(centres, minlength=side).astype(np.float64)


def box_nms(boxes, scores, iou_threshold):
    """Greedy non-maximum suppression.

    Args:
        boxes: [N, 4] (x0, y0, x1, y1).
        scores: [N]; of equal ones the earlier goes first.
        iou_threshold: a box whose IoU with a kept one is larger is dropped; boxes of no area drop none.

    Returns:
        [K] int, the kept ones by falling score.
    """
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    order = np.argsort(-np.asarray(scores, np.float32), kind="stable")
    kept = []
    while order.size:
        best, order = order[0], order[1:]
        kept.append(best)
        low = np.maximum(boxes[best, :2], boxes[order, :2])
        high = np.minimum(boxes[best, 2:], boxes[order, 2:])
        overlap = np.prod(np.maximum(high - low, np.float32(0)), axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            iou = overlap / (areas[best] + areas[order] - overlap)
        order = order[~(iou.astype(np.float64) > iou_threshold)]
    return np.array(kept, np.int64)


def near_crop_edge(boxes, crop_box, image_size):
    """Which masks end at a border of their crop that is no border of the image: another crop shows them whole.

    Args:
        boxes: [N, 4] in pixels of the image.
        crop_box: (x0, y0, x1, y1) of the crop.
        image_size: (height, width).

    Returns:
        [N] bool.
    """
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    height, width = image_size
    at_crop = np.abs(boxes - np.array(crop_box, np.float32)) <= CROP_EDGE_TOLERANCE
    at_image = np.abs(boxes - np.array((0, 0, width, height), np.float32)) <= CROP_EDGE_TOLERANCE
    return (at_crop & ~at_image).any(axis=1)


def remove_small_regions(mask, min_area):
    """Fill holes and drop islands of fewer than min_area pixels (8-connected).

    Args:
        mask: [H, W] bool.

    Returns:
        (mask, True if it changed). Where every island is small, the largest stays.
    """
    mask, filled = _without_small(mask, min_area, holes=True)
    mask, dropped = _without_small(mask, min_area, holes=False)
    return mask, filled or dropped


def _without_small(mask, min_area, holes):
    regions = (~mask if holes else mask).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(regions, connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA]
    small = areas < min_area
    small[0] = False  # what is no region
    if not small.any():
        return mask, False
    if holes:
        return mask | small[labels], True
    if small[1:].all():
        small[1 + int(areas[1:].argmax())] = False
    return mask & ~small[labels], True
