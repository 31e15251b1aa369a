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
"""Gradient accumulation against one large batch: losses, gradients, skipped steps, BatchNorm statistics."""
import dataclasses

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops

from src.config import build_config
from src.training.accumulate import AccumulatedStep
from src.training.optimizer import build_optimizer, scale_rates
from src.training.step import TrainStep

ROWS = np.float32([[1, 2], [3, -1], [0, 5], [-2, 1]])


class Regression(nn.Cell):
    """Mean over images plus a sum over valid prompts divided by their number, as a Distiller's losses are."""

    def __init__(self):
        super().__init__()
        self.w = Parameter(Tensor([0.5, -0.5], ms.float32), name="w")
        self.norm = nn.BatchNorm2d(1)
        self.norm.use_batch_statistics = False

    def construct(self, x, valid, count):
        of_images = ops.mean(ops.square(ops.sum(self.w * x, 1) - 1.0))
        of_prompts = ops.sum(ops.square(self.w[0] * x[:, 0] - 2.0) * valid) / count
        seen = self.norm(x.reshape(-1, 1, 1, 2))
        return of_images + of_prompts + 0.0 * ops.sum(seen), of_prompts


def make(clip_norm=1.0, **optim):
    cell = Regression()
    settings = build_config({"optim.learning_rate": 0.1, "optim.warmup_steps": 0, **optim}).optim
    return cell, TrainStep(cell, build_optimizer(cell, settings, 10), clip_norm)


def inputs(rows, valid, count):
    return Tensor(rows), Tensor(np.float32(valid)), Tensor(count, ms.float32)


def test_two_parts_equal_one_batch(mode):
    # Three valid prompts, two in the first half: the whole divides by 3, each half by 3 / 2.
    valid = [1, 1, 1, 0]
    whole, whole_step = make()
    parted, parted_step = make()
    accumulated = AccumulatedStep(parted_step, 2, 2)
    for _ in range(4):
        expected = whole_step(*inputs(ROWS, valid, 3)).asnumpy()
        found = accumulated([inputs(ROWS[:2], valid[:2], 1.5), inputs(ROWS[2:], valid[2:], 1.5)]).asnumpy()
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(parted.w.asnumpy(), whole.w.asnumpy(), atol=1e-6)
    for mine, theirs in zip(parted_step.optimizer.state.get_parameters(), whole_step.optimizer.state.get_parameters()):
        np.testing.assert_allclose(mine.asnumpy(), theirs.asnumpy(), rtol=1e-5, atol=1e-7, err_msg=mine.name)


def test_the_mean_gradient_by_hand():
    # w = (0.5, -0.5), count such that prompts weigh nothing. Row (1, 2): residual -1.5, gradient 2 * -1.5 * (1, 2) =
    # (-3, -6). Row (3, -1): residual 1, gradient (6, -2). Mean (1.5, -4): norm sqrt(18.25). Loss (2.25 + 1) / 2.
    _, step = make(0.0)
    found = AccumulatedStep(step, 2, 2)([inputs(ROWS[i:i + 1], [0], 1e9) for i in range(2)]).asnumpy()
    assert found[0] == pytest.approx(1.625, abs=1e-6)
    assert found[3] == pytest.approx(np.sqrt(18.25), abs=1e-5)


def test_a_part_that_is_not_finite_skips_the_update_and_leaves_nothing_behind():
    cell, step = make()
    accumulated = AccumulatedStep(step, 2, 2)
    good = [inputs(ROWS[:2], [1, 1], 2), inputs(ROWS[2:], [1, 1], 2)]
    bad = [good[0], inputs(ROWS[2:] + np.float32(np.inf), [1, 1], 2)]
    before = cell.w.asnumpy().copy()
    assert accumulated(bad).asnumpy()[-1] == 1
    np.testing.assert_array_equal(cell.w.asnumpy(), before)
    other, other_step = make()
    expected = AccumulatedStep(other_step, 2, 2)(good).asnumpy()
    np.testing.assert_array_equal(accumulated(good).asnumpy(), expected)
    np.testing.assert_array_equal(cell.w.asnumpy(), other.w.asnumpy())


def test_statistics_of_all_parts_are_put_back_when_the_step_is_skipped():
    cell, step = make()
    cell.norm.use_batch_statistics = None
    accumulated = AccumulatedStep(step, 2, 2)
    accumulated([inputs(ROWS[:2], [1, 1], 2), inputs(ROWS[2:], [1, 1], 2)])
    before = cell.norm.moving_mean.asnumpy().copy()
    assert before[0] != 0
    accumulated([inputs(ROWS[:2] + 1, [1, 1], 2), inputs(ROWS[2:] * np.float32(np.nan), [1, 1], 2)])
    np.testing.assert_array_equal(cell.norm.moving_mean.asnumpy(), before)


def test_a_wrong_number_of_parts_is_refused():
    _, step = make()
    with pytest.raises(ValueError, match="^1 parts of a batch were given to a step over 2$"):
        AccumulatedStep(step, 2, 2)([inputs(ROWS, [1, 1, 1, 1], 4)])


def test_rates_follow_the_images_of_a_step():
    settings = build_config({"optim.learning_rate": 0.01, "optim.final_learning_rate": 0.001}).optim
    assert scale_rates(settings, 32) is settings  # reference_batch 0
    scaled = scale_rates(dataclasses.replace(settings, reference_batch=8), 32)
    assert (scaled.learning_rate, scaled.final_learning_rate) == (0.04, 0.004)
    assert scaled.clip_norm == settings.clip_norm
