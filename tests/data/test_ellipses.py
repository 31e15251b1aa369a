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
"""Random ellipses: drawn by hand, of all sizes, inside the picture, and where a batch holds them."""
import numpy as np
import pytest

from src.data.ellipses import draw_ellipse
from src.data.loader import Batches, open_dataset


class Draws:
    """Stands in for a generator: hands out given numbers of uniform(low, high, size)."""

    def __init__(self, *shares):
        self.shares = list(shares)

    def uniform(self, low=0.0, high=1.0, size=2):
        return np.array([low + (high - low) * self.shares.pop(0) for _ in range(size)])


def share_of(side):
    """Where the side (as a share of the longest one) lies between 1/100 and 0.95, on the logarithmic scale."""
    return np.log(side * 100) / np.log(0.95 * 100)


def test_an_ellipse_drawn_by_hand():
    # Frame of 32 x 32 pixels, cells of 4. Box 16 wide, 8 high; the corner at half of what is left: (8, 12).
    box, mask = draw_ellipse(Draws(share_of(0.5), share_of(0.25), 0.5, 0.5), (32, 32), 8, 4)
    np.testing.assert_allclose(box, [8, 12, 24, 20], rtol=1e-6)
    # Middle (16, 16), half axes 8 and 4. Cell middles at dx = +-2 and +-6, dy = +-2: 1/16 + 1/4 and 9/16 + 1/4, inside.
    expected = np.zeros((8, 8), bool)
    expected[3:5, 2:6] = True
    np.testing.assert_array_equal(mask, expected)


def test_an_ellipse_between_the_cells_keeps_the_cell_it_lies_in():
    # 0.32 pixels wide at (4 + ..): no cell's middle is inside, cell (1, 1) holds the ellipse's middle.
    box, mask = draw_ellipse(Draws(0.0, 0.0, 0.13, 0.13), (32, 32), 8, 4)
    np.testing.assert_allclose(box, [4.1184, 4.1184, 4.4384, 4.4384], rtol=1e-6)
    assert np.argwhere(mask).tolist() == [[1, 1]]


def test_sides_are_log_uniform_and_inside_the_picture():
    rng = np.random.default_rng(0)
    drawn = [draw_ellipse(rng, (96, 128), 32, 4) for _ in range(2000)]
    boxes = np.array([box for box, _ in drawn])
    assert (boxes >= 0).all() and (boxes[:, 2] <= 128 + 1e-4).all() and (boxes[:, 3] <= 96 + 1e-4).all()
    sides = boxes[:, 2:] - boxes[:, :2]
    assert sides.min() >= 1.28 - 1e-4 and sides.max() <= 0.95 * 128 + 1e-4
    # The median of a log-uniform draw is the geometric mean: 128 * sqrt(0.95 / 100) = 12.5.
    assert 11.3 < np.median(sides) < 13.8
    for (x0, y0, x1, y1), mask in drawn:
        if min(x1 - x0, y1 - y0) > 20:
            assert abs(mask.sum() * 16 / (np.pi / 4 * (x1 - x0) * (y1 - y0)) - 1) < 0.15


@pytest.mark.parametrize("ellipses", [2, 5])
def test_the_last_prompts_of_a_batch_are_ellipses(ellipses):
    dataset = open_dataset("synthetic", synthetic_images=2, image_size=64)

    def first(count):
        with Batches(dataset, 64, prompts_per_image=5, slots=3, batch_size=2, box_share=0.0, flip_probability=0.0,
                     repeat_masks=True, ellipses=count) as batches:
            return next(batches.epoch(0))

    batch = first(ellipses)
    own = 5 - ellipses
    assert (batch["point_labels"][:, :own] == [1, -1, -2]).all()  # clicks, as box_share is 0
    assert (batch["point_labels"][:, own:] == [2, 3, -2]).all()  # an ellipse always has its box
    assert (batch["mask_valid"] == 1).all()
    for mask, (corner, opposite) in zip(batch["gt_masks"][:, own:].reshape(-1, 16, 16),
                                        batch["point_coords"][:, own:, :2].reshape(-1, 2, 2)):
        y, x = np.argwhere(mask).mean(0)
        np.testing.assert_allclose((4 * x + 2, 4 * y + 2), (corner + opposite) / 2, atol=2.5)  # the same place
    if own:  # what is drawn beside the ellipses are the picture's own masks
        without = {mask.tobytes() for mask in first(0)["gt_masks"].reshape(-1, 256)}
        assert {mask.tobytes() for mask in batch["gt_masks"][:, :own].reshape(-1, 256)} <= without


def test_more_ellipses_than_prompts_are_refused():
    dataset = open_dataset("synthetic", synthetic_images=2, image_size=64)
    with pytest.raises(ValueError, match=r"^data.ellipses \(6\) must lie in 0..data.prompts_per_image \(5\)$"):
        Batches(dataset, 64, prompts_per_image=5, slots=2, batch_size=1, ellipses=6)
