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
"""Adam, AdamW and the schedule against NumPy."""
import math

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn

from src.config import build_config
from src.training.optimizer import Adam, WarmupCosine, build_optimizer


class Fixed(nn.Cell):
    """A schedule that always says 0.1."""

    def construct(self, step):
        return Tensor(0.1, ms.float32) + 0.0 * step


class Weights(nn.Cell):
    """A matrix, which decays, and a vector, which does not."""

    def __init__(self):
        super().__init__()
        self.matrix = Parameter(Tensor([[1.0, -2.0], [3.0, 0.5]], ms.float32), name="matrix")
        self.vector = Parameter(Tensor([1.0, -1.0], ms.float32), name="vector")


def slow_adam(value, gradients, rate, decay, decoupled):
    """Textbook Adam, eps beside the uncorrected root."""
    m, v = np.zeros_like(value), np.zeros_like(value)
    for t, gradient in enumerate(gradients, 1):
        if decoupled:
            value = value * (1 - rate * decay)
        else:
            gradient = gradient + decay * value
        m = 0.9 * m + 0.1 * gradient
        v = 0.999 * v + 0.001 * gradient ** 2
        value = value - rate * math.sqrt(1 - 0.999 ** t) / (1 - 0.9 ** t) * m / (np.sqrt(v) + 1e-8)
    return value


@pytest.mark.parametrize("decoupled", [False, True])
def test_adam_and_adamw_agree_with_numpy(mode, decoupled):
    weights = Weights()
    before = [p.asnumpy().astype(np.float64) for p in weights.trainable_params()]
    optimizer = Adam(weights.trainable_params(), Fixed(), 0.5, decoupled)
    rng = np.random.default_rng(0)
    gradients = [[rng.normal(size=b.shape).astype(np.float32) for b in before] for _ in range(4)]
    for step in gradients:
        rate = optimizer(tuple(Tensor(g) for g in step))
    assert float(rate) == pytest.approx(0.1)
    assert int(optimizer.state.step.asnumpy()) == 4
    for i, (parameter, decay) in enumerate(zip(weights.trainable_params(), (0.5, 0.0))):
        want = slow_adam(before[i], [step[i] for step in gradients], 0.1, decay, decoupled)
        np.testing.assert_allclose(parameter.asnumpy(), want, rtol=2e-5)


def test_warm_up_and_cosine(mode):
    # Peak 1, final 0.2, 4 steps of warm-up, 8 in all. Updates 1..4: 1/4, 2/4, 3/4, 1.
    # Updates 5..8: 0.2 + 0.4 (1 + cos(pi k / 4)), k = 1..4: 0.882843, 0.6, 0.317157, 0.2; after the end it stays.
    schedule = WarmupCosine(1.0, 0.2, 4, 8)
    rates = [float(schedule(Tensor(step, ms.int32))) for step in range(10)]
    want = [0.25, 0.5, 0.75, 1.0, 0.882843, 0.6, 0.317157, 0.2, 0.2, 0.2]
    np.testing.assert_allclose(rates, want, atol=1e-6)


def test_a_run_shorter_than_its_warm_up_still_reaches_the_peak():
    # 20 steps asked for, 10 made: one step of warm-up, then the cosine from update 1 (peak) to update 10 (final).
    schedule = WarmupCosine(1.0, 0.0, 20, 10)
    assert float(schedule(Tensor(0, ms.int32))) == pytest.approx(1.0)
    assert float(schedule(Tensor(9, ms.int32))) == pytest.approx(0.0, abs=1e-6)


def test_without_warm_up_the_cosine_starts_at_once():
    # One step of four is made: 0.5 (1 + cos(pi / 4))
    assert float(WarmupCosine(1.0, 0.0, 0, 4)(Tensor(0, ms.int32))) == pytest.approx(0.853553, abs=1e-6)


def test_the_state_holds_no_weights():
    optimizer = Adam(Weights().trainable_params(), Fixed(), 0.0, False)
    names = {p.name for p in optimizer.state.get_parameters()}
    assert {"step", "skipped_in_a_row", "moment1.matrix", "moment2.matrix"} <= names
    assert "matrix" not in names


def test_a_final_rate_above_the_peak_is_refused():
    settings = build_config({"optim.learning_rate": 0.001, "optim.final_learning_rate": 0.01}).optim
    with pytest.raises(ValueError, match=r"^optim.final_learning_rate \(0.01\) is above optim.learning_rate \(0.001\)"):
        build_optimizer(Weights(), settings, 10)


def test_a_network_without_trainable_parameters_is_refused():
    with pytest.raises(ValueError, match="^the student has no trainable parameter; there is nothing to train"):
        build_optimizer(nn.ReLU(), build_config().optim, 10)
