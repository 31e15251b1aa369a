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
"""The MindIR of a quantized network as ONNX with QuantizeLinear and DequantizeLinear, which engines run in int8.

The MindIR computes on codes (src/quantization/cells.py): Div, Round, Maximum, Minimum make them, products take them,
and a Mul with the scales ends it. In ONNX the same values pass, but for the last bits of GELU (gelu_pattern.py): the
four primitives become a QuantizeLinear with its DequantizeLinear, codes of weights an int8 initializer with a
DequantizeLinear per channel, and the Mul goes, after its factor has been compared with the scales. Sums that float32
needed in two halves become one again, since integers of 32 bits have room for them. What surprises: a Clip stands
before operands of fewer than 8 bits, whose codes end before int8 does.
"""
from typing import NamedTuple

import numpy as np

from src.export.mindir import TensorType
from src.export.onnx_graph import OnnxBuilder
from src.export.onnx_operators import CONVERSIONS

CODES = ("Div", "Round", "Maximum", "Minimum")  # the primitives that make codes, in this order
PRODUCTS = ("MatMul", "BatchMatMul", "Conv2D")
WEIGHT_CODES = ".weight_codes"


class Chain(NamedTuple):
    """Primitives that make codes: the name of what they read, its scale, the least and largest code, and the nodes."""

    source: str
    scale: np.float32
    low: int
    high: int
    nodes: tuple


def check_integer(quantization, source, zero_points=True):
    """Raise what no int8 engine computes.

    Args:
        quantization: a Quantization.
        source: what messages call it.
        zero_points: False: operands must be symmetric as well.

    Raises:
        ValueError: a twin or log2 quantizer, or a zero point where none may be, naming the layer.
    """
    for layer in quantization.layers:
        for quantizer in layer.inputs:
            if quantizer.kind != "uniform":
                raise ValueError(f"{source}: {layer.name} has {quantizer.kind} scales, which no int8 product computes; "
                                 "quantize with --quantize.preset=ascend, or gelu=offset and softmax=unsigned")
            if not zero_points and -quantizer.ranges[0].low != 2 ** (quantizer.bits - 1):
                raise ValueError(f"{source}: {layer.name} has an operand with a zero point, which this format does not "
                                 "take; quantize with --quantize.preset=ascend and without gelu=offset, "
                                 "softmax=unsigned and sign_trick")


