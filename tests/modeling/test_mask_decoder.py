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
"""Mask decoder: its upscaling, hypernetworks and IoU head against slow NumPy versions in image layout."""
from math import erf

import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from src.modeling.mask_decoder import MLP, MaskDecoder, UpscaleRows

C = 16
BATCH, PROMPTS, SLOTS, HEIGHT, WIDTH = 2, 2, 1, 2, 3


class PassThrough(nn.Cell):
    """Stands in for the two-way transformer: hands tokens on, and every prompt its image with the encoding added."""

    def construct(self, image_tokens, image_pe, tokens, token_bias):
        repeats = tokens.shape[1] // image_tokens.shape[1]
        return tokens, ops.tile(image_tokens + image_pe, (1, repeats, 1, 1))


class Spy(PassThrough):
    """Keeps what it was given; PyNative only."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def construct(self, image_tokens, image_pe, tokens, token_bias):
        self.seen.append((tokens.asnumpy(), token_bias.asnumpy()))
        return super().construct(image_tokens, image_pe, tokens, token_bias)


def draw(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


@pytest.fixture
def decoder():
    np.random.seed(7)  # the framework's initializers draw from NumPy's global state
    decoder = MaskDecoder(PassThrough(), C, iou_head_hidden_dim=12)
    norm = decoder.output_upscaling[1]
    norm.gamma.set_data(Tensor(np.linspace(0.5, 1.5, C // 4, dtype=np.float32)))
    norm.beta.set_data(Tensor(np.linspace(-1, 1, C // 4, dtype=np.float32)))
    return decoder


def reference_mlp(mlp, x):
    for index, layer in enumerate(mlp.layers):
        x = x @ layer.weight.asnumpy().T.astype(np.float64) + layer.bias.asnumpy()
        if index + 1 < len(mlp.layers):
            x = np.maximum(x, 0)
    return x


def reference_doubling(cell, x):
    """Transposed convolution, kernel and stride 2: [in, h, w] -> [out, 2h, 2w], pixel by pixel."""
    weight, bias = cell.weight.asnumpy().astype(np.float64), cell.bias.asnumpy()
    _, height, width = x.shape
    out = np.zeros((weight.shape[1], 2 * height, 2 * width))
    for y, col in np.ndindex(height, width):
        for dy, dx in np.ndindex(2, 2):
            out[:, 2 * y + dy, 2 * col + dx] = x[:, y, col] @ weight[:, :, dy, dx] + bias
    return out


def gelu(x):
    return 0.5 * x * (1 + np.vectorize(erf)(x / np.sqrt(2)))


def reference_upscaling(layers, x):
    """[C, h, w] -> [C/8, 4h, 4w]."""
    x = reference_doubling(layers[0], x)
    x = x - x.mean(0)
    x = x / np.sqrt((x * x).mean(0) + 1e-6)
    x = gelu(x * layers[1].gamma.asnumpy()[:, None, None] + layers[1].beta.asnumpy()[:, None, None])
    return gelu(reference_doubling(layers[3], x))


def test_mlp_has_relu_between_layers_and_none_after_the_last():
    # Two layers of width 1: relu(1 * x - 1) * -2 + 0.5. x = 3 -> -3.5; x = 0 -> 0.5.
    mlp = MLP(1, 1, 1, 2)
    for layer, weight, bias in zip(mlp.layers, (1.0, -2.0), (-1.0, 0.5)):
        layer.weight.set_data(Tensor(np.full((1, 1), weight, np.float32)))
        layer.bias.set_data(Tensor(np.full((1,), bias, np.float32)))
    np.testing.assert_allclose(mlp(Tensor(np.array([[3], [0]], np.float32))).asnumpy(), [[-3.5], [0.5]])


def test_upscaling_one_row_writes_the_four_pixels_in_order():
    # One channel in and out, weight [[1, 2], [3, 4]], bias 10: the pixel 2 becomes 12, 14 over 16, 18.
    cell = UpscaleRows(1, 1)
    cell.weight.set_data(Tensor(np.array([[[[1, 2], [3, 4]]]], np.float32)))
    cell.bias.set_data(Tensor(np.array([10], np.float32)))
    np.testing.assert_allclose(cell(Tensor(np.array([[2]], np.float32))).asnumpy().ravel(), [12, 14, 16, 18])


@pytest.mark.parametrize("dense_per_prompt", [False, True])
def test_outputs_equal_the_slow_version(mode, decoder, dense_per_prompt):
    image, image_pe = draw(BATCH, C, HEIGHT, WIDTH), draw(HEIGHT * WIDTH, C, seed=1)
    sparse = draw(BATCH, PROMPTS, SLOTS, C, seed=2)
    dense = draw(BATCH, PROMPTS, C, HEIGHT, WIDTH, seed=3) if dense_per_prompt else draw(1, 1, C, 1, 1, seed=3)
    labels = np.ones((BATCH, PROMPTS, SLOTS), np.int32)
    masks, ious, tokens = decoder(*(Tensor(x) for x in (image, image_pe, sparse, dense, labels)))
    assert masks.shape == (BATCH, PROMPTS, 4, 4 * HEIGHT, 4 * WIDTH)
    learned = np.concatenate([cell.embedding_table.asnumpy() for cell in (decoder.iou_token, decoder.mask_tokens)])
    pe_map = image_pe.T.reshape(C, HEIGHT, WIDTH)
    for b, m in np.ndindex(BATCH, PROMPTS):
        np.testing.assert_array_equal(tokens.asnumpy()[b, m], learned)
        embedded = image[b] + (dense[b, m] if dense_per_prompt else dense[0, 0]) + pe_map
        upscaled = reference_upscaling(decoder.output_upscaling, embedded.astype(np.float64))
        for i in range(4):
            vector = reference_mlp(decoder.output_hypernetworks_mlps[i], learned[1 + i])
            expected = np.einsum("c,chw->hw", vector, upscaled)
            np.testing.assert_allclose(masks.asnumpy()[b, m, i], expected, atol=2e-6)
        expected = reference_mlp(decoder.iou_prediction_head, learned[0])
        np.testing.assert_allclose(ious.asnumpy()[b, m], expected, atol=2e-6)


@pytest.mark.parametrize("mode", ["pynative"], indirect=True)
def test_only_empty_slots_are_hidden_from_attention(mode):
    spy = Spy()
    sparse, image = draw(1, 2, 3, C), draw(1, C, 2, 2)
    labels = np.array([[[1, -2, 0], [-1, 2, 3]]], np.int32)
    MaskDecoder(spy, C)(*(Tensor(x) for x in (image, draw(4, C), sparse, draw(1, 2, C, 2, 2), labels)))
    (tokens, bias), = spy.seen
    assert bias.shape == (2, 1, 1, 8)
    np.testing.assert_array_equal(bias[:, 0, 0] <= -1e4, [[0] * 6 + [1, 0], [0] * 8])
    np.testing.assert_array_equal(bias[bias > -1e4], 0)
    np.testing.assert_array_equal(tokens[:, :, 5:], sparse)


def test_a_width_that_does_not_divide_is_refused():
    with pytest.raises(ValueError) as error:
        MaskDecoder(PassThrough(), 12)
    assert str(error.value) == "transformer_dim (12) must be divisible by 8"


def test_best_multimask_is_the_one_of_highest_predicted_iou(mode, decoder):
    """The biases of the IoU head alone decide here. Mask 0 leads and does not count; of equals the first wins."""
    image, image_pe = draw(BATCH, C, HEIGHT, WIDTH), draw(HEIGHT * WIDTH, C, seed=1)
    sparse, dense = draw(BATCH, PROMPTS, SLOTS, C, seed=2), draw(BATCH, PROMPTS, C, HEIGHT, WIDTH, seed=3)
    inputs = [Tensor(x) for x in (image, image_pe, sparse, dense, np.ones((BATCH, PROMPTS, SLOTS), np.int32))]
    last = decoder.iou_prediction_head.layers[2]
    last.weight.set_data(Tensor(np.zeros(last.weight.shape, np.float32)))
    for bias, best in (([9, 0, 0.5, 0.25], 2), ([9, 0, 0.5, 0.75], 3), ([9, 1, 1, 0], 1)):
        last.bias.set_data(Tensor(np.array(bias, np.float32)))
        masks, _, _ = decoder(*inputs)
        found = decoder.best_multimask(*inputs)
        assert found.shape == (BATCH, PROMPTS, 4 * HEIGHT, 4 * WIDTH)
        np.testing.assert_allclose(found.asnumpy(), masks.asnumpy()[:, :, best], atol=1e-6)
