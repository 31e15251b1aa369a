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
"""Filters of the everything mode: by hand and against slow versions."""
import cv2
import numpy as np
import pytest

from src.inference.mask_filters import (
    StabilityBound,
    box_nms,
    near_crop_edge,
    remove_small_regions,
    stability_score,
)


def test_stability_by_hand():
    # Above 1: two pixels (3, 1.5). Above -1: four (3, 1.5, 1, -0.5); -1 itself is not.
    logits = np.array([[3, 1.5, 1], [-0.5, -1, -4]], np.float32)
    score = stability_score(logits, 1.0)
    assert score == np.float32(0.5) and score.dtype == np.float32
    nowhere = stability_score(np.full((2, 2), -5, np.float32), 1.0)
    assert nowhere == 0 and nowhere.dtype == np.float32


def slow_nms(boxes, scores, threshold):
    """One pair at a time, in float32; torchvision's rule."""
    boxes, kept = np.asarray(boxes, np.float32), []
    for index in sorted(range(len(boxes)), key=lambda i: -scores[i]):  # stable
        for other in kept:
            x0, y0 = max(boxes[index, 0], boxes[other, 0]), max(boxes[index, 1], boxes[other, 1])
            x1, y1 = min(boxes[index, 2], boxes[other, 2]), min(boxes[index, 3], boxes[other, 3])
            overlap = max(x1 - x0, np.float32(0)) * max(y1 - y0, np.float32(0))
            area = [(box[2] - box[0]) * (box[3] - box[1]) for box in (boxes[other], boxes[index])]
            union = area[0] + area[1] - overlap
            if union > 0 and float(overlap / union) > threshold:
                break
        else:
            kept.append(index)
    return kept


def test_nms_by_hand():
    # IoU of 0 and 1: 8 * 10 / (100 + 100 - 80) = 2/3. Box 2 is apart; 3 has no area and is its own twin.
    boxes = [[0, 0, 10, 10], [2, 0, 12, 10], [50, 50, 60, 60], [5, 5, 5, 9], [5, 5, 5, 9]]
    scores = [0.8, 0.9, 0.1, 0.3, 0.3]
    assert box_nms(boxes, scores, 0.6).tolist() == [1, 3, 4, 2]
    assert box_nms(boxes, scores, 0.7).tolist() == [1, 0, 3, 4, 2]


def test_nms_drops_only_what_is_larger_than_the_threshold():
    boxes = [[0, 0, 10, 10], [0, 0, 10, 5]]  # IoU 0.5 exactly
    assert box_nms(boxes, [1, 0.5], 0.5).tolist() == [0, 1]
    assert box_nms(boxes, [1, 0.5], 0.499).tolist() == [0]
    # 0.7 in float32 is below 0.7: the reference compares in double, and keeps IoU = float32(0.7).
    assert box_nms([[0, 0, 10, 10], [0, 0, 10, 7]], [1, 0.5], 0.7).tolist() == [0, 1]


def test_nms_of_nothing():
    assert box_nms([], [], 0.5).tolist() == []


@pytest.mark.parametrize("seed", range(4))
def test_nms_equals_one_pair_at_a_time(seed):
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 60, (120, 2))
    boxes = np.concatenate([corners, corners + rng.integers(0, 40, (120, 2))], axis=1)
    scores = rng.integers(0, 12, 120) / 11  # many ties
    for threshold in (0.0, 0.3, 0.7, 1.0):
        assert box_nms(boxes, scores, threshold).tolist() == slow_nms(boxes, scores, threshold)


