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
"""Points and crops of the everything mode (SAM, arXiv 2304.02643, section 5 and appendix B; TinySAM, arXiv 2312.13789).

A grid of n points a side has its points at (k + 0.5) / n of the image. The coarse grid of the hierarchical strategy is
a part of the full one, so both rounds together ask for points of the full grid alone, and for none of them twice.
"""
import math

import numpy as np


def point_grid(points_per_side):
    """[n*n, 2] float64 (x, y) as shares of the image in (0, 1), row by row."""
    places = (np.arange(points_per_side) + 0.5) / points_per_side
    grid_y, grid_x = np.meshgrid(places, places, indexing="ij")
    return np.stack([grid_x, grid_y], axis=-1).reshape(-1, 2)


def coarse_points(points_per_side, coarse_ratio):
    """Which points of a grid the first round asks for.

    Args:
        points_per_side: n of the full grid.
        coarse_ratio: points per side of the coarse grid over n, in (0, 1]; the product is rounded, and at least 1.

    Returns:
        [n*n] bool, the order of `point_grid`. Of every coarse cell the full grid's point at its centre, the later one
        where the centre lies between two.
    """
    count = min(points_per_side, max(1, int(math.floor(points_per_side * coarse_ratio + 0.5))))
    centres = ((np.arange(count) + 0.5) * points_per_side / count).astype(np.int64)
    side = np.zeros(points_per_side, bool)
    side[centres] = True
    return (side[:, None] & side[None, :]).reshape(-1)


def points_of_layer(points_per_side, layer, downscale_factor):
    """Points per side of the grid in the crops of a layer, SAM's rule: n over downscale_factor ** layer, cut."""
    return int(points_per_side / downscale_factor ** layer)


def crop_boxes(image_size, crop_n_layers, crop_overlap_ratio):
    """The image and, in layer i = 1 .. crop_n_layers, 2**i x 2**i overlapping crops of it, as SAM cuts them.

    Args:
        image_size: (height, width) in pixels.
        crop_n_layers: 0: the image alone.
        crop_overlap_ratio: overlap of the crops of layer 1 as a share of the image's short side; halved in each layer.

    Returns:
        [((x0, y0, x1, y1), layer)], x1 and y1 exclusive. Crops that would be empty, in an image of fewer pixels than
        crops, are left out.
    """
    height, width = image_size
    boxes = [((0, 0, width, height), 0)]
    for layer in range(1, crop_n_layers + 1):
        count = 2 ** layer
        overlap = int(crop_overlap_ratio * min(height, width) * (2 / count))
        crop_width = math.ceil((overlap * (count - 1) + width) / count)
        crop_height = math.ceil((overlap * (count - 1) + height) / count)
        for x0 in ((crop_width - overlap) * i for i in range(count)):
            for y0 in ((crop_height - overlap) * i for i in range(count)):
                x1, y1 = min(x0 + crop_width, width), min(y0 + crop_height, height)
                if x0 < x1 and y0 < y1:
                    boxes.append(((x0, y0, x1, y1), layer))
    return boxes
