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
"""One training step as one graph: losses, gradient over the student, finite check, clip, update.

No value leaves the device inside a step. A step whose loss or gradient norm is not finite changes nothing: weights,
moments, the step counter, and the BatchNorm statistics too, which the forward pass has already moved by then and which
are put back.
"""
from typing import Tuple

import mindspore as ms
from mindspore import ParameterTuple, Tensor, nn, ops

EXTRA_NAMES = ("learning_rate", "grad_norm", "skipped_in_a_row")

_assign = ops.MultitypeFuncGraph("assign")
_square_sum = ops.MultitypeFuncGraph("square_sum")
_scale = ops.MultitypeFuncGraph("scale")


@_assign.register("Tensor", "Tensor")
def _assign_one(target, source):
    return ops.assign(target, source)


@_square_sum.register("Tensor")
def _square_sum_one(gradient):
    return ops.sum(ops.square(gradient))


@_scale.register("Tensor", "Tensor")
def _scale_one(factor, gradient):
    return gradient * factor


class TrainStep(nn.Cell):
    """A loss cell and an optimizer -> one update per call.

    Args:
        loss_cell: cell whose outputs are scalars, the first of which is minimised (a `Distiller`).
        optimizer: an `Adam` over the parameters to train.
        clip_norm: largest global gradient norm; 0: no clipping.
    """

    def __init__(self, loss_cell: nn.Cell, optimizer: nn.Cell, clip_norm: float) -> None:
        super().__init__(auto_prefix=False)
        self.loss_cell = loss_cell
        self.optimizer = optimizer
        self.clip_norm = clip_norm
        statistics = [p for p in loss_cell.get_parameters() if p.name.endswith(("moving_mean", "moving_variance"))
                      and not p.name.startswith("teacher.")]
        self.statistics = ParameterTuple(statistics)
        self.statistics_before = self.statistics.clone("before", "zeros")
        self.gradient = ms.value_and_grad(loss_cell, None, optimizer.parameters, has_aux=True)
        self.map = ops.HyperMap()
        self.set_train(True)

    def construct(self, *inputs: Tensor) -> Tensor:
        """One step.

        Args:
            inputs: inputs of the loss cell.

        Returns:
            [len(losses) + 3] float32: the losses in their order, then EXTRA_NAMES. The rate is 0 in a skipped step,
            the norm is the one before clipping.
        """
        if self.statistics:
            self.map(_assign, self.statistics_before, self.statistics)
        losses, gradients = self.gradient(*inputs)
        norm = ops.sqrt(ops.sum(ops.stack(self.map(_square_sum, gradients))))
        rate = ops.zeros((), ms.float32)
        if ops.logical_and(ops.isfinite(norm), ops.isfinite(losses[0])):
            rate = self.optimizer(self._clip(gradients, norm))
            skipped = ops.assign(self.optimizer.state.skipped_in_a_row, Tensor(0, ms.int32))
        else:
            if self.statistics:
                self.map(_assign, self.statistics, self.statistics_before)
            skipped = ops.assign_add(self.optimizer.state.skipped_in_a_row, Tensor(1, ms.int32))
        return ops.stack(losses + (rate, norm, skipped.astype(ms.float32)))

    def _clip(self, gradients: Tuple[Tensor, ...], norm: Tensor) -> Tuple[Tensor, ...]:
        if self.clip_norm <= 0:
            return gradients
        factor = ops.minimum(self.clip_norm / (norm + 1e-12), ops.ones_like(norm))
        return self.map(ops.partial(_scale, factor), gradients)
