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
"""The COCO-format reader on made JSONs, good and bad, and on the real pool."""
import json

import numpy as np
import pytest
from PIL import Image

from src.data.coco import ID_STRIDE, CocoDataset
from src.data.images import ImageError

HUGE = 10**400  # an integer beyond every float
SQUARE = [[1, 1, 5, 1, 5, 5, 1, 5]]  # 4 x 4 pixels at (1, 1)


def annotation(number, image_id, **fields):
    return {"id": number, "image_id": image_id, "category_id": 1, "bbox": [1, 1, 4, 4], "area": 16.0, "iscrowd": 0,
            "segmentation": SQUARE, **fields}


def write_set(folder, annotations, image_ids=(7, 8), name="instances.json", **fields):
    """A JSON of 10 x 8 pictures whose grey value is their id."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images = []
    for image_id in image_ids:
        Image.fromarray(np.full((8, 10, 3), image_id, np.uint8)).save(folder / "images" / f"{image_id}.png")
        images.append({"id": image_id, "file_name": f"{image_id}.png", "width": 10, "height": 8})
    content = {"images": images, "categories": [{"id": 1, "name": "thing"}], "annotations": annotations, **fields}
    path = folder / name
    path.write_text(json.dumps(content))
    return path


def test_reads_pictures_and_masks(tmp_path):
    column = {"size": [8, 10], "counts": [0, 3, 77]}
    path = write_set(tmp_path, [annotation(1, 7), annotation(2, 8, segmentation=column)])
    dataset = CocoDataset([path])
    assert len(dataset) == 2 and dataset.image_ids == [7, 8] and dataset.categories == [{"id": 1, "name": "thing"}]
    sample = dataset.read(0)
    assert sample.image_id == 7 and sample.image.shape == (8, 10, 3) and (sample.image == 7).all()
    (first,) = sample.annotations
    assert first.box == (1, 1, 5, 5) and first.area == 16 and first.annotation_id == 1  # xywh -> xyxy
    assert first.mask().sum() == 16 and first.mask()[1:5, 1:5].all()
    (second,) = dataset.annotations_of(8)
    assert np.argwhere(second.mask()).tolist() == [[0, 0], [1, 0], [2, 0]]
    assert dataset.image_size(8) == (8, 10) and dataset.image_path(8).name == "8.png"
    assert str(dataset.skipped) == "skipped nothing"
    with pytest.raises(KeyError):
        dataset.annotations_of(9)


def test_pictures_of_lvis_are_found_by_their_address(tmp_path):
    """LVIS names no file; pictures of its validation part lie in COCO's training folder. A flat folder does as well."""
    path = write_set(tmp_path, [annotation(1, 7), annotation(2, 8)])
    content = json.loads(path.read_text())
    for record in content["images"]:
        record["coco_url"] = f"http://images.cocodataset.org/train2017/{record.pop('file_name')}"
    path.write_text(json.dumps(content))
    assert (CocoDataset([path]).read_image(8) == 8).all()
    (tmp_path / "coco" / "train2017").mkdir(parents=True)
    (tmp_path / "images" / "7.png").rename(tmp_path / "coco" / "train2017" / "7.png")
    dataset = CocoDataset([path], [tmp_path / "coco"])
    assert dataset.image_path(7) == tmp_path / "coco" / "train2017" / "7.png" and (dataset.read_image(7) == 7).all()
    del content["images"][1]["coco_url"]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="image lacks id, file_name, height or width"):
        CocoDataset([path])


def test_skips_with_a_count(tmp_path):
    path = write_set(tmp_path, [
        annotation(1, 7), annotation(2, 7, iscrowd=1), annotation(3, 99), annotation(4, 7, segmentation=[]),
        annotation(5, 7, area=3), annotation(6, 7, bbox=None, area=None), annotation(7, 7, bbox=[0, 0, "wide", 1]),
        annotation(8, 7, bbox=[0, 0, HUGE, 1]), annotation(9, 7, bbox=[1e308, 0, 1e308, 1])])
    dataset = CocoDataset([path], min_area=16)
    assert dataset.image_ids == [7]
    assert [item.annotation_id for item in dataset.annotations_of(7)] == [1, 6, 7, 8, 9]
    assert [item.box for item in dataset.annotations_of(7)] == [(1, 1, 5, 5), None, None, None, None]
    assert dict(dataset.skipped.counts) == {
        "crowd annotations": 1, "annotations of unknown images": 1, "annotations without a segmentation": 1,
        "masks below 16 pixels": 1, "images without usable annotations": 1}
    assert "annotation 3 of instances.json: image 99" in str(dataset.skipped)
    everything = CocoDataset([path], only_usable=False)
    assert everything.image_ids == [7, 8] and everything.annotations_of(8) == []


