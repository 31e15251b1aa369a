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
"""Quantized products of every kind in one cell, with inputs whose codes no rounding of a kernel can change."""
import itertools

import numpy as np
from mindspore import nn, ops

from src.export.graphs import Graph, TensorSpec, write_graph
from src.quantization.cells import QuantizedConv2d, QuantizedLinear, QuantizedMatMul
from src.quantization.fold import fold_network
from src.quantization.observe import channel_scales
from src.quantization.products import find_products, reason_to_keep
from src.quantization.spec import CodeRange, LayerScales, Quantization, Quantizer, signed_range, weight_codes
from tests.quantization.conftest import small_sam

SHA = "5a" * 32

SIGNED = Quantizer("uniform", 8, (CodeRange(0.0371, -128, 127),))
OFFSET = Quantizer("uniform", 8, (CodeRange(0.0123, -14, 241),))
SIX_BITS = Quantizer("uniform", 6, (CodeRange(0.0812, -32, 31),))
SIX_BITS_OFFSET = Quantizer("uniform", 6, (CodeRange(0.0547, -5, 58),))
UNSIGNED = Quantizer("uniform", 8, (CodeRange(1 / 255, 0, 255),))
SHAPES = {"conv": (8, 4, 3, 3), "depthwise": (4, 1, 3, 3), "linear": (24, 96), "narrow": (24, 96), "long": (3, 2000)}
KINDS = {"conv": "conv", "depthwise": "conv"}
QUANTIZERS = {"conv": OFFSET, "depthwise": SIGNED, "linear": SIGNED, "narrow": SIX_BITS, "long": SIX_BITS_OFFSET}


def layers():
    """{name: LayerScales}; the codes of `long` are so large that its sum is cut in halves."""
    rng, found = np.random.default_rng(0), {}
    for name, shape in SHAPES.items():
        bits = QUANTIZERS[name].bits
        codes = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape).astype(np.int8)
        if name == "long":
            codes, bits = np.full(shape, 127, np.int8), 8
            codes[1, ::3], codes[2, ::5] = 90, -128
        found[name] = LayerScales(
            name, KINDS.get(name, "linear"), bits, QUANTIZERS[name].bits, (QUANTIZERS[name],), int(np.prod(shape[1:])),
            weight_scales=rng.uniform(0.001, 0.01, shape[0]).astype(np.float32), weight_codes=codes,
            bias=rng.standard_normal(shape[0]).astype(np.float32))
    found["scores"] = LayerScales("scores", "matmul", 0, 8, (SIGNED, OFFSET), 16)
    found["mix"] = LayerScales("mix", "matmul", 0, 8, (UNSIGNED, SIGNED), 9)
    return found


def quantization():
    return Quantization("ab" * 32, "small", 64, "paper", 8, 8, tuple(layers().values()), {})


class Products(nn.Cell):
    """image [1, 4, 10, 10], rows [5, 96], few [2, 96], many [2, 2000], a [1, 2, 7, 16], b [1, 2, 9, 16]."""

    def __init__(self):
        super().__init__()
        found = layers()
        self.conv = QuantizedConv2d(found["conv"], nn.Conv2d(4, 8, 3, 2, pad_mode="pad", padding=1).conv2d)
        self.depthwise = QuantizedConv2d(found["depthwise"],
                                         nn.Conv2d(4, 4, 3, pad_mode="pad", padding=1, group=4).conv2d)
        self.linear, self.narrow, self.long = (QuantizedLinear(found[name]) for name in ("linear", "narrow", "long"))
        self.scores = QuantizedMatMul(found["scores"], ops.BatchMatMul(transpose_b=True))
        self.mix = QuantizedMatMul(found["mix"], ops.BatchMatMul())

    def construct(self, image, low_image, rows, few, many, a, b, shares, values):
        return (self.conv(image), self.depthwise(low_image), self.linear(rows), self.narrow(few), self.long(many),
                self.scores(a, b), self.mix(shares, values))


def between(quantizer, shape, rng):
    """Values of all codes and beyond both ends, at most 0.3 of a code from the middle of one."""
    (scale, low, high), = quantizer.ranges
    codes = rng.integers(low - 9, high + 10, shape)
    return ((codes + rng.uniform(-0.3, 0.3, shape)) * scale).astype(np.float32)


def arrays():
    """Inputs of `Products`."""
    rng = np.random.default_rng(1)
    operands = [(OFFSET, (1, 4, 10, 10)), (SIGNED, (1, 4, 10, 10)), (SIGNED, (5, 96)), (SIX_BITS, (2, 96)),
                (SIX_BITS_OFFSET, (2, 2000)), (SIGNED, (1, 2, 7, 16)), (OFFSET, (1, 2, 9, 16)),
                (UNSIGNED, (1, 2, 7, 9)), (SIGNED, (1, 2, 9, 16))]
    return [between(quantizer, shape, rng) for quantizer, shape in operands]


