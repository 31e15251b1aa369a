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
"""First prompts of training drawn from a label mask: a click or a noisy box (arXiv 2304.02643, appendix A, "Training
algorithm"), written into the K static slots of docs/design.md. NumPy; the random state is passed in.

Coordinates are (x, y) pixel indices of the S x S frame, as a user would click them; the prompt encoder adds the half
pixel.
"""
import numpy as np

from src.prompts.labels import BOX_BOTTOM_RIGHT, BOX_TOP_LEFT, EMPTY, FOREGROUND, NOT_A_POINT

MAX_BOX_NOISE = 20.0  # pixels at SAM's 1024 input


def sample_click(mask, rng, scale=1):
    """Pick a pixel of `mask` uniformly.

    Args:
        mask: [h, w] bool or 0/1.
        rng: numpy Generator; exactly one integer is drawn from it.
        scale: pixels of the S x S frame per pixel of the mask.

    Returns:
        [2] float32, (x, y): the middle of the pixel in the frame, (index + 0.5) * scale - 0.5.

    Raises:
        ValueError: the mask is empty.
    """
    pixels = np.flatnonzero(mask)
    if pixels.size == 0:
        raise ValueError(f"cannot click inside an empty mask of {mask.shape[0]} x {mask.shape[1]} pixels")
    y, x = divmod(int(pixels[rng.integers(pixels.size)]), mask.shape[1])
    return np.array([(x + 0.5) * scale - 0.5, (y + 0.5) * scale - 0.5], np.float32)


def box_of_mask(mask):
    """[4] float64 box (x0, y0, x1, y1) of a mask: outer pixel edges as in COCO, so a one-pixel mask is 1 wide.

    Raises:
        ValueError: the mask is empty.
    """
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if columns.size == 0:
        raise ValueError(f"an empty mask of {mask.shape[0]} x {mask.shape[1]} pixels has no box")
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64)


def jitter_box(box, rng, jitter, frame_size, max_noise=MAX_BOX_NOISE):
    """Move every coordinate of a box by Gaussian noise, keep it right side out and inside the picture.

    Args:
        box: [4], (x0, y0, x1, y1) pixels.
        rng: numpy Generator; exactly four normal numbers are drawn from it, also when jitter is 0.
        jitter: standard deviation of the noise as a share of the box's width (x) or height (y).
        frame_size: (h, w) of the picture's part of the frame; the box is clipped to it.
        max_noise: largest move of one coordinate in pixels.

    Returns:
        [4] float32, (x0, y0, x1, y1) with x0 <= x1, y0 <= y1.
    """
    box = np.asarray(box, np.float64)
    sides = np.tile(box[2:] - box[:2], 2)
    moved = box + np.clip(rng.standard_normal(4) * jitter * sides, -max_noise, max_noise)
    corners = np.clip(np.sort(moved.reshape(2, 2), axis=0), 0, (frame_size[1], frame_size[0]))
    return corners.reshape(4).astype(np.float32)


def assemble_prompt(num_slots, click=None, box=None):
    """Write one first prompt into K slots.

    Args:
        num_slots: K >= 2; slots 2.. are left empty for hard points.
        click: [2] (x, y), or None.
        box: [4] (x0, y0, x1, y1), or None. With neither click nor box the prompt is padding: one "not a point", so
            that a softmax over its slots stays finite.

    Returns:
        coords [K, 2] float32 and labels [K] int32.

    Raises:
        ValueError: fewer than two slots, or both a click and a box.
    """
    if num_slots < 2:
        raise ValueError(f"num_slots ({num_slots}) must be at least 2: a first prompt fills two slots")
    if click is not None and box is not None:
        raise ValueError("a first prompt is a click or a box, not both")
    coords = np.zeros((num_slots, 2), np.float32)
    labels = np.full(num_slots, EMPTY, np.int32)
    if box is not None:
        coords[:2] = np.asarray(box, np.float32).reshape(2, 2)
        labels[:2] = BOX_TOP_LEFT, BOX_BOTTOM_RIGHT
    elif click is not None:
        coords[0] = click
        labels[:2] = FOREGROUND, NOT_A_POINT
    else:
        labels[0] = NOT_A_POINT
    return coords, labels
