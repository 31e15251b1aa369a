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
"""MindIR to ONNX, primitive by primitive: a tiny cell of each kind through the framework and through onnxruntime."""
import sys

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from mindspore.train.mind_ir_pb2 import AttributeProto, ModelProto, TensorProto

from src.export.classic_primitives import use_classic_primitives
from src.export.exported_predictor import open_graph
from src.export.graphs import Graph, TensorSpec, write_graph
from src.export.mindir import MindirGraph, Node, TensorType, attribute_value, read_mindir
from src.export.onnx_graph import OnnxBuilder, convert_mindir, require_onnx, write_onnx

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 10 - 1
F32 = np.dtype(np.float32)


class Mixture(nn.Cell):
    """Shapes, slices, comparisons and numbers on x [2, 3, 4] and labels [2, 3]."""

    def construct(self, x, labels):
        first = x[:, 1, :]  # [2, 4], an axis that goes
        steps = x[:, ::2, 1:3]  # [2, 2, 2]
        known = ops.select(ops.broadcast_to(ops.expand_dims(labels >= 0, -1), x.shape), x, ops.zeros_like(x))
        table = ops.stack((first, first * 2.0, first / 4.0 - 1.0), 1)  # [2, 3, 4]
        rows = ops.gather(table.reshape(6, 4), labels.reshape(-1) + 2, 0)  # [6, 4]
        equal = (labels == -2).astype(ms.float32)
        mean = ops.ReduceMean(True)(x * x, 1)
        waves = ops.concat((ops.sin(x), ops.cos(x)), -1)
        parts = ops.Split(2, 2)(ops.Rsqrt()(mean + 1.0))
        return steps, known, rows, equal, waves, parts[0] - parts[1], ops.tile(first, (2, 1))


class Products(nn.Cell):
    """A convolution with uneven padding, products with every transposition, norms."""

    def __init__(self):
        super().__init__()
        rng = np.random.default_rng(0)
        self.conv = nn.Conv2d(2, 4, (3, 2), stride=(2, 1), pad_mode="pad", padding=(1, 2, 0, 1), dilation=(1, 2),
                              group=2, has_bias=True, bias_init="ones")
        self.conv.weight.set_data(Tensor(rng.standard_normal((4, 1, 3, 2)).astype(np.float32)))
        self.valid = nn.Conv2d(4, 3, 2, pad_mode="valid")
        self.norm = nn.BatchNorm2d(3)
        self.norm.moving_mean.set_data(Tensor(np.array([0.1, -0.2, 0.3], np.float32)))
        self.norm.moving_variance.set_data(Tensor(np.array([0.5, 2.0, 1.0], np.float32)))
        self.layer_norm = nn.LayerNorm((5,), epsilon=1e-5)
        self.layer_norm.gamma.set_data(Tensor(rng.standard_normal(5).astype(np.float32)))
        self.dense = nn.Dense(5, 6)
        self.plain, self.left = ops.BatchMatMul(), ops.BatchMatMul(transpose_a=True)
        self.right = ops.BatchMatMul(transpose_b=True)
        self.matmul = ops.MatMul(transpose_a=True)

    def construct(self, image, rows):
        mapped = self.norm(self.valid(self.conv(image)))
        rows = self.layer_norm(rows)  # [3, 4, 5]
        square = self.right(rows, rows)  # [3, 4, 4]
        flat = self.matmul(rows.reshape(12, 5), rows.reshape(12, 5))  # [5, 5]
        return (mapped, self.dense(rows), ops.Softmax(-1)(square), ops.Softmax(1)(self.plain(square, rows)),
                self.left(rows, rows), flat, ops.sigmoid(flat), ops.relu(rows))


def both_ways(cell, arrays, folder, count):
    """Results of the cell, and of its ONNX form in onnxruntime."""
    cell.set_train(False)
    specs = tuple(TensorSpec(f"input_{place}", array.shape, str(array.dtype)) for place, array in enumerate(arrays))
    write_graph(Graph("test", "test", cell, specs, ()), folder / "cell.mindir")
    model = convert_mindir(folder / "cell.mindir", [f"output_{place}" for place in range(count)])
    write_onnx(model, folder / "cell.onnx")
    return [value.asnumpy() for value in cell(*map(Tensor, arrays))], open_graph(folder / "cell.onnx", "onnx")(*arrays)


def compare(wanted, got):
    assert len(wanted) == len(got)
    for place, (a, b) in enumerate(zip(wanted, got)):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5, err_msg=f"output {place}")


def test_shapes_slices_and_numbers(tmp_path):
    wanted, got = both_ways(Mixture(), [X, np.array([[-2, -1, 0], [1, 2, 3]], np.int32)], tmp_path, 7)
    compare(wanted, got)
    assert {node.op for node in read_mindir(tmp_path / "cell.mindir").nodes} & {"Muls", "Divs", "EqScalar"} == set()
    np.testing.assert_array_equal(got[0], X[:, ::2, 1:3])
    np.testing.assert_array_equal(got[1][0], [np.zeros(4), np.zeros(4), X[0, 2]])  # labels -2, -1, 0
    np.testing.assert_array_equal(got[3], [[1, 0, 0], [0, 0, 0]])
    np.testing.assert_allclose(got[2][5], X[1, 1] / 4 - 1, rtol=1e-6)  # label 3: row 5, the last of the second image


def test_products_convolutions_and_norms(tmp_path):
    rng = np.random.default_rng(1)
    arrays = [rng.standard_normal((1, 2, 6, 7)).astype(np.float32), rng.standard_normal((3, 4, 5)).astype(np.float32)]
    compare(*both_ways(Products(), arrays, tmp_path, 8))


