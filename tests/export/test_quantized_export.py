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
"""A quantized export runs as the evaluation does: its MindIR bit for bit, with native kernels switched on as well."""
import numpy as np
import pytest

from src.export.engines import open_predictor
from src.export.exported_predictor import open_graph
from src.modeling.native_kernels import NativeGELU, build_library

pytest.importorskip("onnx", reason="needs the package onnx: pip install -r requirements-edge.txt")
pytestmark = pytest.mark.usefixtures("pynative")


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
