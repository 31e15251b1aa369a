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
"""Segment everything: plans of points, filters and records with a predictor whose masks are known; fast = plain."""
import dataclasses
import json
import tracemalloc

import numpy as np
import pytest
from colour_predictor import ColourPredictor
from pycocotools import mask as coco_mask

from src.inference import everything_scoring
from src.inference.everything import EverythingGenerator, EverythingSettings
from src.inference.everything_decoding import FastDecoding, PlainDecoding
from src.inference.mask_records import encode_masks
from src.inference.predictor import SamPredictor
from src.modeling.build_sam import build_sam_around
from src.modeling.image_encoder import ImageEncoderViT
from src.prompts.labels import EMPTY, FOREGROUND, NOT_A_POINT

RED, GREEN, BLUE = (200, 0, 0), (0, 200, 0), (10, 0, 200)


def scene(height=128, width=256):
    """A green square (x 32..95, y 32..95) and a blue bar (x 160..223, y 16..111) on red: edges on the low-res grid."""
    image = np.full((height, width, 3), RED, np.uint8)
    image[32:96, 32:96] = GREEN
    image[16:112, 160:224] = BLUE
    return image


def segment(image, predictor=None, **settings):
    """(records, counts, predictor) with run lengths as segmentation and 8 points a side."""
    predictor = predictor or ColourPredictor()
    settings = {"points_per_side": 8, "points_per_batch": 10, "output_mode": "coco_rle", **settings}
    records, counts = EverythingGenerator(predictor, EverythingSettings(**settings)).run(image)
    return records, counts, predictor


def rounded(width, height):
    """Pixels of a rectangle on the low-res grid, upscaled 4 times: at its corners the nearest pixel mixes (5/8)^2 of
    inside, less than half, and is lost."""
    return width * height - 4


def asked_points(predictor):
    return [point for batch in predictor.asked for point in batch]


def grid(points_per_side, width, height):
    return [((i + 0.5) / points_per_side * width, (k + 0.5) / points_per_side * height)
            for k in range(points_per_side) for i in range(points_per_side)]


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
    assert counts.points == 4 and len(records) == 3


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


@pytest.fixture(scope="module")
def tiny_predictor():
    """A network with predicted IoUs around the threshold and masks that are stable at a small offset."""
    def encoder(image_size):
        return ImageEncoderViT(image_size, 16, 32, 1, 2, 2, (0,), 32)

    sam = build_sam_around(encoder, 32, 32, 64, "tiny", seed=3)
    for parameter in sam.mask_decoder.get_parameters():
        if parameter.name.endswith(("q_proj.weight", "k_proj.weight")):
            parameter.set_data(parameter * 6)
    return SamPredictor(sam)


def test_fast_equals_plain(tiny_predictor, pynative, monkeypatch):  # test_token_first.py has both modes
    image = np.random.default_rng(5).integers(0, 256, (44, 60, 3), np.uint8)
    tiny_predictor.set_image(image)
    points = np.array(grid(4, 60, 44))
    logits, ious, _ = tiny_predictor.predict_batch(point_coords=points[:, None], point_labels=np.ones((16, 1)),
                                                   return_logits=True, prompt_batch=4)
    best = np.sort(ious.max(axis=1))
    place = 4 + int(np.diff(best)[4:11].argmax())  # the threshold lies in the widest gap, out of reach of rounding
    settings = EverythingSettings(
        points_per_side=4, points_per_batch=4, output_mode="coco_rle", box_nms_thresh=1.0,
        pred_iou_thresh=float(best[place:place + 2].mean()), stability_score_offset=float(logits.std() / 20),
        stability_score_thresh=0.85, high_score_thresh=float(np.quantile(logits, 0.95)))
    generators = [EverythingGenerator(tiny_predictor, dataclasses.replace(settings, fast=fast))
                  for fast in (True, False)]
    upscaled, masks_step = [], generators[0]._decoding._masks
    monkeypatch.setattr(generators[0]._decoding, "_masks",
                        lambda *inputs: (upscaled.append(inputs[2].asnumpy()), masks_step(*inputs))[1])
    for hierarchical in (False, True):
        for generator in generators:  # the same ones: their graphs are compiled once
            generator.settings = dataclasses.replace(generator.settings, hierarchical=hierarchical)
        (fast, fast_counts), (plain, plain_counts) = (generator.run(image) for generator in generators)
        assert len(plain) >= 3 and len(fast) == len(plain)
        assert fast_counts[:3] == plain_counts[:3] and fast_counts.full_size_masks <= plain_counts.full_size_masks
        assert 0 < plain_counts.candidates < 3 * plain_counts.points  # the threshold parts them
        for ours, theirs in zip(fast, plain):
            assert coco_mask.iou([ours["segmentation"]], [theirs["segmentation"]], [0])[0, 0] > 0.99
            assert ours["point_coords"] == theirs["point_coords"] and ours["crop_box"] == theirs["crop_box"]
            np.testing.assert_allclose(ours["predicted_iou"], theirs["predicted_iou"], atol=1e-5)
            np.testing.assert_allclose(ours["stability_score"], theirs["stability_score"], atol=0.01)
        if not hierarchical:  # of each batch of four only the prompts with a mask that passes are upscaled, in one call
            passing = (ious > settings.pred_iou_thresh).any(axis=1).reshape(4, 4)
            assert [sorted(set(chosen.tolist())) for chosen in upscaled] == [
                np.flatnonzero(batch).tolist() for batch in passing if batch.any()]
            assert 0 < passing.sum() < 16


