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
"""Dynamic loss scale for float16 (mixed precision training, arXiv 1710.03740, section 3.2).

Small gradients vanish in float16, so the loss is multiplied by a power of two before the backward pass and the
gradients are divided by it after. A gradient that is not finite says the scale is too large.
"""
import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

INITIAL_SCALE = 2.0**16
LARGEST_SCALE = 2.0**24
GROWTH_INTERVAL = 2000  # finite steps in a row before the scale doubles


class LossScale(nn.Cell):
    """The scale and the finite steps since it last changed; both are parameters, so that checkpoints hold them.

    Args:
        growth_interval: finite steps in a row that double the scale.
    """

    def __init__(self, growth_interval: int = GROWTH_INTERVAL) -> None:
        super().__init__(auto_prefix=False)
        self.growth_interval = growth_interval
        self.scale = Parameter(Tensor(INITIAL_SCALE, ms.float32), name="loss_scale", requires_grad=False)
        self.finite_steps = Parameter(Tensor(0, ms.int32), name="finite_steps", requires_grad=False)

    def construct(self, finite: Tensor) -> Tensor:
        """Count a step: halve the scale (not below 1) when it was not finite, double it when enough in a row were.

        Args:
            finite: bool scalar.

        Returns:
            The scale of the next step, float32 scalar.
        """
        steps = ops.where(finite, self.finite_steps + 1, 0).astype(ms.int32)
        grows = steps >= self.growth_interval
        larger = ops.where(grows, ops.minimum(self.scale * 2.0, Tensor(LARGEST_SCALE, ms.float32)), self.scale)
        smaller = ops.maximum(self.scale * 0.5, Tensor(1.0, ms.float32))
        scale = ops.where(finite, larger, smaller)
        steps = ops.where(grows, 0, steps).astype(ms.int32)
        return ops.depend(ops.assign(self.scale, scale), ops.assign(self.finite_steps, steps))
