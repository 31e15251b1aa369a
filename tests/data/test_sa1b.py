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
"""SA-1B from folders and tar shards, both made here."""
import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from src.data.images import ImageError
from src.data.loader import Batches
from src.data.records import encode_mask
from src.data.sa1b import Sa1bDataset


def mask_of(image_id):
    mask = np.zeros((6, 9), bool)
    mask[1:4, image_id % 5 : image_id % 5 + 3] = True
    return mask


def files_of(image_id):
    """{name: bytes} of one picture of grey value `image_id` and its JSON with one mask."""
    picture = io.BytesIO()
    Image.fromarray(np.full((6, 9, 3), image_id, np.uint8)).save(picture, "JPEG", quality=100)
    left = image_id % 5
    content = {"image": {"image_id": image_id, "width": 9, "height": 6, "file_name": f"sa_{image_id}.jpg"},
               "annotations": [{"id": image_id * 10, "bbox": [left, 1, 3, 3], "area": 9, "predicted_iou": 0.9,
                                "segmentation": encode_mask(mask_of(image_id)), "stability_score": 0.97}]}
    return {f"sa_{image_id}.jpg": picture.getvalue(), f"sa_{image_id}.json": json.dumps(content).encode()}


def write_folder(folder, ids):
    folder.mkdir(parents=True)
    for image_id in ids:
        for name, data in files_of(image_id).items():
            (folder / name).write_bytes(data)
    return folder


def write_tar(path, ids, mode="w"):
    with tarfile.open(path, mode) as shard:
        for image_id in ids:
            for name, data in files_of(image_id).items():
                member = tarfile.TarInfo(f"./{name}")
                member.size = len(data)
                shard.addfile(member, io.BytesIO(data))
    return path


def check(dataset, ids):
    assert dataset.image_ids == ids and len(dataset) == len(ids)
    for index, image_id in enumerate(ids):
        sample = dataset.read(index)
        assert sample.image_id == image_id and (sample.image == image_id).all()
        (item,) = sample.annotations
        np.testing.assert_array_equal(item.mask(), mask_of(image_id))
        assert item.box == (image_id % 5, 1, image_id % 5 + 3, 4) and item.area == 9


def test_folder_is_searched_recursively(tmp_path):
    write_folder(tmp_path / "sa_000020" / "deep", [12, 3])
    write_folder(tmp_path / "sa_000021", [100])
    (tmp_path / "notes.txt").write_text("not a picture")
    check(Sa1bDataset([tmp_path]), [3, 12, 100])


def test_tar_shards_and_folders_together(tmp_path):
    shard = write_tar(tmp_path / "sa_000000.tar", [5, 2])
    folder = write_folder(tmp_path / "loose", [4])
    check(Sa1bDataset([shard, folder]), [2, 4, 5])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["loose", "sa_000000.tar"]  # nothing was unpacked


def test_list_of_ids(tmp_path):
    shard = write_tar(tmp_path / "a.tar", [5, 2, 8])
    check(Sa1bDataset([shard], keep_ids={8, 5, 77}), [5, 8])
    with pytest.raises(ValueError, match=r"a\.tar: no sa_N\.jpg with its sa_N\.json among the 1 ids of data\.image_id"):
        Sa1bDataset([shard], keep_ids={77})


def test_partners_that_are_missing_are_counted(tmp_path):
    folder = write_folder(tmp_path / "set", [1, 2, 3])
    (folder / "sa_1.json").unlink()
    (folder / "sa_2.jpg").unlink()
    dataset = Sa1bDataset([folder])
    check(dataset, [3])
    assert dict(dataset.skipped.counts) == {"jpg files without their partner": 1, "json files without their partner": 1}
    assert "sa_1.jpg" in str(dataset.skipped) and "sa_2.json" in str(dataset.skipped)


def test_paths_that_are_no_set_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere: no such folder or tar shard"):
        Sa1bDataset([tmp_path / "nowhere"])
    with pytest.raises(ValueError, match=r"no sa_N\.jpg with its sa_N\.json; skipped nothing"):
        Sa1bDataset([tmp_path])
    with pytest.raises(ValueError, match=r"data\.paths is empty"):
        Sa1bDataset([])
    junk = tmp_path / "junk.tar"
    junk.write_bytes(b"x" * 2000)
    packed = write_tar(tmp_path / "packed.tar.gz", [1], "w:gz")
    for path in (junk, packed):
        with pytest.raises(ValueError, match=f"{path.name}: not an uncompressed tar shard"):
            Sa1bDataset([path])


@pytest.mark.parametrize("name, data, message", [
    ("sa_1.jpg", b"", r"sa_1\.jpg: not an image"),
    ("sa_1.jpg", None, r"sa_1\.jpg: cannot be read \(No such file or directory\)"),
    ("sa_1.json", b"{", r"sa_1\.json: not an SA-1B annotation \(JSONDecodeError"),
    ("sa_1.json", b"[" * 100000, r"sa_1\.json: not an SA-1B annotation \(RecursionError"),
    ("sa_1.json", b'{"image": {"height": Infinity, "width": 9}}', r"not an SA-1B annotation \(OverflowError"),
    ("sa_1.json", b"[]", r"sa_1\.json: not an SA-1B annotation \(TypeError"),
    ("sa_1.json", b'{"image": {"height": 6, "width": 9}}', r"not an SA-1B annotation \(KeyError: 'annotations'"),
    ("sa_1.json", b'{"image": {"height": 6, "width": 8}, "annotations": []}', r"6 x 9 pixels, its JSON says 6 x 8"),
])
def test_broken_files_are_refused_when_read(tmp_path, name, data, message):
    folder = write_folder(tmp_path / "set", [1])
    dataset = Sa1bDataset([folder])
    (folder / name).unlink()
    if data is not None:
        (folder / name).write_bytes(data)
    with pytest.raises(ImageError, match=message) as caught:
        dataset.read(0)
    assert "\n" not in str(caught.value)


def test_a_picture_without_masks_is_read_and_another_stands_in_for_it(tmp_path):
    folder = write_folder(tmp_path / "set", [1, 2])
    content = json.loads((folder / "sa_1.json").read_text())
    (folder / "sa_1.json").write_text(json.dumps({**content, "annotations": []}))
    sample = Sa1bDataset([folder]).read(0)
    assert sample.image_id == 1 and sample.annotations == [] and (sample.image == 1).all()
    settings = {"image_size": 16, "prompts_per_image": 1, "slots": 2, "batch_size": 1, "min_mask_pixels": 1}
    with Batches(Sa1bDataset([folder]), **settings) as batches:
        assert [batch["image_ids"].tolist() for batch in batches.epoch(0)] == [[2], [2]]
        assert str(batches.skipped) == "skipped 1: 1 images without a usable mask (first: image 1)"
    (folder / "sa_2.json").unlink()
    with Batches(Sa1bDataset([folder]), **settings) as batches:
        with pytest.raises(ValueError, match=r"^no usable image among the 1 of the data set; skipped 1: 1 images with"):
            next(batches.epoch(0))


def test_truncated_shard(tmp_path):
    # Cut inside the last member: found while indexing, hours before a run would stumble over it.
    whole = write_tar(tmp_path / "whole.tar", [1, 2]).read_bytes()
    with tarfile.open(tmp_path / "whole.tar") as shard:
        last = shard.getmembers()[-1]
    (tmp_path / "cut.tar").write_bytes(whole[: last.offset_data + 20])
    with pytest.raises(ValueError, match=r"cut\.tar: not an uncompressed tar shard, or a truncated one \(unexp"):
        Sa1bDataset([tmp_path / "cut.tar"])
