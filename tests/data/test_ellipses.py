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
"""Random ellipses: drawn by hand, the same at every reading, of all sizes, inside the picture."""
import numpy as np

from src.data.ellipses import EllipseDataset, EllipseMask
from src.data.loader import Batches, open_dataset
from src.data.synthetic import SyntheticDataset


def test_an_ellipse_drawn_by_hand():
    # Box 4 wide, 2 high from (1, 1): middle (3, 2), half axes 2 and 1. Pixel middles at dx = +-0.5, +-1.5 and
    # dy = +-0.5: 0.0625 + 0.25 and 0.5625 + 0.25 lie inside.
    expected = np.zeros((5, 7), bool)
    expected[1:3, 1:5] = True
    np.testing.assert_array_equal(EllipseMask(1, (1, 1, 5, 3), (5, 7)).mask(), expected)
    # Box 4 x 4: the corners, at dx = dy = 1.5 of 2, give 1.125 and fall out.
    expected = np.ones((4, 4), bool)
    expected[[0, 0, 3, 3], [0, 3, 0, 3]] = False
    np.testing.assert_array_equal(EllipseMask(1, (0, 0, 4, 4), (4, 4)).mask(), expected)


def test_the_same_ellipses_at_every_reading():
    dataset = SyntheticDataset(3, 96, 5)
    first, again, other = EllipseDataset(dataset, 4, 1), EllipseDataset(dataset, 4, 1), EllipseDataset(dataset, 4, 2)
    assert len(first) == 3 and first.image_id(2) == 2 and first.skipped is dataset.skipped
    boxes = [item.box for item in first.read(1).annotations]
    assert boxes == [item.box for item in again.read(1).annotations]
    assert boxes != [item.box for item in other.read(1).annotations] != [item.box for item in first.read(2).annotations]
    np.testing.assert_array_equal(first.read(1).image, dataset.read(1).image)


def test_sides_are_log_uniform_and_inside_the_picture():
    record = EllipseDataset(SyntheticDataset(1, 128, 5), 2000, 1).read(0)
    height, width = record.image.shape[:2]
    boxes = np.array([item.box for item in record.annotations])
    assert (boxes >= 0).all() and (boxes[:, 2] <= width + 1e-9).all() and (boxes[:, 3] <= height + 1e-9).all()
    sides = boxes[:, 2:] - boxes[:, :2]
    assert sides.min() >= 2.0 and sides.max() <= 0.95 * 128
    # The median of a log-uniform draw is the geometric mean: 128 * sqrt(0.95 / 64) = 15.6.
    assert 14.0 < np.median(sides) < 17.2


def test_batches_of_ellipses():
    dataset = open_dataset("synthetic", synthetic_images=2, image_size=64, ellipses=8)
    with Batches(dataset, 64, prompts_per_image=3, slots=2, batch_size=2, box_share=1.0, box_jitter=0.0,
                 flip_probability=0.0) as batches:
        batch = next(batches.epoch(0))
    for mask, (corner, opposite) in zip(batch["gt_masks"].reshape(-1, 16, 16), batch["point_coords"].reshape(-1, 2, 2)):
        sides = opposite - corner
        area = np.pi / 4 * sides.prod() / 16  # pixels of the mask are 4 wide
        if sides.min() > 16:
            assert abs(mask.sum() - area) < 0.2 * area
    assert (batch["mask_valid"] == 1).all()
