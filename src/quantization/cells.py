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
"""Cells that compute a quantized product on integer codes held in float32, and a quantized network.

Every sum of codes stays below 2^24 in size, where float32 counts exactly, so a result equals int32 arithmetic bit for
bit in whatever order a kernel adds; sums that could grow larger are cut in two exact halves, whose sum is rounded once,
as an int32 is when it becomes a float. (int8 products wrap silently on a CPU, and int32 ones take seven times as long.)
"""
import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from src.modeling.replace import put_cell
from src.quantization.exact import check_exact, halves
from src.quantization.fold import fold_network
from src.quantization.products import check_coverage, find_products


class Codes(nn.Cell):
    """Quantizer of an activation: x float32 -> a tuple of codes, one for each of its ranges."""

    def __init__(self, quantizer):
        super().__init__()
        self.kind, self.split = quantizer.kind, Tensor(quantizer.split, ms.float32)
        # A split at zero needs no selection: the ranges' own ends are there.
        self.selects = quantizer.kind == "twin" and quantizer.split != 0.0
        self.scales = [Tensor(range_.scale, ms.float32) for range_ in quantizer.ranges]
        self.lows = [Tensor(range_.low, ms.float32) for range_ in quantizer.ranges]
        self.highs = [Tensor(range_.high, ms.float32) for range_ in quantizer.ranges]
        self.smallest = Tensor(2.0 ** -(quantizer.ranges[0].high + 1), ms.float32)
        self.one, self.zero, self.two = (Tensor(value, ms.float32) for value in (1, 0, 2))
        self.divide, self.round = ops.Div(), ops.Round()
        self.maximum, self.minimum = ops.Maximum(), ops.Minimum()
        self.less, self.cast, self.log, self.pow = ops.Less(), ops.Cast(), ops.Log(), ops.Pow()

    def construct(self, x):
        if self.kind == "log2":
            return (self._powers(x),)
        if self.kind == "uniform":
            return (self._codes(x, 0),)
        if not self.selects:
            return self._codes(x, 0), self._codes(x, 1)
        lower = self.cast(self.less(x, self.split), ms.float32)
        return self._codes(x * lower, 0), self._codes(x * (self.one - lower), 1)

    def _codes(self, x, index):
        codes = self.round(self.divide(x, self.scales[index]))
        return self.minimum(self.maximum(codes, self.lows[index]), self.highs[index])

    def _powers(self, x):
        """2^-code, and 0 for the last code: a float by nature, so this quantizer is a simulation."""
        share = self.maximum(self.divide(x, self.scales[0]), self.smallest)
        exponents = self.round(self.log(share) * (-1.0 / float(np.log(2.0))))
        exponents = self.minimum(self.maximum(exponents, self.zero), self.highs[0])
        kept = self.cast(self.less(exponents, self.highs[0]), ms.float32)
        return self.pow(self.two, self.zero - exponents) * kept


class WeightedSum(nn.Cell):
    """Integer sums of each range -> sum over the ranges of sums * factors, and the bias."""

    def __init__(self, factors):
        super().__init__()
        self.factors = factors

    def construct(self, sums, bias):
        total = None
        for index, part in enumerate(sums):
            part = part * self.factors[index]
            total = part if total is None else total + part
        return total + bias


class _WeightedProduct(nn.Cell):
    """What linear and conv share: codes of the weight as a parameter, a factor per channel and range, the bias."""

    def __init__(self, layer, channel_shape, groups=1):
        super().__init__()
        quantizer, = layer.inputs
        self.codes = Codes(quantizer)
        self.weight_codes = Parameter(Tensor(layer.weight_codes.astype(np.float32)), requires_grad=False,
                                      name=f"{layer.name}.weight_codes")
        self.weighted_sum = WeightedSum([Tensor((np.float32(r.scale) * layer.weight_scales).reshape(channel_shape))
                                         for r in quantizer.ranges])
        bias = np.zeros(len(layer.weight_scales), np.float32) if layer.bias is None else layer.bias
        self.bias = Parameter(Tensor(bias.reshape(channel_shape)), requires_grad=False, name=f"{layer.name}.bias")
        self.half = halves(layer, groups)

    def rescaled(self, x):
        """Output of the product for an input in the layout that `product` takes."""
        sums = ()
        for codes in self.codes(x):
            sums += (self.product(codes),)
        return self.weighted_sum(sums, self.bias)


