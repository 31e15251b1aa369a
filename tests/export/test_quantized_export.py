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
"""A quantized export runs as the evaluation does: MindIR bit for bit, with native kernels switched on as well."""
import mindspore as ms
import numpy as np
import pytest

from src.checkpoint.file_hash import file_sha256
from src.export.engines import open_predictor
from src.export.exported_predictor import open_graph
from src.export.exporter import ExportSettings, export_model
from src.inference.predictor import load_predictor
from src.modeling.native_kernels import NativeGELU, build_library
from src.quantization.scales_file import write_scales
from tests.export.quantized_products import quantization_of

pytestmark = pytest.mark.usefixtures("pynative")


class QuantizedExport:
    """The nano of 64 pixels of `small_export`, its scales and the folder of its quantized export."""

    def __init__(self, checkpoint, folder):
        self.checkpoint, sha = checkpoint, file_sha256(checkpoint)
        self.quantization = quantization_of(load_predictor(checkpoint).sam, sha)
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
