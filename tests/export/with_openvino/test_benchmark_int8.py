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
"""The benchmark of int8: its inputs, its line for a small graph, and what it refuses."""
import functools
from pathlib import Path

import numpy as np
import pytest
from mindspore import Tensor, nn

from src.export.graphs import Graph, TensorSpec, write_graph
from src.export.manifest import ExportedGraph
from src.export.onnx_graph import OnnxBuilder, convert_mindir, write_onnx
from src.export.openvino_engine import why_int8_saturates
from src.export.qdq import QdqBuilder
from src.quantization.cells import QuantizedLinear
from src.quantization.spec import LayerScales, Quantization, Quantizer, signed_range, weight_codes
from tools import benchmark_int8
from tools.benchmark_int8 import arrays_of, compare, main


def test_every_prompt_has_a_click_and_empty_slots():
    specs = (TensorSpec("image_embeddings", (1, 8, 4, 4), "float32"),
             TensorSpec("point_coords", (1, 2, 4, 2), "float32"), TensorSpec("point_labels", (1, 2, 4), "int32"))
    embeddings, coords, labels = arrays_of(ExportedGraph("mask_decoder", 2, 4, specs, (), Path("x.onnx")))
    assert labels.tolist() == [[[1, -1, -2, -2]] * 2] and labels.dtype == np.int32
    assert coords.shape == (1, 2, 4, 2) and coords.min() >= 0 and coords.max() < 1024
    assert embeddings.dtype == np.float32 and 0.5 < embeddings.std() < 1.5


@pytest.fixture
def pair(tmp_path):
    """ExportedGraph of a linear layer [5, 96] -> [5, 24] in float, and of the same layer at 8 bits."""
    for package in ("onnx", "openvino"):
        pytest.importorskip(package, reason="pip install -r requirements-edge.txt")
    weight = np.random.default_rng(0).standard_normal((24, 96)).astype(np.float32)
    scales = np.full(24, np.abs(weight).max() / 127, np.float32)
    layer = LayerScales("linear", "linear", 8, 8, (Quantizer("uniform", 8, (signed_range(0.04, 8),)),), 96,
                        weight_scales=scales, weight_codes=weight_codes(weight, scales, 8).astype(np.int8))
    dense = nn.Dense(96, 24, has_bias=False)
    dense.weight.set_data(Tensor(weight))
    quantization = Quantization("ab" * 32, "small", 64, "ascend", 8, 8, (layer,), {})
    specs, graphs = (TensorSpec("x", (5, 96), "float32"),), []
    with_scales = functools.partial(QdqBuilder, quantization=quantization)
    for name, cell, builder in (("float", dense, OnnxBuilder), ("int8", QuantizedLinear(layer), with_scales)):
        path = tmp_path / f"{name}.onnx"
        write_graph(Graph("encoder", "encoder", cell.set_train(False), specs, ()), tmp_path / f"{name}.mindir")
        write_onnx(convert_mindir(tmp_path / f"{name}.mindir", ("y",), name, builder), path)
        graphs.append(ExportedGraph("encoder", None, None, specs, (), path))
    return tuple(graphs)


@pytest.mark.skipif(bool(why_int8_saturates()), reason="int8 sums saturate without VNNI")
def test_a_line_has_medians_their_ratio_what_runs_in_int8_and_how_like_the_outputs_are(pair, monkeypatch):
    """A clock that gives the float graph 8, 2 and 4 ms, the int8 one 3, 1 and 2: medians 4 and 2."""
    ticks = iter(np.cumsum([part for float_ms, int8_ms in ((8, 3), (2, 1), (4, 2))
                            for part in (1, float_ms, 1, int8_ms)]) / 1000)
    monkeypatch.setattr(benchmark_int8.time, "process_time", lambda: next(ticks))
    name, float_ms, int8_ms, ratio, count, kind, correlation = compare(pair, runs=3, threads=1).split()
    assert (name, float_ms, int8_ms, ratio, count, kind) == ("float", "4.0", "2.0", "0.50", "1", "i8")
    assert 0.999 < float(correlation) <= 1


@pytest.mark.skipif(bool(why_int8_saturates()), reason="int8 sums saturate without VNNI")
def test_products_left_in_float_and_other_outputs_are_seen(pair):
    other = pair[0]._replace(path=pair[1].path)
    assert compare((other, pair[0]), 1, 1).split()[4:6] == ["1", "f32"]
    assert float(compare((other, pair[1]), 1, 1).split()[-1]) == 1.0


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match="--runs is 0; it must be at least 1"):
        main(["--float", "a", "--int8", "b", "--runs", "0"])
    with pytest.raises(ValueError, match="no manifest.json there; give the folder of an export"):
        main(["--float", str(tmp_path), "--int8", str(tmp_path)])
