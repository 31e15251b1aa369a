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
"""The benchmark of int8: its inputs, and what it refuses. tests/export/test_engines.py runs what it measures."""
from pathlib import Path

import numpy as np
import pytest

from src.export.graphs import TensorSpec
from src.export.manifest import ExportedGraph
from tools.benchmark_int8 import arrays_of, main


def test_every_prompt_has_a_click_and_empty_slots():
    specs = (TensorSpec("image_embeddings", (1, 8, 4, 4), "float32"),
             TensorSpec("point_coords", (1, 2, 4, 2), "float32"), TensorSpec("point_labels", (1, 2, 4), "int32"))
    embeddings, coords, labels = arrays_of(ExportedGraph("mask_decoder", 2, 4, specs, (), Path("x.onnx")))
    assert labels.tolist() == [[[1, -1, -2, -2]] * 2] and labels.dtype == np.int32
    assert coords.shape == (1, 2, 4, 2) and coords.min() >= 0 and coords.max() < 1024
    assert embeddings.dtype == np.float32 and 0.5 < embeddings.std() < 1.5


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match="--runs is 0; it must be at least 1"):
        main(["--float", "a", "--int8", "b", "--runs", "0"])
    with pytest.raises(ValueError, match="no manifest.json there; give the folder of an export"):
        main(["--float", str(tmp_path), "--int8", str(tmp_path)])