def test_areas_and_categories_of_another_type(tmp_path):
    """A stated area that is none is as good as no area; a category that is none leaves the annotation out."""
    areas = ["16", [16], {}, True, -1, float("nan"), float("inf"), None]
    categories = ["1", [1], {}, None, True, 1.5, float("inf"), 1 << 63, 2.0, -(1 << 63)]
    records = [annotation(number, 7, area=area) for number, area in enumerate(areas)]
    records += [annotation(20 + number, 7, category_id=category) for number, category in enumerate(categories)]
    records += [annotation(40, 7, category_id="1", iscrowd=1), annotation(41, 7, category_id=1, iscrowd=1)]
    dataset = CocoDataset([write_set(tmp_path, records, (7,))], min_area=4)
    kept = dataset.annotations_of(7)
    assert [(item.annotation_id, item.area) for item in kept[:8]] == [(number, None) for number in range(8)]
    assert [(item.annotation_id, item.category_id) for item in kept[8:]] == [(28, 2), (29, -(1 << 63))]
    assert all(type(item.category_id) is int for item in kept)
    assert dict(dataset.skipped.counts) == {"annotations whose category is no integer": 9, "crowd annotations": 1}
    assert "annotation 20 of instances.json" in str(dataset.skipped)


def test_keeps_listed_ids_only(tmp_path):
    path = write_set(tmp_path, [annotation(1, 7), annotation(2, 8)])
    dataset = CocoDataset([path], keep_ids={8, 1000})
    assert dataset.image_ids == [8] and len(dataset) == 1 and len(dataset.skipped) == 0


def test_several_jsons_keep_ids_apart(tmp_path):
    first = write_set(tmp_path / "a", [annotation(1, 7)], (7,))
    clash = write_set(tmp_path / "b", [annotation(1, 7), annotation(2, 9)], (7, 9))
    again = write_set(tmp_path / "b", [annotation(5, 7)], (7,), "more.json")
    dataset = CocoDataset([first, clash, again])
    moved = 7 + ID_STRIDE  # another picture of the same id; the third JSON lists that picture once more
    assert [dataset.read(index).image_id for index in range(4)] == [7, moved, 9, moved]
    assert dataset.image_ids == [7, moved, 9]
    assert dataset.image_path(moved) == tmp_path / "b" / "images" / "7.png"
    assert [item.annotation_id for item in dataset.annotations_of(moved)] == [1, 5]
    assert len(dataset.read(3).annotations) == 1


def test_image_roots(tmp_path):
    path = write_set(tmp_path / "here", [annotation(1, 7)], (7,))
    (tmp_path / "here" / "images").rename(tmp_path / "there")
    assert CocoDataset([path], [tmp_path / "there"]).read(0).image.max() == 7
    with pytest.raises(ImageError, match=r"7\.png: no such image file"):
        CocoDataset([path]).read(0)
    with pytest.raises(ValueError, match=r"data\.image_roots has 2 folders for 1 data\.paths"):
        CocoDataset([path], ["a", "b"])


def test_image_of_another_size_is_refused(tmp_path):
    path = write_set(tmp_path, [annotation(1, 7)], (7,))
    Image.fromarray(np.zeros((8, 11, 3), np.uint8)).save(tmp_path / "images" / "7.png")
    with pytest.raises(ImageError, match=r"7\.png: 8 x 11 pixels, its JSON says 8 x 10"):
        CocoDataset([path]).read(0)


