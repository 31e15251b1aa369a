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
"""Batches of data sets on disk: broken files and masks, lists of ids, opening by format, the real pool."""
import json

import numpy as np
import pytest
from PIL import Image

from src.data.coco import CocoDataset
from src.data.loader import Batches, open_dataset, read_image_ids
from src.data.sa1b import Sa1bDataset
from src.data.synthetic import SyntheticDataset
from tests.data.test_loader import PLAIN, collect


def write_coco_set(folder, pictures):
    """{image id: (file bytes or None, segmentations)} as a COCO folder of 16 x 16 pictures."""
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for image_id, (grey, segmentations) in pictures.items():
        name = folder / "images" / f"{image_id}.jpg"
        images.append({"id": image_id, "file_name": name.name, "height": 16, "width": 16})
        if grey is not None:
            Image.fromarray(np.full((16, 16, 3), grey, np.uint8)).save(name)
        if grey == 66:  # truncated
            name.write_bytes(name.read_bytes()[:-100])
        annotations += [{"id": len(annotations) + k, "image_id": image_id, "segmentation": segmentation}
                        for k, segmentation in enumerate(segmentations)]
    path = folder / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return path


SQUARE = [[4, 4, 12, 4, 12, 12, 4, 12]]
DOT = [[4, 4, 6, 4, 6, 6, 4, 6]]
BROKEN = {"size": [16, 16], "counts": "zz"}
WRONG_SIZE = {"size": [8, 8], "counts": [64]}


@pytest.mark.parametrize("workers", [0, 1])
def test_broken_data_is_replaced_and_counted(tmp_path, workers, caplog):
    path = write_coco_set(tmp_path / "set", {
        1: (50, [SQUARE, BROKEN, DOT]), 2: (None, [SQUARE]), 3: (66, [SQUARE]), 4: (90, [WRONG_SIZE]),
        5: (99, [SQUARE])})
    settings = {**PLAIN, "batch_size": 1, "image_size": 16}
    batches = Batches(CocoDataset([path]), **settings, workers=workers, min_mask_pixels=16)
    ids = [int(batch["image_ids"][0]) for batch in collect(batches)]
    assert sorted(ids) == [1, 5, 5, 5, 5]  # 2, 3 and 4 are replaced by the next usable picture
    # Each start at 2 meets 2, 3, 4; at 3: 3, 4; at 4: 4. The broken mask of picture 1 and its dot are met once.
    assert dict(batches.skipped.counts) == {"unreadable images": 3, "broken masks": 4,
                                            "images without a usable mask": 3,
                                            "masks below 16 pixels": 1}
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 3  # one line for each kind that has an example
    assert sum("no such image file" in line or "truncated" in line for line in warnings) == 1
    assert len(collect(batches)) == 5 and len(caplog.records) == 3  # said once, counted on


@pytest.mark.parametrize("workers", [0, 1])
def test_nothing_usable_is_refused(tmp_path, workers):
    path = write_coco_set(tmp_path / "set", {2: (None, [SQUARE]), 4: (90, [WRONG_SIZE])})
    message = r"^no usable image among the 2 of the data set; skipped 3: .*2\.jpg: no such image file"
    with pytest.raises(ValueError, match=message) as caught:
        collect(Batches(CocoDataset([path]), **{**PLAIN, "batch_size": 1, "image_size": 16}, workers=workers))
    assert "\n" not in str(caught.value)


def test_open_dataset(tmp_path):
    path = write_coco_set(tmp_path / "set", {1: (50, [SQUARE]), 5: (99, [SQUARE])})
    listed = tmp_path / "ids.txt"
    listed.write_text("# kept\n5\n\nsa_7.jpg\nsa_8\n")
    assert read_image_ids(listed) == {5, 7, 8}
    assert open_dataset("coco", [path], image_ids=listed).image_ids == [5]
    drawn = open_dataset("synthetic", synthetic_images=12, seed=3, image_size=64)
    assert len(drawn) == 12
    np.testing.assert_array_equal(drawn.read(2).image, SyntheticDataset(12, 64, 3).read(2).image)
    for name in ("sa_9.jpg", "sa_9.json"):
        (tmp_path / name).write_bytes(b"")
    assert isinstance(open_dataset("sa1b", [tmp_path]), Sa1bDataset)
    with pytest.raises(ValueError, match=r"data\.format \('voc'\) must be one of sa1b, coco, synthetic"):
        open_dataset("voc")


def test_bad_id_lists_are_refused(tmp_path):
    listed = tmp_path / "ids.txt"
    listed.write_text("1\ncat.jpg\n")
    with pytest.raises(ValueError, match=r"ids\.txt, line 2: 'cat\.jpg' is not an image id"):
        read_image_ids(listed)
    listed.write_text("\n")
    with pytest.raises(ValueError, match=r"ids\.txt: no image ids in it"):
        read_image_ids(listed)


@pytest.mark.data
def test_real_pool(data_root):
    paths = [data_root / "train" / name / "instances.json" for name in ("coco_full", "bsds500", "balloon")]
    dataset = open_dataset("coco", paths, min_mask_pixels=16)
    settings = {**PLAIN, "image_size": 256, "prompts_per_image": 8, "batch_size": 4, "scale_jitter": (0.5, 2.0)}
    with Batches(dataset, **settings) as batches:
        assert len(batches) == len(dataset) // 4
        epoch = batches.epoch(0)
        for _ in range(12):
            batch = next(epoch)
            valid = batch["mask_valid"] == 1
            assert valid[:, 0].all() and (batch["gt_masks"].any(axis=(2, 3)) == valid).all()
            first = batch["point_coords"][valid][:, :2]
            assert first.min() >= 0 and first.max() <= 256 and np.abs(batch["images"]).max() < 3
    assert "unreadable images" not in batches.skipped.counts and "broken masks" not in batches.skipped.counts
