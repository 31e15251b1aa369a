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
"""SAM's ViT encoder: attention with relative positions against a slow loop, gradients against differences, sizes."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import ops

from src.checkpoint import torch_name
from src.modeling.image_encoder import Attention, ImageEncoderViT
from tools.make_parity_vectors import reference_weight


def fill(cell):
    for parameter in cell.get_parameters():
        parameter.set_data(ms.Tensor(reference_weight(torch_name(parameter.name), parameter.shape)))
    return cell


def tiny():
    return fill(ImageEncoderViT(64, 16, 24, 2, 3, 3, (1,), 16))


def images(batch):
    return np.random.default_rng(0).standard_normal((batch, 3, 64, 64)).astype(np.float32)


def slow_attention(cell, x, side, window, heads):
    """By loops: pad the normed grid with zeros, project, attend inside each window with relative positions, crop."""
    weights = {parameter.name: parameter.asnumpy().astype(np.float64) for parameter in cell.get_parameters()}
    batch, _, dim = x.shape
    head_dim, padded = dim // heads, -(-side // window) * window
    grid = np.zeros((batch, padded, padded, dim))
    grid[:, :side, :side] = x.reshape(batch, side, side, dim)
    qkv = (grid @ weights["qkv.weight"].T + weights["qkv.bias"]).reshape(batch, padded, padded, 3, heads, head_dim)
    mixed = np.zeros(grid.shape)
    for b, y, xx, h in np.ndindex(batch, padded, padded, heads):
        query = qkv[b, y, xx, 0, h]
        top, left = y // window * window, xx // window * window
        scores = np.zeros((window, window))
        for i, j in np.ndindex(window, window):
            content = query @ qkv[b, top + i, left + j, 1, h] / np.sqrt(head_dim)
            rows = query @ weights["rel_pos_h"][y - (top + i) + window - 1]
            columns = query @ weights["rel_pos_w"][xx - (left + j) + window - 1]
            scores[i, j] = content + rows + columns
        shares = np.exp(scores - scores.max())
        shares /= shares.sum()
        values = qkv[b, top:top + window, left:left + window, 2, h]
        mixed[b, y, xx, h * head_dim:(h + 1) * head_dim] = (shares[..., None] * values).sum((0, 1))
    out = mixed[:, :side, :side].reshape(batch, side * side, dim)
    return out @ weights["proj.weight"].T + weights["proj.bias"]


@pytest.mark.parametrize("side, window", [(3, 2), (3, 3)])
def test_attention_against_a_slow_loop(side, window, mode):
    cell = fill(Attention(8, 2, side, window))
    x = np.random.default_rng(1).standard_normal((2, side * side, 8)).astype(np.float32)
    expected = slow_attention(cell, x, side, window, 2)
    np.testing.assert_allclose(cell(ms.Tensor(x)).asnumpy(), expected, rtol=0, atol=2e-6)


def test_images_of_a_batch_do_not_mix():
    net = tiny()
    x = images(2)
    both = net(ms.Tensor(x)).asnumpy()
    assert both.shape == (2, 16, 4, 4)
    np.testing.assert_allclose(both[1:], net(ms.Tensor(x[1:])).asnumpy(), rtol=0, atol=1e-5)


def test_every_parameter_counts():
    # Equal embeddings at equal weights say nothing about a weight that nobody reads.
    net = tiny()
    x = ms.Tensor(images(1))
    full = net(x).asnumpy()
    for parameter in net.get_parameters():
        value = parameter.asnumpy().copy()
        other = reference_weight("other." + torch_name(parameter.name), value.shape)
        parameter.set_data(ms.Tensor(0.5 * value + 0.1 * other))
        change = np.abs(net(x).asnumpy() - full).max()
        assert change > 1e-3, parameter.name
        parameter.set_data(ms.Tensor(value))


def test_gradients_against_differences(mode):
    net = tiny()
    x, weights = ms.Tensor(images(2)), np.random.default_rng(2).standard_normal((2, 16, 4, 4)).astype(np.float32)

    def loss(batch):
        return ops.reduce_sum(net(batch) * ms.Tensor(weights))

    names = ("patch_embed.proj.weight", "pos_embed", "blocks.0.attn.qkv.bias", "blocks.0.attn.rel_pos_h",
             "blocks.1.attn.rel_pos_w", "blocks.1.norm2.gamma", "neck.1.weight")
    parameters = {parameter.name: parameter for parameter in net.trainable_params()}
    chosen = ms.ParameterTuple([parameters[name] for name in names])
    _, gradients = ms.value_and_grad(loss, None, chosen)(x)
    rng = np.random.default_rng(3)
    for parameter, gradient in zip(chosen, gradients):
        value, gradient = parameter.asnumpy().copy(), gradient.asnumpy().astype(np.float64)
        # along a direction that is half the gradient's own, half random, so that the slope is not small by chance
        direction = gradient / np.linalg.norm(gradient) + rng.standard_normal(value.shape) / np.sqrt(value.size)
        slope = (gradient * direction).sum()
        step = 0.2 / abs(slope)  # moves the loss far beyond float32's noise (1e-4) and little enough to stay straight
        sums = []
        for sign in (1, -1):
            parameter.set_data(ms.Tensor((value + sign * step * direction).astype(np.float32)))
            sums.append((net(x).asnumpy().astype(np.float64) * weights).sum())
        parameter.set_data(ms.Tensor(value))
        np.testing.assert_allclose(slope, (sums[0] - sums[1]) / (2 * step), rtol=1e-2, err_msg=parameter.name)


@pytest.mark.parametrize("change, message", [
    ({"image_size": 96}, "image_size (96) must be a positive multiple of 64"),
    ({"embed_dim": 25}, "embed_dim (25) must be divisible by num_heads (3)"),
])
def test_sizes_that_do_not_fit_are_refused(change, message):
    sizes = {"image_size": 64, "patch_size": 16, "embed_dim": 24, "depth": 2, "num_heads": 3, "window_size": 3,
             "global_attn_indexes": (1,), "out_chans": 16, **change}
    with pytest.raises(ValueError) as caught:
        ImageEncoderViT(**sizes)
    assert str(caught.value) == message
