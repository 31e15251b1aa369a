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
"""Batches: contents, order, determinism over workers, ranks and resuming, impossible settings."""
from types import SimpleNamespace

import numpy as np
import pytest

from src.data.loader import Batches, first_pictures
from src.data.records import Annotation, Sample, SkipLog
from src.data.synthetic import SyntheticDataset, write_coco

PLAIN = {"image_size": 32, "prompts_per_image": 3, "slots": 4, "batch_size": 2, "flip_probability": 0.0, "seed": 11}


class Tiny:
    """Pictures 16 x 32 of grey value 10 * index; picture i has i + 1 squares of 8 x 8, number k at x = 8 k."""

    def __init__(self, count=4):
        self.count, self.skipped = count, SkipLog()

    def __len__(self):
        return self.count

    def read(self, index):
        masks = []
        for k in range(index + 1):
            left = 8 * k
            masks.append(Annotation(k, 1, [[left, 4, left + 8, 4, left + 8, 12, left, 12]], (16, 32)))
        return Sample(100 + index, np.full((16, 32, 3), 10 * index, np.uint8), masks)


def squares(batch, row):
    """Which of the squares the valid masks of a sample are: left edges on the grid / 2."""
    valid = batch["mask_valid"][row] == 1
    return [int(np.flatnonzero(mask.any(axis=0))[0]) // 2 for mask in batch["gt_masks"][row][valid]]


def same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


def collect(batches, epoch=0, start=0):
    with batches:
        return list(batches.epoch(epoch, start))


def test_contents():
    batches = collect(Batches(Tiny(), **PLAIN))
    assert len(batches) == 2
    seen = {}
    for batch in batches:
        assert {name: (array.shape, str(array.dtype)) for name, array in batch.items()} == {
            "images": ((2, 3, 32, 32), "float32"), "gt_masks": ((2, 3, 8, 8), "uint8"),
            "point_coords": ((2, 3, 4, 2), "float32"), "point_labels": ((2, 3, 4), "int32"),
            "mask_valid": ((2, 3), "float32"), "image_ids": ((2,), "int64")}
        for row, image_id in enumerate(batch["image_ids"]):
            seen[int(image_id)] = squares(batch, row)
            grey = (10 * (image_id - 100) - 123.675) / 58.395
            np.testing.assert_allclose(batch["images"][row, 0, :16], grey, rtol=1e-5)
            assert not batch["images"][row, :, 16:].any()
    # Picture i has i + 1 squares: all of them as long as there are at most 3, else 3 without repetition.
    assert {image_id: sorted(found) for image_id, found in seen.items() if image_id < 103} == {
        100: [0], 101: [0, 1], 102: [0, 1, 2]}
    assert len(set(seen[103])) == 3


def test_first_pictures_are_those_of_the_first_epoch_as_they_are():
    """Of five pictures three, or all five where seven are asked for, whatever flips and jitter training has."""
    section = SimpleNamespace(format="synthetic", paths=[], image_roots=[], image_ids="", synthetic_images=5,
                              box_share=1.0, min_mask_pixels=16, flip_probability=1.0, scale_jitter=[0.1, 2.0])
    found = first_pictures(section, 64, 3, 2, seed=11)
    order = np.random.default_rng([11, 0, 0, 1]).permutation(5)
    assert [batch["image_ids"].tolist() for batch in found] == [[index] for index in order[:3]]
    assert len(first_pictures(section, 64, 7, 2, seed=11)) == 5
    for batch in found:
        picture = SyntheticDataset(5, 64, 11).read(int(batch["image_ids"][0])).image
        height, width = picture.shape[:2]
        grey = (picture - np.array([123.675, 116.28, 103.53])) / [58.395, 57.12, 57.375]
        np.testing.assert_allclose(batch["images"][0, :, :height, :width], grey.transpose(2, 0, 1), atol=1e-5)
        for row, column in np.argwhere(batch["mask_valid"] == 1):
            assert batch["point_labels"][row, column].tolist() == [2, 3]
            ys, xs = np.nonzero(batch["gt_masks"][row, column])
            (left, top), (right, bottom) = batch["point_coords"][row, column]
            assert abs(left - 4 * xs.min()) <= 4 and abs(bottom - 4 * (ys.max() + 1)) <= 4
            assert right > left and bottom > top


def test_first_pictures_come_once(tmp_path, caplog):
    """A broken picture is replaced by the next of the set, which is in the order by itself; equal files count once."""
    write_coco(tmp_path, 6, 64, 3)
    names = [tmp_path / "images" / f"{number:06d}.png" for number in range(1, 7)]
    names[1].write_bytes(b"broken")
    names[4].write_bytes(names[3].read_bytes())
    section = SimpleNamespace(format="coco", paths=[tmp_path / "instances.json"], image_roots=[], image_ids="",
                              synthetic_images=0, box_share=1.0, min_mask_pixels=1)
    found = first_pictures(section, 64, 8, 2, seed=11)
    pictures = [batch["images"] for batch in found]
    assert len(pictures) == 4 == len({picture.tobytes() for picture in pictures})
    assert {int(batch["image_ids"][0]) for batch in found} - {4, 5} == {1, 3, 6}
    assert caplog.records[-1].getMessage() == (
        "2 pictures to calibrate with repeat others, some in the place of unusable ones, and are left out; 4 are taken")
    caplog.clear()
    two = first_pictures(section, 64, 2, 2, seed=11)
    assert [batch["images"].tobytes() for batch in two] == [picture.tobytes() for picture in pictures[:2]]


def test_what_the_data_set_left_out_counts_as_well():
    dataset = Tiny()
    dataset.skipped.add("crowd annotations", count=3)
    with Batches(dataset, **PLAIN) as batches:
        assert str(batches.skipped) == "skipped 3: 3 crowd annotations" and dataset.skipped is not batches.skipped


def test_prompts_fit_their_masks():
    clicks, boxes = (collect(Batches(Tiny(), **PLAIN, box_share=share, box_jitter=0.0)) for share in (0.0, 1.0))
    for batch in clicks:
        for row, column in np.argwhere(batch["mask_valid"] == 1):
            assert batch["point_labels"][row, column].tolist() == [1, -1, -2, -2]
            x, y = batch["point_coords"][row, column, 0]
            assert x % 4 == 1.5 and y % 4 == 1.5  # the middle of a grid pixel, in pixel indices
            assert batch["gt_masks"][row, column, int(y // 4), int(x // 4)] == 1
    for batch in boxes:
        for row, column in np.argwhere(batch["mask_valid"] == 1):
            assert batch["point_labels"][row, column].tolist() == [2, 3, -2, -2]
            left = 4 * int(np.flatnonzero(batch["gt_masks"][row, column].any(axis=0))[0])
            assert batch["point_coords"][row, column, :2].tolist() == [[left, 4], [left + 8, 12]]
    for batch in clicks + boxes:
        for row, column in np.argwhere(batch["mask_valid"] == 0):
            assert batch["point_labels"][row, column].tolist() == [-1, -2, -2, -2]
            assert not batch["point_coords"][row, column].any() and not batch["gt_masks"][row, column].any()


def test_repeated_masks_fill_every_prompt_with_clicks_of_their_own():
    settings = {**PLAIN, "prompts_per_image": 7, "box_share": 0.0}
    plain, filled = (
        {int(i): row for batch in collect(Batches(Tiny(), **settings, repeat_masks=repeat)) for i, row in rows(batch)}
        for repeat in (False, True))
    for image_id, row in filled.items():
        masks = image_id - 99
        assert row["mask_valid"].all()
        for name, array in row.items():  # what there is without repetition stays as it is
            np.testing.assert_array_equal(array[:masks], plain[image_id][name][:masks])
        for place in range(masks, 7):
            np.testing.assert_array_equal(row["gt_masks"][place], row["gt_masks"][place - masks])
            x, y = row["point_coords"][place, 0]
            assert row["gt_masks"][place, int(y // 4), int(x // 4)] == 1
    assert len({tuple(click) for click in filled[100]["point_coords"][:, 0]}) > 1  # 4 pixels to click on, 7 clicks


def rows(batch):
    """(image id, its row of every array of prompts)."""
    names = ("gt_masks", "point_coords", "point_labels", "mask_valid")
    return [(image_id, {name: batch[name][row] for name in names}) for row, image_id in enumerate(batch["image_ids"])]


def test_share_of_boxes_and_noise_in_the_frame():
    settings = {**PLAIN, "image_size": 256, "batch_size": 1, "prompts_per_image": 1}
    with Batches(Tiny(1), **settings, box_share=0.25, box_jitter=0.1) as batches:
        drawn = [next(batches.epoch(epoch)) for epoch in range(120)]
    is_box = np.array([batch["point_labels"][0, 0, 0] == 2 for batch in drawn])
    assert 0.12 < is_box.mean() < 0.4
    # The square is 64 wide in the frame: standard deviation 6.4, every move at most 5 pixels (20 at 1024).
    corners = np.stack([batch["point_coords"][0, 0, :2].ravel() for batch, box in zip(drawn, is_box) if box])
    moves = corners - [0, 32, 64, 96]
    assert np.abs(moves).max() == 5 and moves.std() > 2


def test_epochs_differ_and_repeat():
    first, again, second = (collect(Batches(Tiny(), **PLAIN), epoch) for epoch in (0, 0, 1))
    for one, other in zip(first, again):
        same(one, other)
    assert any((one["point_coords"] != other["point_coords"]).any() for one, other in zip(first, second))
    assert sorted(np.concatenate([batch["image_ids"] for batch in second])) == [100, 101, 102, 103]


def test_order_is_shuffled_by_seed_and_by_epoch():
    def order(epoch, seed=11):
        batches = collect(Batches(Tiny(7), **{**PLAIN, "batch_size": 1, "seed": seed}), epoch)
        return [int(batch["image_ids"][0]) for batch in batches]

    orders = [order(0), order(1), order(2), order(0, seed=12)]
    for found in orders:
        assert sorted(found) == list(range(100, 107)) and found != sorted(found)
    assert len({tuple(found) for found in orders}) == 4
    assert order(1) == orders[1]


def test_resume_in_mid_epoch_sees_what_it_would_have_seen():
    settings = {**PLAIN, "batch_size": 1, "scale_jitter": (0.5, 2.0), "flip_probability": 0.5}
    whole = collect(Batches(Tiny(), **settings), 3)
    rest = collect(Batches(Tiny(), **settings), 3, start=2)
    assert len(rest) == 2
    for one, other in zip(whole[2:], rest):
        same(one, other)
    assert collect(Batches(Tiny(), **settings), 3, start=4) == []


def test_workers_change_nothing():
    dataset = SyntheticDataset(10, 48, 3)
    settings = {**PLAIN, "scale_jitter": (0.5, 2.0), "flip_probability": 0.5}
    alone, helped = collect(Batches(dataset, **settings)), collect(Batches(dataset, **settings, workers=2))
    assert len(alone) == len(helped) == 5
    for one, other in zip(alone, helped):
        same(one, other)


def test_ranks_share_without_overlap():
    settings = {**PLAIN, "batch_size": 1}
    ranks = [collect(Batches(Tiny(7), **settings, rank=rank, size=3), 4) for rank in range(3)]
    assert [len(batches) for batches in ranks] == [2, 2, 2]  # 7 pictures: one is left out, on no rank twice
    ids = [int(batch["image_ids"][0]) for batches in ranks for batch in batches]
    assert len(set(ids)) == 6
    # A sample is the same on whatever rank it falls: its randomness is the picture's.
    alone = {int(batch["image_ids"][0]): batch for batch in collect(Batches(Tiny(7), **settings), 4)}
    for batches in ranks:
        for batch in batches:
            same(batch, alone[int(batch["image_ids"][0])])


def test_flip_moves_everything():
    settings = {**PLAIN, "batch_size": 1, "prompts_per_image": 1, "box_share": 1.0, "box_jitter": 0.0}
    (batch,) = collect(Batches(Tiny(1), **{**settings, "flip_probability": 1.0}))
    assert np.flatnonzero(batch["gt_masks"][0, 0].any(axis=0)).tolist() == [6, 7]  # 0..8 of 32 becomes 24..32
    assert batch["point_coords"][0, 0, :2].tolist() == [[24, 4], [32, 12]]


@pytest.mark.parametrize("change, message", [
    ({"image_size": 30}, r"image_size \(30\) must be a positive multiple of 4"),
    ({"slots": 1}, r"slots \(1\) at least 2"),
    ({"prompts_per_image": 0}, r"prompts_per_image \(0\) and batch_size \(2\) must be at least 1"),
    ({"rank": 2, "size": 2}, r"rank \(2\) must lie in 0\.\.1"),
    ({"size": 3}, r"has 4 usable images, fewer than one batch of 6 \(batch_size 2 x 3 ranks\); lower data\.batch_size"),
])
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Batches(Tiny(), **{**PLAIN, **change})
