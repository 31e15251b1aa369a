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
"""Adam and AdamW with warm-up and cosine (the paper trains with Adam, arXiv 2312.13789, section 4.1; the schedule is
ours).

The step counter, the loss scale and the running average live beside the moments, so that saving `optimizer.state` and
the network is enough to go on exactly. Which weights decay, and layer-wise rates: `parameter_groups.py`. Both bias
corrections are in Adam's step size and its eps stands beside the uncorrected root, as in MindSpore's fused kernel:
against the textbook form eps is larger by 1/sqrt(1 - beta2^t).
"""
import dataclasses
import math
from typing import Any, Optional, Sequence, Tuple

import mindspore as ms
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from src.training.average import WeightAverage
from src.training.loss_scale import LossScale
from src.training.parameter_groups import batch_norm_statistics, decays, rate_multipliers

BETA1 = 0.9
BETA2 = 0.999
EPS = 1e-8

# The parameters are walked by HyperMap: a Python loop over some hundred of them takes minutes to compile, or passes the
# compiler's call depth.
_update = ops.MultitypeFuncGraph("adam_update")


@_update.register("Function", "Bool", "Tensor", "Tensor", "Tensor", "Number", "Number", "Tensor", "Tensor", "Tensor",
                  "Tensor")
def _update_one(adam, decoupled, beta1_power, beta2_power, rate, multiplier, decay, parameter, moment1, moment2,
                gradient):
    """Adam step of one parameter, in place."""
    if multiplier != 1:
        rate = rate * multiplier
    if decay > 0 and decoupled:
        parameter = ops.depend(parameter, ops.assign(parameter, parameter * (1.0 - rate * decay)))
    elif decay > 0:
        gradient = gradient + decay * parameter
    return adam(parameter, moment1, moment2, beta1_power, beta2_power, rate, BETA1, BETA2, EPS, gradient)


class WarmupCosine(nn.Cell):
    """Learning rate of an update: linear from 0 to `peak` over the warm-up, then half a cosine down to `final`.

    Args:
        peak: largest rate.
        final: rate of the last update.
        warmup_steps: updates of the linear part; update number `warmup_steps` (counted from 1) has the peak rate.
        total_steps: updates of the whole run.

    Raises:
        ValueError: the final rate is above the peak.
    """

    def __init__(self, peak: float, final: float, warmup_steps: int, total_steps: int) -> None:
        super().__init__()
        if final > peak:
            raise ValueError(f"optim.final_learning_rate ({final}) is above optim.learning_rate ({peak}); "
                             "the rate only falls after the warm-up")
        self.peak = peak
        self.final = final
        # A short run that would end inside its warm-up warms up over its first tenth instead.
        self.warmup_steps = warmup_steps if warmup_steps < total_steps else total_steps // 10
        self.cosine_steps = max(1, total_steps - self.warmup_steps)

    def construct(self, step: Tensor) -> Tensor:
        """step: int32 scalar, updates made before this one -> float32 scalar."""
        update = (step + 1).astype(ms.float32)
        progress = ops.clamp((update - self.warmup_steps) / self.cosine_steps, 0.0, 1.0)
        rate = self.final + 0.5 * (self.peak - self.final) * (1.0 + ops.cos(math.pi * progress))
        if self.warmup_steps > 0:
            rate = rate * ops.clamp(update / self.warmup_steps, 0.0, 1.0)
        return rate


class OptimizerState(nn.Cell):
    """What a resumed run needs beside the weights: step, both moments, the count of steps skipped as not finite; where
    they are used, the loss scale and the running average of the weights."""

    def __init__(self, parameters: ParameterTuple, loss_scale: Optional[LossScale],
                 average: Optional[WeightAverage]) -> None:
        super().__init__(auto_prefix=False)
        self.step = Parameter(Tensor(0, ms.int32), name="step", requires_grad=False)
        self.skipped_in_a_row = Parameter(Tensor(0, ms.int32), name="skipped_in_a_row", requires_grad=False)
        self.moment1 = parameters.clone("moment1", "zeros")
        self.moment2 = parameters.clone("moment2", "zeros")
        self.loss_scale = loss_scale
        self.average = average


