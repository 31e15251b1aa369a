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
"""A quantized export runs as the evaluation does: its MindIR bit for bit, with native kernels switched on as well; and
the decoder's values in every engine."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from src.checkpoint.file_hash import file_sha256
from src.export.engines import open_predictor
from src.export.exported_predictor import open_graph
from src.export.exporter import ExportSettings, export_model
from src.export.openvino_engine import why_int8_saturates
from src.inference.predictor import load_predictor
from src.modeling.native_kernels import NativeGELU, build_library
from src.modeling.sam import PromptDecoder
from src.quantization.cells import quantize_network
from src.quantization.scales_file import write_scales
from tests.export.quantized_products import quantization_of

pytest.importorskip("onnx", reason="needs the package onnx: pip install -r requirements-edge.txt")
pytestmark = pytest.mark.usefixtures("pynative")


class QuantizedExport:
    """The nano of 64 pixels of `small_export`, its scales and the folder of its quantized export."""

    def __init__(self, checkpoint, folder):
        self.checkpoint, sha = checkpoint, file_sha256(checkpoint)
        self.quantization = quantization_of(load_predictor(checkpoint).sam, sha, decoder_attention=True)
        self.scales = str(write_scales(folder / "scales.json", self.quantization)[0])
        self.folder = folder / "out"
        settings = ExportSettings(("mindir", "onnx"), ("2x3",), scales=self.scales)
        export_model(load_predictor(checkpoint).sam, self.folder, settings, {"name": checkpoint.name, "sha256": sha},
                     {}, say=lambda line: None)


@pytest.fixture(scope="module")
def quantized(small_export, tmp_path_factory):
    ms.set_context(mode=ms.PYNATIVE_MODE)
    return QuantizedExport(small_export.checkpoint, tmp_path_factory.mktemp("quantized"))


@pytest.fixture
def clicks():
    """point_coords [1, 2, 3, 2] and point_labels [1, 2, 3]: a box, and a click with an empty slot."""
    coords = np.random.default_rng(3).uniform(0, 64, (1, 2, 3, 2)).astype(np.float32)
    return coords, np.array([[[2, 3, -2], [1, 0, -2]]], np.int32)


def test_the_evaluation_equals_the_mindir_bit_for_bit_with_native_kernels(quantized, image, clicks, monkeypatch):
    """Native kernels round otherwise than the operators, which moves codes; so a quantized network does without."""
    if build_library() is None:
        pytest.skip("needs a C++ compiler")
    monkeypatch.setenv("TINYSAM_KERNEL_THREADS", "1")
    cells = [cell for _, cell in open_predictor("mindspore", quantized.checkpoint).sam.cells_and_names()]
    assert any(isinstance(cell, NativeGELU) for cell in cells)  # a float network has them
    evaluated = open_predictor("mindspore", quantized.checkpoint, scales=quantized.scales)
    reloaded = open_predictor("mindspore", quantized.folder)
    for predictor in (evaluated, reloaded):
        predictor.set_image(image)
    embeddings = evaluated.image_embeddings.asnumpy()
    assert np.array_equal(embeddings, reloaded.image_embeddings) and np.abs(embeddings).max() > 0.1
    decoder = open_graph(quantized.folder / "mask_decoder_p2_n3.mindir", "mindir")
    for wanted, found in zip(evaluated._decode(*clicks, None), decoder(embeddings, *clicks)):
        assert np.array_equal(wanted, found) and wanted.std() > 0


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
