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
"""Networks made ready for quantization: BatchNorm folded into convolutions, upscalings as the linear layers they are.

With inference's statistics, gamma (W x - mean) / sqrt(var + eps) + beta is one convolution with other weights and a
bias (arXiv 1712.05877, section 3.2). Behind this every product with weights is an `nn.Dense` or an `nn.Conv2d`.
"""
import mindspore as ms
import numpy as np
from mindspore import nn

from src.modeling.mask_decoder import UpscaleRows
from src.modeling.tiny_vit import Conv2dBN
from src.quantization.products import exchange


class UpscaleLinear(nn.Cell):
    """`UpscaleRows` as a linear layer `linear` of 4 * out channels: rows [L, in] -> [L*4, out]."""

    def __init__(self, linear, out_channels):
        super().__init__()
        self.linear = linear
        self.out_channels = out_channels

    def construct(self, x):
        return self.linear(x).reshape(-1, self.out_channels)


def fold_network(sam):
    """Fold a `Sam` in place, in evaluation mode. Returns it."""
    for prefix, cell in list(sam.cells_and_names()):
        for attribute, child in list(cell._cells.items()):
            name = f"{prefix}.{attribute}" if prefix else attribute
            if isinstance(child, Conv2dBN):
                exchange(cell, attribute, _folded_convolution(child, name))
            elif isinstance(child, UpscaleRows):
                exchange(cell, attribute, _linear_upscaling(child, name))
    return sam.set_train(False)


def folded_weights(weight, gamma, beta, mean, variance, eps):
    """float64 weights [O, ...] and bias [O] of the convolution `weight` [O, ...] with the BatchNorm behind it."""
    factor = gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + eps)
    return weight * factor.reshape((-1,) + (1,) * (weight.ndim - 1)), beta - mean * factor


def _folded_convolution(child, name):
    old, norm = child.c, child.bn
    weight, bias = folded_weights(*(p.asnumpy() for p in (old.weight, norm.gamma, norm.beta, norm.moving_mean,
                                                          norm.moving_variance)), norm.eps)
    conv = nn.Conv2d(old.in_channels, old.out_channels, old.kernel_size, stride=old.stride, pad_mode="pad",
                     padding=old.padding, group=old.group, has_bias=True)
    return _filled(conv, name, weight, bias)


def _linear_upscaling(child, name):
    weight, bias = child.weight.asnumpy(), child.bias.asnumpy()  # [in, out, 2, 2], [out]
    weight = weight.transpose(2, 3, 1, 0).reshape(-1, weight.shape[0])  # [4 * out, in]
    linear = _filled(nn.Dense(weight.shape[1], weight.shape[0]), f"{name}.linear", weight, np.tile(bias, 4))
    return UpscaleLinear(linear, child.out_channels)


def _filled(cell, name, weight, bias):
    for key, value in (("weight", weight), ("bias", bias)):
        parameter = getattr(cell, key)
        parameter.set_data(ms.Tensor(np.ascontiguousarray(value, np.float32)))
        parameter.name = f"{name}.{key}"
    return cell
