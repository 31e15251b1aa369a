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
"""Grids and crops by hand."""
import numpy as np
import pytest

from src.prompts.grids import coarse_points, crop_boxes, point_grid, points_of_layer


def test_points_stand_in_the_middle_of_their_cells_row_by_row():
    np.testing.assert_allclose(point_grid(2), [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]])
    np.testing.assert_allclose(point_grid(1), [[0.5, 0.5]])
    grid = point_grid(7)
    np.testing.assert_allclose(grid[3 * 7 + 5], [5.5 / 7, 3.5 / 7])


def side(points_per_side, coarse_ratio):
    """Which columns of the grid are asked first; rows are the same ones."""
    chosen = coarse_points(points_per_side, coarse_ratio).reshape(points_per_side, points_per_side)
    np.testing.assert_array_equal(chosen, np.outer(chosen.any(axis=1), chosen.any(axis=0)))
    np.testing.assert_array_equal(chosen.any(axis=0), chosen.any(axis=1))
    return np.flatnonzero(chosen.any(axis=0)).tolist()


@pytest.mark.parametrize("points_per_side, coarse_ratio, expected", [
    (32, 0.25, [2, 6, 10, 14, 18, 22, 26, 30]),  # centres of cells of 4 points: 2, 6, ...
    (9, 1 / 3, [1, 4, 7]),
    (10, 0.25, [1, 5, 8]),  # 2.5 rounds to 3 points; centres 1.67, 5, 8.33
    (7, 0.5, [0, 2, 4, 6]),  # 3.5 rounds to 4; centres 0.875, 2.625, 4.375, 6.125
    (5, 1.0, [0, 1, 2, 3, 4]),
    (5, 0.0, [2]),  # at least one
    (1, 0.25, [0]),
])
def test_coarse_points_are_spread_evenly_over_the_grid(points_per_side, coarse_ratio, expected):
    assert side(points_per_side, coarse_ratio) == expected


def test_every_ratio_keeps_its_number_of_points():
    for n in range(1, 41):
        for ratio in (0.1, 0.25, 1 / 3, 0.5, 0.77, 1.0):
            chosen = side(n, ratio)
            assert len(chosen) == min(n, max(1, int(n * ratio + 0.5)))
            gaps = np.diff([-0.5 * n / len(chosen), *chosen, n + 0.5 * n / len(chosen) - 1])
            assert gaps.max() <= n / len(chosen) + 1


def test_points_of_crop_layers_are_cut():
    assert [points_of_layer(32, layer, 2) for layer in range(4)] == [32, 16, 8, 4]
    assert [points_of_layer(7, layer, 3) for layer in range(3)] == [7, 2, 0]


def test_no_layer_is_the_image_alone():
    assert crop_boxes((30, 40), 0, 0.3) == [((0, 0, 40, 30), 0)]


def test_crops_of_one_layer_by_hand():
    # 100 x 60, ratio 0.5: overlap 0.5 * 60 * 2 / 2 = 30. Width (30 + 100) / 2 = 65, height (30 + 60) / 2 = 45;
    # the second crops start at 65 - 30 = 35 and 45 - 30 = 15. Columns before rows.
    assert crop_boxes((60, 100), 1, 0.5) == [
        ((0, 0, 100, 60), 0), ((0, 0, 65, 45), 1), ((0, 15, 65, 60), 1), ((35, 0, 100, 45), 1),
        ((35, 15, 100, 60), 1)]


@pytest.mark.parametrize("size", [(8, 8), (1, 1), (3, 700), (6000, 8000), (333, 500)])
def test_crops_cover_every_image_and_none_is_empty(size):
    boxes = crop_boxes(size, 4, 512 / 1500)
    for layer in range(5):
        columns, rows = np.zeros(size[1], bool), np.zeros(size[0], bool)
        of_layer = [box for box, its_layer in boxes if its_layer == layer]
        assert 1 <= len(of_layer) <= 4 ** layer
        for x0, y0, x1, y1 in of_layer:
            assert 0 <= x0 < x1 <= size[1] and 0 <= y0 < y1 <= size[0]
            columns[x0:x1], rows[y0:y1] = True, True
        assert columns.all() and rows.all()
