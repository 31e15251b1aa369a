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
"""Prompts in pixels of an image as slots of the network's input: checked, scaled, with SAM's padding point."""
import numpy as np

from src.data.images import scale_points
from src.prompts.labels import BACKGROUND, BOX_BOTTOM_RIGHT, BOX_TOP_LEFT, EMPTY, FOREGROUND, NOT_A_POINT


def prompt_slots(boxes, point_coords, point_labels, mask_input, original_size, input_size, mask_side):
    """Check prompts and bring them into the S x S frame.

    Args:
        boxes, point_coords, point_labels, mask_input: as in `SamPredictor.predict_batch`, pixels of the image.
        original_size, input_size: (h, w) of the image and of its resized version in the frame.
        mask_side: S/4.

    Returns:
        coords [N, K, 2] float32, labels [N, K] int32, mask_input [N, 1, S/4, S/4] or None. Without a box a point is
        followed by SAM's padding point.

    Raises:
        ValueError: no prompt, or one that does not fit the image or the others.
    """
    coords, labels = [], []
    if point_coords is not None:
        points, point_labels = _checked_points(point_coords, point_labels, original_size)
        coords.append(points)
        labels.append(point_labels)
        if boxes is None:  # SAM attends to one padding point wherever no box ends the prompt
            coords.append(np.zeros((len(points), 1, 2)))
            labels.append(np.full((len(points), 1), NOT_A_POINT))
    elif point_labels is not None:
        raise ValueError("point_labels without point_coords: give both or neither")
    if boxes is not None:
        boxes = _checked_boxes(boxes, original_size)
        coords.append(boxes.reshape(-1, 2, 2))
        labels.append(np.tile((BOX_TOP_LEFT, BOX_BOTTOM_RIGHT), (len(boxes), 1)))
    if mask_input is not None:
        mask_input = as_array("mask_input", mask_input, [None, 1, mask_side, mask_side])
    counts = {len(part) for part in [*coords, *([] if mask_input is None else [mask_input])]}
    if not counts:
        raise ValueError("no prompt: give a box, points with labels, or a mask_input")
    if len(counts) > 1:
        raise ValueError(f"boxes, points and mask_input are of {sorted(counts)} prompts; give each as many")
    count = counts.pop()
    used = sum(part.shape[1] for part in labels)
    all_coords = np.zeros((count, used, 2), np.float32)
    all_labels = np.zeros((count, used), np.int32)
    if used:
        all_coords[:] = scale_points(np.concatenate(coords, axis=1), original_size, input_size)
        all_labels[:] = np.concatenate(labels, axis=1)
    return all_coords, all_labels, mask_input


def _checked_points(point_coords, point_labels, original_size):
    points = as_array("point_coords", point_coords, [None, None, 2])
    if point_labels is None:
        raise ValueError("point_coords need point_labels: 1 foreground, 0 background")
    labels = as_array("point_labels", point_labels, list(points.shape[:2]))
    known = np.isin(labels, (FOREGROUND, BACKGROUND, EMPTY))
    if not known.all():
        raise ValueError(f"point label {labels[~known][0]:g} is unknown; 1 is foreground, 0 background")
    height, width = original_size
    inside = ((points >= 0) & (points <= (width, height))).all(axis=-1) | (labels == EMPTY)
    if not inside.all():
        x, y = points[~inside][0]
        raise ValueError(f"point ({x:g}, {y:g}) lies outside the image of {width} x {height} pixels")
    return points, labels


def _checked_boxes(boxes, original_size):
    boxes = as_array("boxes", boxes, [None, 4])
    height, width = original_size
    for x0, y0, x1, y1 in boxes:
        name = f"box ({x0:g}, {y0:g}, {x1:g}, {y1:g})"
        if not (x0 < x1 and y0 < y1):
            raise ValueError(f"{name} is inside out; give x0 < x1 and y0 < y1")
        if not (x0 >= 0 and y0 >= 0 and x1 <= width and y1 <= height):
            raise ValueError(f"{name} reaches outside the image of {width} x {height} pixels; clip it")
    return boxes


def one_box(box):
    """[1, 4] of a box [4], or of [1, 4], as SAM's own notebook passes it."""
    box = _numbers("box", box)
    return as_array("box", box[0] if box.shape == (1, 4) else box, [4])[None]


def as_array(name, values, shape):
    """`values` as finite float64 of `shape`, where None is any length."""
    array = _numbers(name, values)
    if array.ndim != len(shape) or any(want not in (None, got) for want, got in zip(shape, array.shape)):
        wanted = ", ".join("any" if want is None else str(want) for want in shape)
        raise ValueError(f"{name} must have shape [{wanted}], got {list(array.shape)}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds a value that is not finite")
    return array


def _numbers(name, values):
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} must be numbers in one rectangular array") from None
