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
"""The loop of hard prompts and the frozen teacher: constant to the gradient, compiled once for any number of rounds."""
import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from src.distillation.hard_point_loop import HardPointLoop, WithoutGradient

GRID, SIZE = 4, 16


class RowDecoder(nn.Cell):
    """Predicts the rows of the grid up to the number of hard points so far; trainable in both hands."""

    def __init__(self):
        super().__init__(auto_prefix=False)
        self.scale = Parameter(Tensor([1.0], ms.float32), name="scale")

    def best_multimask(self, image_embeddings, point_coords, point_labels):
        points = (point_labels[:, :, 2:] >= 0).astype(ms.float32).sum(-1)  # [B, M]
        rows = ops.arange(GRID).astype(ms.float32).reshape(1, 1, GRID, 1)
        logits = (points.reshape(1, 1, 1, 1) - rows - 0.5) * self.scale
        return ops.broadcast_to(logits, (1, 1, GRID, GRID)) + 0.0 * image_embeddings.sum()


class Total(nn.Cell):
    """scale^2 + sum of mined coordinates * embeddings, so a gradient through the loop would show."""

    def __init__(self):
        super().__init__(auto_prefix=False)
        self.decoder = RowDecoder()
        self.loop = HardPointLoop(self.decoder, SIZE, 3, "error")

    def construct(self, embeddings, gt_masks, coords, labels, noise, rounds):
        coords, labels = self.loop(embeddings, gt_masks, coords, labels, noise, rounds)
        total = ops.sum(ops.square(self.decoder.scale)) + ops.sum(coords) * ops.sum(embeddings)
        return total, coords, labels


class Gradients(nn.Cell):
    """Value and gradient of `Total` by the scale and the embeddings."""

    def __init__(self):
        super().__init__(auto_prefix=False)
        self.total = Total()
        weights = ParameterTuple([self.total.decoder.scale])
        self.gradient = ms.value_and_grad(self.total, 0, weights, has_aux=True)

    def construct(self, *inputs):
        return self.gradient(*inputs)


def inputs(rounds):
    gt = np.ones((1, 1, GRID, GRID), np.float32)
    coords, labels = np.zeros((1, 1, 5, 2), np.float32), np.full((1, 1, 5), -2, np.int32)
    labels[0, 0, :2] = 1, -1
    arrays = (np.full((1, 2), 0.5, np.float32), gt, coords, labels, np.zeros((1, 1, 3), np.float32))
    return [Tensor(array) for array in arrays] + [Tensor(rounds, ms.int32)]


def test_points_by_hand_and_no_gradient_through_them(mode):
    """All of the label is foreground and noise is 0, so each round takes the first missed pixel: row r in round r,
    column 0. In the frame of 4 pixels a cell its middle is x = 0.5 * 4 - 0.5 = 1.5 and y = (r + 0.5) * 4 - 0.5."""
    cell = Gradients()
    for rounds in (0, 3, 1):
        (total, coords, labels), (by_embeddings, by_weights) = cell(*inputs(rounds))
        expected = np.zeros((5, 2))
        for r in range(rounds):
            expected[2 + r] = 1.5, 4 * r + 1.5
        np.testing.assert_allclose(coords.asnumpy()[0, 0], expected)
        assert labels.asnumpy()[0, 0].tolist() == [1, -1] + [1] * rounds + [-2] * (3 - rounds)
        assert float(total.asnumpy()) == 1.0 + expected.sum()
        # d total / d embeddings is the sum of coordinates, d total / d scale 2 * scale: nothing came through the loop.
        np.testing.assert_allclose(by_embeddings.asnumpy(), np.full((1, 2), expected.sum()))
        assert float(by_weights[0].asnumpy()[0]) == 2.0
    if mode == "graph":
        assert len(cell.compile_cache) == 1  # any number of rounds is one compilation


def test_a_cell_without_gradient_hides_its_weights_and_input(mode):
    class Sum(nn.Cell):
        def __init__(self):
            super().__init__(auto_prefix=False)
            self.dense = nn.Dense(2, 1, weight_init="ones", bias_init="zeros")
            self.frozen = WithoutGradient(self.dense)

        def construct(self, x):
            return ops.sum(self.frozen(x)) + 3.0 * ops.sum(x)

    cell = Sum()
    value, (by_input, by_weights) = ms.value_and_grad(cell, 0, ParameterTuple(cell.trainable_params()))(
        Tensor([[1.0, 2.0]], ms.float32))
    assert float(value.asnumpy()) == 12.0  # 1 + 2 of the dense layer, 3 * 3 beside it
    np.testing.assert_array_equal(by_input.asnumpy(), [[3.0, 3.0]])
    assert not any(gradient.asnumpy().any() for gradient in by_weights)