class QuantizedLinear(_WeightedProduct):
    """A quantized `nn.Dense`: [..., in] -> [..., out]."""

    def __init__(self, layer):
        super().__init__(layer, (1, -1))
        self.matmul = ops.MatMul(transpose_b=True)

    def construct(self, x):
        return self.rescaled(x.reshape((-1, x.shape[-1]))).reshape(x.shape[:-1] + (-1,))

    def product(self, codes):
        if not self.half:
            return self.matmul(codes, self.weight_codes)
        half = self.half
        return (self.matmul(codes[:, :half], self.weight_codes[:, :half])
                + self.matmul(codes[:, half:], self.weight_codes[:, half:]))


class QuantizedConv2d(_WeightedProduct):
    """A quantized `nn.Conv2d`, with the primitive of the one it replaces: [B, in, H, W] -> [B, out, H', W']."""

    def __init__(self, layer, conv2d):
        super().__init__(layer, (1, -1, 1, 1), conv2d.group)
        self.conv2d = conv2d

    def construct(self, x):
        return self.rescaled(x)

    def product(self, codes):
        if not self.half:
            return self.conv2d(codes, self.weight_codes)
        half = self.half
        return (self.conv2d(codes[:, :half], self.weight_codes[:, :half])
                + self.conv2d(codes[:, half:], self.weight_codes[:, half:]))


class QuantizedMatMul(nn.Cell):
    """A quantized product of two activations, with the primitive of the one it replaces."""

    def __init__(self, layer, primitive):
        super().__init__()
        check_exact(layer)
        first, second = layer.inputs
        self.first, self.second = Codes(first), Codes(second)
        self.factors = [Tensor(np.float32(a.scale) * np.float32(b.scale)) for a in first.ranges for b in second.ranges]
        self.primitive = primitive

    def construct(self, a, b):
        total = None
        second = self.second(b)
        for i, first_codes in enumerate(self.first(a)):
            for k, second_codes in enumerate(second):
                part = self.primitive(first_codes, second_codes) * self.factors[i * len(second) + k]
                total = part if total is None else total + part
        return total


def quantized_cell(layer, operation):
    """The cell of a LayerScales in the place of `operation`, the float cell or primitive."""
    if layer.kind == "linear":
        return QuantizedLinear(layer)
    if layer.kind == "conv":
        return QuantizedConv2d(layer, operation.conv2d)
    return QuantizedMatMul(layer, operation)


def quantize_network(sam, quantization, checkpoint_sha256, source="scales"):
    """Quantize a `Sam` that holds the checkpoint's weights, in place and for inference only.

    Args:
        sam: with the weights of the checkpoint that was quantized.
        quantization: a Quantization.
        checkpoint_sha256: hash of the checkpoint's file.
        source: what messages call the quantization (its path).

    Returns:
        sam

    Raises:
        ValueError: scales of another checkpoint, variant or size, or a product that they do not list.
    """
    if quantization.checkpoint_sha256 != checkpoint_sha256:
        raise ValueError(f"{source} was made from the checkpoint with SHA-256 {quantization.checkpoint_sha256[:12]}.., "
                         f"this one has {checkpoint_sha256[:12]}..; give the checkpoint it was made from")
    if (quantization.variant, quantization.image_size) != (sam.variant, sam.image_size):
        raise ValueError(f"{source} is for {quantization.variant} at {quantization.image_size} px, the network is "
                         f"{sam.variant} at {sam.image_size} px")
    fold_network(sam)
    products = {product.name: product for product in find_products(sam)}
    check_coverage(products.values(), [layer.name for layer in quantization.layers], quantization.kept, source)
    set_parameters(sam, quantization.parameters, source)
    for layer in quantization.layers:
        product = products[layer.name]
        if layer.kind != product.kind or (layer.kind != "matmul"
                                          and layer.weight_codes.shape != tuple(product.operation.weight.shape)):
            raise ValueError(f"{source}: {layer.name} is a {layer.kind} of another shape than the network's "
                             f"{product.kind}; run quantize.py again")
        put_cell(product.owner, product.attribute, quantized_cell(layer, product.operation))
    return sam.set_train(False)


def set_parameters(sam, values, source):
    """Give parameters of a network {name: array}; ValueError, which begins with `source`, for one that it lacks."""
    parameters = dict(sam.parameters_and_names())
    for name, value in values.items():
        if name not in parameters or tuple(parameters[name].shape) != value.shape:
            raise ValueError(f"{source}: parameter {name} {list(value.shape)} is not one of the network")
        parameters[name].set_data(Tensor(np.asarray(value, np.float32)))