def graph_of(*nodes):
    constants = {"zero": 0, "one": 1, "yes": True, "small": 1e-5, "axes": (1,)}
    return MindirGraph({"x": TensorType((2, 3), F32)}, {}, constants, list(nodes), nodes[-1].name)


def convert(graph, names=("y",)):
    builder = OnnxBuilder(require_onnx(), graph)
    for node in graph.nodes:
        builder.convert(node)
    return builder.model(graph, names, "test")


PADDING = {"pad_mode": "same", "kernel_size": (1, 1), "stride": (1, 1, 1, 1), "dilation": (1, 1, 1, 1), "group": 1}


@pytest.mark.parametrize("node, message", [
    (Node("Erf", "y:3", ("x",), {}, TensorType((2, 3), F32)),
     r"primitive Erf \(node y:3\) has no ONNX form here; src/export/onnx_operators.py lists those that have"),
    (Node("BatchNorm", "y", ("x", "x", "x", "x", "x", "yes", "small"), {}, None),
     r"BatchNorm y is in training; call set_train\(False\) before the export"),
    (Node("Conv2D", "y", ("x", "x"), PADDING, None), "Conv2D y has pad_mode 'same'; only 'pad' and 'valid'"),
    (Node("Gather", "y", ("x", "x", "one", "one"), {}, None), "Gather y has batch_dims 1; ONNX has none"),
    (Node("LayerNorm", "y", ("x", "x", "x", "zero", "zero", "small"), {}, None),
     "LayerNorm y normalises from axis 0; only the last has an ONNX form here"),
    (Node("StridedSlice", "y", ("x", "axes", "axes", "axes", "one", "one", "one", "one", "one"), {}, None),
     "StridedSlice y has an ellipsis or a new axis"),
])
def test_what_has_no_onnx_form_is_named(node, message):
    with pytest.raises(ValueError, match=message):
        convert(graph_of(node))


def test_every_result_needs_a_name():
    graph = graph_of(Node("Sigmoid", "y:1", ("x",), {}, TensorType((2, 3), F32)))
    with pytest.raises(ValueError, match="the graph returns 1 tensors, but 2 names are given"):
        convert(graph, ("a", "b"))
    model = convert(graph, ("masks",))
    assert [value.name for value in model.graph.input] == ["x"]
    assert [value.name for value in model.graph.output] == ["masks"]
    assert (model.ir_version, model.opset_import[0].version) == (8, 17)


def test_numbers_become_tensors_of_the_other_operand_s_type():
    """x * 0.5, twice with one constant, and labels == -2: two 0-d tensors, in front of the nodes that read them."""
    model = ModelProto()
    for name, op in (("Muls:1", "Muls"), ("EqScalar:2", "EqScalar"), ("Mul:3", "Mul")):
        model.primitives.add(name=name, op_type=op)
    for name, data_type in (("x", TensorProto.FLOAT16), ("labels", TensorProto.INT32)):
        model.graph.input.add(name=name).tensor.add(data_type=data_type)
    half = model.graph.node.add(op_type="Constant", name="half", output=["half"]).attribute.add(name="value", f=0.5)
    half.type = AttributeProto.FLOAT
    minus = model.graph.node.add(op_type="Constant", name="minus", output=["minus"]).attribute.add(name="value", i=-2)
    minus.type = AttributeProto.INT64
    for name, primitive, inputs in (("a", "Muls:1", ["x", "half"]), ("b", "Muls:1", ["x", "half"]),
                                    ("c", "EqScalar:2", ["labels", "minus"]), ("d", "Mul:3", ["x", "x"])):
        model.graph.node.add(op_type=f"REF::{primitive}", output=[name], input=inputs)
    use_classic_primitives(model)
    assert [primitive.op_type for primitive in model.primitives] == ["Mul", "Equal", "Mul"]
    first, second = model.graph.node[:2]
    assert [node.output[0] for node in model.graph.node] == [
        "half_float16", "minus_int32", "half", "minus", "a", "b", "c", "d"]
    assert [list(node.input) for node in model.graph.node[4:]] == [
        ["x", "half_float16"], ["x", "half_float16"], ["labels", "minus_int32"], ["x", "x"]]
    for node, value in ((first, np.float16(0.5)), (second, np.int32(-2))):
        array = attribute_value(node.attribute[0])
        assert (array.shape, array.dtype, array[()]) == ((), value.dtype, value)

    model.primitives[0].op_type = "Muls"
    model.graph.node[4].input[:] = ["unknown", "half"]
    with pytest.raises(ValueError, match="node : of what type its number is to be is not known"):
        use_classic_primitives(model)


def test_files_that_are_no_flat_mindir_are_refused(tmp_path):
    (tmp_path / "noise.mindir").write_bytes(b"\xff" * 64)
    with pytest.raises(ValueError, match="noise.mindir: not a MindIR file"):
        read_mindir(tmp_path / "noise.mindir")
    (tmp_path / "empty.mindir").write_bytes(b"")
    with pytest.raises(ValueError, match="empty.mindir: 0 functions beside 0 nodes; only flat graphs"):
        read_mindir(tmp_path / "empty.mindir")


def test_missing_packages_say_how_to_get_them(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match="ONNX files need the package onnx: pip install -r requirements-edge.txt, or "
                                         "leave onnx out of export.formats"):
        require_onnx()
    with pytest.raises(ValueError, match="run in the package onnxruntime: pip install -r requirements-edge.txt"):
        open_graph(tmp_path / "x.onnx", "onnx")
