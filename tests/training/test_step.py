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
"""One step on a cell small enough to follow: clipping, the norm, and steps that are not finite."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops

from src.training.optimizer import Adam
from src.training.step import EXTRA_NAMES, TrainStep


class Fixed(nn.Cell):
    """A schedule that always says 0.1."""

    def construct(self, step):
        return Tensor(0.1, ms.float32) + 0.0 * step


class Linear(nn.Cell):
    """Loss w . x, whose gradient is x; the second output is not minimised."""

    def __init__(self):
        super().__init__()
        self.w = Parameter(Tensor([1.0, 2.0], ms.float32), name="w")

    def construct(self, x):
        return ops.sum(self.w * x), ops.sum(x)


class Normalised(nn.Cell):
    """A layer with BatchNorm."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Dense(2, 3)
        self.norm = nn.BatchNorm1d(3)

    def construct(self, x):
        loss = ops.mean(ops.square(self.norm(self.dense(x)) - 1.0))
        return loss, 2.0 * loss


class Recorder(nn.Cell):
    """Stands in for the optimizer and keeps the gradients that arrive."""

    def __init__(self, parameters, state):
        super().__init__(auto_prefix=False)
        self.parameters = parameters
        self.state = state
        self.seen = Parameter(Tensor(np.zeros(2, np.float32)), name="seen", requires_grad=False)

    def construct(self, gradients):
        ops.assign(self.seen, gradients[0])
        return Tensor(0.1, ms.float32)


@pytest.mark.parametrize("clip_norm, want", [(1.0, [0.6, 0.8]), (0.0, [3.0, 4.0]), (10.0, [3.0, 4.0])])
def test_gradients_are_clipped_by_their_global_norm(mode, clip_norm, want):
    # The gradient (3, 4) has norm 5; the loss is 1 * 3 + 2 * 4 = 11.
    cell = Linear()
    optimizer = Adam(cell.trainable_params(), Fixed(), 0.0, False)
    recorder = Recorder(optimizer.parameters, optimizer.state)
    values = TrainStep(cell, recorder, clip_norm)(Tensor([3.0, 4.0], ms.float32)).asnumpy()
    np.testing.assert_allclose(recorder.seen.asnumpy(), want, rtol=1e-6)
    named = dict(zip(("loss", "sum") + EXTRA_NAMES, values))
    assert (named["loss"], named["sum"], named["grad_norm"]) == (11.0, 7.0, 5.0)
    assert named["learning_rate"] == pytest.approx(0.1)
    assert named["skipped_in_a_row"] == 0


def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(mode):
    ms.set_seed(0)
    cell = Normalised()
    optimizer = Adam(cell.trainable_params(), Fixed(), 0.1, True)
    step = TrainStep(cell, optimizer, 1.0)
    good = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    bad = good.copy()
    bad[0, 0] = np.nan
    assert step(Tensor(good)).asnumpy()[-1] == 0
    counted = optimizer.state.skipped_in_a_row
    before = {p.name: p.asnumpy().copy() for p in [*cell.get_parameters(), *optimizer.state.get_parameters()]
              if p.name != counted.name}
    assert before["norm.moving_mean"].any() and before["moment1.dense.weight"].any()
    skipped = [step(Tensor(bad)).asnumpy()[-1] for _ in range(3)]
    assert skipped == [1, 2, 3]
    for parameter in [*cell.get_parameters(), *optimizer.state.get_parameters()]:
        if parameter.name != counted.name:
            np.testing.assert_array_equal(parameter.asnumpy(), before[parameter.name], parameter.name)
    values = step(Tensor(good)).asnumpy()
    assert np.isfinite(values).all() and values[-1] == 0
    assert int(optimizer.state.step.asnumpy()) == 2
    assert (cell.dense.weight.asnumpy() != before["dense.weight"]).any()
    assert (cell.norm.moving_mean.asnumpy() != before["norm.moving_mean"]).any()


def test_the_rate_of_a_skipped_step_is_0(mode):
    cell = Linear()
    step = TrainStep(cell, Adam(cell.trainable_params(), Fixed(), 0.0, False), 1.0)
    values = dict(zip(("loss", "sum") + EXTRA_NAMES, step(Tensor([np.inf, 1.0], ms.float32)).asnumpy()))
    assert values["learning_rate"] == 0
    assert not np.isfinite(values["grad_norm"])
    np.testing.assert_array_equal(cell.w.asnumpy(), [1.0, 2.0])
