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
"""QuantizeLinear and DequantizeLinear: the codes of scales.json in, the values of the integer cells out."""
import dataclasses
import functools

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from src.export.exported_predictor import open_graph
from src.export.exporter import ExportSettings, check_export
from src.export.mindir import MindirGraph, Node, TensorType
from src.export.onnx_graph import convert_mindir, require_onnx, write_onnx
from src.export.qdq import QdqBuilder, check_integer
from src.quantization.scales_file import write_scales
from src.quantization.spec import CodeRange, LayerScales, Quantizer
from tests.export.quantized_products import (
    OUTPUTS,
    Products,
    QdqGraph,
    arrays,
    operand_pairs,
    quantization,
    write_products,
)

onnx = pytest.importorskip("onnx", reason="needs the package onnx: pip install -r requirements-edge.txt")


@pytest.fixture(scope="module")
def wanted():
    ms.set_context(mode=ms.PYNATIVE_MODE)
    return [value.asnumpy() for value in Products().set_train(False)(*map(Tensor, arrays()))]


@pytest.fixture(scope="module")
def mindir(tmp_path_factory):
    path = tmp_path_factory.mktemp("qdq") / "products.mindir"
    write_products(path)
    return path


def converted(mindir, integer_weights=True, **changes):
    builder = functools.partial(QdqBuilder, quantization=dataclasses.replace(quantization(), **changes),
                                integer_weights=integer_weights)
    return convert_mindir(mindir, OUTPUTS, "products", builder)


@pytest.mark.parametrize("integer_weights", [True, False])
def test_values_are_those_of_the_integer_cells(mindir, wanted, tmp_path, integer_weights):
    """Inputs lie well inside their codes, so what differs is float32 rounding: 1e-5 of the largest value."""
    write_onnx(converted(mindir, integer_weights), tmp_path / "products.onnx")
    found = open_graph(tmp_path / "products.onnx", "onnx")(*arrays())
    for name, a, b in zip(OUTPUTS, wanted, found):
        np.testing.assert_allclose(b, a, atol=1e-5 * np.abs(a).max(), err_msg=name)


@pytest.mark.parametrize("integer_weights", [True, False])
def test_parsed_back_the_graph_holds_the_scales_and_codes(mindir, integer_weights):
    model = converted(mindir, integer_weights)
    graph = QdqGraph(model.graph, onnx.numpy_helper.to_array)
    for layer in quantization().layers:
        if layer.kind == "matmul":
            continue
        graph.check(layer, integer_weights)
        bias, = (graph.stored[name] for name in graph.stored if name == f"{layer.name}.bias")
        np.testing.assert_array_equal(bias.ravel(), layer.bias)


def test_parsed_back_products_of_activations_read_their_own_codes(mindir):
    graph = QdqGraph(converted(mindir).graph, onnx.numpy_helper.to_array)
    assert graph.pairs() == operand_pairs(quantization().layers) and len(graph.pairs()) == 2


def test_operands_of_fewer_than_8_bits_are_clipped(mindir):
    clips = [node for node in converted(mindir).graph.node if node.op_type == "Clip"]
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in converted(mindir).graph.initializer}
    limits = sorted(tuple(float(stored[name]) for name in clip.input[1:]) for clip in clips)
    assert limits == [pytest.approx((-32 * 0.0812, 31 * 0.0812)), pytest.approx((-5 * 0.0547, 58 * 0.0547))]


def test_other_scales_than_the_graph_s_are_refused(mindir):
    changed = [dataclasses.replace(layer, weight_scales=2 * layer.weight_scales) if layer.name == "linear" else layer
               for layer in quantization().layers]
    with pytest.raises(ValueError, match="does not multiply by the scales of its operands; run quantize.py again"):
        converted(mindir, layers=tuple(changed))
    with pytest.raises(ValueError, match="conv.weight_codes is not the weight of a layer that was quantized"):
        converted(mindir, layers=quantization().layers[1:])


@pytest.mark.parametrize("name, inputs", [
    ("linear", (Quantizer("uniform", 8, (CodeRange(0.0372, -128, 127),)),)),
    ("narrow", (Quantizer("uniform", 6, (CodeRange(0.0812, -32, 30),)),)),
    ("long", (Quantizer("uniform", 6, (CodeRange(0.0547, -4, 59),)),)),
    ("scores", "swapped"), ("mix", "swapped")])
def test_other_scales_of_activations_than_the_graph_s_are_refused(mindir, name, inputs):
    """Of a product with weights, whose factor alone would not tell, and of two activations that change places."""
    changed = [dataclasses.replace(layer, inputs=layer.inputs[::-1] if inputs == "swapped" else inputs)
               if layer.name == name else layer for layer in quantization().layers]
    with pytest.raises(ValueError, match="reads codes with other scales or limits than the quantization's; "):
        converted(mindir, layers=tuple(changed))


def test_codes_are_read_by_products_alone():
    kind = TensorType((2, 3), np.dtype(np.float32))
    constants = {"scale": np.array(0.5, np.float32), "low": np.array(-128, np.float32),
                 "high": np.array(127, np.float32), "digits": 0}
    nodes = [Node("Div", "a", ("x", "scale"), {}, kind), Node("Round", "b", ("a", "digits"), {}, kind),
             Node("Maximum", "c", ("b", "low"), {}, kind), Node("Minimum", "d", ("c", "high"), {}, kind),
             Node("Sigmoid", "y", ("d",), {}, kind)]
    graph = MindirGraph({"x": kind}, {}, constants, nodes, "y")
    builder = QdqBuilder(require_onnx(), graph, quantization())
    with pytest.raises(ValueError, match=r"primitive Sigmoid \(node y\) reads codes; quantized products alone should"):
        for node in nodes:
            builder.convert(node)


TWIN = Quantizer("twin", 8, (CodeRange(0.01, 0, 127), CodeRange(0.25, 0, 127)), 0.125)
LOG2 = Quantizer("log2", 8, (CodeRange(1.0, 0, 255),))


@pytest.mark.parametrize("quantizer, zero_points, message", [
    (TWIN, True, "s.json: attn.mix has twin scales, which no int8 product computes; quantize with --quantize.preset="
                 "ascend, or gelu=offset and softmax=unsigned"),
    (LOG2, True, "s.json: attn.mix has log2 scales, which no int8 product computes"),
    (Quantizer("uniform", 8, (CodeRange(0.1, -3, 252),)), False,
     "s.json: attn.mix has an operand with a zero point, which this format does not take; quantize with"),
])
def test_what_no_int8_product_computes_is_refused(quantizer, zero_points, message):
    layer = LayerScales("attn.mix", "matmul", 0, 8, (quantizer, quantizer), 5)
    with pytest.raises(ValueError) as refused:
        check_integer(dataclasses.replace(quantization(), layers=(layer,)), "s.json", zero_points)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_settings_that_do_not_go_with_scales(tmp_path):
    scales = str(write_scales(tmp_path / "scales.json", quantization())[0])
    for settings, message in (
            (ExportSettings(formats=("lite",)), "export.formats: 'lite' is for quantized networks; give the scales"),
            (ExportSettings(formats=("lite",), scales=scales), "conv has an operand with a zero point, which this"),
            (ExportSettings(dtype="float16", scales=scales), "export.dtype is float16; a quantized network has"),
            (ExportSettings(scales="none.json"), "none.json: no such file; give the scales.json that quantize.py")):
        with pytest.raises(ValueError, match=message):
            check_export(settings, tmp_path / "out", "CPU")
    check_export(ExportSettings(formats=("mindir", "onnx"), scales=scales), tmp_path / "out", "CPU")
