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
"""Overlay pictures: what lies where, in which colour, at every size of image."""
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from src.inference.mask_records import encode_masks
from src.inference.visualize import (
    MASK_OPACITY,
    NEGATIVE,
    POSITIVE,
    SMALLEST_CANVAS,
    draw_everything,
    draw_overlay,
    mask_color,
    side_by_side,
    write_png,
)


def grey(height, width):
    return np.full((height, width, 3), 100, np.uint8)


def rectangle(height, width, x0, y0, x1, y1):
    mask = np.zeros((height, width), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def test_mask_is_blended_inside_and_nothing_outside():
    image, mask = grey(1000, 1000), rectangle(1000, 1000, 200, 300, 600, 700)
    picture = draw_overlay(image, [mask])
    expected = np.round(100 * (1 - MASK_OPACITY) + np.array(mask_color(0)) * MASK_OPACITY)
    np.testing.assert_array_equal(picture[400:600, 300:500].reshape(-1, 3), np.tile(expected, (40000, 1)))
    np.testing.assert_array_equal(picture[:280], 100)
    np.testing.assert_array_equal(picture[720:], 100)
    assert tuple(picture[500, 200]) == mask_color(0)  # the contour
    np.testing.assert_array_equal(image, 100)  # the caller's image stays


def test_every_value_is_blended_as_in_floating_point():
    """All 256 values of each channel under colours whose weights fall on halves, too: 0.55 x + 0.45 c, rounded."""
    ramp = np.arange(1000, dtype=np.int64)[None] * np.array([1, 3, 7])[:, None] % 256  # [channel, x]
    image = np.repeat(ramp.T[None], 1000, axis=0).astype(np.uint8)
    for index in range(20):
        masks = [np.zeros((1000, 1000), bool)] * index + [np.ones((1000, 1000), bool)]
        middle = draw_overlay(image, masks)[500, 10:-10].astype(np.float64)
        expected = np.round(image[500, 10:-10] * (1 - MASK_OPACITY) + np.array(mask_color(index)) * MASK_OPACITY)
        np.testing.assert_array_equal(middle, expected)


def test_a_mask_takes_a_few_bytes_a_pixel():
    image, mask = grey(1500, 2000), np.ones((1500, 2000), bool)
    tracemalloc.start()
    draw_overlay(image, [mask])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * mask.size  # 3 of them are the picture that comes back


@pytest.mark.parametrize("height, width", [(6, 3000), (3000, 6)])
def test_outlines_are_thinner_than_a_strip(height, width):
    """The middle of a full mask is blended, not covered by the outlines of both its sides."""
    mask = np.ones((height, width), bool)
    blended = np.round(100 * (1 - MASK_OPACITY) + np.array(mask_color(0)) * MASK_OPACITY)
    for picture in (draw_overlay(grey(height, width), [mask]), draw_everything(grey(height, width),
                                                                               encode_masks(mask[None]))):
        np.testing.assert_array_equal(picture[height // 2, width // 2], blended)


def test_small_images_are_enlarged_and_marks_stay_in_place():
    mask = rectangle(48, 64, 16, 12, 48, 36)
    picture = draw_overlay(grey(48, 64), [mask], [0.5], [[32, 24], [8, 40]], [1, 0])
    assert picture.shape == (720, SMALLEST_CANVAS, 3)  # 960 / 64 = 15 times
    assert tuple(picture[24 * 15, 32 * 15]) == POSITIVE
    assert tuple(picture[40 * 15 + 6, 8 * 15]) == NEGATIVE  # below the white bar
    assert tuple(picture[40 * 15, 8 * 15]) == (255, 255, 255)


def test_large_images_keep_their_size():
    picture = draw_overlay(grey(30, 3000), [rectangle(30, 3000, 10, 5, 2000, 20)], [0.5], boxes=[[10, 5, 2000, 20]])
    assert picture.shape == (30, 3000, 3)


@pytest.mark.parametrize("height, width", [(1, 1), (2, 400), (400, 2), (700, 1300)])
def test_every_shape_is_drawn(height, width):
    full = np.ones((height, width), bool)
    picture = draw_overlay(grey(height, width), [full, ~full], [0.9, 0.1], [[0, 0], [width, height]], [1, 0],
                           [[0, 0, width, height]] * 2)
    assert max(picture.shape[:2]) == max(SMALLEST_CANVAS, height, width)
    assert (picture != 100).any()


def test_empty_mask_is_named_and_leaves_the_rest_untouched():
    picture = draw_overlay(grey(1000, 1000), [np.zeros((1000, 1000), bool)], [0.1])
    np.testing.assert_array_equal(picture[200:], 100)
    assert (picture[:100] != 100).any()  # its tag


def test_tags_show_their_iou():
    mask = rectangle(1000, 1000, 200, 300, 600, 700)
    pictures = [draw_overlay(grey(1000, 1000), [mask], [iou]) for iou in (0.5, 0.5, 0.75)]
    np.testing.assert_array_equal(pictures[0], pictures[1])
    assert (pictures[0] != pictures[2]).any()


def test_boxes_take_the_colour_of_their_mask_or_white():
    masks = [rectangle(1000, 1000, 100, 100, 200, 200), rectangle(1000, 1000, 500, 500, 600, 600)]
    boxes = [[80, 80, 220, 220], [480, 480, 620, 620]]
    picture = draw_overlay(grey(1000, 1000), masks, boxes=boxes)
    assert tuple(picture[80, 150]) == mask_color(0) and tuple(picture[480, 550]) == mask_color(1)
    picture = draw_overlay(grey(1000, 1000), masks[:1], boxes=boxes)
    assert tuple(picture[80, 150]) == (255, 255, 255)


@pytest.mark.parametrize("side", [1000, 480])  # at its own size, and twice as large
def test_small_masks_lie_over_large_ones_and_nothing_else_changes(side):
    def mask(*corners):
        return rectangle(side, side, *(corner * side // 1000 for corner in corners))

    small, large, corner = mask(400, 400, 500, 500), mask(200, 200, 800, 800), mask(0, 900, 50, 1000)
    picture = draw_everything(grey(side, side), encode_masks(np.stack([small, large, corner, np.zeros_like(small)])))
    size = picture.shape[0]
    assert picture.shape == (max(side, SMALLEST_CANVAS),) * 2 + (3,)

    def blended(under, index):
        return np.round(under * (1 - MASK_OPACITY) + np.array(mask_color(index)) * MASK_OPACITY)

    def inside(x0, y0, x1, y1):
        return picture[y0 * size // 1000:y1 * size // 1000, x0 * size // 1000:x1 * size // 1000].reshape(-1, 3)

    over_large = blended(100, 1)
    assert (inside(220, 220, 380, 780) == over_large).all()
    assert (inside(420, 420, 480, 480) == blended(over_large, 0)).all()  # though the small one comes first
    assert (inside(10, 920, 40, 990) == blended(100, 2)).all()
    for corners in ((0, 0, 1000, 180), (0, 180, 180, 880), (820, 180, 1000, 1000), (70, 820, 820, 1000)):
        assert (inside(*corners) == 100).all()
    middle = size // 2
    assert tuple(picture[middle, 200 * size // 1000]) == mask_color(1)  # contours, whole at their masks' borders
    assert tuple(picture[450 * size // 1000, 400 * size // 1000]) == mask_color(0)


def test_neighbouring_colours_differ():
    colors = np.array([mask_color(index) for index in range(200)])
    steps = np.abs(np.diff(colors, axis=0)).max(axis=1)
    assert steps.min() > 60
    assert len({tuple(color) for color in colors}) == 200


def test_side_by_side_places_pictures_in_order():
    sheet = side_by_side([np.full((1000, 1000, 3), value, np.uint8) for value in (10, 20)], ["left", "right"])
    # gap 12, title 56: pictures at 12..1012 and 1024..2024
    assert sheet.shape == (1068, 2036, 3)
    np.testing.assert_array_equal(sheet[56:1056, 12:1012], 10)
    np.testing.assert_array_equal(sheet[56:1056, 1024:2024], 20)
    np.testing.assert_array_equal(sheet[:, :12], 255)
    assert (sheet[:56] < 100).any()  # the titles


def test_write_png_keeps_the_values(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    write_png(tmp_path / "new" / "a.png", picture)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new" / "a.png")), picture)
    write_png(tmp_path / "without_suffix", picture)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "without_suffix")), picture)
