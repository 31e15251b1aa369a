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
"""Parts that both image encoders and the mask decoder share (SAM, arXiv 2304.02643; TinyViT, arXiv 2207.10666).

Attribute names follow the released checkpoints, so weights load by name. The framework's own defaults differ from the
reference (tanh GELU, LayerNorm eps 1e-7, 'same' padding); everything here states the reference's values.
"""
import math

from mindspore import Parameter, nn, ops
from mindspore.common.initializer import TruncatedNormal, initializer

LAYER_NORM_EPS = 1e-5  # the reference framework's default, used by TinyViT and the two-way transformer
SAM_NORM_EPS = 1e-6  # the ViT blocks and every LayerNorm2d of SAM


# Phi(x) = sigmoid(x Q(x^2)) with the Q of degree 6 whose x Phi(x) is off by 6.6e-8 at most over all x (fitted to
# [0, 6.5] for the least largest error; the leading coefficient is positive, so the sigmoid stays saturated beyond).
GELU_Q = tuple(2.0 * c for c in (
    0.7978842683853113, 0.036334149190412744, -3.3026756388878525e-05, -5.5273370147925715e-05, 3.9740684812758694e-06,
    -1.3378305754469126e-07, 1.813924089419128e-09))


class GELU(nn.Cell):
    """Exact GELU, x * Phi(x), to 6e-7 (that of the framework's Sigmoid): any shape in, the same shape out.

    Erf is the slowest function these networks could call on a CPU, 7 times the time of Sigmoid and 28 times that of
    a product; Tanh is off by 1e-4 there. The backward pass is written out: it reuses Phi, and the derivative of Phi is
    the normal density.
    """

    def __init__(self):
        super().__init__()
        self.gate = GaussianGate()

    def construct(self, x):
        return self.gate(x)[0]


class GaussianGate(nn.Cell):
    """x -> (x * Phi(x), Phi(x)), Phi the normal distribution's cumulative function. Only the first has a gradient."""

    def __init__(self):
        super().__init__()
        self.sigmoid = ops.Sigmoid()
        self.exp = ops.Exp()

    def construct(self, x):  # src/export/gelu_pattern.py knows these primitives in their order
        square = x * x
        q = GELU_Q[6] * square + GELU_Q[5]
        for k in range(4, -1, -1):
            q = q * square + GELU_Q[k]
        phi = self.sigmoid(x * q)
        return x * phi, phi

    def bprop(self, x, out, dout):
        """d(x Phi) / dx = Phi + x exp(-x^2 / 2) / sqrt(2 pi)."""
        density = self.exp(x * x * -0.5) * (1.0 / math.sqrt(2.0 * math.pi))
        return (dout[0] * (out[1] + x * density),)


class LayerNorm2d(nn.Cell):
    """Normalises the channels of every pixel of [B, C, H, W]; parameters `weight` and `bias` [C]."""

    def __init__(self, num_channels, eps=SAM_NORM_EPS):
        super().__init__()
        self.weight = Parameter(initializer("ones", (num_channels,)))
        self.bias = Parameter(initializer("zeros", (num_channels,)))
        self.eps = eps
        self.mean = ops.ReduceMean(keep_dims=True)
        self.rsqrt = ops.Rsqrt()

    def construct(self, x):
        centred = x - self.mean(x, 1)
        variance = self.mean(centred * centred, 1)
        weight = self.weight.reshape((1, -1, 1, 1))
        return centred * self.rsqrt(variance + self.eps) * weight + self.bias.reshape((1, -1, 1, 1))


def check_encoder_sizes(image_size, embed_dim, num_heads):
    """Raises ValueError unless image_size is a positive multiple of 64 pixels and the heads divide the width."""
    if image_size <= 0 or image_size % 64:
        raise ValueError(f"image_size ({image_size}) must be a positive multiple of 64")
    if embed_dim % num_heads:
        raise ValueError(f"embed_dim ({embed_dim}) must be divisible by num_heads ({num_heads})")


def layer_norm(dim, eps=LAYER_NORM_EPS):
    """LayerNorm over the last axis of [..., dim]."""
    return nn.LayerNorm((dim,), epsilon=eps)


def linear(in_features, out_features, has_bias=True):
    """Fully connected layer over the last axis; truncated normal weights (std 0.02), zero bias."""
    return nn.Dense(in_features, out_features, weight_init=TruncatedNormal(0.02), bias_init="zeros", has_bias=has_bias)


def conv2d(in_channels, out_channels, kernel_size, stride=1, padding=0, groups=1, has_bias=False):
    """Convolution of [B, C, H, W] with explicit symmetric zero padding in pixels."""
    return nn.Conv2d(in_channels, out_channels, kernel_size, stride=stride, pad_mode="pad", padding=padding,
                     group=groups, has_bias=has_bias)


def to_tokens(x):
    """[B, C, H, W] -> [B, H * W, C]."""
    return ops.transpose(x, (0, 2, 3, 1)).reshape((x.shape[0], -1, x.shape[1]))


def to_image(x, side):
    """[B, side * side, C] -> [B, C, side, side].

    Transposed as an image, here and in `to_tokens`: engines that hold channels last then move nothing at all.
    """
    return ops.transpose(x.reshape((x.shape[0], side, side, x.shape[2])), (0, 3, 1, 2))


def sam_neck(embed_dim, out_chans):
    """SAM's neck (arXiv 2304.02643, appendix A): [B, embed_dim, h, w] -> image_embeddings [B, out_chans, h, w]."""
    return nn.SequentialCell(
        conv2d(embed_dim, out_chans, 1),
        LayerNorm2d(out_chans),
        conv2d(out_chans, out_chans, 3, padding=1),
        LayerNorm2d(out_chans),
    )


class MLPBlock(nn.Cell):
    """Two fully connected layers, `lin1` and `lin2`, around an activation: [..., embed_dim] -> [..., embed_dim].

    The ViT uses exact GELU (the default), the two-way transformer passes `nn.ReLU()`.
    """

    def __init__(self, embed_dim, mlp_dim, activation=None):
        super().__init__()
        self.lin1 = linear(embed_dim, mlp_dim)
        self.lin2 = linear(mlp_dim, embed_dim)
        self.act = GELU() if activation is None else activation

    def construct(self, x):
        return self.lin2(self.act(self.lin1(x)))
