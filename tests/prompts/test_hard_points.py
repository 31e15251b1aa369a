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
"""Hard points against known noise, a slow NumPy version, and their distribution."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import nn, ops

from src.prompts.hard_points import sample_hard_points


def slow_points(gt, pred, noise, region, scale):
    """The rule in NumPy, one mask at a time: list the region in row order, take number floor(noise * count)."""
    coords, labels = np.zeros((len(gt), 2), np.float32), np.full(len(gt), -2, np.int32)
    for n in range(len(gt)):
        wrong = gt[n] & ~pred[n] if region == "missed" else gt[n] ^ pred[n]
        pixels = np.argwhere(wrong)
        if len(pixels):
            y, x = pixels[int(np.float32(noise[n]) * np.float32(len(pixels)))]
            coords[n] = (x + 0.5) * scale - 0.5, (y + 0.5) * scale - 0.5
            labels[n] = int(gt[n, y, x])
    return coords, labels


def test_hand_worked(mode):
    # Label:      Prediction:   Region, numbered in row order:
    # 1 1 0       0 1 1         0 . 1     pixel 0 (x 0, y 0) is missed, 1 (2, 0) wrong,
    # 1 0 0       1 1 0         . 2 .     2 (1, 1) wrong.  scale 4: index c lies at 4 c + 1.5.
    gt = np.tile(np.array([[1, 1, 0], [1, 0, 0]], bool), (5, 1, 1))
    pred = np.tile(np.array([[0, 1, 1], [1, 1, 0]], bool), (5, 1, 1))
    pred[4] = gt[4]  # nothing wrong: an empty slot
    noise = ms.Tensor([0.0, 0.34, 0.67, 0.999, 0.5], ms.float32)
    coords, labels = sample_hard_points(ms.Tensor(gt), ms.Tensor(pred), noise, "error", 4)
    np.testing.assert_array_equal(coords.asnumpy(), [[1.5, 1.5], [9.5, 1.5], [5.5, 5.5], [5.5, 5.5], [0, 0]])
    assert labels.asnumpy().tolist() == [1, 0, 0, 0, -2]
    assert coords.dtype == ms.float32 and labels.dtype == ms.int32


@pytest.mark.parametrize("region", ["error", "missed"])
def test_agrees_with_numpy(mode, region):
    rng = np.random.default_rng(3)
    gt, pred = rng.random((24, 9, 13)) < 0.3, rng.random((24, 9, 13)) < 0.3
    gt[0], pred[1] = False, True  # nothing to miss; nothing missed
    gt[2], pred[2] = True, True
    pred[2, 8, 12] = False  # one pixel, the last
    gt[3], pred[3] = True, False  # all of them
    pred[4] = gt[4]  # none
    noise = rng.random(24).astype(np.float32)
    noise[3] = np.nextafter(np.float32(1), np.float32(0))
    expected = slow_points(gt, pred, noise, region, 2)
    # Labels arrive as uint8 in training: any type that counts as a mask is taken.
    got = sample_hard_points(ms.Tensor(gt.astype(np.uint8)), ms.Tensor(pred), ms.Tensor(noise), region, 2)
    np.testing.assert_array_equal(got[0].asnumpy(), expected[0])
    np.testing.assert_array_equal(got[1].asnumpy(), expected[1])
    assert got[0].asnumpy()[2].tolist() == [12.5 * 2 - 0.5, 8.5 * 2 - 0.5]
    assert (expected[1] == -2).any() and (expected[1] == 1).any()


def test_rounding_never_leaves_the_region():
    # 0.99999994 * 65536 rounds to 65536.0 in float32, one past the last pixel.
    gt = np.ones((1, 256, 256), bool)
    noise = np.array([np.nextafter(np.float32(1), np.float32(0))])
    coords, labels = sample_hard_points(ms.Tensor(gt), ms.Tensor(~gt), ms.Tensor(noise), "error", 1)
    assert coords.asnumpy().tolist() == [[255.0, 255.0]] and labels.asnumpy().tolist() == [1]


def test_uniform_over_the_region():
    # 12 wrong pixels and 12000 evenly spread numbers: exactly 1000 draws of each (the floor splits [0, 1) evenly).
    gt = np.zeros((12000, 4, 5), bool)
    gt[:, 1, :] = gt[:, 3, :] = True
    gt[:, 0, 1:3] = True
    noise = ((np.arange(12000) + 0.5) / 12000).astype(np.float32)
    coords, _ = sample_hard_points(ms.Tensor(gt), ms.Tensor(np.zeros_like(gt)), ms.Tensor(noise), "missed", 1)
    x, y = coords.asnumpy().astype(int).T
    counts = np.zeros((4, 5), int)
    np.add.at(counts, (y, x), 1)
    np.testing.assert_array_equal(counts, gt[0] * 1000)


class Rounds(nn.Cell):
    """Each round repairs the pixel that was drawn: after n rounds n pixels fewer are wrong."""

    def construct(self, gt, pred, noise, rounds):
        step = ops.zeros((), ms.int32)
        rows = ops.arange(gt.shape[1]).reshape(1, -1, 1)
        columns = ops.arange(gt.shape[2]).reshape(1, 1, -1)
        while step < rounds:
            coords, labels = sample_hard_points(gt, pred, noise, "error", 1)
            hit = ops.logical_and(rows == coords[:, 1].reshape(-1, 1, 1), columns == coords[:, 0].reshape(-1, 1, 1))
            pred = ops.where(ops.logical_and(hit, labels.reshape(-1, 1, 1) >= 0), gt, pred)
            step = step + 1
        return pred


def test_inside_a_graph_loop(mode):
    gt = np.zeros((2, 4, 4), np.float32)
    gt[0, :2], gt[1, 0, 0] = 1, 1
    cell = Rounds()
    for rounds, wrong in ((0, [8, 1]), (3, [5, 0]), (20, [0, 0])):
        pred = cell(ms.Tensor(gt), ms.Tensor(np.zeros_like(gt)), ms.Tensor([0.3, 0.9], ms.float32),
                    ms.Tensor(rounds, ms.int32))
        assert np.abs(pred.asnumpy() - gt).sum(axis=(1, 2)).tolist() == wrong


def test_refuses_unknown_region():
    ones = ms.Tensor(np.ones((1, 2, 2), bool))
    with pytest.raises(ValueError, match=r"hard_region \('everywhere'\) must be one of error, missed"):
        sample_hard_points(ones, ones, ms.Tensor([0.5], ms.float32), "everywhere")
