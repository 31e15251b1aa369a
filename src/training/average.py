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
"""Running average of the weights (EMA), an option of ours: often a better student than the last step's.

average += (1 - d) (weight - average) after every update, with d = min(decay, (1 + t) / (10 + t)) after t updates: at
the start the average follows closely, so that the fresh weights do not stay in it for thousands of steps.
"""
import contextlib
from typing import Iterator, Sequence

import mindspore as ms
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

_towards = ops.MultitypeFuncGraph("towards")


@_towards.register("Tensor", "Tensor", "Tensor")
def _towards_one(share, average, weight):
    return ops.assign(average, average + share * (weight - average))


class WeightAverage(nn.Cell):
    """Averages of parameters, which start as the parameters are.

    Args:
        parameters: weights, and the BatchNorm statistics that belong to them.
        decay: largest d, below 1.
    """

    def __init__(self, parameters: Sequence[Parameter], decay: float) -> None:
        super().__init__(auto_prefix=False)
        # Kept out of the cell's parameters: a checkpoint of the average holds the averages alone.
        self._averaged = (ParameterTuple(parameters),)
        self.averages = ParameterTuple(parameters).clone("average", "same")
        for average in self.averages:
            average.requires_grad = False
        self.decay = decay
        self.map = ops.HyperMap()

    def construct(self, updates: Tensor) -> Tensor:
        """Move the averages.

        Args:
            updates: int32 scalar, updates of the weights made so far, this one included.

        Returns:
            d of this call, float32 scalar.
        """
        updates = updates.astype(ms.float32)
        decay = ops.minimum((1.0 + updates) / (10.0 + updates), Tensor(self.decay, ms.float32))
        self.map(ops.partial(_towards, 1.0 - decay), self.averages, self._averaged[0])
        return decay

    @contextlib.contextmanager
    def in_place_of_weights(self) -> Iterator[None]:
        """Context in which the parameters hold their averages; afterwards they hold their own values again."""
        own = [parameter.asnumpy().copy() for parameter in self._averaged[0]]
        try:
            for parameter, average in zip(self._averaged[0], self.averages):
                parameter.set_data(Tensor(average.asnumpy().copy()))
            yield
        finally:
            for parameter, value in zip(self._averaged[0], own):
                parameter.set_data(Tensor(value))
