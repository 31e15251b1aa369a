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
"""Loss scale, running average and training step by values, on a network of two weights."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops

from src.training.average import WeightAverage
from src.training.loss_scale import LARGEST_SCALE, LossScale
from src.training.optimizer import Adam, WarmupCosine
from src.training.step import EXTRA_NAMES, TrainStep

RATE = 0.1


class Line(nn.Cell):
    """Loss (w x - y)^2 of scalars, through float16 where asked; with a moving mean that every pass moves."""

    def __init__(self, half=False):
        super().__init__()
        self.w = Parameter(Tensor([2.0], ms.float32), name="w")
        self.moving_mean = Parameter(Tensor([0.0], ms.float32), name="moving_mean", requires_grad=False)
        self.dtype = ms.float16 if half else ms.float32

    def construct(self, x, y):
        ops.assign(self.moving_mean, self.moving_mean + 1.0)
        product = (self.w.astype(self.dtype) * x.astype(self.dtype)).astype(ms.float32)
        loss = ops.sum(ops.square(product - y))
        return loss, loss * 0.5


def make_step(half=False, scale=None, ema=0.0, clip_norm=0.0):
    cell = Line(half)
    average = WeightAverage([cell.w, cell.moving_mean], ema) if ema else None
    adam = Adam([cell.w], WarmupCosine(RATE, RATE, 0, 100), 0.0, False, None, scale, average)
    return cell, TrainStep(cell, adam, clip_norm)


def run(step, x, y):
    values = step(Tensor([x], ms.float32), Tensor([y], ms.float32)).asnumpy()
    return dict(zip(("loss", "half") + EXTRA_NAMES, values.tolist()))


def test_loss_scale_doubles_halves_and_starts_over(mode):
    scale = LossScale(growth_interval=3)
    seen = []
    for finite in (True, True, True, True, False, True, True, True, False, False):
        scale(Tensor(finite))
        seen.append((float(scale.scale.asnumpy()) / 65536, int(scale.finite_steps.asnumpy())))
    assert seen == [(1, 1), (1, 2), (2, 0), (2, 1), (1, 0), (1, 1), (1, 2), (2, 0), (1, 0), (0.5, 0)]


def test_loss_scale_stays_between_one_and_the_largest():
    scale = LossScale(growth_interval=1)
    scale.scale.set_data(Tensor(LARGEST_SCALE, ms.float32))
    scale(Tensor(True))
    assert float(scale.scale.asnumpy()) == LARGEST_SCALE
    scale.scale.set_data(Tensor(1.0, ms.float32))
    scale(Tensor(False))
    assert float(scale.scale.asnumpy()) == 1.0


def test_average_follows_numpy_and_gives_way(mode):
    weights = [Parameter(Tensor(np.full((2, 2), 4.0, np.float32)), name="w"),
               Parameter(Tensor(np.zeros(3, np.float32)), name="moving_mean", requires_grad=False)]
    average = WeightAverage(weights, 0.4)
    expected = [np.full((2, 2), 4.0), np.zeros(3)]
    # d = min(0.4, (1 + t) / (10 + t)): 2/11, 3/12, 4/13, 5/14, then 6/15 = 0.4 and the largest from there on.
    for t, d in enumerate((2 / 11, 0.25, 4 / 13, 5 / 14, 0.4, 0.4), 1):
        for i, weight in enumerate(weights):
            weight.set_data(Tensor(np.full(weight.shape, 10.0 * t + i, np.float32)))
            expected[i] = d * expected[i] + (1 - d) * (10.0 * t + i)
        assert float(average(Tensor(t, ms.int32)).asnumpy()) == pytest.approx(d, rel=1e-6)
    for found, wanted in zip(average.averages, expected):
        np.testing.assert_allclose(found.asnumpy(), wanted, rtol=1e-6)
    with pytest.raises(KeyError), average.in_place_of_weights():
        np.testing.assert_allclose(weights[0].asnumpy(), expected[0], rtol=1e-6)
        np.testing.assert_allclose(weights[1].asnumpy(), expected[1], rtol=1e-6)
        raise KeyError
    assert weights[0].asnumpy().tolist() == [[60.0] * 2] * 2 and weights[1].asnumpy().tolist() == [61.0] * 3
    assert {p.name.split(".")[0] for p in average.get_parameters()} == {"average"}


def test_scaled_step_equals_the_plain_one(mode):
    """In float32 a power of two changes no bit: loss, norm and weight are those of a step without a scale."""
    plain_cell, plain = make_step(clip_norm=0.5)
    scaled_cell, scaled = make_step(scale=LossScale(growth_interval=2), clip_norm=0.5)
    for t in range(3):
        expected, found = run(plain, 1.5, 1.0 + t), run(scaled, 1.5, 1.0 + t)
        assert expected.pop("loss_scale") == 1.0
        assert found.pop("loss_scale") == 65536.0 * (1, 1, 2)[t]  # the one the step ran with
        assert found == expected
        assert plain_cell.w.asnumpy() == scaled_cell.w.asnumpy()
    # (2 * 1.5 - 1)^2 = 4, slope 2 * 2 * 1.5 = 6
    first = run(make_step(scale=LossScale())[1], 1.5, 1.0)
    assert (first["loss"], first["half"], first["grad_norm"]) == (4.0, 2.0, 6.0)


def test_overflow_halves_the_scale_and_changes_nothing_else(mode):
    """w x = 100, slope 2 * 100 * 50 = 10,000: times 65536 it passes float16's 65504, from 4 down it does not."""
    scale = LossScale(growth_interval=100)
    cell, step = make_step(half=True, scale=scale, ema=0.5)
    scale.scale.set_data(Tensor(16.0, ms.float32))
    for expected_scale, skipped in ((16.0, 1), (8.0, 2)):
        values = run(step, 50.0, 0.0)
        assert values["loss_scale"] == expected_scale and values["skipped_in_a_row"] == skipped
        assert values["loss"] == 10000.0 and not np.isfinite(values["grad_norm"]) and values["learning_rate"] == 0.0
        assert cell.w.asnumpy() == 2.0 and cell.moving_mean.asnumpy() == 0.0
        state = step.optimizer.state
        assert state.step.asnumpy() == 0 and not state.moment1[0].asnumpy().any()
        assert state.average.averages[0].asnumpy() == 2.0
    values = run(step, 50.0, 0.0)
    assert (values["loss_scale"], values["skipped_in_a_row"], values["grad_norm"]) == (4.0, 0, 10000.0)
    assert cell.w.asnumpy() == pytest.approx(2.0 - RATE) and cell.moving_mean.asnumpy() == 1.0
    assert scale.scale.asnumpy() == 4.0 and scale.finite_steps.asnumpy() == 1
    # d after one update is 2/11: the average moves 9/11 of the way, the statistic's too.
    assert state.average.averages[0].asnumpy() == pytest.approx(2.0 - RATE * 9 / 11)
    assert state.average.averages[1].asnumpy() == pytest.approx(9 / 11)


def test_small_gradients_survive_only_with_a_scale():
    """Slope 2 * 1e-6 * 0.01 = 2e-8 is below float16's smallest 6e-8: 0 without a scale, 2e-8 with one."""
    for scale, expected in ((None, 0.0), (LossScale(), 2e-8)):
        cell, step = make_step(half=True, scale=scale)
        product = float(np.float16(2.0) * np.float16(0.01))
        values = run(step, 0.01, product - 1e-6)
        assert values["grad_norm"] == pytest.approx(expected, rel=0.05)
