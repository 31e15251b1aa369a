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
"""Boxes and labels from files: what is kept, what is left out and how it is counted."""
import json

import pytest
from pycocotools import mask as coco_mask

from src.data.coco import CocoDataset
from src.data.records import SkipLog
from src.evaluation.box_sources import BoxPrompt, box_inside, detected_boxes, ground_truth_boxes, read_labels
from src.evaluation.coco_metrics import average_precision
from src.inference.mask_records import coco_result

IMAGES = [{"id": number, "file_name": f"{number}.jpg", "height": 20, "width": 30} for number in (1, 2)]
SQUARE = [[2, 3, 12, 3, 12, 13, 2, 13]]  # 10 x 10 from (2, 3)


def annotation(annotation_id, image_id=1, segmentation=SQUARE, bbox=(2, 3, 10, 10), **more):
    return {"id": annotation_id, "image_id": image_id, "category_id": 5, "segmentation": segmentation, "bbox": bbox,
            "iscrowd": 0, **more}


def write(path, content):
    path.write_text(json.dumps(content))
    return path


def open_set(tmp_path, annotations):
    path = write(tmp_path / "labels.json", {"images": IMAGES, "annotations": annotations, "categories": [{"id": 5}]})
    return path, CocoDataset([path], only_usable=False)


def test_labels_hold_masks_areas_boxes_and_crowds(tmp_path):
    crowd = {"size": [20, 30], "counts": [0, 40, 560]}  # the two left columns
    path, dataset = open_set(tmp_path, [annotation(1, area=77), annotation(2, image_id=2, bbox=None),
                                        annotation(3, segmentation=crowd, iscrowd=1)])
    labels = read_labels(path, dataset, [1, 2], SkipLog())
    first, crowd_label = labels[1]
    assert first["area"] == 77 and first["box"] == (2, 3, 12, 13) and first["iscrowd"] == 0
    mask = coco_mask.decode(first["segmentation"])
    assert mask.sum() == 100 and mask[3:13, 2:12].all()
    assert crowd_label["iscrowd"] == 1 and crowd_label["area"] == 40 and crowd_label["box"] == (0, 0, 2, 20)
    assert labels[2][0]["area"] == 100 and labels[2][0]["box"] == (2, 3, 12, 13)  # both from the mask
    assert read_labels(path, dataset, [2], SkipLog()).keys() == {2}
    prompts = ground_truth_boxes(labels, dataset, SkipLog())
    assert prompts == {1: [BoxPrompt((2, 3, 12, 13), 5, None, 1)], 2: [BoxPrompt((2, 3, 12, 13), 5, None, 2)]}


def test_damaged_labels_and_boxes_are_counted(tmp_path):
    broken = {"size": [20, 30], "counts": [1, 2, 3]}
    path, dataset = open_set(tmp_path, [
        annotation(1), annotation(2, segmentation=broken), annotation(3, bbox=[4, 4, 0, 3]),
        annotation(4, bbox=[31, 4, 5, 5]), annotation(5, bbox=[-5, 10, 15, 50])])
    skipped = SkipLog()
    labels = read_labels(path, dataset, [1, 2], skipped)
    prompts = ground_truth_boxes(labels, dataset, skipped)
    assert [prompt.annotation_id for prompt in prompts[1]] == [1, 5] and prompts[2] == []
    assert prompts[1][1].box == (0, 10, 10, 20)  # clipped to the image
    assert dict(skipped.counts) == {"labels with a damaged mask": 1, "boxes inside out or without area": 1,
                                    "boxes outside their image": 1}
    assert "annotation 3: (4, 4, 4, 7)" in str(skipped) and "annotation 4: (31, 4, 36, 9)" in str(skipped)


def test_labels_of_odd_areas_and_categories_are_scored(tmp_path):
    """COCOeval compares areas and sorts categories: one text among them would end it."""
    path, dataset = open_set(tmp_path, [
        annotation(1, area="many"), annotation(2, image_id=2, area=[100]), annotation(3, category_id=[5]),
        annotation(4, category_id="5"), annotation(5, iscrowd=1, area="many"),
        annotation(6, iscrowd=1, category_id="5"), annotation(7, iscrowd=1, image_id=[1])])
    labels = read_labels(path, dataset, [1, 2], SkipLog())
    assert [(label["annotation_id"], label["area"], label["category_id"]) for label in labels[1] + labels[2]] == [
        (1, 100, 5), (5, 100, 5), (2, 100, 5)]  # areas from the masks
    assert dataset.skipped.counts["annotations whose category is no integer"] == 3
    results = [coco_result(image_id, 5, labels[image_id][0]["segmentation"], 0.9) for image_id in (1, 2)]
    assert average_precision([1, 2], labels[1] + labels[2], results)["ap"] == 1


