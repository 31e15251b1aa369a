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
"""Shares of a global batch, and ranks that start apart. The collectives themselves: test_data_parallel.py."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn

from src.data.loader import Batches
from src.data.synthetic import SyntheticDataset
from src.training.ranks import RankMeeting, Share


def batches(rank, size, batch_size):
    return Batches(SyntheticDataset(26, 64, 1), 64, 1, 2, batch_size, rank=rank, size=size)


@pytest.mark.parametrize("size, parts, batch", [(2, 1, 3), (1, 2, 3), (2, 2, 2), (3, 2, 1)])
def test_shares_put_together_are_the_batches_of_one_process(size, parts, batch):
    """Pictures of one process with the whole batch, against rows written where `rows` says, for every step."""
    whole_size = size * parts * batch
    alone = [one["image_ids"] for one in batches(0, 1, whole_size).epoch(3)]
    steps = [np.full(whole_size, -1, np.int64) for _ in alone]
    for rank in range(size):
        share = Share(rank, size, parts)
        assert share.batches == size * parts
        groups = list(share.groups(batches(rank, size, batch).epoch(3)))
        assert len(groups) == len(alone)
        for step, group in zip(steps, groups):
            assert len(group) == parts
            for part, one in enumerate(group):
                step[share.rows(part, batch)] = one["image_ids"]
    np.testing.assert_array_equal(steps, alone)


def test_a_short_last_group_is_left_out():
    assert list(Share(0, 1, 2).groups(iter([{"a": 1}, {"a": 2}, {"a": 3}]))) == [[{"a": 1}, {"a": 2}]]


class Cell(nn.Cell):
    def __init__(self, value):
        super().__init__()
        self.w = Parameter(Tensor(np.float32([value, 2])), name="w")


class OtherRanks(nn.Cell):
    """In place of the sum over ranks: the others' rows are there already."""

    def __init__(self, table):
        super().__init__()
        self.table = table

    def construct(self, value):
        return value + Tensor(self.table)


def meeting(monkeypatch, others, rank=0):
    found = RankMeeting(rank, 1 + len(others))
    table = np.zeros((1 + len(others), 4), np.float32)
    table[[i for i in range(1 + len(others)) if i != rank]] = others
    monkeypatch.setattr(found, "_sum", lambda value: OtherRanks(table)(value))
    return found


def row_of(step, value):
    """What a rank with these weights says, seen through a meeting of its own."""
    said = []
    found = RankMeeting(0, 2)
    found._sum = lambda table: said.append(table.asnumpy()) or Tensor(np.repeat(table.asnumpy()[:1], 2, 0))
    found.check_same_start(step, {"student": Cell(value)})
    return said[0][0]


def test_equal_starts_pass(monkeypatch):
    step = 70000  # above 2^16: both halves are used
    meeting(monkeypatch, [row_of(step, 1.0)]).check_same_start(step, {"student": Cell(1.0)})


def test_a_rank_at_another_step_is_refused_on_every_rank(monkeypatch):
    message = ("^rank 1 starts at step 0, rank 0 at step 70000: every node must see the checkpoints of "
               "train.output_dir; put it on a shared file system$")
    with pytest.raises(ValueError, match=message):
        meeting(monkeypatch, [row_of(0, 1.0)]).check_same_start(70000, {"student": Cell(1.0)})
    with pytest.raises(ValueError, match=message):
        meeting(monkeypatch, [row_of(70000, 1.0)], rank=1).check_same_start(0, {"student": Cell(1.0)})


def test_a_rank_with_other_weights_is_refused(monkeypatch):
    nearest = np.nextafter(np.float32(1), np.float32(2))
    with pytest.raises(ValueError, match="^rank 1 starts with other weights than rank 0: give every node the same "
                                         "checkpoints, configuration and version of the code$"):
        meeting(monkeypatch, [row_of(5, nearest)]).check_same_start(5, {"student": Cell(1.0)})


def test_one_rank_meets_nobody():
    ms.set_context(mode=ms.GRAPH_MODE)
    alone = RankMeeting(0, 1)
    alone.check_same_start(3, {"student": Cell(1.0)})
    alone.wait()
