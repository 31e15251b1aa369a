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
"""GELU in ONNX files is x (1 + erf(x / sqrt 2)) / 2, which engines know as one function; in a MindIR a polynomial."""
import math

import numpy as np
import onnx
import pytest
from mindspore import nn, ops

from src.export.gelu_pattern import TEMPLATE, find_gelus
from src.export.mindir import MindirGraph, Node, TensorType, read_mindir
from src.export.onnx_graph import OnnxBuilder, require_onnx
from src.modeling.common import GELU, GELU_Q
from tests.export.test_onnx_graph import both_ways

KIND = TensorType((4,), np.dtype(np.float32))


class Gelus(nn.Cell):
    """A GELU, one of another's output, and a sigmoid times its own input, which is none."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.sigmoid = GELU(), GELU(), ops.Sigmoid()

    def construct(self, x):
        y = self.second(self.first(x) - 1.0)
        return y, x * self.sigmoid(x)


def operators(path):
    return [node.op_type for node in onnx.load(str(path)).graph.node]


def test_values_are_gelu_s_by_the_definition(tmp_path):
    x = np.concatenate([np.linspace(-9, 9, 1001), [-100.0, 100.0, 0.0]]).astype(np.float32)
    (wanted, swish), found = both_ways(Gelus(), [x], tmp_path, 2)

    def gelu(values):
        return np.array([0.5 * value * math.erfc(-value / math.sqrt(2.0)) for value in values])

    np.testing.assert_allclose(found[0], gelu(gelu(x.astype(np.float64)) - 1.0), atol=5e-7, rtol=1e-6)
    np.testing.assert_allclose(found[0], wanted, atol=2e-6, rtol=1e-6)
    np.testing.assert_allclose(found[1], swish, atol=1e-6, rtol=1e-6)
    assert len(find_gelus(read_mindir(tmp_path / "cell.mindir"))) == 2
    found = operators(tmp_path / "cell.onnx")  # what the polynomials were is gone
    assert sorted(found) == sorted(2 * ["Div", "Erf", "Add", "Mul", "Mul"] + ["Sub", "Sigmoid", "Mul"])


def test_every_gelu_of_a_network_is_found(small_export):
    primitives = [node.op for node in read_mindir(small_export.folder / "image_encoder.mindir").nodes]
    found = operators(small_export.folder / "image_encoder.onnx")
    assert primitives.count("Sigmoid") == found.count("Erf") == 17
    assert "Sigmoid" not in found
    for path in small_export.folder.glob("mask_decoder_*.onnx"):
        assert operators(path).count("Erf") == 2  # of the upscaling


def unfolded(template, nodes, constants):
    """The template's nodes, appended to `nodes`. Returns the name of its value."""
    if isinstance(template, str):
        return template
    if isinstance(template, float):
        constants[str(template)] = np.array(template, np.float32)
        return str(template)
    names = tuple(unfolded(part, nodes, constants) for part in template[1:])
    known = next((node.name for node in nodes if (node.op, node.inputs) == (template[0], names)), None)
    if known is None:
        known = f"n{len(nodes)}"
        nodes.append(Node(template[0], known, names, {}, KIND))
    return known


def gelu_graph(**numbers):
    nodes, constants = [], {}
    result = unfolded(TEMPLATE, nodes, constants)
    constants.update({name: np.array(value, np.float32) for name, value in numbers.items()})
    return MindirGraph({"x": KIND, "y": KIND}, {}, constants, nodes, result)


def test_nearly_gelu_is_none():
    graph = gelu_graph()
    assert len(graph.nodes) == 16 and find_gelus(graph) == {graph.result: "x"}
    assert find_gelus(gelu_graph(**{str(GELU_Q[3]): GELU_Q[3] * 1.001})) == {}
    last = graph.nodes[-1]
    for changed in (last._replace(inputs=("y", last.inputs[1])), last._replace(inputs=last.inputs[::-1]),
                    last._replace(op="Add"), last._replace(inputs=("x",))):
        assert find_gelus(graph._replace(nodes=[*graph.nodes[:-1], changed])) == {}


@pytest.mark.parametrize("extra", [(), ("n14",)])
def test_what_something_else_reads_stays(extra):
    """Phi, the sigmoid's value, is returned too: then its primitives stay, beside the GELU."""
    graph = gelu_graph()
    assert graph.nodes[14].op == "Sigmoid"
    result = Node("MakeTuple", "all", (graph.result, *extra), {}, None)
    graph = graph._replace(nodes=[*graph.nodes, result], result="all")
    builder = OnnxBuilder(require_onnx(), graph)
    for node in graph.nodes:
        builder.convert(node)
    found = [node.op_type for node in builder.model(graph, ["gelu", "phi"][:1 + len(extra)], "test").graph.node]
    assert len(found) == (20 if extra else 5) and found.count("Erf") == 1
