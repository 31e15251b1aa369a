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
"""Simulated clicks of interactive evaluation (arXiv 2304.02643, section 7.1; arXiv 2312.13789, section 4).

A click lands on the pixel of a region that lies deepest inside it, the maximum of the distance transform: the Euclidean
distance from the pixel's centre to the nearest pixel centre outside the region. Outside the picture counts as outside
the region (the region is padded by one pixel), so a pixel on the border has distance 1 like any other pixel on the
region's edge. Without the padding a region cut by the border would be clicked right at the border. Nothing is random:
of several deepest pixels the first in row order is taken.
"""
import cv2
import numpy as np

from src.prompts.labels import BACKGROUND, FOREGROUND


def deepest_pixel(region):
    """The pixel of a region that is farthest from everything outside it.

    Args:
        region: [h, w] bool.

    Returns:
        (x, y) pixel indices and the distance in pixels; (None, 0.0) for an empty region.
    """
    columns, rows = np.flatnonzero(region.any(axis=0)), np.flatnonzero(region.any(axis=1))
    if columns.size == 0:
        return None, 0.0
    left, top = int(columns[0]), int(rows[0])
    inside = np.pad(region[top:rows[-1] + 1, left:columns[-1] + 1].astype(np.uint8), 1)  # nothing lies farther out
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    y, x = divmod(int(distance.argmax()), distance.shape[1])
    return (left + x - 1, top + y - 1), float(distance[y, x])


def next_click(mask, label):
    """The click that a user would add to correct a mask.

    Args:
        mask: [h, w] bool, the mask so far.
        label: [h, w] bool, the mask that is wanted.

    Returns:
        (x, y, point_label) in pixel indices of the mask, or None where both are equal. Of the missed pixels (label 1)
        and the wrongly covered ones (label 0) the region with the deeper pixel is clicked; the missed ones, when equal.
    """
    missed, missed_depth = deepest_pixel(label & ~mask)
    wrong, wrong_depth = deepest_pixel(mask & ~label)
    if missed is None and wrong is None:
        return None
    return (*missed, FOREGROUND) if missed_depth >= wrong_depth else (*wrong, BACKGROUND)
