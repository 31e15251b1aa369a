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
"""A quantized decoder's values in every engine."""
import numpy as np
import pytest
from mindspore import Tensor

from src.checkpoint.file_hash import file_sha256
from src.export.exported_predictor import open_graph
from src.export.openvino_engine import why_int8_saturates
from src.inference.predictor import load_predictor
from src.modeling.sam import PromptDecoder
from src.quantization.cells import quantize_network

pytest.importorskip("onnx", reason="needs the package onnx: pip install -r requirements-edge.txt")
pytestmark = pytest.mark.usefixtures("pynative")


@pytest.mark.parametrize("engine", ["mindir", "onnx", "openvino"])
def test_a_quantized_decoder_gives_the_network_s_values(quantized, clicks, engine):
    """All of its products, attention as well, are quantized. Other rounding between them may flip a code at its border,
    but not in the MindIR, which has the network's."""
    if engine != "mindir":
        pytest.importorskip("openvino" if engine == "openvino" else "onnxruntime")
    if engine == "openvino" and why_int8_saturates():
        pytest.skip(f"int8 sums saturate: {why_int8_saturates()}")
    embeddings = np.random.default_rng(4).standard_normal((1, 128, 4, 4)).astype(np.float32)
    network = quantize_network(load_predictor(quantized.checkpoint).sam, quantized.quantization,
                               file_sha256(quantized.checkpoint))
    wanted = [output.asnumpy() for output in PromptDecoder(network).set_train(False)(
        Tensor(embeddings), *map(Tensor, clicks))][:2]
    suffix = "mindir" if engine == "mindir" else "onnx"
    found = open_graph(quantized.folder / f"mask_decoder_p2_n3.{suffix}", engine, 1)(embeddings, *clicks)
    for a, b in zip(wanted, found):
        assert engine != "mindir" or np.array_equal(a, b)
        assert a.shape == b.shape and a.std() > 0.1 and np.abs(a - b).mean() < 0.01 * a.std()
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.999
