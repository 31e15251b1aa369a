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
"""Segment everything: plans of points, filters and records with a predictor whose masks are known."""
import json

import numpy as np
import pytest
from colour_predictor import GREEN, ColourPredictor, asked_points, grid, rounded, scene, segment
from pycocotools import mask as coco_mask

from src.inference.everything import EverythingGenerator, EverythingSettings


def test_full_grid_asks_every_point_once_and_finds_every_object():
    records, counts, predictor = segment(scene())
    np.testing.assert_allclose(asked_points(predictor), grid(8, 256, 128))
    assert [len(batch) for batch in predictor.asked] == [10] * 6 + [4]
    assert (counts.points, counts.decoder_calls, counts.candidates, counts.full_size_masks) == (64, 7, 64, 64)
    boxes = sorted(record["bbox"] for record in records)
    assert boxes == [[0, 0, 255, 127], [32, 32, 63, 63], [160, 16, 63, 95]]  # to the last column and row, as SAM
    assert predictor.image is None  # forgotten


def test_records_have_the_fields_of_sam():
    records, _, _ = segment(scene(), ColourPredictor(quality={0: 0.97, 10: 0.99}))
    assert [record["predicted_iou"] for record in records] == [float(np.float32(iou)) for iou in (0.99, 0.97, 0.95)]
    record = records[1]  # the green square
    assert list(record) == ["segmentation", "area", "bbox", "predicted_iou", "point_coords", "stability_score",
                            "crop_box"]
    assert record["area"] == rounded(64, 64) and record["crop_box"] == [0, 0, 256, 128]
    expected = np.zeros((128, 256), np.uint8)
    expected[32:96, 32:96] = 1
    expected[[32, 32, 95, 95], [32, 95, 32, 95]] = 0
    np.testing.assert_array_equal(coco_mask.decode(record["segmentation"]), expected)
    # Points stand at 16 + 32 i, 8 + 16 k; the first in the square is (48, 40).
    assert record["point_coords"] == [[48.0, 40.0]]
    assert 0.95 <= record["stability_score"] <= 1
    assert json.loads(json.dumps(records)) == records


def test_output_modes_say_the_same():
    compressed, binary, plain = (segment(scene(), output_mode=mode)[0]
                                 for mode in ("coco_rle", "binary_mask", "uncompressed_rle"))
    assert len(compressed) == len(binary) == len(plain) == 3
    for one, two, three in zip(compressed, binary, plain):
        mask = coco_mask.decode(one["segmentation"])
        np.testing.assert_array_equal(two["segmentation"], mask)
        assert two["segmentation"].dtype == bool
        assert three["segmentation"]["size"] == [128, 256]
        packed = coco_mask.frPyObjects(three["segmentation"], 128, 256)
        assert packed["counts"].decode() == one["segmentation"]["counts"]
        assert one["area"] == two["area"] == three["area"] == mask.sum()
    red = plain[[record["bbox"] for record in plain].index([0, 0, 255, 127])]["segmentation"]["counts"]
    assert red[0] == 0 and sum(red) == 128 * 256  # the first pixel is foreground: no background run


def test_masks_below_the_thresholds_are_dropped():
    quality = {200: 0.5, 0: 0.9, 10: 0.88}
    records, counts, _ = segment(scene(), ColourPredictor(quality=quality))
    assert [record["bbox"] for record in records] == [[32, 32, 63, 63]]  # 0.88 is not above 0.88
    assert counts.candidates == 8  # points in the square: 48 and 80 across, 40, 56, 72, 88 down
    # Logits of +-0.9 never exceed an offset of 1: no pixel is inside, all of the image is not below.
    assert segment(scene(), ColourPredictor(height=0.9))[0] == []
    # A threshold of 0 lets everything pass: also the inverse and the empty mask of every point.
    everything, counts, _ = segment(scene(), pred_iou_thresh=0, stability_score_thresh=0, box_nms_thresh=1)
    assert counts.candidates == 3 * 64 == len(everything)


def test_nothing_found_is_an_empty_list():
    for changes in ({}, {"crop_n_layers": 1}, {"min_mask_region_area": 10}, {"hierarchical": True}):
        assert segment(scene(), ColourPredictor(quality={200: 0, 0: 0, 10: 0}), **changes)[0] == []


def test_hierarchical_asks_the_coarse_points_then_those_outside_confident_masks():
    records, counts, predictor = segment(scene(), hierarchical=True)
    asked = asked_points(predictor)
    # Coarse points of 8: 2 a side, columns and rows 2 and 6 -> (80, 40), (208, 40), (80, 104), (208, 104).
    np.testing.assert_allclose(asked, [(80, 40), (208, 40), (80, 104), (208, 104)])  # they meet all three objects
    assert counts.points == 4 and counts.grid_points == 64 and len(records) == 3


