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
"""Geometry of training pictures and the coverage rule of masks, by hand and against a slow version."""
import numpy as np
import pytest

from src.data.transforms import Geometry, draw_geometry


def plain(original, resized, image_size, offset=(0, 0), flip=False):
    return Geometry(image_size, original, resized, offset, flip)


def slow_mask(geometry, mask):
    """The rule by brute force: every original pixel is cut into n x n points, each falls into one pixel of the grid."""
    n, grid = 24, geometry.image_size // 4
    counts = np.zeros((grid, grid))
    height, width = geometry.original_size
    for y, x in np.argwhere(mask):
        x = width - 1 - x if geometry.flip else x
        rows = (y + (np.arange(n) + 0.5) / n) * geometry.resized_size[0] / height - geometry.offset[0]
        columns = (x + (np.arange(n) + 0.5) / n) * geometry.resized_size[1] / width - geometry.offset[1]
        r, c = np.floor(rows / 4).astype(int), np.floor(columns / 4).astype(int)
        for row in r[(r >= 0) & (r < grid)]:
            np.add.at(counts[row], c[(c >= 0) & (c < grid)], 1)
    cell = 16 * n * n * height * width / (geometry.resized_size[0] * geometry.resized_size[1])
    return counts / cell


def test_half_covered_is_foreground():
    # 8 x 8 picture at its own size, 2 x 2 grid. Top left: 8 of 16 pixels, top right: 7, bottom left
    # 16, bottom right 0.
    mask = np.zeros((8, 8), bool)
    mask[:2, :4] = True
    mask[0, 4:] = mask[1, 4:7] = True
    mask[4:, :4] = True
    assert plain((8, 8), (8, 8), 8).mask(mask).tolist() == [[1, 0], [1, 0]]


def test_padding_counts_as_not_covered():
    # 6 x 8 picture, all foreground, in an 8 x 8 frame: the lower cells are covered by half, exactly. At 5 x 8
    # by a quarter.
    assert plain((6, 8), (6, 8), 8).mask(np.ones((6, 8), bool)).tolist() == [[1, 1], [1, 1]]
    assert plain((5, 8), (5, 8), 8).mask(np.ones((5, 8), bool)).tolist() == [[1, 1], [0, 0]]


def test_empty_and_invisible_masks_are_empty_on_the_grid():
    mask = np.zeros((20, 20), bool)
    assert not plain((20, 20), (40, 40), 32).mask(mask).any()
    mask[:, :3] = True  # left of the cut, which starts at column 4
    assert not plain((20, 20), (40, 40), 32, (0, 8)).mask(mask).any()
    assert plain((20, 20), (40, 40), 32, (0, 0)).mask(mask)[:, 0].all()


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("original, resized, offset", [
    ((13, 17), (24, 32), (0, 0)),  # enlarged, no whole ratio
    ((50, 40), (32, 26), (0, 0)),  # shrunk, width not a multiple of 4
    ((30, 30), (45, 45), (7, 13)),  # cut out
    ((20, 31), (12, 19), (0, 0)),  # smaller than the frame
])
def test_agrees_with_brute_force(original, resized, offset, flip):
    geometry = plain(original, resized, 32, offset, flip)
    mask = np.random.default_rng(4).random((original[0] // 5 + 1, original[1] // 5 + 1)) < 0.5
    mask = np.kron(mask, np.ones((5, 5), bool))[: original[0], : original[1]]
    covered, got = slow_mask(geometry, mask), geometry.mask(mask)
    sure = np.abs(covered - 0.5) > 0.05  # the sampled coverage is only near the exact one
    np.testing.assert_array_equal(got[sure], (covered > 0.5)[sure])
    assert sure.sum() > 50 and 0 < got[sure].sum() < sure.sum()


def test_image_box_and_mask_move_together():
    # One white block on black: after flip, enlargement and cut it must be in the same place in picture, mask and box.
    mask = np.zeros((40, 64), bool)
    mask[8:24, 40:56] = True
    image = np.repeat(mask[:, :, None], 3, axis=2).astype(np.uint8) * 255
    geometry = plain((40, 64), (80, 128), 64, (4, 8), flip=True)
    # Flipped: x 64-56 .. 64-40 = 8..24; doubled: 16..48, y 16..48; cut at (8, 4): x 8..40, y 12..44.
    assert geometry.box([40, 8, 56, 24]).tolist() == [8, 12, 40, 44]
    expected = np.zeros((16, 16), np.uint8)
    expected[3:11, 2:10] = 1
    np.testing.assert_array_equal(geometry.mask(mask), expected)
    seen = geometry.image(image)
    assert seen.shape == (64, 64, 3) and geometry.content_size == (64, 64)
    np.testing.assert_array_equal(seen[14:42, 10:38], 255)
    assert seen[:10].max() == 0 and seen[:, 42:].max() == 0


def test_box_is_clipped_to_the_content():
    geometry = plain((20, 20), (40, 40), 32, (0, 8))
    assert geometry.content_size == (32, 32)
    assert geometry.box([0, 0, 20, 20]).tolist() == [0, 0, 32, 32]
    assert geometry.box([3, 3, 10, 10]).tolist() == [0, 6, 12, 20]
    assert plain((20, 10), (32, 16), 32).box([0, 0, 12, 25]).tolist() == [0, 0, 16, 32]


@pytest.mark.parametrize("flip", [False, True])
def test_visible_keeps_what_the_cut_shows(flip):
    # 20 x 20 doubled, cut 32 x 32 at (0, 8): columns 4..19 and rows 0..15 of the (flipped) original.
    geometry = plain((20, 20), (40, 40), 32, (0, 8), flip)
    shown = geometry.visible(np.ones((20, 20), bool))
    expected = np.zeros((20, 20), bool)
    expected[:16, 4:] = True
    np.testing.assert_array_equal(shown, expected[:, ::-1] if flip else expected)
    whole = np.ones((8, 8), bool)
    assert plain((8, 8), (8, 8), 8).visible(whole) is whole


def test_draw_without_augmentation_is_sams_resize():
    geometry = draw_geometry(np.random.default_rng(0), (426, 640), 1024)
    assert geometry == Geometry(1024, (426, 640), (682, 1024), (0, 0), False)


def test_draws_cover_their_ranges():
    rng = np.random.default_rng(0)
    drawn = [draw_geometry(rng, (32, 64), 64, (0.5, 2.0), 0.25) for _ in range(2000)]
    longest = np.array([geometry.resized_size[1] for geometry in drawn])
    assert longest.min() == 32 and longest.max() == 128 and abs(longest.mean() - 80) < 2.5
    assert abs(np.mean([geometry.flip for geometry in drawn]) - 0.25) < 0.04
    for geometry in drawn:
        height, width = geometry.resized_size
        assert 0 <= geometry.offset[0] <= max(0, height - 64) and 0 <= geometry.offset[1] <= max(0, width - 64)
    # Where the picture is 2 pixels too wide, all three cuts occur.
    offsets = {draw_geometry(rng, (33, 66), 64, (66 / 64, 66 / 64)).offset for _ in range(100)}
    assert offsets == {(0, 0), (0, 1), (0, 2)}
