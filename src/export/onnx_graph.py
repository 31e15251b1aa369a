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
"""MindIR to ONNX: the graph is walked node by node, in order of execution.

The framework's own ONNX export refuses primitives that these networks need; src/export/onnx_operators.py knows them.
"""
import hashlib
import os

import numpy as np

from src.export.gelu_pattern import add_gelu, find_gelus
from src.export.mindir import TensorType, read_mindir
from src.export.onnx_operators import CONVERSIONS, Ref

OPSET = 17  # the first with LayerNormalization
IR_VERSION = 8  # of the same time, for readers that are older than the library here


def require_onnx():
    """The `onnx` package, which only this needs; a ValueError says how to get it."""
    try:
        import onnx
    except ImportError:
        raise ValueError("ONNX files need the package onnx: pip install -r requirements-edge.txt, or leave onnx out of "
                         "export.formats") from None
    return onnx


def convert_mindir(path, output_names, name="graph", builder=None):
    """A MindIR file as an ONNX model.

    Args:
        path: a file of `write_graph`.
        output_names: one for each tensor that the graph returns.
        name: of the graph.
        builder: function of (onnx package, MindirGraph) that makes an OnnxBuilder of another kind.

    Returns:
        onnx.ModelProto, checked; inputs and weights are named as in the MindIR.

    Raises:
        ValueError: a primitive that has no ONNX form here, another number of outputs, or no onnx package.
    """
    graph = read_mindir(path)
    builder = (builder or OnnxBuilder)(require_onnx(), graph)
    for node in graph.nodes:
        builder.convert(node)
    return builder.model(graph, output_names, name)


def write_onnx(model, path):
    """Write an ONNX model; an existing file is replaced."""
    part = f"{path}.part"
    try:
        with open(part, "wb") as file:
            file.write(model.SerializeToString())
        os.replace(part, path)
    finally:
        if os.path.exists(part):
            os.remove(part)


class OnnxBuilder:
    """Collects operators and initializers. `values` maps names of the MindIR to Refs, tuples of them, or constants."""

    def __init__(self, onnx, graph):
        self._onnx = onnx
        self._operators, self._initializers = [], {}
        self._gelus = find_gelus(graph)
        self.values = {name: Ref(name, kind) for name, kind in graph.inputs.items()}
        for name, value in graph.constants.items():
            self.values[name] = self._constant(value) if isinstance(value, np.ndarray) else value
        for name, array in graph.weights.items():
            self.values[name] = self._initializer(name, array)

    def convert(self, node):
        """Add one node of the MindIR."""
        if node.op == "UpdateState":  # orders reads and writes, of which a forward graph has none
            self.values[node.name] = None
            return
        if node.name in self._gelus:  # the primitives in front of it become operators too, which nothing reads
            self.values[node.name] = add_gelu(self, node, self.values[self._gelus[node.name]])
            return
        if node.op not in CONVERSIONS:
            raise ValueError(f"primitive {node.op} (node {node.name}) has no ONNX form here; "
                             "src/export/onnx_operators.py lists those that have")
        self.values[node.name] = CONVERSIONS[node.op](self, node, [self.values[name] for name in node.inputs])

    def add(self, op, operands, node, **attributes):
        """An operator that gives the node's one tensor -> its Ref."""
        return self.operator(op, operands, node.name, node.type, **attributes)

    def operator(self, op, operands, name, kind, **attributes):
        """An operator that gives one tensor `name` of type `kind` -> its Ref."""
        return self.operators(op, operands, [name], [kind], **attributes)[0]

    def operators(self, op, operands, names, kinds, **attributes):
        """An operator that gives several tensors -> a tuple of Refs. Operands are Refs or arrays."""
        inputs = [(operand if isinstance(operand, Ref) else self._constant(operand)).name for operand in operands]
        self._operators.append(self._onnx.helper.make_node(op, inputs, list(names), name=names[0], **attributes))
        return tuple(Ref(name, kind) for name, kind in zip(names, kinds))

    def element_type(self, dtype):
        """ONNX's number for a numpy type."""
        return self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))

    def model(self, graph, output_names, name):
        """The model of what was added; the tensors that the MindIR returns get `output_names`."""
        helper = self._onnx.helper
        result = self.values[graph.result]
        result = result if isinstance(result, tuple) and not isinstance(result, Ref) else (result,)
        if len(result) != len(output_names):
            raise ValueError(f"the graph returns {len(result)} tensors, but {len(output_names)} names are given")
        renamed = {ref.name: output_name for ref, output_name in zip(result, output_names)}
        for operator in self._operators:
            operator.input[:] = [renamed.get(tensor, tensor) for tensor in operator.input]
            operator.output[:] = [renamed.get(tensor, tensor) for tensor in operator.output]
        inputs = [helper.make_tensor_value_info(input_name, self.element_type(kind.dtype), kind.shape)
                  for input_name, kind in graph.inputs.items()]
        outputs = [helper.make_tensor_value_info(renamed[ref.name], self.element_type(ref.type.dtype), ref.type.shape)
                   for ref in result]
        operators, read = _operators_read(self._operators, renamed.values())
        stored = [tensor for tensor_name, tensor in self._initializers.items() if tensor_name in read]
        proto = helper.make_graph(operators, name, inputs, outputs, stored)
        model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="tinysam")
        model.ir_version = IR_VERSION
        self._onnx.checker.check_model(model)
        return model

    def _initializer(self, name, array):
        self._initializers[name] = self._onnx.numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape),
                                                                      name)
        return Ref(name, _type(array))

    def _constant(self, array):
        """An initializer that holds the array; equal ones are stored once."""
        name = f"constant/{array.dtype}/{'x'.join(map(str, array.shape))}/{_fingerprint(array)}"
        return Ref(name, _type(array)) if name in self._initializers else self._initializer(name, array)


def _operators_read(operators, results):
    """(the operators that something reads, names of all that is read, the results included)."""
    kept, read = [], set(results)
    for operator in reversed(operators):
        if read & set(operator.output):
            kept.append(operator)
            read |= set(operator.input)
    return kept[::-1], read


def _type(array):
    return TensorType(array.shape, array.dtype)


def _fingerprint(array):
    """Short text for the values of an array: the number itself, else a hash."""
    return str(array[()]) if array.ndim == 0 else hashlib.sha256(array.tobytes()).hexdigest()[:16]
