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
"""Ranks of a data parallel run: averages inside the step's graph, agreement before the first step, leaving together.

Everything goes through AllReduce inside a graph: a CPU has neither Barrier nor collectives outside of one.
"""
import zlib
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Tuple

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

FUSED_GRADIENTS, FUSED_STATISTICS = 1, 2  # groups whose AllReduces a device may put together

_average = ops.MultitypeFuncGraph("average")


@_average.register("Function", "Number", "Tensor")
def _average_one(all_reduce, size, value):
    return all_reduce(value) / size


def _all_reduce(group: int = 0) -> ops.Primitive:
    all_reduce = ops.AllReduce()
    if group:
        all_reduce.add_prim_attr("fusion", group)
    return all_reduce


class RankMean(nn.Cell):
    """Mean of a tensor over the ranks. It has no parameter, so it may live inside a network.

    Args:
        size: number of ranks.
    """

    def __init__(self, size: int) -> None:
        super().__init__(auto_prefix=False)
        self.size = size
        self.all_reduce = _all_reduce()

    def construct(self, value: Tensor) -> Tensor:
        """Any shape -> the same on every rank."""
        return self.all_reduce(value) / self.size


class RankAverage(nn.Cell):
    """Means over the ranks; every rank calls it at the same place and gets the same numbers.

    Args:
        size: number of ranks.
        average_statistics: BatchNorm's moving statistics differ between the ranks and are averaged in every step.
    """

    def __init__(self, size: int, average_statistics: bool = False) -> None:
        super().__init__(auto_prefix=False)
        self.size = size
        self.average_statistics = average_statistics
        self.stop_wanted = Parameter(Tensor(0.0, ms.float32), name="stop_wanted", requires_grad=False)
        self.mean = RankMean(size)
        self.all_reduce_gradients = _all_reduce(FUSED_GRADIENTS)
        self.all_reduce_statistics = _all_reduce(FUSED_STATISTICS)
        self.map = ops.HyperMap()

    def construct(self, value: Tensor) -> Tensor:
        """Mean of a tensor over the ranks."""
        return self.mean(value)

    def of_gradients(self, gradients: Tuple[Tensor, ...]) -> Tuple[Tensor, ...]:
        """Mean of each gradient."""
        return self.map(ops.partial(_average, self.all_reduce_gradients, self.size), gradients)

    def of_statistics(self, statistics: Tuple[Tensor, ...]) -> Tuple[Tensor, ...]:
        """Mean of each moving statistic."""
        return self.map(ops.partial(_average, self.all_reduce_statistics, self.size), statistics)

    def ask_to_stop(self) -> None:
        """From the next step on, tell all ranks that this one wants to stop."""
        self.stop_wanted.set_data(Tensor(1.0, ms.float32))


class _Sum(nn.Cell):
    """Sum of a tensor over the ranks."""

    def __init__(self) -> None:
        super().__init__()
        self.all_reduce = _all_reduce()

    def construct(self, value: Tensor) -> Tensor:
        return self.all_reduce(value)


class RankMeeting:
    """The ranks outside of training steps.

    Args:
        rank, size: this rank and how many there are; with one everything here returns at once.
    """

    def __init__(self, rank: int, size: int) -> None:
        self.rank = rank
        self.size = size
        self._sum = _Sum() if size > 1 else None

    def check_same_start(self, step: int, cells: Mapping[str, nn.Cell]) -> None:
        """Make sure that all ranks start with the same weights and state at the same step.

        Args:
            step: steps made before this process.
            cells: name -> cell whose parameters must be the same on all ranks.

        Raises:
            ValueError: on every rank, where one of them differs from rank 0.
        """
        if self._sum is None:
            return
        checksum = _checksum(cells)
        # Halves of the checksum and of the step: whole numbers that float32 holds exactly.
        mine = [step >> 16, step & 0xFFFF, checksum >> 16, checksum & 0xFFFF]
        table = np.zeros((self.size, 4), np.float32)
        table[self.rank] = mine
        rows = self._sum(Tensor(table)).asnumpy().astype(np.int64)
        steps = rows[:, 0] * 65536 + rows[:, 1]
        behind = np.flatnonzero(steps != steps[0])
        if behind.size:
            raise ValueError(f"rank {behind[0]} starts at step {steps[behind[0]]}, rank 0 at step {steps[0]}: every "
                             "node must see the checkpoints of train.output_dir; put it on a shared file system")
        different = np.flatnonzero((rows[:, 2:] != rows[0, 2:]).any(1))
        if different.size:
            raise ValueError(f"rank {different[0]} starts with other weights than rank 0: give every node the same "
                             "checkpoints, configuration and version of the code")

    def wait(self) -> None:
        """Return when every rank has come here."""
        if self._sum is not None:
            self._sum(Tensor(np.zeros((self.size, 4), np.float32))).asnumpy()


def _checksum(cells: Mapping[str, nn.Cell]) -> int:
    """CRC-32 over the bytes of all parameters."""
    value = 0
    for cell in cells.values():
        for parameter in cell.get_parameters():
            value = zlib.crc32(np.ascontiguousarray(parameter.asnumpy()).tobytes(), value)
    return value


class Share:
    """Which part of a step's global batch this process sees.

    The global batch of a step is `parts * size` batches in a row, those of part 0 of all ranks first: the pictures
    that one process with the whole batch would take.

    Args:
        rank, size: this rank and how many there are.
        parts: batches that each rank adds up before an update (train.accumulate_steps).
    """

    def __init__(self, rank: int = 0, size: int = 1, parts: int = 1) -> None:
        self.rank = rank
        self.size = size
        self.parts = parts

    @property
    def batches(self) -> int:
        """Batches that make up the global batch."""
        return self.size * self.parts

    def rows(self, part: int, batch: int) -> slice:
        """Rows of the global batch that part `part` of this rank holds, at `batch` images a part."""
        start = (part * self.size + self.rank) * batch
        return slice(start, start + batch)

    def groups(self, batches: Iterable[Dict[str, Any]]) -> Iterator[List[Dict[str, Any]]]:
        """Iterate over lists of `parts` batches; a last list that would be short is left out."""
        group: List[Dict[str, Any]] = []
        for batch in batches:
            group.append(batch)
            if len(group) == self.parts:
                yield group
                group = []
