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
"""Gradient accumulation: several batches, one update, as if they were one batch.

Two graphs: one adds the gradients of a batch to buffers, the other takes their mean, updates and empties them. The
losses of the parts are already divided by the number of prompts of the whole (`Distiller`, prompt_count), so their mean
is the loss of the whole. Only BatchNorm sees the parts: its batch statistics are those of each part.
"""
from typing import Sequence, Tuple

import mindspore as ms
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from src.training.step import TrainStep

_put = ops.MultitypeFuncGraph("put")
_part_of = ops.MultitypeFuncGraph("part_of")
_keep = ops.MultitypeFuncGraph("keep")


@_put.register("Tensor", "Tensor", "Tensor")
def _put_one(first, total, value):
    """Start a sum, or add to it; `first` is a bool scalar."""
    return ops.assign(total, ops.where(first, value, total + value))


@_part_of.register("Number", "Tensor")
def _part_of_one(parts, total):
    return total / parts


@_keep.register("Tensor", "Tensor", "Tensor")
def _keep_one(first, kept, value):
    return ops.assign(kept, ops.where(first, value, kept))


class _Add(nn.Cell):
    """Gradient of one part, added to the sums."""

    def __init__(self, train_step: TrainStep, sums: ParameterTuple, losses: Parameter) -> None:
        super().__init__(auto_prefix=False)
        self.train_step = train_step
        self.statistics = train_step.statistics
        self.statistics_before = train_step.statistics_before
        self.sums = sums
        self.losses = losses
        self.map = ops.HyperMap()

    def construct(self, first: Tensor, *inputs: Tensor) -> Tensor:
        """first: bool scalar, the sums start anew; inputs: as the train step's -> the losses of this part."""
        if self.statistics:
            self.map(ops.partial(_keep, first), self.statistics_before, self.statistics)
        losses, gradients, _ = self.train_step.losses_and_gradients(inputs)
        losses = ops.stack(losses)
        self.map(ops.partial(_put, first), self.sums, gradients)
        ops.assign(self.losses, ops.where(first, losses, self.losses + losses))
        return losses


class _Finish(nn.Cell):
    """Update from the sums."""

    def __init__(self, train_step: TrainStep, sums: ParameterTuple, losses: Parameter, parts: int) -> None:
        super().__init__(auto_prefix=False)
        self.train_step = train_step
        self.loss_scale = train_step.loss_scale
        self.sums = sums
        self.losses = losses
        self.parts = parts
        self.map = ops.HyperMap()

    def construct(self) -> Tensor:
        """The result of the train step."""
        scale = ops.ones((), ms.float32) if self.loss_scale is None else self.loss_scale.scale * 1.0
        gradients = self.map(ops.partial(_part_of, self.parts), self.sums)
        return self.train_step.update(ops.unstack(self.losses / self.parts), gradients, scale)


class AccumulatedStep:
    """A train step over several parts of a batch.

    Args:
        train_step: its loss cell, optimizer and ranks are used; it is not to be called itself.
        parts: batches per update, 2 or more.
        num_losses: outputs of the loss cell.
    """

    def __init__(self, train_step: TrainStep, parts: int, num_losses: int) -> None:
        self.parts = parts
        sums = train_step.optimizer.parameters.clone("sum", "zeros")
        losses = Parameter(Tensor([0.0] * num_losses, ms.float32), name="sum_of_losses", requires_grad=False)
        self._add = _Add(train_step, sums, losses)
        self._finish = _Finish(train_step, sums, losses, parts)
        self._add.set_train(True)

    def __call__(self, inputs_of_parts: Sequence[Tuple[Tensor, ...]]) -> Tensor:
        """One update.

        Args:
            inputs_of_parts: inputs of the loss cell for each part.

        Returns:
            As the train step's; the losses are the parts' mean.

        Raises:
            ValueError: not as many parts as the step was made for.
        """
        if len(inputs_of_parts) != self.parts:
            raise ValueError(f"{len(inputs_of_parts)} parts of a batch were given to a step over {self.parts}")
        for part, inputs in enumerate(inputs_of_parts):
            self._add(Tensor(part == 0), *inputs)
        return self._finish()