class Adam(nn.Cell):
    """Adam; decay is part of the gradient (`decoupled` False) or taken off the weight (AdamW, `decoupled` True).

    Args:
        parameters: the parameters to train.
        schedule: cell, int32 step -> rate.
        weight_decay: on the parameters that `parameter_groups.decays` names.
        decoupled: AdamW.
        multipliers: factor on the rate of each parameter; None: 1.
        loss_scale, average: kept in `state`; the training step uses them.
    """

    def __init__(self, parameters: Sequence[Parameter], schedule: nn.Cell, weight_decay: float, decoupled: bool,
                 multipliers: Optional[Sequence[float]] = None, loss_scale: Optional[LossScale] = None,
                 average: Optional[WeightAverage] = None) -> None:
        super().__init__(auto_prefix=False)
        self.parameters = ParameterTuple(parameters)
        self.state = OptimizerState(self.parameters, loss_scale, average)
        self.schedule = schedule
        self.decays: Tuple[float, ...] = tuple(weight_decay if decays(p) else 0.0 for p in parameters)
        self.multipliers: Tuple[float, ...] = tuple(multipliers or [1.0] * len(parameters))
        self.decoupled = decoupled
        self.adam = ops.Adam()
        self.map = ops.HyperMap()

    def construct(self, gradients: Tuple[Tensor, ...]) -> Tensor:
        """Update the parameters and count the step.

        Args:
            gradients: one per parameter, in order.

        Returns:
            The rate that was used where the multiplier is 1, float32 scalar.
        """
        rate = self.schedule(self.state.step)
        update = (self.state.step + 1).astype(ms.float32)
        beta1_power = ops.pow(BETA1, update)
        beta2_power = ops.pow(BETA2, update)
        update_one = ops.partial(_update, self.adam, self.decoupled, beta1_power, beta2_power, rate)
        self.map(update_one, self.multipliers, self.decays, self.parameters, self.state.moment1, self.state.moment2,
                 gradients)
        ops.assign_add(self.state.step, Tensor(1, ms.int32))
        return rate


def scale_rates(settings: Any, global_batch: int) -> Any:
    """The `optim:` section with its rates scaled in proportion to the images of a step.

    Args:
        settings: dataclass with `learning_rate`, `final_learning_rate` and `reference_batch`; reference_batch 0 leaves
            the rates alone.
        global_batch: images of a step over all ranks and accumulated parts.
    """
    if not settings.reference_batch:
        return settings
    factor = global_batch / settings.reference_batch
    return dataclasses.replace(settings, learning_rate=settings.learning_rate * factor,
                               final_learning_rate=settings.final_learning_rate * factor)


def build_optimizer(network: nn.Cell, settings: Any, total_steps: int, scale_loss: bool = False) -> Adam:
    """Optimizer over the trainable parameters of a network.

    Args:
        network: the student, or the `Distiller` around it, whose adapter learns too.
        settings: the `optim:` section.
        total_steps: updates of the whole run; the cosine ends there.
        scale_loss: with a dynamic loss scale, for networks in mixed float16.

    Raises:
        ValueError: rates that contradict each other, or nothing to train.
    """
    parameters = network.trainable_params()
    if not parameters:
        raise ValueError("the student has no trainable parameter; there is nothing to train")
    schedule = WarmupCosine(settings.learning_rate, settings.final_learning_rate, settings.warmup_steps, total_steps)
    multipliers = rate_multipliers(network, parameters, settings.layer_decay)
    average = None
    if settings.ema_decay > 0:
        average = WeightAverage(parameters + batch_norm_statistics(network), settings.ema_decay)
    return Adam(parameters, schedule, settings.weight_decay, settings.name == "adamw", multipliers,
                LossScale() if scale_loss else None, average)
