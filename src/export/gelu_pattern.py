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
"""GELU in a MindIR, found among its primitives, and as ONNX writes it.

`GELU` (src/modeling/common.py) is a sigmoid of a polynomial, sixteen primitives, since the framework's Erf is slow on a
CPU. Engines know x (1 + erf(x / sqrt 2)) / 2, as PyTorch's exporter writes it, as one function, and put it into the
product in front of it and the rounding behind it. A GELU whose primitives are others stays as it is, slower.
"""
import math

import numpy as np

from src.modeling.common import GELU_Q


def _gelu_template():
    """The primitives of `GELU`: (primitive, operands), where an operand is one more of these, a number, or "x"."""
    square = ("Mul", "x", "x")
    q = ("Add", ("Mul", square, GELU_Q[6]), GELU_Q[5])
    for k in range(4, -1, -1):
        q = ("Add", ("Mul", q, square), GELU_Q[k])
    return ("Mul", "x", ("Sigmoid", ("Mul", "x", q)))


TEMPLATE = _gelu_template()


def find_gelus(graph):
    """{name of the node that ends a GELU: name of what that reads}, of a MindirGraph."""
    nodes = {node.name: node for node in graph.nodes}
    return {node.name: node.inputs[0] for node in graph.nodes
            if node.op == TEMPLATE[0] and _matches(node.name, TEMPLATE, node.inputs[0], nodes, graph.constants)}


def add_gelu(build, node, x):
    """Operators of ONNX for the node that ends a GELU of the Ref `x` -> its Ref. The same values to 2e-6."""
    root, one, half = (np.array(number, node.type.dtype) for number in (math.sqrt(2.0), 1.0, 0.5))
    value = x
    for op, others in (("Div", [root]), ("Erf", []), ("Add", [one]), ("Mul", [x])):
        value = build.operator(op, [value, *others], f"{node.name}/{op.lower()}", node.type)
    return build.add("Mul", [value, half], node)


def _matches(name, wanted, x, nodes, constants):
    """Whether the value `name` comes about as the template `wanted` says from the value called `x`."""
    if wanted == "x":
        return name == x
    if isinstance(wanted, float):
        value = constants.get(name)
        return isinstance(value, np.ndarray) and value.ndim == 0 and value == np.array(wanted, value.dtype)
    node = nodes.get(name)
    return node is not None and node.op == wanted[0] and len(node.inputs) == len(wanted) - 1 and all(
        _matches(operand, part, x, nodes, constants) for operand, part in zip(node.inputs, wanted[1:]))
