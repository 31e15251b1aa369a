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
"""The parts of the C++ program give Python's values: pictures, preprocessing, upscaling, run lengths, filters."""
import io
import json

import cv2
import numpy as np
import pytest
from PIL import Image

from src.data.coco import CocoDataset
from src.data.images import longest_side_size, normalise_and_pad, read_image, resize_image
from src.data.records import SkipLog
from src.evaluation.box_sources import detected_boxes, ground_truth_boxes, read_labels
from src.inference.mask_filters import box_nms, near_crop_edge, remove_small_regions, stability_score
from src.inference.mask_records import encode_masks, mask_box
from src.inference.predictor import SamPredictor
from src.prompts.grids import coarse_points, crop_boxes, point_grid

RNG = np.random.default_rng(7)


def noise(height, width):
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size, to", [
    ((1, 1), (7, 9)), ((5, 7), (5, 7)), ((48, 64), (77, 102)), ((64, 43), (7, 5)), ((300, 10), (102, 3)),
    ((10, 300), (3, 102)), ((33, 50), (50, 33)), ((40, 40), (40, 13)), ((40, 40), (13, 40)), ((2, 3), (102, 1)),
    ((97, 31), (330, 104)), ((600, 800), (48, 64)), ((1, 500), (1, 64)), ((255, 256), (256, 257))])
def test_resizing_is_pillows_to_the_bit(probe, size, to):
    image = noise(*size)
    _, resized = probe("resize", image, np.uint8, size=size, to=to)
    assert np.array_equal(resized.reshape(*to, 3), resize_image(image, to))


@pytest.mark.parametrize("size", [(1, 1), (5, 16), (16, 5), (64, 64), (1, 400), (93, 70), (128, 96), (66, 67)])
def test_preprocessing_is_pythons_to_the_bit(probe, size):
    image = noise(*size)
    resized, values = probe("preprocess", image, size=size, image_size=64)
    expected = longest_side_size(*size, 64)
    assert tuple(resized) == expected
    assert np.array_equal(values.reshape(3, 64, 64), normalise_and_pad(resize_image(image, expected), 64))


def encoded(picture, fmt, **options):
    buffer = io.BytesIO()
    picture.save(buffer, fmt, **options)
    return buffer.getvalue()


def smooth(mode, height=37, width=53):
    y, x = np.mgrid[0:height, 0:width]
    picture = Image.fromarray(np.stack((x * 4, y * 6, x + y), axis=2).astype(np.uint8))
    if mode == "P":
        return picture.quantize(9)
    if mode in ("LA", "RGBA"):
        picture = picture.convert(mode)
        picture.putalpha(Image.fromarray((x * 4).astype(np.uint8)))
        return picture
    if mode == "I;16":
        return Image.fromarray((x * 1200 + y).astype(np.uint16))
    return picture.convert(mode)


