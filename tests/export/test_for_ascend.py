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
"""What is written for Ascend, parsed back and compared with scales.json. None of it can be run without a device."""
import configparser
import dataclasses
import json

import mindspore as ms
import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from mindspore import Tensor, nn, ops

from src.export.exporter import ExportSettings, check_export, export_model
from src.export.for_ascend import amct_record, lite_config
from src.export.gelu_pattern import find_gelus
from src.export.graphs import Graph, TensorSpec, write_graph
from src.export.mindir import read_mindir
from src.quantization.cells import quantize_network
from src.quantization.npu_cells import NpuConv2d, NpuLinear, NpuMatMul, check_npu
from src.quantization.scales_file import write_scales
from src.quantization.spec import CodeRange, LayerScales, Quantizer, signed_range
from tests.export.quantized_products import SHA, QdqGraph, between, layers, operand_pairs, quantization_of_small_sam
from tests.quantization.conftest import SIDE, small_sam

onnx = pytest.importorskip("onnx", reason="needs the package onnx: pip install -r requirements-edge.txt")


def record_class():
    """AMCT's ScaleOffsetRecord as its documentation declares it."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="record.proto", syntax="proto2")
    for message, fields in {
            "SingleLayerRecord": [("scale_d", kinds.TYPE_FLOAT, False, ""), ("offset_d", kinds.TYPE_INT32, False, ""),
                                  ("scale_w", kinds.TYPE_FLOAT, True, ""), ("offset_w", kinds.TYPE_INT32, True, "")],
            "MapFiledEntry": [("key", kinds.TYPE_STRING, False, ""),
                              ("value", kinds.TYPE_MESSAGE, False, "SingleLayerRecord")],
            "ScaleOffsetRecord": [("record", kinds.TYPE_MESSAGE, True, "MapFiledEntry")]}.items():
        declared = file.message_type.add(name=message)
        for number, (name, kind, repeated, type_name) in enumerate(fields, 1):
            declared.field.add(name=name, number=number, type=kind, type_name=type_name,
                               label=kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("ScaleOffsetRecord"))


def test_amct_s_record_holds_the_scales_of_convolutions():
    found = layers()
    parsed = text_format.Parse(amct_record(found.values()), record_class()()).record
    assert [entry.key for entry in parsed] == ["conv", "depthwise"]
    for entry, offset in zip(parsed, (14 - 128, 0)):  # codes -14..241 are -128..127 there, symmetric ones as they are
        layer = found[entry.key]
        assert np.float32(entry.value.scale_d) == np.float32(layer.inputs[0].ranges[0].scale)
        assert entry.value.offset_d == offset
        np.testing.assert_array_equal(np.float32(entry.value.scale_w), layer.weight_scales)
        assert list(entry.value.offset_w) == [0] * len(layer.weight_scales)


def test_converter_lite_s_configuration():
    parser = configparser.ConfigParser()
    parser.read_string(lite_config(8, ["image_encoder.neck.0"]))
    assert dict(parser["common_quant_param"]) == {"quant_type": "FULL_QUANT", "bit_num": "8"}
    assert dict(parser["data_preprocess_param"]) == {"calibrate_path": "images:calibration", "calibrate_size": "8",
                                                     "input_type": "BIN"}
    assert parser["full_quant_param"]["target_device"] == "ASCEND"
    assert lite_config(8, ["image_encoder.neck.0"]).startswith("# float in scales.json: image_encoder.neck.0\n")


class NpuProducts(nn.Cell):
    """rows [5, 96], image [1, 4, 10, 10], a [1, 2, 7, 16], b [1, 2, 9, 16]."""

    def __init__(self, found):
        super().__init__()
        self.linear = NpuLinear(found["linear"])
        conv2d = nn.Conv2d(4, 4, 3, pad_mode="pad", padding=1, group=4).conv2d
        self.depthwise = NpuConv2d(found["depthwise"], conv2d)
        self.scores = NpuMatMul(found["scores"], ops.BatchMatMul(transpose_b=True))

    def construct(self, rows, image, a, b):
        return self.linear(rows), self.depthwise(image), self.scores(a, b)


def test_the_int8_graph_holds_codes_and_scales(tmp_path):
    """A graph of QuantV2, QuantBatchMatmul and Dequant: its arrays in NumPy give the codes and factors of the file."""
    found = layers()
    first, second = Quantizer("uniform", 8, (signed_range(0.02, 8),)), Quantizer("uniform", 8, (signed_range(0.03, 8),))
    found["scores"] = LayerScales("scores", "matmul", 0, 8, (first, second), 16)
    shapes = [(5, 96), (1, 4, 10, 10), (1, 2, 7, 16), (1, 2, 9, 16)]
    specs = tuple(TensorSpec(f"x{place}", shape, "float32") for place, shape in enumerate(shapes))
    write_graph(Graph("npu", "npu", NpuProducts(found).set_train(False), specs, ()), tmp_path / "npu.mindir")
    graph = read_mindir(tmp_path / "npu.mindir")
    assert [node.op for node in graph.nodes if "uant" in node.op] == [
        "QuantV2", "QuantBatchMatmul", "QuantV2", "Dequant", "QuantV2", "QuantV2", "QuantBatchMatmul"]

    def real(bits):
        assert bits.dtype == np.uint64
        return bits.astype(np.uint32).view(np.float32)

    for name in ("linear", "depthwise"):
        layer = found[name]
        np.testing.assert_array_equal(graph.weights[f"{name}.weight_codes"], layer.weight_codes)
        assert graph.weights[f"{name}.weight_codes"].dtype == np.int8
        np.testing.assert_array_equal(real(graph.weights[f"{name}.factors"]),
                                      np.float32(layer.inputs[0].ranges[0].scale) * layer.weight_scales)
        np.testing.assert_array_equal(graph.weights[f"{name}.bias"].ravel(), layer.bias)
    rng = np.random.default_rng(0)
    quantizers = [found["linear"].inputs[0], found["depthwise"].inputs[0], first, second]
    nodes = [node for node in graph.nodes if node.op == "QuantV2"]
    for node, quantizer in zip(nodes, quantizers):
        scale, offset = (graph.constants[name] for name in node.inputs[1:3])
        x = between(quantizer, (4, 5), rng)
        codes = np.clip(np.rint(x * scale + offset), -128, 127)
        np.testing.assert_array_equal(codes, quantizer.ranges[0].codes(x))
    last = [node for node in graph.nodes if node.op == "QuantBatchMatmul"][1]
    assert real(graph.constants[last.inputs[2]]) == np.float32(0.02) * np.float32(0.03)


@pytest.mark.parametrize("quantizer", [
    Quantizer("uniform", 6, (signed_range(0.1, 6),)), Quantizer("uniform", 8, (CodeRange(0.1, -3, 252),))])
def test_int8_primitives_take_symmetric_codes_of_8_bits(quantizer):
    with pytest.raises(ValueError, match="a.fc1 has an operand that is not symmetric int8; quantize with "):
        check_npu(LayerScales("a.fc1", "linear", 8, quantizer.bits, (quantizer,), 4))


def same_scales_in_lite(paths, quantization):
    """Every layer with weights is a product of one of the graphs, by its name, with its scales and codes."""
    graphs = [QdqGraph(onnx.load(str(path)).graph, onnx.numpy_helper.to_array) for path in paths]
    with_weights = [layer for layer in quantization.layers if layer.kind != "matmul"]
    assert len(with_weights) > 20
    for layer in with_weights:
        graph, = (graph for graph in graphs if any(node.name == layer.name for node in graph.nodes))
        graph.check(layer, integer_weights=False)
    pairs = sorted(pair for graph in graphs for pair in graph.pairs())
    assert pairs == operand_pairs(quantization.layers) and len(set(pairs)) > 5


def inverse_scales(graphs):
    """({layer with weights: of its activation}, sorted pairs of the products of two activations): what their QuantV2
    multiply by."""
    of_weights, of_pairs = {}, []
    for graph in graphs:
        by_name = {node.name: node for node in graph.nodes}
        for node in graph.nodes:
            if node.op not in ("QuantBatchMatmul", "Conv2D"):
                continue
            found = []
            for name in node.inputs[:2]:
                name = by_name[name].inputs[0] if name in by_name and by_name[name].op == "Load" else name
                if name.endswith(".weight_codes"):
                    weight = name[:-len(".weight_codes")]
                elif name in by_name and by_name[name].op == "QuantV2":
                    found.append(np.float32(graph.constants[by_name[name].inputs[1]]).item())
            if len(found) == 2:
                of_pairs.append(tuple(found))
            elif found:
                of_weights[weight] = found[0]
    return of_weights, sorted(of_pairs)


def same_scales_in_npu(graphs, quantization):
    """Likewise of the int8 graphs: integer weights, the factor of each channel, and what activations are divided by."""
    of_weights, of_pairs = inverse_scales(graphs)
    assert of_pairs == sorted(tuple(np.float32(1 / q.ranges[0].scale) for q in layer.inputs)
                              for layer in quantization.layers if layer.kind == "matmul")
    assert of_weights == {layer.name: np.float32(1 / layer.inputs[0].ranges[0].scale)
                          for layer in quantization.layers if layer.kind != "matmul"}
    weights = {name: array for graph in graphs for name, array in graph.weights.items()}
    for layer in quantization.layers:
        if layer.kind == "matmul":
            continue
        name, = (name for name in weights if name.endswith(f"{layer.name}.weight_codes"))
        np.testing.assert_array_equal(weights[name], layer.weight_codes)
        factors = weights[name.replace(".weight_codes", ".factors")].astype(np.uint32).view(np.float32)
        scale = np.float32(layer.inputs[0].ranges[0].scale)
        np.testing.assert_array_equal(factors.ravel(), scale * layer.weight_scales)


def test_amct_without_quantized_convolutions_is_refused(tmp_path):
    """`convolutions: false`: the record would be empty, and nothing in the graph quantized."""
    quantization = quantization_of_small_sam()
    linear = dataclasses.replace(quantization, layers=tuple(x for x in quantization.layers if x.kind != "conv"))
    path = write_scales(tmp_path / "scales.json", linear)[0]
    check_export(ExportSettings(("mindir", "lite"), ("1x3",), scales=str(path)), tmp_path / "out", "CPU")
    with pytest.raises(ValueError) as caught:
        check_export(ExportSettings(("lite", "amct"), ("1x3",), scales=str(path)), tmp_path / "out", "CPU")
    assert str(caught.value) == (
        f"export.formats: amct takes the scales of convolutions alone, and {path} leaves all of them in float: leave "
        "amct out, or quantize with --quantize.convolutions=true")


def test_an_export_for_ascend(tmp_path, pynative):
    """All formats of one network: the MindIR is the quantized network bit for bit, AMCT's convolutions are named in its
    graph, the pictures are there, and a second export may replace the first."""
    quantization = quantization_of_small_sam()
    scales = str(write_scales(tmp_path / "scales.json", quantization)[0])
    settings = ExportSettings(("mindir", "lite", "amct", "npu"), ("1x3",), scales=scales)
    picture = np.random.default_rng(0).standard_normal((1, 3, SIDE, SIDE)).astype(np.float32)
    out = tmp_path / "out"
    export_model(small_sam(), out, settings, {"name": "small.ckpt", "sha256": SHA}, {}, say=lambda line: None,
                 pictures=[picture, 2 * picture])
    assert sorted(path.name for path in out.iterdir()) == [
        "calibration", "image_encoder.amct.onnx", "image_encoder.amct.txt", "image_encoder.lite.cfg",
        "image_encoder.lite.onnx", "image_encoder.mindir", "image_encoder.npu.mindir", "manifest.json",
        "mask_decoder_p1_n3.lite.onnx", "mask_decoder_p1_n3.mindir", "mask_decoder_p1_n3.npu.mindir"]
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["quantization"].startswith("w8a8 ascend, scales sha256 ") and manifest["folders"] == ["calibration"]
    check_export(settings, out, "CPU")

    network = quantize_network(small_sam(), quantization, SHA)
    reloaded = nn.GraphCell(ms.load(str(out / "image_encoder.mindir")))
    wanted = network.image_encoder(Tensor(picture)).asnumpy()
    assert np.array_equal(reloaded(Tensor(picture)).asnumpy(), wanted) and np.abs(wanted).max() > 0.1

    parser = configparser.ConfigParser()
    parser.read(out / "image_encoder.lite.cfg")
    kind, _, folder = parser["data_preprocess_param"]["calibrate_path"].partition(":")
    assert (kind, folder) == ("images", "calibration")
    assert parser.getint("data_preprocess_param", "calibrate_size") == len(list((out / folder).iterdir())) == 2
    read = np.fromfile(out / "calibration" / "0001.bin", "<f4").reshape(picture.shape)
    assert np.array_equal(read, 2 * picture)
    graph = onnx.load(str(out / "image_encoder.amct.onnx")).graph
    record = text_format.Parse((out / "image_encoder.amct.txt").read_text(), record_class()()).record
    convolutions = [node.name for node in graph.node if node.op_type == "Conv"]
    assert sorted(entry.key for entry in record) == sorted(convolutions)
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    gelus = len(find_gelus(read_mindir(out / "image_encoder.mindir")))
    for name in ("amct", "lite"):
        found = [node.op_type for node in onnx.load(str(out / f"image_encoder.{name}.onnx")).graph.node]
        assert (found.count("Erf"), found.count("Sigmoid")) == (gelus, 0) and gelus > 3
    for node in graph.node:
        operands = [made_by.get(name) for name in node.input[:2]]
        assert (node.op_type == "Conv") == (operands == ["DequantizeLinear"] * 2), node.name
    same_scales_in_lite([out / f"{name}.lite.onnx" for name in ("image_encoder", "mask_decoder_p1_n3")], quantization)
    # The int8 graph has a product for every quantized layer, and none but those kept besides.
    graphs = [read_mindir(out / f"{name}.npu.mindir") for name in ("image_encoder", "mask_decoder_p1_n3")]
    same_scales_in_npu(graphs, quantization)
    nodes = [node.op for graph in graphs for node in graph.nodes]
    kinds = [layer.kind for layer in quantization.layers]
    assert nodes.count("Dequant") == kinds.count("conv")
    assert nodes.count("QuantBatchMatmul") == kinds.count("linear") + kinds.count("matmul")

    before = (out / "manifest.json").read_bytes()
    for pictures, message in (([picture, np.full_like(picture, -2.1)], "1 of 2 calibration pictures are of a single"),
                              ([picture * np.nan], "calibration picture 1 of 1 holds a value that is not finite")):
        with pytest.raises(ValueError, match=message):
            export_model(small_sam(), out, settings, {"name": "small.ckpt", "sha256": SHA}, {}, pictures=pictures)
    assert (out / "manifest.json").read_bytes() == before
    with pytest.raises(ValueError, match="was made from the checkpoint with SHA-256 5a5a"):
        export_model(small_sam(), out, settings, {"name": "other.ckpt", "sha256": "0" * 64}, {})
    six = dataclasses.replace(quantization, layers=tuple(
        dataclasses.replace(layer, activation_bits=6,
                            inputs=(Quantizer("uniform", 6, (signed_range(0.1, 6),)),) * len(layer.inputs))
        for layer in quantization.layers))
    with pytest.raises(ValueError, match="has an operand that is not symmetric int8"):
        check_export(settings._replace(scales=str(write_scales(tmp_path / "six.json", six)[0])), out, "CPU")
