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
"""Mask records: run lengths, areas and boxes of masks small enough to count."""
import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from src.inference.mask_records import coco_result, encode_masks, mask_box, mask_record, write_json

# . # #
# . # .      area 3, columns 1..2, rows 0..1
# . . .
MASK = np.array([[0, 1, 1], [0, 1, 0], [0, 0, 0]], bool)


def test_run_lengths_return_the_mask_and_fit_into_json():
    masks = np.random.default_rng(0).random((3, 17, 5)) > 0.5
    records = json.loads(json.dumps(encode_masks(masks)))
    assert [record["size"] for record in records] == [[17, 5]] * 3
    for record, mask in zip(records, masks):
        np.testing.assert_array_equal(coco_mask.decode(record), mask)


def test_run_lengths_by_hand():
    # Columns top to bottom: 3 background (column 0), 2 foreground, 1 background, 1 foreground, 2 background.
    expected = coco_mask.frPyObjects({"size": [3, 3], "counts": [3, 2, 1, 1, 2]}, 3, 3)
    assert encode_masks(MASK[None])[0]["counts"] == expected["counts"].decode()


def test_box_of_a_mask():
    assert mask_box(MASK) == (1, 0, 3, 2)
    assert mask_box(np.zeros((4, 4), bool)) == (0, 0, 0, 0)


def test_record_holds_area_box_and_prompt():
    record = mask_record(MASK, np.float32(0.5), np.array([[1, 0]]), np.array([1]), np.array([0, 0, 3, 3]))
    assert record == {"segmentation": encode_masks(MASK[None])[0], "area": 3, "bbox": [1, 0, 2, 2],
                      "predicted_iou": 0.5,
                      "point_coords": [[1.0, 0.0]], "point_labels": [1], "box": [0.0, 0.0, 3.0, 3.0]}
    assert "box" not in mask_record(MASK, 0.5) and "point_coords" not in mask_record(MASK, 0.5)
    json.dumps(record)


def test_coco_result_is_plain():
    result = coco_result(np.int64(7), np.int64(2), {"size": [3, 3], "counts": "9"}, np.float32(0.25))
    assert json.loads(json.dumps(result)) == {"image_id": 7, "category_id": 2, "score": 0.25,
                                              "segmentation": {"size": [3, 3], "counts": "9"}}


def test_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "deep" / "masks.json"
    write_json(path, [1])
    with pytest.raises(TypeError):
        write_json(path, object())
    assert json.loads(path.read_text()) == [1]
    assert [entry.name for entry in path.parent.iterdir()] == ["masks.json"]
