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
"""Training geometry: horizontal flip and large-scale jitter of a picture and of its masks (arXiv 2304.02643, appendix
A; large-scale jitter as in arXiv 2012.07177). The random state is passed in; a `Geometry` is drawn once per picture.

A mask goes straight from the original pixels to the S/4 grid of the network's low-resolution masks. Rule: a pixel of
the grid is foreground if at least half of its area is covered; area outside the picture counts as not covered.
"""
from dataclasses import dataclass
from typing import Tuple

import cv2
import numpy as np

from src.data.images import longest_side_size, resize_image

MASK_STRIDE = 4  # pixels of the S x S frame per pixel of the mask grid


@dataclass(frozen=True)
class Geometry:
    """The way from the original picture to the S x S frame: flip, resize, cut out.

    original_size and resized_size are (h, w); offset is (y, x) of the cut in the resized picture; the picture fills the
    first content_size = (h, w) pixels of the frame, the rest is padding at the bottom and right.
    """

    image_size: int
    original_size: Tuple[int, int]
    resized_size: Tuple[int, int]
    offset: Tuple[int, int]
    flip: bool

    @property
    def content_size(self):
        """(h, w) of the frame's part that the picture fills, in pixels of the frame."""
        return (min(self.image_size, self.resized_size[0] - self.offset[0]),
                min(self.image_size, self.resized_size[1] - self.offset[1]))

    def image(self, image):
        """[H, W, 3] uint8 in the original frame -> [h, w, 3] uint8 of content_size."""
        resized = resize_image(image, self.resized_size)
        if self.flip:
            resized = resized[:, ::-1]
        (height, width), (y, x) = self.content_size, self.offset
        return np.ascontiguousarray(resized[y : y + height, x : x + width])

    def mask(self, mask):
        """[H, W] bool in the original frame -> [S/4, S/4] uint8 0/1 in the padded frame (see the rule above)."""
        filled_rows, filled_columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if filled_rows.size == 0:
            return np.zeros((self.image_size // MASK_STRIDE,) * 2, np.uint8)
        top, bottom = filled_rows[0], filled_rows[-1] + 1
        left, right = filled_columns[0], filled_columns[-1] + 1
        box = mask[top:bottom, left:right]  # a mask is small beside its picture: a quarter of the time
        if self.flip:
            box, left = box[:, ::-1], self.original_size[1] - right
        rows = np.clip(self._grid_edges(0) - top, 0, box.shape[0])
        columns = np.clip(self._grid_edges(1) - left, 0, box.shape[1])
        area = cv2.integral(np.ascontiguousarray(box, np.uint8))  # [h + 1, w + 1] int32
        corners = _interpolate(_interpolate(area, rows).T, columns).T  # exact: the mask is constant within a pixel
        covered = np.diff(np.diff(corners, axis=0), axis=1)  # area in original pixels
        cell = MASK_STRIDE**2 * self._ratio(0) * self._ratio(1)
        return (covered >= 0.5 * cell * (1 - 1e-9)).astype(np.uint8)  # the slack keeps exact halves foreground

    def box(self, box):
        """[4] (x0, y0, x1, y1) in pixels of the original -> the same box in the frame, clipped to content_size."""
        x0, y0, x1, y1 = box
        if self.flip:
            x0, x1 = self.original_size[1] - x1, self.original_size[1] - x0
        height, width = self.content_size
        across = np.array([x0, x1]) / self._ratio(1) - self.offset[1]
        down = np.array([y0, y1]) / self._ratio(0) - self.offset[0]
        return np.stack((np.clip(across, 0, width), np.clip(down, 0, height)), axis=1).reshape(4)

    def visible(self, mask):
        """The part of a [H, W] mask that the frame shows, cleared elsewhere: [H, W] bool in the original frame."""
        if self.content_size == self.resized_size:
            return mask
        rows, columns = self._visible_range(0), self._visible_range(1)
        if self.flip:
            columns = slice(self.original_size[1] - columns.stop, self.original_size[1] - columns.start)
        shown = np.zeros_like(mask)
        shown[rows, columns] = mask[rows, columns]
        return shown

    def _ratio(self, axis):
        """Original pixels per pixel of the frame."""
        return self.original_size[axis] / self.resized_size[axis]

    def _grid_edges(self, axis):
        """[S/4 + 1] borders of the grid's pixels in (flipped) original pixels; the last may lie outside the picture."""
        edges = np.arange(0, self.image_size + 1, MASK_STRIDE) + self.offset[axis]
        return edges * self._ratio(axis)

    def _visible_range(self, axis):
        """Original pixels (flipped frame) that lie in the cut at least in part."""
        first = self.offset[axis] * self._ratio(axis)
        last = (self.offset[axis] + self.content_size[axis]) * self._ratio(axis)
        return slice(int(first), min(int(np.ceil(last)), self.original_size[axis]))


def draw_geometry(rng, original_size, image_size, scale_jitter=(1.0, 1.0), flip_probability=0.0):
    """Draw flip, scale and cut of one picture. Four numbers are drawn whatever the settings.

    Args:
        rng: numpy Generator.
        original_size: (H, W) of the picture.
        image_size: S, side of the frame.
        scale_jitter: (low, high); the longest side becomes S times a factor drawn uniformly from it. Larger than S: a
            random S x S cut; smaller: padding.
        flip_probability: of a horizontal flip.

    Returns:
        Geometry.
    """
    flip, factor, down, across = rng.random(4)
    low, high = scale_jitter
    longest = max(1, int(image_size * (low + (high - low) * factor) + 0.5))
    resized = longest_side_size(*original_size, longest)
    offset = tuple(int(draw * (max(0, side - image_size) + 1)) for draw, side in zip((down, across), resized))
    return Geometry(image_size, tuple(original_size), resized, offset, bool(flip < flip_probability))


def _interpolate(table, positions):
    """Rows of `table` [n, m] at fractional `positions` [k], linear in between: [k, m] float64."""
    below = np.minimum(positions.astype(np.int64), len(table) - 2)
    weight = (positions - below)[:, None]
    return table[below] * (1 - weight) + table[below + 1] * weight
