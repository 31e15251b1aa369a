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
"""A MindIR model in primitives that converters have known for long.

MindSpore 2.10 writes operations of a tensor with a Python number as primitives of their own (Muls for Mul), which were
made for eager kernels. Results stay the same: the number becomes a 0-d tensor of the other operand's type.
"""
import numpy as np
from mindspore.train.mind_ir_pb2 import AttributeProto

from src.export.mindir import NUMPY_TYPES, attribute_value

CLASSIC = {"Adds": "Add", "Subs": "Sub", "Muls": "Mul", "Divs": "Div", "EqScalar": "Equal"}


def use_classic_primitives(model):
    """Rewrite a ModelProto in place; its weights need not be filled in.

    Raises:
        ValueError: a number beside an operand whose type the file does not give.
    """
    ours = {f"REF::{primitive.name}" for primitive in model.primitives if primitive.op_type in CLASSIC}
    for primitive in model.primitives:
        primitive.op_type = CLASSIC.get(primitive.op_type, primitive.op_type)
    graph = model.graph
    constants = {node.output[0]: node for node in graph.node if node.op_type == "Constant"}
    types = {value.name: value.tensor[0].data_type for value in graph.input}
    types.update({parameter.name: parameter.data_type for parameter in graph.parameter})
    tensors = {}
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name == "shape" and attribute.type == AttributeProto.TENSORS:
                types[node.output[0]] = attribute.tensors[0].data_type
        if node.op_type not in ours:
            continue
        (data_type,) = {types.get(name) for name in node.input if name not in constants} or {None}
        if data_type not in NUMPY_TYPES:
            raise ValueError(f"node {node.name}: of what type its number is to be is not known")
        for place, name in enumerate(node.input):
            if name in constants:
                node.input[place] = _tensor_of(constants[name], data_type, tensors)
    nodes = [*tensors.values(), *(_copy(node) for node in graph.node)]  # constants stand before those who read them
    del graph.node[:]
    graph.node.extend(nodes)


def _tensor_of(constant, data_type, tensors):
    """Name of a constant that holds the number of another as a 0-d tensor; made once, kept in `tensors`."""
    if constant.attribute[0].type in (AttributeProto.TENSOR, AttributeProto.TENSORS):
        return constant.output[0]
    name = f"{constant.output[0]}_{NUMPY_TYPES[data_type]}"
    if name not in tensors:
        tensor_node = tensors[name] = _copy(constant)
        tensor_node.name = tensor_node.output[0] = name
        attribute = tensor_node.attribute[0]
        number = attribute_value(attribute)
        attribute.Clear()
        attribute.name, attribute.type = "value", AttributeProto.TENSORS
        tensor = attribute.tensors.add()
        tensor.name, tensor.data_type = "value0", data_type
        tensor.raw_data = np.array(number, NUMPY_TYPES[data_type]).tobytes()
    return name


def _copy(message):
    """The field that a message lies in is emptied before it is filled again."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy
