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
"""Mixed float16 by values: what is rounded, what never is, and a network that trains in it."""
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from src.distillation.distiller import Distiller
from src.modeling.build_sam import build_sam_around
from src.modeling.common import conv2d, layer_norm, linear
from src.modeling.image_encoder import ImageEncoderViT
from src.modeling.precision import HalfConv2d, HalfDense, HalfProduct, set_precision
from src.modeling.prompt_encoder import PositionEmbeddingRandom
from src.modeling.tiny_vit import Attention, TinyViT
from src.training.optimizer import build_optimizer
from src.training.step import TrainStep

HALF_STEP = 2.0**-11  # largest relative error of one rounding to float16
OPTIM = SimpleNamespace(name="adam", learning_rate=0.003, final_learning_rate=0.003, warmup_steps=0, weight_decay=0.0,
                        layer_decay=1.0, clip_norm=1.0, ema_decay=0.0)
DISTILL = SimpleNamespace(embedding_weight=0.0, embedding_adapter=False, token_weight=0.0, output_weight=0.0,
                          hard_mask_weighting=False,
                          focal_weight=20.0, dice_weight=1.0, iou_weight=1.0, max_rounds=1, hard_region="error")


def tiny_vit(image_size):
    return TinyViT(image_size, (8, 8, 16, 16), (1, 1, 1, 1), (1, 1, 2, 2), (4, 4, 4, 4), 16)


def vit(image_size):
    return ImageEncoderViT(image_size, 16, 16, 2, 2, 2, (1,), 16)


def make_sam(precision, encoder=tiny_vit):
    return set_precision(build_sam_around(encoder, 16, 16, 64, "tiny", seed=0), precision)


def inputs(seed=0):
    rng = np.random.default_rng(seed)
    coords = rng.uniform(0, 64, (2, 3, 2, 2)).astype(np.float32)
    return Tensor(rng.standard_normal((2, 3, 64, 64)).astype(np.float32)), Tensor(coords), \
        Tensor(np.array([[[1, -1]] * 3] * 2, np.int32))


def rounded(values):
    """Float64 of what float16 makes of an array."""
    return np.asarray(values, np.float16).astype(np.float64)


def test_dense_rounds_operands_and_adds_the_bias_in_float32(mode):
    rng = np.random.default_rng(1)
    dense = linear(24, 5)
    bias = np.array([70000.0, 1e-6, 0.1, 0.0, -3.0], np.float32)  # 70000 is beyond float16
    dense.bias.set_data(Tensor(bias))
    x = rng.standard_normal((2, 3, 24)).astype(np.float32)
    out = HalfDense(dense)(Tensor(x))
    expected = rounded(x) @ rounded(dense.weight.asnumpy()).T
    assert out.dtype == ms.float32 and out.shape == (2, 3, 5)
    np.testing.assert_allclose(out.asnumpy() - bias, expected, atol=4 * HALF_STEP * np.abs(expected).max() + 0.004)
    np.testing.assert_allclose((out.asnumpy() - bias)[..., 1:], expected[..., 1:], atol=4 * HALF_STEP)
    exact = x.astype(np.float64) @ dense.weight.asnumpy().astype(np.float64).T
    assert np.abs(out.asnumpy() - bias - exact)[..., 1:].max() > 1e-6  # float32 would be closer


def test_convolution_rounds_operands_and_adds_the_bias_in_float32(mode):
    rng = np.random.default_rng(2)
    conv = conv2d(3, 4, 3, stride=2, padding=1, has_bias=True)
    bias = np.array([1e-6, 0.5, 70000.0, 0.0], np.float32)
    conv.bias.set_data(Tensor(bias))
    x = rng.standard_normal((1, 3, 8, 8)).astype(np.float32)
    out = HalfConv2d(conv)(Tensor(x))
    padded = np.pad(rounded(x), ((0, 0), (0, 0), (1, 1), (1, 1)))
    weight = rounded(conv.weight.asnumpy())
    expected = np.zeros((1, 4, 4, 4))
    for i in range(4):
        for j in range(4):
            patch = padded[0, :, 2 * i:2 * i + 3, 2 * j:2 * j + 3]
            expected[0, :, i, j] = (weight * patch).sum((1, 2, 3))
    assert out.dtype == ms.float32
    error = np.abs(out.asnumpy() - bias.reshape(1, -1, 1, 1) - expected)
    assert error[:, (0, 1, 3)].max() < 4 * HALF_STEP and error[:, 2].max() < 0.005


def test_product_rounds_operands(mode):
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((2, 3, 8)).astype(np.float32), rng.standard_normal((2, 5, 8)).astype(np.float32)
    out = HalfProduct(ops.BatchMatMul(transpose_b=True))(Tensor(a), Tensor(b))
    assert out.dtype == ms.float32
    expected = rounded(a) @ rounded(b).transpose(0, 2, 1)
    np.testing.assert_allclose(out.asnumpy(), expected, atol=10 * HALF_STEP)


