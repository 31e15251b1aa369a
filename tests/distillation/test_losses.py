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
"""Losses by hand and against slow NumPy loops."""
import math

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from src.distillation.losses import (
    dice_loss,
    focal_loss,
    hard_mask_weights,
    l1_distance,
    mask_iou,
    mean_over_valid,
)

LN3 = math.log(3.0)  # sigmoid(ln 3) = 3/4


def tensor(values):
    return Tensor(np.asarray(values, np.float32))


def slow_focal(logits, targets):
    """Pixel by pixel, straight from the definition."""
    total = 0.0
    for x, t in zip(logits.ravel(), targets.ravel()):
        p = 1.0 / (1.0 + math.exp(-x))
        p_t = p if t else 1.0 - p
        total += (0.25 if t else 0.75) * (1.0 - p_t) ** 2 * -math.log(p_t)
    return total / logits.size


def test_focal_loss_of_a_2x2_mask(mode):
    # logits  ln3  0      labels 1 1    p_t = 3/4  1/2    (1-p_t)^2 = 1/16 1/4    -log(p_t) = 0.28768 0.69315
    #        -ln3  ln3           0 0          3/4  1/4                1/16 9/16                0.28768 1.38629
    # costs: 0.25/16*0.28768 = 0.0044950, 0.25/4*0.69315 = 0.0433217, 0.75/16*0.28768 = 0.0134851, 0.75*9/16*1.38629 =
    # 0.5848424 mean 0.1615360
    loss = focal_loss(tensor([[LN3, 0.0], [-LN3, LN3]]), tensor([[1, 1], [0, 0]]), tensor(1.0))
    assert float(loss) == pytest.approx(0.161536, abs=1e-6)


def test_focal_factor_is_applied_to_each_pixel_not_to_the_mean():
    # 64 pixels: 8 of foreground missed at p_t = 0.05, 56 of background right at p_t = 0.99.
    # Per pixel: 8/64 * 0.25 * 0.95^2 * 2.995732 + 56/64 * 0.75 * 0.01^2 * 0.0100503 = 0.0844892.
    # Averaging the cross entropy first (0.383262, p_t 0.681635) would give at most 0.75 * 0.318365^2 * 0.383262 =
    # 0.0291.
    logits = np.full(64, math.log(0.01 / 0.99), np.float32)
    logits[:8] = math.log(0.05 / 0.95)
    targets = np.zeros(64, np.float32)
    targets[:8] = 1
    loss = float(focal_loss(tensor(logits.reshape(8, 8)), tensor(targets.reshape(8, 8)), tensor(1.0)))
    assert loss == pytest.approx(0.0844892, abs=1e-6)


def test_focal_loss_agrees_with_the_slow_one_and_broadcasts_labels_and_validity(mode):
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 3, (2, 3, 4, 5, 6)).astype(np.float32)
    targets = rng.integers(0, 2, (2, 3, 1, 5, 6)).astype(np.float32)
    valid = np.array([[1, 0, 1], [1, 1, 0]], np.float32)
    loss = focal_loss(tensor(logits), tensor(targets), tensor(valid[:, :, None])).asnumpy()
    for b, m, k in np.ndindex(2, 3, 4):
        want = slow_focal(logits[b, m, k], targets[b, m, 0]) if valid[b, m] else 0.0
        assert loss[b, m, k] == pytest.approx(want, rel=1e-5, abs=1e-7)


def test_focal_loss_is_finite_at_extreme_logits(mode):
    # 0.75 * 1 * 200 for the wrong background pixel, 0.25 * 1 * 200 for the missed foreground one; the right ones cost
    # 0.
    logits, targets = tensor([[200.0, -200.0], [200.0, -200.0]]), tensor([[0, 1], [1, 0]])
    assert float(focal_loss(logits, targets, tensor(1.0))) == pytest.approx((150 + 50) / 4)

    def loss(x):
        return focal_loss(x, targets, tensor(1.0))

    gradient = ms.grad(loss)(logits).asnumpy()
    # d/dx of 0.75 * sigmoid(x)^2 * softplus(x) is 0.75 at +infinity, of 0.25 * sigmoid(-x)^2 * softplus(-x) it is
    # -0.25.
    np.testing.assert_allclose(gradient, [[0.75 / 4, -0.25 / 4], [0, 0]], atol=1e-6)


