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
"""Cells of int8 primitives for Ascend, which a CPU host can write into a MindIR but not run.

Quant makes int8 codes, QuantBatchMatmul or an int8 Conv2D with Dequant multiplies them and applies the scales, which
these primitives take as the bits of a float32 in the lower half of a uint64. Only symmetric codes of 8 bits have this
form. MindSpore 2.10 exports it without a device; not run on one.
"""
import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn
from mindspore.ops.auto_generate import QuantBatchMatmul, QuantV2
from mindspore.ops.operations._inner_ops import Dequant

from src.modeling.replace import exchange


class NpuCodes(nn.Cell):
    """x float32 -> int8 codes of a symmetric quantizer."""

    def __init__(self, quantizer):
        super().__init__()
        self.inverse_scale = Tensor([1.0 / quantizer.ranges[0].scale], ms.float32)
        self.offset = Tensor([0.0], ms.float32)
        self.quant = QuantV2()

    def construct(self, x):
        return self.quant(x, self.inverse_scale, self.offset, False, "ROUND", ms.int8)


class NpuLinear(nn.Cell):
    """A linear layer: [..., in] -> [..., out] float32."""

    def __init__(self, layer):
        super().__init__()
        self.codes, self.matmul = NpuCodes(layer.inputs[0]), QuantBatchMatmul(False, True, ms.float16)
        self.weight_codes, self.factors, self.bias = weight_parameters(layer, (-1,))

    def construct(self, x):
        product = self.matmul(self.codes(x.reshape((-1, x.shape[-1]))), self.weight_codes, self.factors)
        return (product.astype(ms.float32) + self.bias).reshape(x.shape[:-1] + (-1,))


class NpuConv2d(nn.Cell):
    """A convolution, with the primitive of the one it replaces: [B, in, H, W] -> [B, out, H', W'] float32."""

    def __init__(self, layer, conv2d):
        super().__init__()
        self.codes, self.conv2d, self.dequant = NpuCodes(layer.inputs[0]), conv2d, Dequant(False, False)
        self.weight_codes, self.factors, self.bias = weight_parameters(layer, (1, -1, 1, 1))

    def construct(self, x):
        product = self.dequant(self.conv2d(self.codes(x), self.weight_codes), self.factors)
        return product.astype(ms.float32) + self.bias


class NpuMatMul(nn.Cell):
    """A product of two activations: float32."""

    def __init__(self, layer, primitive):
        super().__init__()
        first, second = layer.inputs
        self.first, self.second = NpuCodes(first), NpuCodes(second)
        self.factors = Tensor(packed(np.float32([first.ranges[0].scale]) * np.float32(second.ranges[0].scale)))
        self.matmul = QuantBatchMatmul(bool(primitive.transpose_a), bool(primitive.transpose_b), ms.float16)

    def construct(self, a, b):
        return self.matmul(self.first(a), self.second(b), self.factors).astype(ms.float32)


def packed(factors):
    """float32 [n] -> uint64 [n] with their bits in the lower half."""
    return np.asarray(factors, np.float32).view(np.uint32).astype(np.uint64)


def weight_parameters(layer, channel_shape):
    """Codes int8, packed factors and bias of a layer, called as the layer is."""
    factors = packed(np.float32(layer.inputs[0].ranges[0].scale) * layer.weight_scales)
    bias = np.zeros(len(factors), np.float32) if layer.bias is None else layer.bias
    return tuple(Parameter(Tensor(value), requires_grad=False, name=f"{layer.name}.{key}") for key, value in (
        ("weight_codes", layer.weight_codes), ("factors", factors), ("bias", bias.reshape(channel_shape))))


def use_npu_cells(sam, quantization):
    """Exchange the cells of a `Sam` that `quantize_network` has quantized for int8 ones, in place, for export only.

    Raises:
        ValueError: as `check_npu`.
    """
    layers = {layer.name: layer for layer in quantization.layers}
    exchange(sam, lambda _, cell, name: npu_cell(layers[name], cell) if name in layers else None)
    return sam.set_train(False)


def npu_cell(layer, cell):
    """The int8 cell of a LayerScales in the place of its quantized cell. Raises ValueError as `check_npu`."""
    check_npu(layer)
    if layer.kind == "linear":
        return NpuLinear(layer)
    return NpuConv2d(layer, cell.conv2d) if layer.kind == "conv" else NpuMatMul(layer, cell.primitive)


def check_npu(layer):
    """Raises ValueError unless all operands of a layer have symmetric codes of 8 bits."""
    for quantizer in layer.inputs:
        if quantizer.kind != "uniform" or quantizer.ranges[0][1:] != (-128, 127):
            raise ValueError(f"{layer.name} has an operand that is not symmetric int8; quantize with "
                             "--quantize.preset=ascend and 8 bits for activations")
