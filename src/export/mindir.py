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
"""MindIR, the framework's own file format, read node by node.

A file of MindSpore 2.10 is a protobuf: a flat list of nodes in order of execution, weights, and for every node the
primitive's attributes and the shape and type of what it gives. Names carry a prefix of the function they come from.
"""
from typing import Any, NamedTuple

import numpy as np
from mindspore.train.mind_ir_pb2 import AttributeProto, ModelProto, TensorProto

NUMPY_TYPES = {
    TensorProto.FLOAT: np.dtype(np.float32), TensorProto.FLOAT16: np.dtype(np.float16),
    TensorProto.INT32: np.dtype(np.int32), TensorProto.INT64: np.dtype(np.int64),
    TensorProto.BOOL: np.dtype(np.bool_), TensorProto.UINT8: np.dtype(np.uint8), TensorProto.INT8: np.dtype(np.int8),
    TensorProto.UINT64: np.dtype(np.uint64),
}
INTEGERS = (AttributeProto.INT8, AttributeProto.INT16, AttributeProto.INT32, AttributeProto.INT64,
            AttributeProto.UINT8, AttributeProto.UINT16, AttributeProto.UINT32, AttributeProto.UINT64)


class TensorType(NamedTuple):
    """Shape and numpy type of a tensor."""

    shape: tuple[int, ...]
    dtype: np.dtype


class Node(NamedTuple):
    """One operation: `op` names the primitive, `type` is a TensorType, a tuple of them, or None where there is none."""

    op: str
    name: str
    inputs: tuple[str, ...]
    attributes: dict[str, Any]
    type: Any


class MindirGraph(NamedTuple):
    """inputs {name: TensorType} in order, weights {name: array}, constants {name: value}, nodes in order, result: the
    name of the node whose value the graph returns."""

    inputs: dict[str, TensorType]
    weights: dict[str, np.ndarray]
    constants: dict[str, Any]
    nodes: list[Node]
    result: str


def read_mindir(path):
    """Read a file that `write_graph` wrote.

    Raises:
        ValueError: not a MindIR, or one with control flow or weights outside the file.
    """
    model = ModelProto()
    with open(path, "rb") as file:
        try:
            model.ParseFromString(file.read())
        except Exception as error:  # the protobuf library's DecodeError, whose module is private
            raise ValueError(f"{path}: not a MindIR file ({error})") from None
    if model.functions or not model.graph.node:
        raise ValueError(f"{path}: {len(model.functions)} functions beside {len(model.graph.node)} nodes; "
                         "only flat graphs without control flow are read")
    primitives = {primitive.name: primitive for primitive in model.primitives}
    inputs = {_short(value.name): _tensor_type(value.tensor[0]) for value in model.graph.input}
    weights = {}
    for parameter in model.graph.parameter:
        if parameter.HasField("external_data"):
            raise ValueError(f"{path}: weight {_short(parameter.name)} lies in another file")
        weights[_short(parameter.name)] = tensor_value(parameter)
    constants, nodes = {}, []
    for node in model.graph.node:
        if node.op_type == "Constant":
            constants[_short(node.output[0])] = attribute_value(node.attribute[0])
            continue
        primitive = primitives[node.op_type.partition("REF::")[2]]
        attributes = {attribute.name: attribute_value(attribute) for attribute in primitive.attribute}
        types = [attribute for attribute in node.attribute if attribute.name == "shape"]
        nodes.append(Node(primitive.op_type, _short(node.output[0]), tuple(_short(name) for name in node.input),
                          attributes, _type_of(types[0]) if types else None))
    return MindirGraph(inputs, weights, constants, nodes, _short(model.graph.output[0].name))


def tensor_value(tensor):
    """numpy array of a TensorProto."""
    return np.frombuffer(tensor.raw_data, _numpy_type(tensor)).reshape(tuple(tensor.dims))


def attribute_value(attribute):
    """Python value of an AttributeProto: bool, int, float, str, array, numpy type, a tuple of these, or None for the
    framework's own marks, such as that of memory order."""
    kind = attribute.type
    if kind in (AttributeProto.TUPLE, AttributeProto.LIST):
        return tuple(attribute_value(value) for value in attribute.values)
    if kind in (AttributeProto.TENSORS, AttributeProto.TENSOR):
        tensor = attribute.tensors[0]
        return tensor_value(tensor) if tensor.raw_data or tensor.dims else _numpy_type(tensor)
    if kind == AttributeProto.BOOL:
        return bool(_integer(attribute))
    if kind in INTEGERS:
        return _integer(attribute)
    if kind == AttributeProto.FLOAT:
        return float(attribute.f)
    if kind == AttributeProto.DOUBLE:
        return float(attribute.d)
    if kind == AttributeProto.STRING:
        value = attribute.s if attribute.s else attribute.strings[0] if attribute.strings else ""
        return value.decode() if isinstance(value, bytes) else value
    return None


def _integer(attribute):
    """Members of a tuple hold their number in the list that a scalar leaves empty."""
    return int(attribute.ints[0] if attribute.ints else attribute.i)


def _type_of(attribute):
    if attribute.type == AttributeProto.TENSORS:
        return _tensor_type(attribute.tensors[0])
    if attribute.type in (AttributeProto.TUPLE, AttributeProto.LIST):
        return tuple(_type_of(value) for value in attribute.values)
    return None


def _tensor_type(tensor):
    return TensorType(tuple(tensor.dims), _numpy_type(tensor))


def _numpy_type(tensor):
    if tensor.data_type not in NUMPY_TYPES:
        raise ValueError(f"tensor {_short(tensor.name)} is of type {TensorProto.DataType.Name(tensor.data_type)}, "
                         "which no exported graph should hold")
    return NUMPY_TYPES[tensor.data_type]


def _short(name):
    """Name without the function's prefix; constants have none."""
    return name.partition(":")[2] or name