@pytest.mark.parametrize("text, message", [
    ("", r"not a JSON file \("),
    ('{"images": [', r"not a JSON file \("),
    ("[1, 2]", "holds a list, not an object with images and annotations"),
    ('{"images": [{"id": 1}]}', "no list of records under 'annotations'; is it in COCO instances format?"),
    ('{"images": [5], "annotations": []}', "no list of records under 'images'"),
    ('{"images": [], "annotations": []}', "'images' is empty"),
    ('{"images": [{"id": 1}], "annotations": []}', "'annotations' is empty"),
    ('{"images": [{"id": 1}], "annotations": [{}]}', "lacks id, file_name, height or width"),
    ('{"images": [{"id": "x", "file_name": "x", "height": 2, "width": 2}], "annotations": [{}]}',
     r"image x: id \('x'\) must be an integer and the size \(2, 2\) positive"),
    ('{"images": [{"id": 1, "file_name": "x", "height": 2, "width": 0}], "annotations": [{}]}', r"the size \(2, 0\)"),
    ('{"images": [{"id": 1, "file_name": "x", "height": 2, "width": 2}, '
     '{"id": 1, "file_name": "y", "height": 2, "width": 2}], "annotations": [{}]}', "image id 1 occurs twice"),
    ('{"images": [{"id": 1, "file_name": "x", "height": 2, "width": 2}], "annotations": [{"image_id": 2}]}',
     "nothing usable; skipped 2: 1 annotations of unknown images"),
    ('{"images": [{"id": 1, "file_name": "x", "height": 2, "width": 2}], "annotations": [{"image_id": [1]}]}',
     r"nothing usable; skipped 2: 1 annotations of unknown images \(first: annotation None of bad.json: image \[1\]\)"),
    ('{"images": [{"id": 1, "file_name": "x", "height": 2, "width": 2}], "annotations": [{"id": 4}, {"id": 4}]}',
     "annotation id '4' is no integer or occurs twice"),
    ('{"images": [{"id": 1, "file_name": 5, "height": 2, "width": 2}], "annotations": [{}]}', "lacks id, file_name"),
    ('{"images": [{"id": 1, "file_name": "x", "height": Infinity, "width": 2}], "annotations": [{}]}', "lacks id"),
    ('{"images": [{"id": %d, "file_name": "x", "height": 2, "width": 2}], "annotations": [{}]}'
     .replace("%d", str(10**30)),
     r"image x: id \(1000.*\) or size \(2, 2\) is too large; at most 62 bits"),
    ('{"images": [{"id": 1, "file_name": "x", "height": 2, "width": %d}], "annotations": [{}]}'
     .replace("%d", str(10**30)),
     r"image x: id \(1\) or size \(2, 1000.* is too large"),
    ('{"images": [{"id": 1}], "annotations": [{}], "categories": null}', "'categories' is no list of records with an"),
    ('{"images": [{"id": 1}], "annotations": [{}], "categories": [{"name": "x"}]}', "'categories' is no list of"),
])
def test_bad_json_is_refused(tmp_path, text, message):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        CocoDataset([path])
    assert "bad.json" in str(caught.value) and "\n" not in str(caught.value)


def test_annotations_without_ids_are_told_apart(tmp_path):
    annotations = [{key: value for key, value in annotation(1, 7).items() if key != "id"} for _ in range(2)]
    read = CocoDataset([write_set(tmp_path, annotations, (7,))]).read(0).annotations
    assert len({each.annotation_id for each in read}) == 2


def test_missing_json_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"none\.json: no such annotation file"):
        CocoDataset([tmp_path / "none.json"])
    with pytest.raises(ValueError, match="a folder, not a COCO-format JSON"):
        CocoDataset([tmp_path])
    with pytest.raises(ValueError, match=r"data\.paths is empty"):
        CocoDataset([])


@pytest.mark.data
def test_counts_of_the_train_pool(data_root):
    # MANIFEST.md of the pool: masks less crowd, images; the panoptic JSON lists images of coco_full again.
    expected = {"coco_full/instances.json": (459, 3895 - 39), "coco_full/panoptic_segments.json": (98, 1098 - 6),
                "coco_partial/instances.json": (1202, 4462 - 49), "bsds500/instances.json": (300, 17131),
                "dali_pixabay/instances.json": (58, 88), "balloon/instances.json": (74, 305)}
    paths = [data_root / "train" / name for name in expected]
    for path, (images, masks) in zip(paths, expected.values()):
        dataset = CocoDataset([path], only_usable=False)
        assert len(dataset) == images
        assert sum(len(dataset.annotations_of(image_id)) for image_id in dataset.image_ids) == masks
    together = CocoDataset(paths, only_usable=False)
    assert len(together) == 2093 + 98 and len(together.image_ids) == 2093


@pytest.mark.data
def test_areas_of_the_evaluation_sets(data_root):
    # Every run-length mask has the area that its JSON states; polygons differ from it by their border only.
    for name in ("coco_val2017/instances.json", "bbbc038/instances.json", "bsds500_test/instances.json"):
        dataset = CocoDataset([data_root / "eval" / name])
        for image_id in dataset.image_ids[:20]:
            for item in dataset.annotations_of(image_id):
                area = np.count_nonzero(item.mask())
                if isinstance(item.segmentation, dict):
                    assert area == item.area
                else:
                    assert abs(area - item.area) <= 8 + 4 * item.area**0.5