OUTPUTS = ("conv", "depthwise", "linear", "narrow", "long", "scores", "mix")


class QdqGraph:
    """An ONNX graph with QuantizeLinear and DequantizeLinear, to be compared with the layers of scales.json."""

    def __init__(self, graph, to_array):
        self.nodes = list(graph.node)
        self.stored = {tensor.name: to_array(tensor) for tensor in graph.initializer}
        self.made_by = {name: node for node in graph.node for name in node.output}

    def check(self, layer, integer_weights):
        """The product of a layer with weights has its scales, zero points and codes."""
        product, = (node for node in self.nodes if node.name == layer.name)
        assert product.op_type == {"conv": "Conv", "linear": "Gemm"}[layer.kind]
        activation, weight = (self.made_by[name] for name in product.input)
        (scale, low, _), = layer.inputs[0].ranges
        assert activation.op_type == weight.op_type == "DequantizeLinear"
        zero = self.stored[activation.input[2]]
        assert self.stored[activation.input[1]] == np.float32(scale)
        assert (zero.dtype, zero) == ((np.int8, 0) if low in (-128, -32) else (np.uint8, -low))
        np.testing.assert_array_equal(self.stored[weight.input[1]], layer.weight_scales)
        assert weight.attribute[0].i == 0 and not self.stored[weight.input[2]].any()
        if integer_weights:
            np.testing.assert_array_equal(self.stored[weight.input[0]], layer.weight_codes)
            assert self.stored[weight.input[0]].dtype == np.int8
        else:  # float32 of the same values, whose codes are found again
            quantize = self.made_by[weight.input[0]]
            assert quantize.op_type == "QuantizeLinear" and list(quantize.input[1:]) == list(weight.input[1:])
            shaped = layer.weight_scales.reshape((-1,) + (1,) * (layer.weight_codes.ndim - 1))
            np.testing.assert_array_equal(np.rint(self.stored[quantize.input[0]] / shaped), layer.weight_codes)


    def pairs(self):
        """(scale, zero point) of both operands of every product of two activations, as `operand_pairs`."""
        found = []
        for node in self.nodes:
            operands = [self._dequantized(name) for name in node.input] if node.op_type == "MatMul" else []
            if operands and all(operands):
                found.append(tuple((float(self.stored[made.input[1]]), int(self.stored[made.input[2]]))
                                   for made in operands))
        return sorted(found)

    def _dequantized(self, name):
        """The DequantizeLinear that an operand comes from, maybe transposed or reshaped; None where there is none."""
        node = self.made_by.get(name)
        while node is not None and node.op_type in ("Transpose", "Reshape"):
            node = self.made_by.get(node.input[0])
        return node if node is not None and node.op_type == "DequantizeLinear" else None


def operand_pairs(layers):
    """Sorted ((scale, zero point), (scale, zero point)) of the operands of every product of two activations."""
    return sorted(tuple((float(np.float32(q.ranges[0].scale)), q.record()["zero_point"]) for q in layer.inputs)
                  for layer in layers if layer.kind == "matmul")


def write_products(path):
    """The MindIR of `Products`."""
    specs = tuple(TensorSpec(f"x{place}", array.shape, "float32") for place, array in enumerate(arrays()))
    write_graph(Graph("test", "test", Products().set_train(False), specs, ()), path)


def quantization_of_small_sam():
    return quantization_of(small_sam(), SHA)


def quantization_of(sam, checkpoint_sha256, decoder_attention=False):
    """Every product of a network but the kept, with scales of the weights' and made-up ranges, one for each operand.

    decoder_attention: whether the decoder's products of two activations are quantized.
    """
    found, kept, seen = [], {}, itertools.count()

    def symmetric(scale=0.03):
        return Quantizer("uniform", 8, (signed_range(scale * (1 + 1e-3 * next(seen)), 8),))

    for product in find_products(fold_network(sam)):
        reason = reason_to_keep(product, decoder_attention)
        if reason:
            kept[product.name] = reason
        elif product.kind == "matmul":
            first = symmetric(1 / 128) if product.after_softmax else symmetric()
            found.append(LayerScales(product.name, "matmul", 0, 8, (first, symmetric()), 8))
        else:
            scales = channel_scales(product.weight, 8)
            codes = weight_codes(product.weight, scales, 8).astype(np.int8)
            found.append(LayerScales(product.name, product.kind, 8, 8, (symmetric(),), 8, weight_scales=scales,
                                     weight_codes=codes, bias=product.bias))
    return Quantization(checkpoint_sha256, sam.variant, sam.image_size, "ascend", 8, 8, tuple(found), kept)
