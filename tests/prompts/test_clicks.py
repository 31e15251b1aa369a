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
"""Simulated clicks: small masks by hand, drawn ones against a slow distance transform."""
import numpy as np
import pytest

from src.prompts.clicks import deepest_pixel, next_click


def region(*rows):
    """Bool mask of text rows, '#' inside."""
    return np.array([[character == "#" for character in row] for row in rows])


def slow_distances(mask):
    """Distance of every inside pixel to the nearest pixel outside, one ring beyond the picture included."""
    height, width = mask.shape
    outside = [(y, x) for y in range(-1, height + 1) for x in range(-1, width + 1)
               if not (0 <= y < height and 0 <= x < width and mask[y, x])]
    return np.array([[min(np.hypot(y - v, x - u) for v, u in outside) if mask[y, x] else 0.0
                      for x in range(width)] for y in range(height)])


def test_deepest_pixel_by_hand():
    # The middle of 5 x 5 pixels is 3 from the nearest pixel outside.
    square = region(".......", ".#####.", ".#####.", ".#####.", ".#####.", ".#####.", ".......")
    assert deepest_pixel(square) == ((3, 3), pytest.approx(3))
    # A plus: its middle's nearest outside pixel lies across a corner.
    assert deepest_pixel(region(".#.", "###", ".#.")) == ((1, 1), pytest.approx(np.sqrt(2)))
    # Of two equally deep pixels the first in row order.
    assert deepest_pixel(region("#..", "...", "..#")) == ((0, 0), pytest.approx(1))
    assert deepest_pixel(region("...", "...")) == (None, 0.0)


def test_the_border_of_the_picture_is_an_edge_of_the_region():
    """Without the padding the deepest pixel of this band would be at the left border, 5 from the right end."""
    assert deepest_pixel(region("#####...", "#####...", "#####...")) == ((1, 1), pytest.approx(2))
    # A region that fills the picture has a deepest pixel at all.
    assert deepest_pixel(np.ones((5, 9), bool)) == ((2, 2), pytest.approx(3))


@pytest.mark.parametrize("seed", range(6))
def test_deepest_pixel_equals_the_slow_transform(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((rng.integers(1, 14), rng.integers(1, 14))) < rng.choice([0.5, 0.9])
    mask[0, 0] = True
    distances = slow_distances(mask)
    (x, y), depth = deepest_pixel(mask)
    assert depth == pytest.approx(distances.max(), abs=1e-5)
    ys, xs = np.nonzero(distances > distances.max() - 1e-5)
    assert (y, x) == (ys[0], xs[0])


def test_click_goes_to_the_deeper_error():
    label = region("......", ".####.", ".####.", ".####.", "......")
    nothing, everything = np.zeros((5, 6), bool), np.ones((5, 6), bool)
    assert next_click(nothing, label) == (2, 2, 1)
    # All of the picture: the wrong ring around the label is one pixel wide, its first pixel is the corner.
    assert next_click(everything, label) == (0, 0, 0)
    assert next_click(label, label) is None
    # Missed: the last column of the label (depth 1). Wrong: 3 x 3 pixels in the corner (depth 2).
    mask = np.zeros((8, 8), bool)
    mask[5:8, 5:8] = True
    label = np.zeros((8, 8), bool)
    label[:, 0] = True
    assert next_click(mask, label) == (6, 6, 0)
    assert next_click(label, mask) == (6, 6, 1)


def test_missed_pixels_come_first_when_both_are_equally_deep():
    assert next_click(region("#."), region(".#")) == (1, 0, 1)