@pytest.mark.parametrize("encoder", [tiny_vit, vit])
def test_every_product_but_positions_is_exchanged(encoder):
    plain, mixed = make_sam("float32", encoder), make_sam("mixed_float16", encoder)
    names = [name for name, _ in plain.parameters_and_names()]
    assert [name for name, _ in mixed.parameters_and_names()] == names
    assert [p.name for p in mixed.get_parameters()] == names
    assert all(p.dtype == ms.float32 for p in mixed.get_parameters())
    assert [p.requires_grad for p in mixed.get_parameters()] == [p.requires_grad for p in plain.get_parameters()]
    held = {}
    for _, cell in mixed.cells_and_names():
        assert not isinstance(cell, (nn.Dense, nn.Conv2d))
        for primitive in cell._primitives.values():
            if isinstance(primitive, (ops.MatMul, ops.BatchMatMul)):
                held.setdefault(type(cell), 0)
                held[type(cell)] += 1
    # HalfDense and HalfProduct hold the exchanged ones.
    assert set(held) == {HalfDense, HalfProduct, PositionEmbeddingRandom} and held[PositionEmbeddingRandom] == 1


@pytest.mark.parametrize("encoder", [tiny_vit, vit])
def test_network_differs_little_and_does_differ(mode, encoder):
    plain, mixed = make_sam("float32", encoder), make_sam("mixed_float16", encoder)
    for expected, found in zip(plain(*inputs()), mixed(*inputs())):
        assert found.dtype == ms.float32
        difference = np.abs(found.asnumpy() - expected.asnumpy()).max()
        assert 1e-6 < difference < 0.02 * max(1.0, np.abs(expected.asnumpy()).max())


def test_attention_bias_and_softmax_stay_float32():
    """A bias of 1e5 on a token's own place, which is infinite in float16, gives every token all of its own value."""
    results = []
    for precision in ("float32", "mixed_float16"):
        np.random.seed(4)
        attention = set_precision(Attention(8, 2, 4, 4), precision)
        bias = np.zeros(attention.attention_biases.shape, np.float32)
        bias[:, 0] = 1e5
        attention.attention_biases.set_data(Tensor(bias))
        x = np.random.default_rng(4).standard_normal((1, 16, 8)).astype(np.float32)
        results.append(attention(Tensor(x)).asnumpy())
    assert np.isfinite(results[1]).all()
    np.testing.assert_allclose(results[1], results[0], atol=1e-4)
    assert np.abs(results[0]).max() > 1e-3


def test_norm_and_residual_sum_stay_float32():
    """Dense makes 5e4, the residual stream holds 5e4: the sum is infinite in float16, its square even more so."""
    class Residual(nn.Cell):
        def __init__(self):
            super().__init__()
            self.dense, self.norm = linear(2, 2, has_bias=False), layer_norm(2)

        def construct(self, x):
            return self.norm(x + self.dense(x))

    cell = set_precision(Residual(), "mixed_float16")
    cell.dense.weight.set_data(Tensor(np.eye(2, dtype=np.float32)))
    out = cell(Tensor([[49984.0, 16.0]], ms.float32)).asnumpy()
    np.testing.assert_allclose(out, [[1.0, -1.0]], atol=1e-6)


def test_training_in_float16_follows_float32():
    """A few steps as one graph: finite, the loss falls, and stays near float32's."""
    curves = {}
    for precision in ("float32", "mixed_float16"):
        mixed = precision == "mixed_float16"
        student = make_sam(precision)
        step = TrainStep(Distiller(student, None, DISTILL), build_optimizer(student, OPTIM, 10, scale_loss=mixed), 1.0)
        images, _, _ = inputs()
        gt_masks = np.zeros((2, 3, 16, 16), np.uint8)
        gt_masks[..., 4:12, 4:12] = 1
        coords = np.full((2, 3, 3, 2), 32.0, np.float32)
        labels = np.array([[[1, -1, -2]] * 3] * 2, np.int32)
        rest = [Tensor(gt_masks), Tensor(coords), Tensor(labels), Tensor(np.ones((2, 3), np.float32)),
                Tensor(np.full((2, 3, 1), 0.5, np.float32))]
        values = np.stack([step(images, *rest, Tensor(t % 2, ms.int32)).asnumpy() for t in range(6)])
        curves[precision] = values
        assert np.isfinite(values).all() and not values[:, -1].any()
        assert set(values[:, -2]) == ({65536.0} if mixed else {1.0})
        assert values[5, 0] < 0.95 * values[0, 0]
    np.testing.assert_allclose(curves["mixed_float16"][:, 0], curves["float32"][:, 0], rtol=0.02)
    assert (curves["mixed_float16"][:, 0] != curves["float32"][:, 0]).any()


def test_unknown_precision_is_refused():
    with pytest.raises(ValueError, match=r"precision \('float16'\) must be one of float32, mixed_float16"):
        set_precision(nn.Dense(1, 1), "float16")
