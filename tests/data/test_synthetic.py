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
"""The drawn set: deterministic, varied, neither trivial nor unusable, and writable as a COCO folder."""
import numpy as np
import pytest

from src.data.coco import CocoDataset
from src.data.synthetic import SyntheticDataset, write_coco
from src.prompts.from_masks import box_of_mask


def test_follows_from_seed_and_index():
    first, again, other = SyntheticDataset(4, 96, 5), SyntheticDataset(9, 96, 5), SyntheticDataset(4, 96, 6)
    for index in (3, 0):  # in any order, whatever the count
        a, b = first.read(index), again.read(index)
        np.testing.assert_array_equal(a.image, b.image)
        assert [item.category_id for item in a.annotations] == [item.category_id for item in b.annotations]
        assert all((x.mask() == y.mask()).all() for x, y in zip(a.annotations, b.annotations))
        assert a.image_id == index
    different = first.read(0).image.shape != other.read(0).image.shape
    assert different or (first.read(0).image != other.read(0).image).mean() > 0.5


def test_masks_are_visible_parts():
    dataset = SyntheticDataset(20, 128, 1)
    kinds = set()
    for index in range(20):
        sample = dataset.read(index)
        height, width = sample.image.shape[:2]
        assert sample.image.dtype == np.uint8 and max(height, width) == 128 and min(height, width) >= 76
        masks = np.stack([item.mask() for item in sample.annotations])
        assert masks.shape[1:] == (height, width) and masks.sum(axis=0).max() == 1  # no pixel belongs to two
        assert [item.area for item in sample.annotations] == masks.sum(axis=(1, 2)).tolist()
        assert min(item.area for item in sample.annotations) >= 24
        kinds |= {item.category_id for item in sample.annotations}
    assert kinds == {1, 2, 3, 4}


def test_is_a_task():
    """A filled box must be a poor answer, sizes must vary, and a mask must show in the picture."""
    dataset = SyntheticDataset(60, 128, 2)
    ious, shares, contrasts, counts = [], [], [], []
    for index in range(60):
        sample = dataset.read(index)
        counts.append(len(sample.annotations))
        for item in sample.annotations:
            mask = item.mask()
            x0, y0, x1, y1 = box_of_mask(mask).astype(int)
            ious.append(item.area / ((x1 - x0) * (y1 - y0)))
            shares.append(item.area / mask.size)
            contrasts.append(np.abs(sample.image[mask].mean(axis=0) - sample.image[~mask].mean(axis=0)).max())
    assert 0.45 < np.mean(ious) < 0.7
    assert np.percentile(shares, 10) < 0.006 and np.percentile(shares, 95) > 0.06
    assert np.mean(np.array(contrasts) > 15) > 0.9
    assert 3 < np.mean(counts) < 10 and min(counts) >= 1


def test_writes_itself_as_coco(tmp_path):
    path = write_coco(tmp_path / "drawn", 3, 64, 7)
    assert path == tmp_path / "drawn" / "instances.json"
    written, drawn = CocoDataset([path]), SyntheticDataset(3, 64, 7)
    assert written.image_ids == [1, 2, 3]
    assert [category["name"] for category in written.categories] == ["ellipse", "polygon", "ring", "rectangle"]
    for index in range(3):
        a, b = written.read(index), drawn.read(index)
        np.testing.assert_array_equal(a.image, b.image)
        assert len(a.annotations) == len(b.annotations)
        for x, y in zip(a.annotations, b.annotations):
            np.testing.assert_array_equal(x.mask(), y.mask())
            assert x.category_id == y.category_id and x.area == y.area
            np.testing.assert_array_equal(x.box, box_of_mask(y.mask()))
    assert not list(tmp_path.rglob("*.part"))


def test_refuses_impossible_sizes():
    with pytest.raises(ValueError, match=r"data\.synthetic_images \(0\) must be at least 1"):
        SyntheticDataset(0, 64, 1)
    with pytest.raises(ValueError, match=r"size of synthetic images \(16\) must be at least 32 pixels"):
        SyntheticDataset(1, 16, 1)
