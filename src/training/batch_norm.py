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
"""What BatchNorm normalises with when a batch is spread over ranks (ours; the paper is silent).

`local`: each batch of each rank with its own mean and variance, the usual choice. `sync`: with those of the batch of
all ranks, so that two ranks of b images compute what one of 2 b does; written out, as the framework's SyncBatchNorm
does not run on a CPU. `frozen`: with the moving statistics, which stay as they are: exact however a batch is divided,
also under accumulation, and right for fine-tuning on few images.
"""
from typing import Optional

import mindspore as ms
from mindspore import Tensor, nn, ops

from src.training.ranks import RankMean


class SyncBatchNorm(nn.Cell):
    """BatchNorm over [B, C, H, W] with statistics of all ranks; takes over the parameters of a BatchNorm2d.

    Args:
        norm: the cell it replaces.
        rank_mean: over the ranks.
    """

    def __init__(self, norm: nn.BatchNorm2d, rank_mean: RankMean) -> None:
        super().__init__(auto_prefix=False)
        self.moving_mean = norm.moving_mean
        self.moving_variance = norm.moving_variance
        self.gamma = norm.gamma
        self.beta = norm.beta
        self.eps = norm.eps
        self.moving_share = norm.momentum  # of the new statistics: the cell keeps 1 - its argument
        self.rank_mean = rank_mean

    def construct(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same shape and type; computed in float32."""
        kind = x.dtype
        x = x.astype(ms.float32)
        if self.training:
            mean = self.rank_mean(ops.mean(x, (0, 2, 3)))
            centred = x - mean.reshape(1, -1, 1, 1)
            variance = self.rank_mean(ops.mean(ops.square(centred), (0, 2, 3)))
            count = x.shape[0] * x.shape[2] * x.shape[3] * self.rank_mean.size
            unbiased = ops.stop_gradient(variance) * (count / max(1, count - 1))
            self._move(self.moving_mean, ops.stop_gradient(mean))
            self._move(self.moving_variance, unbiased)
        else:
            mean, variance = self.moving_mean, self.moving_variance
            centred = x - mean.reshape(1, -1, 1, 1)
        scale = self.gamma * ops.rsqrt(variance + self.eps)
        return (centred * scale.reshape(1, -1, 1, 1) + self.beta.reshape(1, -1, 1, 1)).astype(kind)

    def _move(self, moving: Tensor, value: Tensor) -> None:
        ops.assign(moving, moving + self.moving_share * (value - moving))


def set_batch_norm(network: nn.Cell, how: str, rank_mean: Optional[RankMean] = None) -> int:
    """Choose what the BatchNorms of a network normalise with in training.

    Args:
        network: the student; names of its parameters stay. BatchNorms that are frozen already stay frozen.
        how: local | sync | frozen.
        rank_mean: over the ranks; None: this process is alone, and sync is local.

    Returns:
        Number of cells changed.
    """
    changed = 0
    for _, parent in list(network.cells_and_names()):
        for name, cell in list(parent.name_cells().items()):
            if not isinstance(cell, nn.BatchNorm2d) or cell.use_batch_statistics is False:
                continue
            if how == "frozen":
                cell.use_batch_statistics = False  # holds whatever set_train says
                changed += 1
            elif how == "sync" and rank_mean is not None:
                _replace(parent, name, SyncBatchNorm(cell, rank_mean))
                changed += 1
    return changed


def _replace(parent: nn.Cell, name: str, cell: nn.Cell) -> None:
    """Put a cell in the place of another; joining a parent would prefix its parameters' names again."""
    names = [(parameter, parameter.name) for parameter in cell.get_parameters()]
    if isinstance(parent, (nn.SequentialCell, nn.CellList)):  # these run a list of their own
        parent[list(parent.name_cells()).index(name)] = cell
    else:
        setattr(parent, name, cell)
    for parameter, old in names:
        parameter.name = old
