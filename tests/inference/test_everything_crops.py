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
"""Segment everything on pictures of every size: memory, and crops, with a predictor whose masks are known."""
import tracemalloc

import numpy as np
import pytest
from colour_predictor import GREEN, RED, rounded, scene, segment
from pycocotools import mask as coco_mask

from src.inference import everything_scoring
from src.inference.mask_records import encode_masks


@pytest.mark.parametrize("height, width", [(8, 8), (1, 1), (1, 400), (700, 3), (333, 500)])
def test_every_size_and_aspect(height, width):
    image = np.zeros((height, width, 3), np.uint8)
    image[:, width // 2:] = 255
    for changes in ({}, {"hierarchical": True}, {"crop_n_layers": 2, "crop_n_points_downscale_factor": 2}):
        records, _, _ = segment(image, **changes)
        assert records and all(record["segmentation"]["size"] == [height, width] for record in records)
        assert sum(record["area"] for record in records) >= 0.9 * height * width


def peak_memory(image, **settings):
    """(records, most bytes that Python and NumPy held at once)."""
    tracemalloc.start()
    try:
        records, _, _ = segment(image, **settings)
        return records, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_large_images_hold_one_mask_of_their_size():
    image = np.zeros((6000, 8000, 3), np.uint8)
    image[1000:5000, 1000:5000] = 80
    records, peak = peak_memory(image, points_per_side=2, hierarchical=True)
    assert sorted(record["bbox"] for record in records) == [[0, 0, 7999, 5999], [1000, 1000, 3999, 3999]]
    # 48 MB a mask of bytes: float logits (4), two copies of them and of comparisons at most; and the test's colours.
    assert peak < 16 * 48e6


def test_memory_does_not_grow_with_the_masks(monkeypatch):
    image = np.zeros((1000, 1500, 3), np.uint8)
    monkeypatch.setattr(everything_scoring, "CANVAS_BYTES", 3 * 1000 * 1500)
    keep_all = {"pred_iou_thresh": 0, "stability_score_thresh": 0, "box_nms_thresh": 1}
    few, peak_of_few = peak_memory(image, points_per_side=2, **keep_all)
    many, peak_of_many = peak_memory(image, points_per_side=8, points_per_batch=4, **keep_all)
    assert (len(few), len(many)) == (12, 192)  # in batches of 12
    assert peak_of_many < peak_of_few + 1000 * 1500  # not by one mask of bytes


def test_a_full_canvas_is_encoded_and_used_again(monkeypatch):
    expected = segment(scene())[0]
    monkeypatch.setattr(everything_scoring, "CANVAS_BYTES", 3 * 128 * 256)
    assert segment(scene())[0] == expected


def test_crops_add_their_masks_in_pixels_of_the_image():
    # 128 x 256 and ratio 0: four crops of 64 x 128, at x 0 and 128, y 0 and 64. Within 20 px of an inner border every
    # part of these objects ends: only the whole image's masks and the red crops' own remain.
    image = np.full((256, 512, 3), RED, np.uint8)
    image[40:72, 40:104] = GREEN
    records, counts, predictor = segment(image, crop_n_layers=1, crop_n_points_downscale_factor=2,
                                         crop_overlap_ratio=0.0)
    assert predictor.images == 5 and counts.points == 64 + 4 * 16
    by_crop = {tuple(record["crop_box"]): record for record in records if record["area"] == rounded(64, 32)}
    # The crop's mask wins over the image's: crops first, and of equal boxes one remains.
    assert list(by_crop) == [(0, 0, 256, 128)]
    green = by_crop[0, 0, 256, 128]
    assert green["bbox"] == [40, 40, 63, 31]
    decoded = coco_mask.decode(green["segmentation"])
    assert decoded.shape == (256, 512) and decoded[40:72, 40:104].sum() == decoded.sum() == rounded(64, 32)
    # Points of the crop: 4 a side of 256 x 128; the only one in the square is (96, 48).
    assert green["point_coords"] == [[96.0, 48.0]]
    assert records[0]["crop_box"] == [0, 0, 256, 128] and records[-1]["crop_box"] == [0, 0, 512, 256]


def test_points_of_a_later_crop_are_moved():
    image = np.full((256, 512, 3), RED, np.uint8)
    image[168:200, 360:424] = GREEN  # in the crop at (256, 128)
    records, _, _ = segment(image, crop_n_layers=1, crop_overlap_ratio=0.0)
    green = [record for record in records if record["area"] == rounded(64, 32)]
    assert [record["crop_box"] for record in green] == [[256, 128, 256, 128]]
    assert green[0]["bbox"] == [360, 168, 63, 31]
    x, y = green[0]["point_coords"][0]
    assert 360 <= x < 424 and 168 <= y < 200


def test_empty_masks_of_inner_crops_are_cut_off_as_in_sam():
    """SAM moves an empty mask's zeros to the crop's corner: near the crop's edge, and near the image's only where the
    crop begins there. 4 points in the image, 4 in each of four crops; the third mask of each is empty."""
    image = np.full((256, 512, 3), RED, np.uint8)
    keep_all = {"pred_iou_thresh": 0, "stability_score_thresh": 0, "box_nms_thresh": 1, "crop_nms_thresh": 1}
    records = segment(image, points_per_side=2, crop_n_layers=1, crop_overlap_ratio=0.0, **keep_all)[0]
    empty = [(record["crop_box"], record["bbox"]) for record in records if not record["area"]]
    # The inverse of a red mask is empty too.
    assert empty.count(([0, 0, 256, 128], [0, 0, 0, 0])) == empty.count(([0, 0, 512, 256], [0, 0, 0, 0])) == 8
    assert len(empty) == 16
    # Where no border is more than 20 px from another they stay, each at its crop's corner.
    records = segment(image[:16, :20], points_per_side=1, crop_n_layers=1, crop_overlap_ratio=0.0, **keep_all)[0]
    assert {tuple(record["bbox"]) for record in records if not record["area"]} == {
        (0, 0, 0, 0), (10, 0, 0, 0), (0, 8, 0, 0), (10, 8, 0, 0)}
    # A mask of the first pixel alone is not empty.
    assert everything_scoring.last_pixel_boxes(encode_masks(np.eye(1, 9, dtype=bool).reshape(1, 3, 3)), (7, 8)) == [
        (0, 0, 0, 0)]
