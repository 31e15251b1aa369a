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
"""One training step as one graph: losses, gradient over the student, finite check, clip, update, running average.

No value leaves the device inside a step. A step whose loss or gradient norm is not finite changes nothing: weights,
moments, the step counter, the running average, and the BatchNorm statistics too, which the forward pass has already
moved by then and which are put back. Only the loss scale, where there is one, halves.
"""
from typing import Optional, Tuple

import mindspore as ms
from mindspore import ParameterTuple, Tensor, nn, ops

from src.training.parameter_groups import batch_norm_statistics
from src.training.ranks import RankAverage

EXTRA_NAMES = ("learning_rate", "grad_norm", "loss_scale", "skipped_in_a_row")

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


class ScaledLosses(nn.Cell):
    """A loss cell behind its own first output times a scale: (scale, *inputs) -> (scaled, *outputs)."""

    def __init__(self, loss_cell: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.loss_cell = loss_cell

    def construct(self, scale: Tensor, *inputs: Tensor) -> Tuple[Tensor, ...]:
        losses = self.loss_cell(*inputs)
        return (losses[0] * scale,) + losses


class TrainStep(nn.Cell):
    """A loss cell and an optimizer -> one update per call.

    Args:
        loss_cell: cell whose outputs are scalars, the first of which is minimised (a `Distiller`).
        optimizer: an `Adam` over the parameters to train; its state says whether there is a loss scale or an average.
        clip_norm: largest global gradient norm; 0: no clipping.
        ranks: average over the ranks of a data parallel run, or None: this process is alone.
    """

    def __init__(self, loss_cell: nn.Cell, optimizer: nn.Cell, clip_norm: float,
                 ranks: Optional[RankAverage] = None) -> None:
        super().__init__(auto_prefix=False)
        self.loss_cell = loss_cell
        self.optimizer = optimizer
        self.clip_norm = clip_norm
        self.ranks = ranks
        self.loss_scale = optimizer.state.loss_scale
        self.average = optimizer.state.average
        self.statistics = ParameterTuple(batch_norm_statistics(loss_cell))
        self.statistics_before = self.statistics.clone("before", "zeros")
        differentiated = loss_cell if self.loss_scale is None else ScaledLosses(loss_cell)
        self.gradient = ms.value_and_grad(differentiated, None, optimizer.parameters, has_aux=True)
        self.map = ops.HyperMap()
        self.set_train(True)

    def construct(self, *inputs: Tensor) -> Tensor:
        """One step.

        Args:
            inputs: inputs of the loss cell. With ranks the last one is a number of this rank's, and the loss cell gets
                its mean over the ranks.

        Returns:
            [len(losses) + 4] float32: the losses in their order, then EXTRA_NAMES. The rate is 0 in a skipped step,
            the norm is the one before clipping, the scale is the one the step ran with. With ranks all of this is the
            mean over them, and one more value is above 0 where any of them wants to stop.
        """
        if self.statistics:
            self.map(_assign, self.statistics_before, self.statistics)
        losses, gradients, scale = self.losses_and_gradients(inputs)
        return self.update(losses, gradients, scale)

    def update(self, losses: Tuple[Tensor, ...], gradients: Tuple[Tensor, ...], scale: Tensor) -> Tensor:
        """What follows the gradient -> the result of `construct`.

        Args:
            losses: scalars of this process.
            gradients: of this process, times `scale`, one per parameter of the optimizer.
            scale: float32 scalar, the loss scale they were made with.
        """
        stop = ()
        if self.ranks is not None:
            gradients = self.ranks.of_gradients(gradients)
            averaged = self.ranks(ops.stack(losses + (self.ranks.stop_wanted * 1.0,)))
            losses, stop = ops.unstack(averaged[:-1]), (averaged[-1],)
            if self.ranks.average_statistics and self.statistics:
                self.map(_assign, self.statistics, self.ranks.of_statistics(self.statistics))
        norm = ops.sqrt(ops.sum(ops.stack(self.map(_square_sum, gradients)))) / scale
        finite = ops.logical_and(ops.isfinite(norm), ops.isfinite(losses[0]))
        rate = ops.zeros((), ms.float32)
        if finite:
            rate = self.optimizer(self._unscale_and_clip(gradients, norm, scale))
            if self.average is not None:
                self.average(self.optimizer.state.step)
            skipped = ops.assign(self.optimizer.state.skipped_in_a_row, Tensor(0, ms.int32))
        else:
            if self.statistics:
                self.map(_assign, self.statistics, self.statistics_before)
            skipped = ops.assign_add(self.optimizer.state.skipped_in_a_row, Tensor(1, ms.int32))
        if self.loss_scale is not None:
            self.loss_scale(finite)
        return ops.stack(losses + (rate, norm, scale, skipped.astype(ms.float32)) + stop)

    def losses_and_gradients(self, inputs: Tuple[Tensor, ...]) -> Tuple:
        """(losses, gradients times the scale, scale) of this process; without a loss scale the scale is 1."""
        if self.ranks is not None:
            inputs = inputs[:-1] + (self.ranks(inputs[-1]),)
        if self.loss_scale is None:
            losses, gradients = self.gradient(*inputs)
            return losses, gradients, ops.ones((), ms.float32)
        scale = self.loss_scale.scale * 1.0  # a value of its own: the parameter changes before the step ends
        losses, gradients = self.gradient(scale, *inputs)
        return losses[1:], gradients, scale

    def _unscale_and_clip(self, gradients: Tuple[Tensor, ...], norm: Tensor, scale: Tensor) -> Tuple[Tensor, ...]:
        """Gradients of the loss itself, of a global norm of at most `clip_norm`."""
        factor = ops.ones_like(norm)
        if self.clip_norm > 0:
            factor = ops.minimum(self.clip_norm / (norm + 1e-12), factor)
        elif self.loss_scale is None:
            return gradients
        return self.map(ops.partial(_scale, factor / scale), gradients)
