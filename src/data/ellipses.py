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
"""Random ellipses beside a picture's own masks: what a mask decoder can learn of boxes, also while it sees objects.

A decoder that starts from random weights takes long to find where a box is, small boxes most of all: the picture tells
it next to nothing as long as its tokens cannot place themselves. An ellipse follows from its box alone, boxes of all
sizes can be drawn, and the image encoder need not learn meanwhile (`model.freeze`). The inscribed ellipse is also a
better guess at an object of which only the box is known than the filled box. NumPy; the random state is passed in.
"""
import numpy as np

SMALLEST_SIDE = 1.0 / 100.0  # of a box, as a share of the picture's longest side
LARGEST_SIDE = 0.95


def draw_ellipse(rng, content_size, grid, stride):
    """An ellipse in a random box inside the picture; sides are log-uniform from 1/100 to 0.95 of its longest side.

    Args:
        rng: numpy Generator; exactly four numbers are drawn from it.
        content_size: (h, w) of the picture's part of the frame, pixels.
        grid: side of the mask, in cells.
        stride: pixels of the frame per cell.

    Returns:
        box [4] float32, (x0, y0, x1, y1) pixels of the frame, and the cells whose middle lies inside the ellipse,
        [grid, grid] bool; never empty: the cell in the middle always counts.
    """
    limits = np.array(content_size[::-1], np.float64)
    sides = limits.max() * np.exp(rng.uniform(np.log(SMALLEST_SIDE), np.log(LARGEST_SIDE), 2))
    sides = np.minimum(sides, limits)
    corner = rng.uniform(size=2) * (limits - sides)
    middle = corner + sides / 2
    dx, dy = (((np.arange(grid) + 0.5) * stride - middle[axis]) / (sides[axis] / 2) for axis in (0, 1))
    mask = dx[None, :] ** 2 + dy[:, None] ** 2 <= 1.0
    x, y = np.minimum(middle // stride, grid - 1).astype(int)
    mask[y, x] = True
    return np.concatenate((corner, corner + sides)).astype(np.float32), mask