def shapes_of_calls(decoding, steps, monkeypatch):
    """A list that the shapes of the arguments of each later call of the named steps are added to."""
    seen = []
    for name in steps:
        step = getattr(decoding, name)

        def spy(*arguments, name=name, step=step):
            seen.append((name, *(tuple(argument.shape) for argument in arguments if argument is not None)))
            return step(*arguments)

        monkeypatch.setattr(decoding, name, spy)
    return seen


def test_batches_that_are_not_full_are_filled_with_empty_prompts(tiny_predictor, pynative, monkeypatch):
    """Of 3 x 3 points in batches of 8 the last one goes in a quarter of a batch, with one empty prompt; 5 points go in
    a whole one, with three."""
    tiny_predictor.set_image(np.random.default_rng(5).integers(0, 256, (44, 60, 3), np.uint8))
    points = np.array(grid(3, 60, 44))
    fast, plain = FastDecoding(tiny_predictor, 8), PlainDecoding(tiny_predictor, 8)
    labels, tokens_step = [], fast._tokens
    monkeypatch.setattr(fast, "_tokens",
                        lambda *inputs: (labels.append(inputs[2].asnumpy()[0]), tokens_step(*inputs))[1])
    for part in (points[:8], points[8:], points[:5]):
        prompts, low_res_masks, predicted_iou = fast.decode(part, 0)
        expected_prompts, expected_masks, expected_iou = plain.decode(part, 0)
        assert prompts.tolist() == expected_prompts.tolist() == np.repeat(range(len(part)), 3).tolist()
        np.testing.assert_allclose(predicted_iou, expected_iou, atol=1e-5)
        np.testing.assert_allclose(low_res_masks, expected_masks, atol=1e-4 * np.abs(expected_masks).max())
    click, nothing = [FOREGROUND, NOT_A_POINT], [EMPTY, EMPTY]
    assert [batch.tolist() for batch in labels] == [[click] * 8, [click, nothing], [click] * 5 + [nothing] * 3]


@pytest.mark.parametrize("height, width", [(8, 8), (2600, 4000)])
def test_every_size_with_a_network(tiny_predictor, pynative, height, width):
    image = np.random.default_rng(7).integers(0, 256, (8, 8, 3), np.uint8)
    image = np.kron(image, np.ones((height // 8, width // 8, 1), np.uint8))
    tiny_predictor.set_image(image)
    points = np.array(grid(2, width, height))
    _, low_res_masks, ious = PlainDecoding(tiny_predictor, 4).decode(points, 0)
    settings = EverythingSettings(
        points_per_side=2, points_per_batch=4, output_mode="coco_rle", box_nms_thresh=1.0, hierarchical=True,
        coarse_ratio=0.5, high_score_thresh=1e9, pred_iou_thresh=float(np.quantile(ious, 0.7)),
        stability_score_offset=float(low_res_masks.std() / 20), stability_score_thresh=0.5)
    fast, plain = (EverythingGenerator(tiny_predictor, dataclasses.replace(settings, fast=fast)).run(image)[0]
                   for fast in (True, False))
    assert len(fast) == len(plain) > 0
    for ours, theirs in zip(fast, plain):
        assert ours["segmentation"]["size"] == [height, width] and ours["point_coords"] == theirs["point_coords"]
        assert 0 < ours["area"] < height * width
        assert coco_mask.iou([ours["segmentation"]], [theirs["segmentation"]], [0])[0, 0] > 0.99


@pytest.mark.parametrize("fast", (True, False))
def test_after_warming_up_no_shape_is_new(tiny_predictor, pynative, monkeypatch, fast):
    """A graph is compiled for each shape of each step: of 5 x 5 points round one asks 4, round two 16 and 5."""
    image = np.random.default_rng(5).integers(0, 256, (44, 60, 3), np.uint8)
    settings = EverythingSettings(points_per_side=5, points_per_batch=16, hierarchical=True, fast=fast,
                                  coarse_ratio=0.4, pred_iou_thresh=1e-9, high_score_thresh=1e9)
    generator = EverythingGenerator(tiny_predictor, settings)
    seen = (shapes_of_calls(generator._decoding, ("_tokens", "_masks"), monkeypatch) if fast else
            shapes_of_calls(tiny_predictor, ("_decode",), monkeypatch))
    generator.warm_up(image)
    assert tiny_predictor.image_embeddings is None
    warm = set(seen)
    # Fast: 16 and 4 prompts in both steps. Plain: 16, 4 and 1 prompts.
    assert len(warm) == (4 if fast else 3)
    seen.clear()
    for size in ((44, 60), (30, 20)):
        generator.run(np.resize(image, (*size, 3)))
    assert set(seen) == warm


def test_fast_discards_at_low_resolution_what_cannot_be_stable(tiny_predictor, pynative):
    image = np.random.default_rng(5).integers(0, 256, (44, 60, 3), np.uint8)
    settings = EverythingSettings(points_per_side=2, points_per_batch=4, pred_iou_thresh=0, stability_score_offset=1e3)
    counts = EverythingGenerator(tiny_predictor, settings).run(image)[1]
    plain = EverythingGenerator(tiny_predictor, dataclasses.replace(settings, fast=False)).run(image)[1]
    assert (counts.full_size_masks, plain.full_size_masks) == (0, 12)