class QdqBuilder(OnnxBuilder):
    """`OnnxBuilder` for the MindIR of a quantized network.

    Args:
        onnx, graph: as there.
        quantization: the Quantization of the network; `check_integer` has passed it.
        integer_weights: True stores codes of weights as int8; False as float32 of the values they stand for with a
            QuantizeLinear behind, which MindSpore Lite and AMCT ask for.
        kinds: of layers whose operands are quantized; of the others weights alone are rounded.

    Raises:
        ValueError: codes whose scales are not those of the quantization, or that something else than a product reads.
    """

    def __init__(self, onnx, graph, quantization, integer_weights=True, kinds=("linear", "conv", "matmul")):
        self._layers = {layer.name: layer for layer in quantization.layers}
        self._arrays = {name: value for name, value in graph.constants.items() if isinstance(value, np.ndarray)}
        self._integer_weights, self._kinds = integer_weights, kinds
        codes = {name: array for name, array in graph.weights.items() if name.endswith(WEIGHT_CODES)}
        floats = {name: array for name, array in graph.weights.items() if name not in codes}
        super().__init__(onnx, graph._replace(weights=floats))
        self._factors = {}  # {value in units of codes: what a code is worth}
        self._layer_of, self._products = {}, {}  # {values of a weight: its layer}; {operands: their product}
        self._ranges = {}  # {value in units of codes of an activation: its (scale, low, high)}
        self._pairs = {tuple(_range_of(quantizer) for quantizer in layer.inputs) for layer in quantization.layers
                       if layer.kind == "matmul"}
        for name, array in codes.items():
            self._add_weight(name, array)
        self._chains = find_chains(graph.nodes, self._arrays)
        self._kinds_of = kinds_of_readers(graph.nodes, self._chains, codes)
        self._passed = {name for chain in self._chains.values() for name in chain.nodes}
        read = {graph.result, *(name for node in graph.nodes if node.op != "UpdateState" for name in node.inputs)}
        self._order = {node.name for node in graph.nodes if node.name not in read} | {
            node.name for node in graph.nodes if node.op == "UpdateState"}  # order reads of weights, nothing more

    def convert(self, node):
        if node.name in self._chains:
            self.values[node.name] = self._quantized(node, self._chains[node.name])
        elif node.name in self._passed:
            return
        elif node.name not in self._order and any(name in self._factors for name in node.inputs):
            self._convert_codes(node)
        else:
            super().convert(node)

    def _convert_codes(self, node):
        """A node that reads codes."""
        read = [name for name in node.inputs if name in self._factors]
        values = [self.values[name] for name in read]
        if node.op == "Mul":
            self.values[node.name] = self._scaled(node)
        elif node.op in PRODUCTS and len(read) == 2:
            self._check_ranges(node, read)
            self.values[node.name] = self._product(node, *values)
            self._factors[node.name] = self._factors[read[0]] * self._factors[read[1]]
        elif node.op in ("Load", "StridedSlice") or node.op == "Add" and values[1:] == values[:1]:
            # Half an operand stands for the whole, and so does the sum of two halves, each of which is the whole.
            self.values[node.name], self._factors[node.name] = values[0], self._factors[read[0]]
            if read[0] in self._ranges:
                self._ranges[node.name] = self._ranges[read[0]]
        else:
            raise ValueError(f"primitive {node.op} (node {node.name}) reads codes; quantized products alone should")

    def _check_ranges(self, node, read):
        """ValueError unless activations come in the codes that the scales have for this product."""
        found = tuple(self._ranges[name] for name in read if name in self._ranges)
        if len(found) == 2:
            right = found in self._pairs
        else:
            weight, = (self.values[name].name for name in read if name not in self._ranges)
            right = found == (_range_of(self._layers[self._layer_of[weight]].inputs[0]),)
        if not right:
            raise ValueError(f"node {node.name} reads codes with other scales or limits than the quantization's; run "
                             "quantize.py again")

    def _product(self, node, first, second):
        """The product of two operands, made once; one with a weight is called as its layer."""
        if (first, second) not in self._products:
            arguments = [self.values[name] for name in node.inputs]
            self._products[first, second] = CONVERSIONS[node.op](self, node, arguments)
            self._operators[-1].name = self._layer_of.get(second.name, node.name)
        return self._products[first, second]

    def _scaled(self, node):
        """What a Mul with the scales gives: the values that pass here are in real units already."""
        codes, = (name for name in node.inputs if name in self._factors)
        factor, = (self._arrays.get(name) for name in node.inputs if name != codes)
        if factor is None or not np.array_equal(np.ravel(factor), np.ravel(self._factors[codes])):
            raise ValueError(f"node {node.name} does not multiply by the scales of its operands; run quantize.py again")
        return self.values[codes]

    def _quantized(self, node, chain):
        """Quantize and dequantize; no Ref but its name is in units of codes."""
        self._factors[node.name] = np.float32(chain.scale)
        self._ranges[node.name] = (chain.scale, chain.low, chain.high)
        x, kind = self.values[chain.source], node.type
        if node.name in self._kinds_of and self._kinds_of[node.name] not in self._kinds:
            return x
        signed = chain.low == -chain.high - 1
        full = (-128, 127) if signed else (chain.low, chain.low + 255)
        if (chain.low, chain.high) != full:
            limits = [np.float32(limit) * chain.scale for limit in (chain.low, chain.high)]
            x = self.operator("Clip", [x, *limits], f"{node.name}/clip", kind)
        zero = np.array(0, np.int8) if signed else np.array(-chain.low, np.uint8)
        return self._around(x, np.array(chain.scale), zero, node.name, kind)

    def _around(self, x, scale, zero, name, kind, **attributes):
        """QuantizeLinear and DequantizeLinear."""
        codes = self.operator("QuantizeLinear", [x, scale, zero], f"{name}/codes", TensorType(kind.shape, zero.dtype),
                              **attributes)
        return self.operator("DequantizeLinear", [codes, scale, zero], name, kind, **attributes)

    def _add_weight(self, name, array):
        layer = self._layers.get(name[:-len(WEIGHT_CODES)])
        if layer is None or not np.array_equal(array, layer.weight_codes):
            raise ValueError(f"{name} is not the weight of a layer that was quantized; run quantize.py again")
        scales, kind = layer.weight_scales, TensorType(array.shape, np.dtype(np.float32))
        zeros = np.zeros(len(scales), np.int8)
        self._factors[name], self._layer_of[f"{name}/values"] = scales, layer.name
        if self._integer_weights:
            operands = [self._initializer(name, layer.weight_codes), scales, zeros]
            self.values[name] = self.operator("DequantizeLinear", operands, f"{name}/values", kind, axis=0)
        else:
            shaped = scales.reshape((-1,) + (1,) * (array.ndim - 1))
            values = self._initializer(layer.name + ".weight", array * shaped)
            if layer.kind not in self._kinds:
                self.values[name] = values
                self._layer_of[values.name] = layer.name
                return
            self.values[name] = self._around(values, scales, zeros, f"{name}/values", kind, axis=0)


def _range_of(quantizer):
    """(scale, low, high) of a uniform quantizer, as a `Chain` has them."""
    scale, low, high = quantizer.ranges[0]
    return np.float32(scale), low, high


def find_chains(nodes, arrays):
    """Where codes are made: {name of the Minimum: Chain}.

    nodes: of a MindirGraph; arrays: its constants that are arrays.
    """
    by_name, chains = {node.name: node for node in nodes}, {}
    for node in nodes:
        steps, at = [], node
        for op in reversed(CODES):
            if at is None or at.op != op or (op != "Round" and at.inputs[1] not in arrays):
                break
            steps.append(at)
            at = by_name.get(at.inputs[0])
        if len(steps) == len(CODES):
            high, low, scale = (arrays[steps[place].inputs[1]][()] for place in (0, 1, 3))
            chains[node.name] = Chain(steps[-1].inputs[0], np.float32(scale), int(low), int(high),
                                      tuple(step.name for step in steps[1:]))
    return chains


def kinds_of_readers(nodes, chains, weights):
    """{name of the codes: kind of the layer that reads them}. Arguments: of a MindirGraph, of `find_chains`, names of
    weights of codes."""
    comes_from = {name: name for name in (*chains, *weights)}  # of the codes themselves, of weights and halves of both
    kinds = {}
    for node in nodes:
        read = [comes_from[name] for name in node.inputs if name in comes_from]
        if node.op in ("Load", "StridedSlice") and read:
            comes_from[node.name] = read[0]
        elif node.op in PRODUCTS:
            kind = "conv" if node.op == "Conv2D" else "linear" if set(read) & set(weights) else "matmul"
            kinds.update({name: kind for name in read})
    return kinds
