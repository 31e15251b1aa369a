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
"""BatchNorm folded into the convolutions in front of it, for inference.

With inference's statistics, gamma (W x - mean) / sqrt(var + eps) + beta is one convolution with other weights and a
bias (arXiv 1712.05877, section 3.2): the same but for rounding, and a pass over every image of channels less.
"""
import numpy as np
from mindspore import nn

from src.modeling.replace import exchange, set_parameters
from src.modeling.tiny_vit import Conv2dBN


def fold_batch_norm(network):
    """Replace every `Conv2dBN` of a network by one `nn.Conv2d` with bias, in place.

    Args:
        network: a cell with its weights. Its convolution `a.b` has the parameters a.b.weight and a.b.bias afterwards;
            it can be trained or saved as the variant no more.

    Returns:
        The network, in evaluation mode.
    """
    exchange(network, lambda _, child, name: folded_convolution(child, name) if isinstance(child, Conv2dBN) else None)
    return network.set_train(False)


def folded_weights(weight, gamma, beta, mean, variance, eps):
    """float64 weights [O, ...] and bias [O] of the convolution `weight` [O, ...] with the BatchNorm behind it."""
    factor = gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + eps)
    return weight * factor.reshape((-1,) + (1,) * (weight.ndim - 1)), beta - mean * factor


def folded_convolution(conv_bn, name):
    """The `nn.Conv2d` of a `Conv2dBN`; its parameters are name.weight and name.bias, which nothing changes later."""
    old, norm = conv_bn.c, conv_bn.bn
    conv = nn.Conv2d(old.in_channels, old.out_channels, old.kernel_size, stride=old.stride, pad_mode="pad",
                     padding=old.padding, group=old.group, has_bias=True)
    values = folded_weights(old.weight.asnumpy(), norm.gamma.asnumpy(), norm.beta.asnumpy(),
                            norm.moving_mean.asnumpy(), norm.moving_variance.asnumpy(), norm.eps)
    set_parameters(conv, name, dict(zip(("weight", "bias"), values)))
    return conv