PICTURES = {
    "rgb.png": lambda: encoded(smooth("RGB"), "PNG"), "grey.png": lambda: encoded(smooth("L"), "PNG"),
    "bits.png": lambda: encoded(smooth("1"), "PNG"), "palette.png": lambda: encoded(smooth("P"), "PNG"),
    "palette_alpha.png": lambda: encoded(smooth("P"), "PNG", transparency=3),
    "grey_alpha.png": lambda: encoded(smooth("LA"), "PNG"), "alpha.png": lambda: encoded(smooth("RGBA"), "PNG"),
    "sixteen.png": lambda: encoded(smooth("I;16"), "PNG"),
    "rgb.jpg": lambda: encoded(smooth("RGB"), "JPEG", quality=90),
    "full_colour.jpg": lambda: encoded(smooth("RGB"), "JPEG", subsampling=0),
    "half_colour.jpg": lambda: encoded(smooth("RGB"), "JPEG", subsampling=1),
    "progressive.jpg": lambda: encoded(smooth("RGB"), "JPEG", progressive=True, quality=30),
    "grey.jpg": lambda: encoded(smooth("L"), "JPEG"), "cmyk.jpg": lambda: encoded(smooth("CMYK"), "JPEG"),
    "one.jpg": lambda: encoded(smooth("RGB", 1, 1), "JPEG"), "one.png": lambda: encoded(smooth("RGB", 1, 1), "PNG"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_read_as_pillow_reads_them(probe, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(PICTURES[name]())
    size, values = probe("read", dtype=np.uint8, path=str(path))
    assert np.array_equal(values.reshape(*size, 3), read_image(path))


@pytest.mark.parametrize("fmt", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_their_flag_says(probe, tmp_path, fmt, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned.{fmt.lower()}"
    path.write_bytes(encoded(smooth("RGB", 5, 8), fmt, exif=exif))
    size, values = probe("read", dtype=np.uint8, path=str(path), upright=True)
    assert np.array_equal(values.reshape(*size, 3), read_image(path, apply_orientation=True))
    size, values = probe("read", dtype=np.uint8, path=str(path))
    assert np.array_equal(values.reshape(*size, 3), read_image(path))


@pytest.mark.parametrize("original", [(40, 64), (64, 40), (1, 1), (7, 300), (120, 31), (64, 64)])
def test_upscaling_is_opencvs(probe, original):
    predictor = SamPredictor.__new__(SamPredictor)
    predictor.image_size, predictor._mask_side, predictor.image_embeddings = 64, 16, True
    predictor.original_size, predictor.input_size = original, longest_side_size(*original, 64)
    logits = RNG.normal(0, 5, (16, 16)).astype(np.float32)
    cv2.ipp.setUseIPP(False)  # Intel's library, on Intel's and AMD's processors only, places pixels up to 1/1000 beside
    try:
        expected = predictor.upscale(logits, return_logits=True)
    finally:
        cv2.ipp.setUseIPP(True)
    _, values = probe("upscale", logits, side=16, image_size=64, input_size=predictor.input_size,
                      original_size=original)
    np.testing.assert_allclose(values.reshape(original), expected, rtol=0, atol=4e-6)


@pytest.mark.parametrize("mask", [
    np.zeros((3, 4)), np.ones((3, 4)), np.eye(5), np.tri(70, 130), RNG.random((31, 200)) > 0.5,
    np.arange(200).reshape(10, 20) % 7 == 3, np.pad(np.ones((100, 100)), ((50, 7), (60, 90)))],
    ids=["empty", "full", "diagonal", "triangle", "noise", "stripes", "square"])
def test_run_lengths_are_cocos(probe, mask):
    mask = mask.astype(np.uint8)
    answer, _ = probe("encode", mask, size=mask.shape)
    assert answer == {"counts": encode_masks(mask[None])[0]["counts"], "area": int(mask.sum()),
                      "box": list(mask_box(mask)), "decodes": True}


def test_long_run_lengths(probe):
    # 3000 * 2000 background pixels take five letters; differences between runs of a kind are negative too.
    mask = np.zeros((3000, 2100), np.uint8)
    mask[:, 2000:2003] = 1
    mask[5:9, 2050] = 1
    answer, _ = probe("encode", mask, size=mask.shape)
    assert answer["counts"] == encode_masks(mask[None])[0]["counts"]


def test_suppression_of_boxes(probe):
    corners = RNG.integers(0, 60, (200, 2))
    boxes = np.concatenate([corners, corners + RNG.integers(0, 30, (200, 2))], axis=1)  # some without area
    scores = RNG.integers(0, 20, 200) / 32  # many equal
    for threshold in (0.0, 0.3, 0.7, 1.0):
        answer, _ = probe("nms", boxes=boxes.tolist(), scores=scores.tolist(), iou_threshold=threshold)
        assert answer == box_nms(boxes, scores, threshold).tolist()


def test_borders_of_crops(probe):
    boxes = [[20, 20, 99, 99], [121, 130, 180, 179], [119, 130, 180, 179], [0, 130, 380, 179], [150, 150, 180, 181]]
    answer, _ = probe("edges", boxes=boxes, crop=[100, 100, 200, 200], image_size=[400, 200])
    assert answer == near_crop_edge(boxes, (100, 100, 200, 200), (400, 200)).tolist()
    assert True in answer and False in answer


@pytest.mark.parametrize("min_area", [2, 12, 60, 5000])
def test_small_regions(probe, min_area):
    mask = cv2.GaussianBlur(RNG.random((50, 60)), (0, 0), 1.5) > 0.5
    changed, values = probe("small_regions", mask.astype(np.uint8), np.uint8, size=mask.shape, min_area=min_area)
    expected, expected_changed = remove_small_regions(mask, min_area)
    assert (changed, np.count_nonzero(values.reshape(mask.shape) != expected)) == (expected_changed, 0)


def test_stability(probe):
    logits = RNG.normal(0, 3, 1000).astype(np.float32)
    answer, _ = probe("stability", inside=int((logits > 1).sum()), union=int((logits > -1).sum()))
    assert np.float32(answer) == stability_score(logits, 1.0)
    assert probe("stability", inside=0, union=0)[0] == 0


@pytest.mark.parametrize("side, ratio", [(32, 0.25), (32, 10 / 32), (5, 0.5), (7, 0.01), (1, 1.0), (9, 1.0)])
def test_grids(probe, side, ratio):
    answer, _ = probe("grid", points_per_side=side, coarse_ratio=ratio)
    assert answer["points"] == point_grid(side).tolist()
    assert answer["coarse"] == coarse_points(side, ratio).tolist()


@pytest.mark.parametrize("size", [(480, 640), (641, 427), (3, 5), (1, 1)])
def test_crops(probe, size):
    answer, _ = probe("crops", size=size, layers=3, overlap=512 / 1500)
    assert [(tuple(box), layer) for box, layer in answer] == crop_boxes(size, 3, 512 / 1500)


def test_halves(probe):
    values = np.concatenate([RNG.normal(0, 1, 500), RNG.normal(0, 1e-5, 500), RNG.normal(0, 5e4, 500),
                             [0, -0.0, 65504, 65519.9, 65520, np.inf, -np.inf, 2 ** -24, 2 ** -25, 1.0009765625,
                              1.00048828125, 1.00146484375, 6.1e-5]]).astype(np.float32)
    with np.errstate(over="ignore"):
        expected = values.astype(np.float16).astype(np.float32)
    assert np.array_equal(probe("halves", values)[1].view(np.uint32), expected.view(np.uint32))


def test_choice_of_decoders(probe):
    # docs/export.md: of those with enough slots the largest filled to three quarters, else the smallest.
    decoders = [[1, 11], [16, 11], [64, 2], [16, 2]]
    asks = [[1, 2], [11, 2], [12, 2], [47, 2], [48, 2], [1000, 2], [11, 3], [12, 3], [3, 11]]
    assert probe("decoders", decoders=decoders, asks=asks)[0] == [0, 0, 3, 3, 2, 2, 0, 1, 0]
    with pytest.raises(ValueError, match="a prompt of 12 slots .* does not fit; the exported decoders have at most 11: "
                                         "give fewer points, or export one with more slots"):
        probe("decoders", decoders=decoders, asks=[[1, 12]])


@pytest.fixture()
def coco(tmp_path):
    """A COCO instances JSON of two pictures with usable and unusable boxes, and detections on them."""
    (tmp_path / "images").mkdir()
    for number in (7, 3):
        Image.fromarray(noise(20, 30)).save(tmp_path / "images" / f"{number}.png")
    square = encode_masks(np.pad(np.ones((1, 6, 6), np.uint8), ((0, 0), (3, 11), (2, 22))))[0]
    boxes = [(1, 7, [2, 3, 6, 6]), (2, 7, [-4, 3, 40, 6]), (3, 3, [2, 3, 0, 6]), (4, 3, [30, 3, 6, 6])]
    labels = {"images": [{"id": number, "file_name": f"{number}.png", "height": 20, "width": 30} for number in (7, 3)],
              "categories": [{"id": 5, "name": "square"}],
              "annotations": [{"id": number, "image_id": image, "category_id": 5, "bbox": box, "segmentation": square}
                              for number, image, box in boxes]}
    labels["annotations"].append({**labels["annotations"][0], "id": 9, "iscrowd": 1})
    found = [{"image_id": 3, "category_id": 5, "bbox": [1, 1, 5, 5], "score": score} for score in (0.5, 0.75, 0.5, 0.9)]
    found[2]["bbox"] = [2, 2, 5.5, 90]
    found += [{**found[0], "image_id": 8}, {**found[0], "bbox": [1, 2, 3]}, "nothing",
              {**found[0], "bbox": [40, 1, 2, 2]}]
    for name, content in (("labels.json", labels), ("found.json", found)):
        (tmp_path / name).write_text(json.dumps(content))
    return tmp_path


def test_boxes_of_labels(probe, coco):
    dataset, skipped = CocoDataset([coco / "labels.json"], only_usable=False), SkipLog()
    labels = read_labels(coco / "labels.json", dataset, dataset.image_ids, skipped)
    expected = ground_truth_boxes(labels, dataset, skipped)
    answer, _ = probe("boxes", annotations=str(coco / "labels.json"))
    assert [(image_id, name, [(tuple(box), *rest) for box, *rest in boxes])
            for image_id, name, boxes in answer["pictures"]] == [
        (image_id, f"{image_id}.png", [tuple(prompt) for prompt in prompts]) for image_id, prompts in expected.items()]
    assert answer["skipped"] == {"boxes inside out or without area": 1, "boxes outside their image": 1}


def test_boxes_of_a_detector(probe, coco):
    dataset, skipped = CocoDataset([coco / "labels.json"], only_usable=False), SkipLog()
    expected = detected_boxes(coco / "found.json", dataset, dataset.image_ids, 3, skipped)
    request = {"detections": str(coco / "found.json"), "max_detections": 3}
    answer, _ = probe("boxes", annotations=str(coco / "labels.json"), **request)
    assert [(image_id, [(tuple(box), *rest) for box, *rest in boxes]) for image_id, _, boxes in answer["pictures"]] == [
        (image_id, [tuple(prompt) for prompt in prompts]) for image_id, prompts in expected.items()]
    assert answer["skipped"] == {"detections on unknown images": 1, "entries that are no detections": 2,
                                 "boxes outside their image": 1}
    answer, _ = probe("boxes", **request)  # without annotations: COCO's names, sizes unknown
    assert [picture[:2] for picture in answer["pictures"]] == [[3, "000000000003.jpg"], [8, "000000000008.jpg"]]


@pytest.mark.parametrize("content, reason", [
    ("{", "found.json: not a JSON file (parse error at line 1, column 2"),
    ("[[", "not a JSON file"), ('{"a": 1}', "found.json: not a COCO results list of detections"),
    ("[]", "found.json: no usable box in it"), ("[" * 100000, "not a JSON file")])
def test_foreign_detections_are_refused(probe, tmp_path, content, reason):
    (tmp_path / "found.json").write_text(content)
    with pytest.raises(ValueError) as error:
        probe("boxes", detections=str(tmp_path / "found.json"))
    assert reason in str(error.value) and "\n" not in str(error.value)


@pytest.mark.data
def test_photographs_are_read_as_pillow_reads_them(probe, data_root):
    files = [folder for name in ("coco_val2017", "bsds500_test", "bbbc038", "facade", "fruits_nuts")
             for folder in sorted((data_root / "eval" / name / "images").iterdir())[::40]]
    assert len(files) > 5
    for path in files:
        size, values = probe("read", dtype=np.uint8, path=str(path))
        assert np.array_equal(values.reshape(*size, 3), read_image(path)), path