def test_the_median_of_the_largest_logits_is_over_the_masks_returned():
    """The n-th mask that is scored is made 1 + n // 20 times as high; three of the 64 are returned."""
    predictor = ColourPredictor()
    upscale = predictor.upscale
    seen = []

    def of_different_heights(low_res_masks, return_logits):
        seen.append(upscale(low_res_masks, return_logits) * (1 + len(seen) // 20))
        return seen[-1]

    predictor.upscale = of_different_heights
    records, counts, _ = segment(scene(), predictor)
    assert counts.largest_logit == float(np.median([
        20 * (1 + grid(8, 256, 128).index(tuple(record["point_coords"][0])) // 20) for record in records]))
    assert segment(scene(), ColourPredictor(quality={200: 0, 0: 0, 10: 0}))[1].largest_logit is None


def test_hierarchical_second_round_skips_only_what_is_confident():
    # The square's mask is dropped for its predicted IoU, so its points are asked again, save the one that was.
    records, _, predictor = segment(scene(), ColourPredictor(quality={0: 0.5}), hierarchical=True)
    asked = asked_points(predictor)
    assert set(asked[4:]) == {(x, y) for x, y in grid(8, 256, 128) if 32 <= x < 96 and 32 <= y < 96} - {(80.0, 40.0)}
    assert len(records) == 2


@pytest.mark.parametrize("fewest, changes", [(16, {"coarse_ratio": 0.5}), (1, {"points_per_side": 1}),
                                             (9, {"points_per_side": 7, "coarse_ratio": 0.4}),
                                             (64, {"coarse_ratio": 1.0})])
def test_hierarchical_asks_points_of_the_full_grid_none_twice(fewest, changes):
    points_per_side = changes.get("points_per_side", 8)
    _, counts, predictor = segment(scene(), ColourPredictor(quality={10: 0.1}), hierarchical=True, **changes)
    asked, full = asked_points(predictor), grid(points_per_side, 256, 128)
    assert len(set(asked)) == len(asked) == counts.points >= fewest
    assert set(asked) <= set(full)


def test_hierarchical_without_confident_area_is_the_full_grid():
    # Logits of 8 do not exceed 8.5.
    full, full_counts, _ = segment(scene(), ColourPredictor(height=8.0))
    found, counts, predictor = segment(scene(), ColourPredictor(height=8.0), hierarchical=True)
    assert set(asked_points(predictor)) == set(grid(8, 256, 128)) and counts.points == full_counts.points
    assert sorted(map(str, (record["segmentation"] for record in full))) == sorted(
        map(str, (record["segmentation"] for record in found)))
    assert counts.largest_logit == pytest.approx(8) and counts.grid_points == counts.points == 64
    # A lower threshold makes the same masks confident.
    assert segment(scene(), ColourPredictor(height=8.0), hierarchical=True, high_score_thresh=7)[1].points == 4


def test_hierarchical_stops_when_round_one_covers_everything():
    _, counts, _ = segment(np.full((50, 70, 3), 90, np.uint8), hierarchical=True)
    assert counts.points == 4


def test_images_leave_nothing_behind():
    predictor = ColourPredictor(quality={0: 0.5})
    settings = EverythingSettings(points_per_side=8, hierarchical=True, output_mode="coco_rle")
    generator = EverythingGenerator(predictor, settings)
    first, counts = generator.run(scene())
    generator.run(np.full((300, 40, 3), 90, np.uint8))
    again, counts_again = generator.run(scene())
    assert again == first and counts_again[:4] == counts[:4]


def test_a_mask_below_every_cut_has_a_stability_that_json_knows():
    records = segment(scene(), points_per_side=1, pred_iou_thresh=0, stability_score_thresh=0, box_nms_thresh=1)[0]
    assert [record["stability_score"] for record in records if not record["area"]] == [0.0]
    json.dumps(records, allow_nan=False)


def test_small_regions_are_removed_and_new_duplicates_dropped():
    image = scene()
    image[4:8, 4:8] = GREEN  # one low-res cell far from the square: it survives upscaling
    before = [record for record in segment(image)[0] if record["area"] == rounded(64, 64) + rounded(4, 4)]
    assert [record["bbox"] for record in before] == [[4, 4, 91, 91]]
    records, _, _ = segment(image, min_mask_region_area=40)
    after = [record["bbox"] for record in records]
    assert [32, 32, 63, 63] in after and [4, 4, 91, 91] not in after
    # The red mask lost its small hole; changed masks come after those that were left alone.
    areas = [record["area"] for record in records]
    assert areas[0] == rounded(64, 96)  # the bar, unchanged
    assert sorted(areas[1:]) == [rounded(64, 64), 128 * 256 - rounded(64, 96) - rounded(64, 64)]


def test_progress_counts_points_done_and_skipped():
    seen = []
    predictor = ColourPredictor()
    settings = EverythingSettings(points_per_side=8, points_per_batch=3, hierarchical=True, output_mode="coco_rle")
    EverythingGenerator(predictor, settings).run(scene(), lambda done, total: seen.append((done, total)))
    assert seen == [(3, 64), (4, 64), (64, 64)]


@pytest.mark.parametrize("changes, message", [
    ({"points_per_side": 0}, "points_per_side (0) must be at least 1"),
    ({"points_per_batch": 0}, "points_per_batch (0) must be at least 1"),
    ({"stability_score_thresh": float("nan")}, "stability_score_thresh (nan) must be at least 0"),
    ({"box_nms_thresh": 1.5}, "box_nms_thresh (1.5) must be between 0 and 1"),
    ({"coarse_ratio": -0.1}, "coarse_ratio (-0.1) must be between 0 and 1"),
    ({"output_mode": "rle"}, "output_mode (rle) must be one of binary_mask, uncompressed_rle, coco_rle"),
    ({"points_per_side": 8, "crop_n_layers": 2, "crop_n_points_downscale_factor": 3},
     "points_per_side (8) leaves no point in crop layer 2; lower crop_n_layers or crop_n_points_downscale_factor (3)"),
])
def test_settings_that_cannot_be_used_are_refused(changes, message):
    with pytest.raises(ValueError) as error:
        EverythingSettings(**changes)
    assert str(error.value) == message


def test_something_else_than_an_image_is_refused():
    with pytest.raises(ValueError, match=r"image must be \[H, W, 3\] uint8, got \[4, 4\] float64"):
        segment(np.zeros((4, 4)))
