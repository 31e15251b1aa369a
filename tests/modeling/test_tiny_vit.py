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
"""TinyViT: attention against a slow loop, gradients against differences, BatchNorm's statistics, sizes refused."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import ops

from src.checkpoint import torch_name
from src.modeling.common import to_image
from src.modeling.tiny_vit import Attention, Conv2dBN, TinyViT
from tools.make_parity_vectors import reference_weight


def fill(cell):
    for parameter in cell.get_parameters():
        parameter.set_data(ms.Tensor(reference_weight(torch_name(parameter.name), parameter.shape)))
    return cell


def tiny(image_size=64):
    return fill(TinyViT(image_size, (8, 16, 16, 24), (1, 1, 1, 1), (1, 2, 2, 3), (7, 3, 4, 3), 16))


def images(batch, image_size=64):
    return np.random.default_rng(0).standard_normal((batch, 3, image_size, image_size)).astype(np.float32)


def softmax(scores):
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def slow_attention(cell, x, side, window, heads):
    """The paper's order by loops: pad the grid with zeros, norm, project, attend inside each window, crop."""
    weights = {parameter.name: parameter.asnumpy().astype(np.float64) for parameter in cell.get_parameters()}
    batch, _, dim = x.shape
    head_dim, windows = dim // heads, -(-side // window)
    grid = np.zeros((batch, windows * window, windows * window, dim))
    grid[:, :side, :side] = x.reshape(batch, side, side, dim)
    normed = (grid - grid.mean(-1, keepdims=True)) / np.sqrt(grid.var(-1, keepdims=True) + 1e-5)
    normed = normed * weights["norm.gamma"] + weights["norm.beta"]
    qkv = (normed @ weights["qkv.weight"].T + weights["qkv.bias"]).reshape(*grid.shape[:3], heads, 3, head_dim)
    mixed = np.zeros(grid.shape)
    places = [(i, j) for i in range(window) for j in range(window)]
    for b in range(batch):
        for top in range(0, windows * window, window):
            for left in range(0, windows * window, window):
                for h in range(heads):
                    q, k, v = (np.stack([qkv[b, top + i, left + j, h, part] for i, j in places]) for part in range(3))
                    scores = q @ k.T / np.sqrt(head_dim)
                    for row, (qi, qj) in enumerate(places):
                        for column, (ki, kj) in enumerate(places):
                            offset = abs(qi - ki) * window + abs(qj - kj)
                            scores[row, column] += weights["attention_biases"][h, offset]
                    for (i, j), token in zip(places, softmax(scores) @ v):
                        mixed[b, top + i, left + j, h * head_dim:(h + 1) * head_dim] = token
    out = mixed[:, :side, :side].reshape(batch, side * side, dim)
    return out @ weights["proj.weight"].T + weights["proj.bias"]


@pytest.mark.parametrize("side, window", [(3, 2), (2, 2)])
def test_attention_against_a_slow_loop(side, window, mode):
    cell = fill(Attention(8, 2, side, window))
    x = np.random.default_rng(1).standard_normal((2, side * side, 8)).astype(np.float32)
    expected = slow_attention(cell, x, side, window, 2)
    np.testing.assert_allclose(cell(ms.Tensor(x)).asnumpy(), expected, rtol=0, atol=2e-6)


