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
"""Mixed float16 (arXiv 1710.03740): matrix products and convolutions in float16, everything between them in float32.

The only place with casts. A network is built in float32 and its products are exchanged here: operands are rounded to
float16, the result is cast back before a bias is added. So norms, softmax, TinyViT's attention bias, GELU, residual
sums and BatchNorm never see float16, in which TinyViT overflows, and weights stay float32. The product that turns
positions into phases stays as well: the pixels of a 1024 frame would run together in float16.
"""
import mindspore as ms
from mindspore import nn, ops

from src.modeling.prompt_encoder import PositionEmbeddingRandom
from src.modeling.replace import exchange

PRECISIONS = ("float32", "mixed_float16")
KEPT_IN_FLOAT32 = (PositionEmbeddingRandom,)


class HalfProduct(nn.Cell):
    """`ops.MatMul` or `ops.BatchMatMul` on operands rounded to float16 -> float32."""

    def __init__(self, product):
        super().__init__()
        self.product = product

    def construct(self, a, b):
        return self.product(a.astype(ms.float16), b.astype(ms.float16)).astype(ms.float32)


class HalfDense(nn.Cell):
    """An `nn.Dense` without activation, sharing its parameters; the bias is added in float32."""

    def __init__(self, dense):
        super().__init__()
        self.weight, self.bias = dense.weight, dense.bias
        self.matmul = ops.MatMul(transpose_b=True)

    def construct(self, x):
        rows = x.reshape((-1, x.shape[-1])).astype(ms.float16)
        out = self.matmul(rows, self.weight.astype(ms.float16)).astype(ms.float32)
        if self.bias is not None:
            out = out + self.bias
        return out.reshape(x.shape[:-1] + (-1,))


class HalfConv2d(nn.Cell):
    """An `nn.Conv2d`, sharing its parameters; the bias is added in float32."""

    def __init__(self, conv):
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.conv2d = conv.conv2d

    def construct(self, x):
        out = self.conv2d(x.astype(ms.float16), self.weight.astype(ms.float16)).astype(ms.float32)
        if self.bias is not None:
            out = out + self.bias.reshape((1, -1, 1, 1))
        return out


def set_precision(network, precision):
    """Give a freshly built network its precision, in place; parameters keep their names, values and float32.

    Args:
        network: a cell whose products are `nn.Dense`, `nn.Conv2d`, `ops.MatMul` and `ops.BatchMatMul`.
        precision: "float32": as built, or "mixed_float16".

    Returns:
        The network.

    Raises:
        ValueError: another precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision ({precision!r}) must be one of {', '.join(PRECISIONS)}")
    return exchange(network, _half_product) if precision == "mixed_float16" else network


def _half_product(owner, child, name):
    """What computes a product in float16; None for everything else and what stays in float32."""
    if isinstance(owner, KEPT_IN_FLOAT32):
        return None
    if isinstance(child, nn.Dense):
        return HalfDense(child)
    if isinstance(child, nn.Conv2d):
        return HalfConv2d(child)
    return HalfProduct(child) if isinstance(child, (ops.MatMul, ops.BatchMatMul)) else None
