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
"""Pasted objects: where they are, what they cover, what is left of the others, and what a batch holds of them."""
import numpy as np
import pytest

from src.data.loader import Batches
from src.data.paste import paste_objects
from src.data.records import Annotation, DrawnMask, Sample
from src.data.synthetic import SyntheticDataset

RED, GREY = (200, 0, 0), 90


def picture(height, width, *boxes, colour=(GREY, GREY, GREY)):
    """A picture of one colour whose annotations are boxes (x0, y0, x1, y1)."""
    masks = []
    for number, (x0, y0, x1, y1) in enumerate(boxes):
        mask = np.zeros((height, width), bool)
        mask[y0:y1, x0:x1] = True
        masks.append(DrawnMask(number, 7 + number, mask))
    return Sample(3, np.full((height, width, 3), colour, np.uint8), masks)


def test_a_pasted_square_is_its_mask_and_nothing_else_changes():
    sample, donor = picture(120, 160), picture(90, 90, (10, 20, 50, 60), colour=RED)
    sides = []
    for seed in range(40):
        pasted = paste_objects(np.random.default_rng(seed), sample, donor, 1)
        (annotation,) = pasted.annotations
        mask = annotation.mask()
        assert (pasted.image[mask] == RED).all() and (pasted.image[~mask] == GREY).all()
        rows, columns = mask.any(axis=1).sum(), mask.any(axis=0).sum()
        assert rows == columns and mask.sum() == rows * columns  # still a square, whole, inside
        assert annotation.category_id == 7 and annotation.area == mask.sum()
        sides.append(rows)
    assert 4 <= min(sides) <= 8 and 45 <= max(sides) <= 60  # 1/40 of 160 to 1.5 times the 40 that it was
    assert (sample.image == GREY).all() and pasted.image_id == 3


def test_an_object_is_cut_out_along_its_outline_and_flipped():
    mask = np.zeros((60, 60), bool)
    mask[10:50, 10:30], mask[30:50, 30:50] = True, True  # an L
    donor = Sample(4, np.full((60, 60, 3), RED, np.uint8), [DrawnMask(0, 1, mask)])
    lefts = set()
    for seed in range(20):
        pasted = paste_objects(np.random.default_rng(seed), picture(400, 400), donor, 1)
        seen = pasted.annotations[0].mask()
        rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
        cut = seen[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert abs(cut.mean() - 0.75) < 0.08
        half = cut.shape[1] // 2
        lefts.add(bool(cut[: cut.shape[0] // 3, :half].mean() > 0.5))
    assert lefts == {True, False}


def test_what_is_covered_leaves_the_masks_and_goes_when_little_is_left():
    sample = picture(64, 64, (0, 0, 64, 64), (20, 20, 24, 24))
    donor = picture(64, 64, (0, 0, 60, 60), colour=RED)
    gone = 0
    for seed in range(60):
        pasted = paste_objects(np.random.default_rng(seed), sample, donor, 3)
        masks = [annotation.mask() for annotation in pasted.annotations]
        red = (pasted.image == RED).all(axis=2)
        by_category = [annotation.category_id for annotation in pasted.annotations]
        whole = masks[by_category.index(7)]
        np.testing.assert_array_equal(whole, ~red)
        top = masks[-1]
        assert all(not (top & mask).any() for mask in masks[:-1])  # the last one lies on top
        left = 16 - np.count_nonzero(red[20:24, 20:24])
        assert (8 in by_category) == (left >= 0.3 * 16)
        gone += 8 not in by_category
    assert 0 < gone < 60


def test_objects_are_used_again_and_no_object_gives_none():
    sample = picture(200, 200)
    assert len(paste_objects(np.random.default_rng(0), sample, picture(50, 50), 4).annotations) == 0
    assert len(paste_objects(np.random.default_rng(0), sample, picture(50, 50, (5, 5, 12, 12)), 4).annotations) == 0
    pasted = paste_objects(np.random.default_rng(1), sample, picture(50, 50, (5, 5, 25, 25)), 4)
    assert 2 <= len(pasted.annotations) <= 4
    whole = picture(50, 50, (0, 0, 50, 50))
    tiny = paste_objects(np.random.default_rng(1), picture(3, 300), whole, 4)  # never larger than the picture
    assert tiny.image.shape == (3, 300, 3)


def test_broken_masks_are_neither_pasted_nor_lost():
    broken = Annotation(5, 1, {"size": [50, 50], "counts": [1]}, (50, 50))
    sample, donor = picture(50, 50, (5, 5, 25, 25)), picture(50, 50, (5, 5, 25, 25))
    sample.annotations.append(broken)
    donor.annotations[:] = [broken]
    assert paste_objects(np.random.default_rng(0), sample, donor, 3).annotations[1] is broken
    assert len(paste_objects(np.random.default_rng(0), sample, donor, 3).annotations) == 2


def test_batches_hold_pasted_objects_that_follow_from_the_seed():
    dataset = SyntheticDataset(8, 64, seed=2)

    def first(count, workers=0):
        with Batches(dataset, 64, prompts_per_image=12, slots=2, batch_size=4, pasted_objects=count,
                     workers=workers) as batches:
            return next(batches.epoch(1))

    plain, pasted, again = first(0), first(5), first(5, workers=1)
    assert pasted["mask_valid"].sum() > plain["mask_valid"].sum()
    for name in pasted:
        np.testing.assert_array_equal(pasted[name], again[name])
    np.testing.assert_array_equal(pasted["image_ids"], plain["image_ids"])
    assert not np.array_equal(pasted["images"], plain["images"])


def test_stored_embeddings_and_pasted_objects_exclude_each_other():
    dataset = SyntheticDataset(8, 64, seed=2)
    with pytest.raises(ValueError, match=r"^data.pasted_objects \(2\) must be 0 with data.embedding_cache"):
        Batches(dataset, 64, 4, 2, 1, embedding_cache=object(), pasted_objects=2)