def test_batch_norm_statistics_in_training():
    # One channel, weight 1, values 1, 2, 3, 6: mean 3, variance 3.5, unbiased 14/3. The moving ones start at 0 and 1
    # and take a tenth of the new: 0.3 and 0.9 + 0.1 * 14/3. The output is (x - 3) / sqrt(3.5 + 1e-5).
    cell = Conv2dBN(1, 1)
    cell.c.weight.set_data(ms.Tensor(np.ones((1, 1, 1, 1), np.float32)))
    cell.set_train(True)
    x = np.array([1, 2, 3, 6], np.float32).reshape(1, 1, 2, 2)
    np.testing.assert_allclose(cell(ms.Tensor(x)).asnumpy(), (x - 3) / np.sqrt(3.5 + 1e-5), rtol=1e-5)
    np.testing.assert_allclose(cell.bn.moving_mean.asnumpy(), [0.3], rtol=1e-5)
    np.testing.assert_allclose(cell.bn.moving_variance.asnumpy(), [0.9 + 0.1 * 14 / 3], rtol=1e-5)
    cell.set_train(False)
    expected = (x - 0.3) / np.sqrt(0.9 + 0.1 * 14 / 3 + 1e-5)
    np.testing.assert_allclose(cell(ms.Tensor(x)).asnumpy(), expected, rtol=1e-5)


def test_images_of_a_batch_do_not_mix():
    net = tiny().set_train(False)
    x = images(2)
    both = net(ms.Tensor(x)).asnumpy()
    assert both.shape == (2, 16, 4, 4)  # stride 16: the last merging layer keeps the resolution
    np.testing.assert_allclose(both[1:], net(ms.Tensor(x[1:])).asnumpy(), rtol=0, atol=1e-5)


def test_every_parameter_counts():
    # Equal embeddings at equal weights say nothing about a weight that nobody reads.
    net = tiny().set_train(False)
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
    net = tiny().set_train(True)
    x, weights = ms.Tensor(images(2)), np.random.default_rng(2).standard_normal((2, 16, 4, 4)).astype(np.float32)

    def loss(batch):
        return ops.reduce_sum(net(batch) * ms.Tensor(weights))

    names = ("patch_embed.seq.0.c.weight", "layers.0.blocks.0.conv2.bn.gamma",
             "layers.1.blocks.0.attn.attention_biases", "layers.2.blocks.0.attn.norm.beta",
             "layers.2.downsample.conv2.c.weight", "layers.3.blocks.0.mlp.fc1.weight",
             "layers.3.blocks.0.attn.qkv.bias", "neck.3.weight")
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


def test_three_stages_are_the_first_three_of_four():
    """With the four-stage network's weights: its layers up to the third stage's blocks, without the merging behind."""
    sizes = {"image_size": 64, "embed_dims": (8, 16, 16, 24), "depths": (1, 1, 2, 1), "num_heads": (1, 2, 2, 3),
             "window_sizes": (7, 3, 4, 3), "out_chans": 16}
    four = fill(TinyViT(**sizes))
    three = fill(TinyViT(**{name: value[:3] if isinstance(value, tuple) else value for name, value in sizes.items()}))
    assert len(three.layers) == 3 and three.layers[2].downsample is None
    x = four.patch_embed(ms.Tensor(images(2)))
    for layer in (four.layers[0], four.layers[1], *four.layers[2].blocks):
        x = layer(x)
    expected = three.neck(to_image(x, 4))
    np.testing.assert_allclose(three(ms.Tensor(images(2))).asnumpy(), expected.asnumpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("change, message", [
    ({"image_size": 100}, "image_size (100) must be a positive multiple of 64"),
    ({"image_size": 0}, "image_size (0) must be a positive multiple of 64"),
    ({"embed_dims": (8, 16, 25, 24)}, "embed_dim (25) must be divisible by num_heads (2)"),
    ({"depths": (1, 1, 1)}, "embed_dims, depths, num_heads and window_sizes ((8, 16, 16, 24), (1, 1, 1), (1, 2, 2, 3), "
                            "(7, 3, 4, 3)) must have 3 or 4 entries each"),
])
def test_sizes_that_do_not_fit_are_refused(change, message):
    sizes = {"image_size": 64, "embed_dims": (8, 16, 16, 24), "depths": (1, 1, 1, 1), "num_heads": (1, 2, 2, 3),
             "window_sizes": (7, 3, 4, 3), "out_chans": 16, **change}
    with pytest.raises(ValueError) as caught:
        TinyViT(**sizes)
    assert str(caught.value) == message