def test_dice_loss_of_a_2x2_mask(mode):
    # p = 3/4 1/2 / 1/4 3/4, labels 1 1 / 0 0: overlap 1.25, sum p 2.25, sum t 2: 1 - (2.5 + 1) / (4.25 + 1) = 1/3
    logits, targets = tensor([[LN3, 0.0], [-LN3, LN3]]), tensor([[1, 1], [0, 0]])
    assert float(dice_loss(logits, targets, tensor(1.0))) == pytest.approx(1 / 3, abs=1e-6)
    assert float(dice_loss(logits, targets, tensor(0.0))) == 0.0


def test_dice_loss_of_an_empty_label(mode):
    # nothing predicted (p = 0): 1 - 1/1 = 0; all four pixels predicted (p = 1): 1 - 1/5
    empty = tensor(np.zeros((2, 2)))
    assert float(dice_loss(tensor(np.full((2, 2), -50.0)), empty, tensor(1.0))) == pytest.approx(0.0, abs=1e-6)
    assert float(dice_loss(tensor(np.full((2, 2), 50.0)), empty, tensor(1.0))) == pytest.approx(0.8, abs=1e-6)


def test_dice_loss_gradient_by_finite_difference(mode):
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 1, (2, 2)).astype(np.float32)
    targets = tensor([[1, 0], [1, 0]])

    def loss(x):
        return dice_loss(x, targets, tensor(1.0))

    gradient = ms.grad(loss)(tensor(logits)).asnumpy()
    for i, j in np.ndindex(2, 2):
        high, low = logits.copy(), logits.copy()
        high[i, j] += 1e-2
        low[i, j] -= 1e-2
        slope = float(loss(tensor(high)) - loss(tensor(low))) / 2e-2
        assert gradient[i, j] == pytest.approx(slope, abs=1e-4)


def test_mask_iou(mode):
    # 2 pixels shared of 3 + 3: 2/4; nothing shared; both empty counts as 0, so that nothing is divided by 0
    a = np.array([[[1, 1], [1, 0]], [[1, 0], [0, 0]], [[0, 0], [0, 0]]], np.float32)
    b = np.array([[[1, 1], [0, 1]], [[0, 1], [0, 0]], [[0, 0], [0, 0]]], np.float32)
    np.testing.assert_allclose(mask_iou(tensor(a) > 0, tensor(b)).asnumpy(), [0.5, 0, 0], atol=1e-6)


def test_hard_mask_weights(mode):
    # ratio 1: sigmoid(0); ratio 3: sigmoid(2); teacher blind: sigmoid(-1); student blind: the ratio is huge, so 1
    weights = hard_mask_weights(tensor([0.6, 0.9, 0.0, 0.5]), tensor([0.6, 0.3, 0.5, 0.0])).asnumpy()
    np.testing.assert_allclose(weights, [0.5, 1 / (1 + math.exp(-2)), 1 / (1 + math.e), 1.0], atol=1e-5)


def test_hard_mask_weights_carry_no_gradient(mode):
    teacher_iou = tensor([0.9])

    def total(student_iou):
        return hard_mask_weights(teacher_iou, student_iou).sum()

    np.testing.assert_array_equal(ms.grad(total)(tensor([0.3])).asnumpy(), [0.0])


def test_l1_distance_keeps_the_leading_dimensions(mode):
    student, teacher = tensor([[[1, 2], [3, 4]], [[0, 0], [0, 8]]]), tensor([[[1, 0], [0, 0]], [[0, 0], [0, 0]]])
    np.testing.assert_allclose(l1_distance(student, teacher, 1).asnumpy(), [9 / 4, 2])  # |0|+|2|+|3|+|4|, 8
    np.testing.assert_allclose(l1_distance(student, teacher, 2).asnumpy(), [[1, 3.5], [0, 4]])


def test_l1_distance_pulls_the_student_only(mode):
    student, teacher = tensor([[3.0, -1.0]]), tensor([[1.0, 1.0]])

    def total(s, t):
        return l1_distance(s, t, 1).sum()

    to_student, to_teacher = ms.grad(total, (0, 1))(student, teacher)
    np.testing.assert_allclose(to_student.asnumpy(), [[0.5, -0.5]])
    np.testing.assert_allclose(to_teacher.asnumpy(), [[0.0, 0.0]])


def test_mean_over_valid_ignores_padding_and_survives_its_absence(mode):
    values, valid = tensor([[1, 100], [3, 100]]), tensor([[1, 0], [1, 0]])
    assert float(mean_over_valid(values, valid)) == 2.0
    assert float(mean_over_valid(values, valid, tensor([[0.5, 7], [1, 7]]))) == pytest.approx(1.75)  # (0.5 + 3) / 2
    assert float(mean_over_valid(values, tensor([[0, 0], [0, 0]]))) == 0.0
