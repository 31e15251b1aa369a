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
"""BatchNorm over ranks and frozen: values, moving statistics and gradients against the framework's own cell."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from src.training.batch_norm import SyncBatchNorm, set_batch_norm

CHANNELS = 3


class Alone(nn.Cell):
    """What a RankMean does with one rank."""

    def __init__(self):
        super().__init__(auto_prefix=False)
        self.size = 1

    def construct(self, value):
        return value


class Parts(nn.Cell):
    """A BatchNorm as an attribute and one in a sequence."""

    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm2d(CHANNELS)
        self.sequence = nn.SequentialCell(nn.ReLU(), nn.BatchNorm2d(CHANNELS))

    def construct(self, x):
        return self.sequence(self.bn(x))


def make(seed=0):
    cell = Parts()
    rng = np.random.default_rng(seed)
    for parameter in cell.get_parameters():
        parameter.set_data(Tensor(rng.uniform(0.5, 1.5, parameter.shape).astype(np.float32)))
    return cell


def pictures():
    return Tensor(np.random.default_rng(5).normal(1, 2, (2, CHANNELS, 4, 5)).astype(np.float32))


def run(cell, train):
    """(output, gradients by name, parameters by name after the call)"""
    cell.set_train(train)
    weights = cell.trainable_params()
    target = Tensor(np.random.default_rng(6).normal(size=(2, CHANNELS, 4, 5)).astype(np.float32))

    def loss(x):
        out = cell(x)
        return ops.sum(out * target), out

    (_, out), (to_x, to_weights) = ms.value_and_grad(loss, 0, weights, has_aux=True)(pictures())
    gradients = {"x": to_x.asnumpy(), **{p.name: g.asnumpy() for p, g in zip(weights, to_weights)}}
    return out.asnumpy(), gradients, {p.name: p.asnumpy().copy() for p in cell.get_parameters()}


@pytest.mark.parametrize("train", [True, False])
def test_sync_equals_the_frameworks_batch_norm_on_one_rank(mode, train):
    plain, synced = make(), make()
    names = [p.name for p in synced.get_parameters()]
    assert set_batch_norm(synced, "sync", Alone()) == 2
    assert [p.name for p in synced.get_parameters()] == names
    assert isinstance(synced.bn, SyncBatchNorm) and isinstance(synced.sequence[1], SyncBatchNorm)
    ours, theirs = run(synced, train), run(plain, train)
    np.testing.assert_allclose(ours[0], theirs[0], atol=1e-5)
    for mine, other in zip(ours[1:], theirs[1:]):
        assert mine.keys() == other.keys()
        for name, value in mine.items():
            np.testing.assert_allclose(value, other[name], atol=3e-5, err_msg=name)


def test_moving_statistics_by_hand():
    # One channel, values 1, 2, 3, 6: mean 3, unbiased variance (4 + 1 + 0 + 9) / 3. Momentum 0.9 keeps 0.9 of the old.
    norm = nn.BatchNorm2d(1, momentum=0.9)
    synced = SyncBatchNorm(norm, Alone())
    synced.set_train(True)
    out = synced(Tensor(np.float32([[[[1, 2], [3, 6]]]])))
    np.testing.assert_allclose(norm.moving_mean.asnumpy(), [0.3], atol=1e-6)
    np.testing.assert_allclose(norm.moving_variance.asnumpy(), [0.9 + 0.1 * 14 / 3], atol=1e-6)
    np.testing.assert_allclose(out.asnumpy().ravel(), np.float32([-2, -1, 0, 3]) / np.sqrt(14 / 4 + 1e-5), atol=1e-5)


def test_frozen_uses_moving_statistics_in_training_and_leaves_them(mode):
    plain, frozen = make(), make()
    assert set_batch_norm(frozen, "frozen") == 2
    before = {p.name: p.asnumpy().copy() for p in frozen.get_parameters()}
    out, _, after = run(frozen, train=True)
    np.testing.assert_allclose(out, run(plain, train=False)[0], atol=1e-5)
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value, name)


def test_local_and_one_rank_change_nothing():
    for how in ("local", "sync"):
        cell = make()
        assert set_batch_norm(cell, how) == 0
        assert type(cell.bn) is nn.BatchNorm2d


def test_a_norm_that_is_frozen_already_stays_so():
    cell = make()
    cell.bn.use_batch_statistics = False
    assert set_batch_norm(cell, "sync", Alone()) == 1
    assert type(cell.bn) is nn.BatchNorm2d and isinstance(cell.sequence[1], SyncBatchNorm)