def test_labels_without_anything_usable_are_refused(tmp_path):
    path, dataset = open_set(tmp_path, [annotation(1, segmentation={"size": [20, 30], "counts": [1]})])
    with pytest.raises(ValueError, match="no usable label on 2 images; skipped 1: 1 labels with a damaged mask"):
        read_labels(path, dataset, [1, 2], SkipLog())
    path, dataset = open_set(tmp_path, [annotation(1, bbox=[40, 4, 5, 5])])
    skipped = SkipLog()
    labels = read_labels(path, dataset, [1, 2], skipped)
    with pytest.raises(ValueError, match="no usable box among the labels; skipped 1: 1 boxes outside their image"):
        ground_truth_boxes(labels, dataset, skipped)


def detection(bbox, score=0.5, image_id=1, **more):
    return {"image_id": image_id, "category_id": 5, "bbox": bbox, "score": score, **more}


def test_detections_are_sorted_and_cut(tmp_path):
    _, dataset = open_set(tmp_path, [annotation(1)])
    path = write(tmp_path / "boxes.json", [detection([1, 2, 3, 4], 0.1), detection([1, 2, 5, 6], 0.9),
                                           detection([0, 0, 99, 5], 0.5), detection([1, 1, 2, 2], 0.5, image_id=2)])
    skipped = SkipLog()
    prompts = detected_boxes(path, dataset, [1], 2, skipped)
    assert prompts == {1: [BoxPrompt((1, 2, 6, 8), 5, 0.9), BoxPrompt((0, 0, 30, 5), 5, 0.5)]}
    assert not skipped  # image 2 is known, only not asked for


def test_bad_detections_are_counted(tmp_path):
    _, dataset = open_set(tmp_path, [annotation(1)])
    path = write(tmp_path / "boxes.json", [
        detection([1, 2, 3, 4]), detection([1, 2, -3, 4]), detection([50, 2, 3, 4]),
        detection([1, 2, 3, 4], image_id=9), detection([1, 2, 3, 4], score="high"), detection([1, 2, 3]),
        {"image_id": 1}, 7, detection([1, 2, float("nan"), 4]), detection([1, 2, 3, 4], score=float("nan")),
        detection([1, 2, 3, 4], image_id=[1]), detection([1, 2, 10**400, 4]), detection([1, 2, 3, 4], score=10**400),
        detection([1, 2, 3, 4], category_id=float("inf")), detection([1, 2, 3, 4], score=float("inf"))])
    skipped = SkipLog()
    assert detected_boxes(path, dataset, [1], 100, skipped) == {1: [BoxPrompt((1, 2, 4, 6), 5, 0.5)]}
    assert dict(skipped.counts) == {"boxes inside out or without area": 2, "boxes outside their image": 1,
                                    "detections on unknown images": 1, "entries that are no detections": 8,
                                    "detections whose score is no number": 2}
    assert "detections on unknown images (first: entry 3: image 9)" in str(skipped)


@pytest.mark.parametrize("content, message", [
    ("[]", "no usable box among 0 detections; skipped nothing"),
    ('[{"image_id": 9, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}]',
     "no usable box among 1 detections; skipped 1: 1 detections on unknown images"),
    ("{}", "holds a dict, not a COCO results list of detections"),
    ("[1,", "not a JSON file"),
])
def test_files_without_detections_are_refused(tmp_path, content, message):
    _, dataset = open_set(tmp_path, [annotation(1)])
    (tmp_path / "boxes.json").write_text(content)
    with pytest.raises(ValueError, match="boxes.json: " + message):
        detected_boxes(tmp_path / "boxes.json", dataset, [1], 100, SkipLog())


def test_missing_detections_are_refused(tmp_path):
    _, dataset = open_set(tmp_path, [annotation(1)])
    with pytest.raises(ValueError, match="x.json: no such file; eval.boxes is 'ground_truth' or a COCO results JSON"):
        detected_boxes(tmp_path / "x.json", dataset, [1], 100, SkipLog())


def test_box_that_touches_the_border_from_outside_has_no_area():
    assert box_inside((30, 0, 35, 5), (20, 30), "it", SkipLog()) is None
    assert box_inside((29, 0, 35, 5), (20, 30), "it", SkipLog()) == (29, 0, 30, 5)