def test_masks_cut_off_by_their_crop():
    # Image 200 x 100; crop x 60..140, y 0..70, whose top is the image's own. Boxes within 20 px of an inner border go.
    crop_box, size = (60, 0, 140, 70), (100, 200)
    boxes = [[100, 5, 110, 40],  # near the top of the image only
             [80, 30, 100, 40],  # 20 px from the crop's left: near
             [81, 30, 119, 49],  # 21 px from all
             [100, 30, 120, 40],  # 20 px from the right
             [100, 30, 110, 50]]  # 20 px from the bottom
    assert near_crop_edge(boxes, crop_box, size).tolist() == [False, True, False, True, True]
    assert not near_crop_edge([[0, 0, 199, 99]], (0, 0, 200, 100), size).any()


SPOTTED = np.array([[1, 1, 1, 1, 0, 0, 0],
                    [1, 0, 1, 1, 0, 0, 1],
                    [1, 1, 1, 1, 0, 0, 0]], bool)


def test_small_holes_are_filled_and_small_islands_dropped():
    mask, changed = remove_small_regions(SPOTTED, 2)
    expected = SPOTTED.copy()
    expected[1, 1], expected[1, 6] = True, False
    assert changed
    np.testing.assert_array_equal(mask, expected)


def test_nothing_small_leaves_the_mask():
    mask, changed = remove_small_regions(SPOTTED, 1)
    assert not changed
    np.testing.assert_array_equal(mask, SPOTTED)
    empty, changed = remove_small_regions(np.zeros((3, 3), bool), 5)
    assert not changed and not empty.any()


def test_diagonal_neighbours_are_one_region():
    diagonal = np.zeros((20, 20), bool)
    diagonal[[4, 5, 6], [4, 5, 6]] = True
    assert not remove_small_regions(diagonal, 3)[1]


def test_of_small_islands_alone_the_largest_stays():
    mask = np.zeros((30, 30), bool)
    mask[2, 2], mask[10, 4:7], mask[20, 20:22] = True, True, True
    cleaned, changed = remove_small_regions(mask, 9)
    assert changed and cleaned.sum() == 3 and cleaned[10, 4:7].all()


def upscaled(low_res, image_size, input_size, original_size):
    padded = cv2.resize(low_res, (image_size, image_size), interpolation=cv2.INTER_LINEAR)
    cropped = np.ascontiguousarray(padded[:input_size[0], :input_size[1]])
    return cv2.resize(cropped, original_size[::-1], interpolation=cv2.INTER_LINEAR)


@pytest.mark.parametrize("original_size", [(64, 64), (48, 64), (600, 431), (9, 200), (200, 1), (37, 29), (8, 8)])
def test_bound_never_lies_below_the_score(original_size):
    image_size, side = 64, 16
    scale = image_size / max(original_size)
    input_size = tuple(max(1, int(length * scale + 0.5)) for length in original_size)
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 2, (30, side, side)).astype(np.float32)
    y, x = np.mgrid[:side, :side]
    radii = rng.uniform(1, 9, 30)
    slopes = rng.uniform(0.2, 8, 30)
    discs = np.stack([slope * (radius - np.hypot(x - 6, y - 7)) for radius, slope in zip(radii, slopes)])
    flat = np.full((1, side, side), 1.0)  # the threshold itself, everywhere
    low_res = np.concatenate([noise, discs, flat]).astype(np.float32)
    bound = StabilityBound(side, image_size, input_size, original_size, offset=1.0)(low_res)
    scores = np.array([stability_score(upscaled(mask, image_size, input_size, original_size), 1.0) for mask in low_res])
    assert (bound >= scores - 1e-9).all()
    assert (scores > 0).sum() > 30


def test_bound_discards_shallow_masks_and_keeps_steep_ones():
    side = 64
    y, x = np.mgrid[:side, :side]
    disc = 20 - np.hypot(x - 32, y - 32)
    # Slope 0.1: above 1 within 10 px, above -1 within 30 px: about 1/9. Slope 10: 19.9 and 20.1 px.
    bound = StabilityBound(side, 256, (256, 256), (256, 256), 1.0)(np.stack([0.1 * disc, 10 * disc]).astype(np.float32))
    assert 0.1 < bound[0] < 0.2
    assert bound[1] > 0.98
