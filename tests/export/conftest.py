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
"""Fixtures of exports: one tiny network and its export, made once, since every graph costs seconds to compile."""
import json
import shutil

import mindspore as ms
import numpy as np
import pytest

from src.checkpoint import save_network
from src.checkpoint.file_hash import file_sha256
from src.export.exporter import ExportSettings, export_model
from src.inference.predictor import load_predictor
from src.modeling.build_sam import build_sam
from src.quantization.scales_file import write_scales
from tests.export.quantized_products import quantization_of

SIDE = 64
BOXES = np.array([[3, 4, 30, 20], [1, 2, 39, 29], [10, 10, 20, 20], [0, 0, 40, 30], [5, 5, 12, 25]], np.float64)


def stir(sam, seed=0):
    """Weights as after training: fresh ones leave branches at zero and norms at one, where wrong graphs look right."""
    rng = np.random.default_rng(seed)
    for parameter in sam.get_parameters():
        noise = rng.standard_normal(parameter.shape).astype(np.float32)
        value = parameter.asnumpy()
        if parameter.name.endswith("moving_variance"):
            value = np.exp(0.2 * noise)
        elif "gaussian_matrix" not in parameter.name:
            value = value + (0.2 if value.ndim == 1 or "attention_biases" in parameter.name else 0.02) * noise
        parameter.set_data(ms.Tensor(value.astype(np.float32)))
    return sam


class SmallExport:
    """A nano of 64 pixels, its checkpoint, and the folder of its export; `lines`: what the exporter said."""

    def __init__(self, folder):
        self.sam = stir(build_sam("nano", image_size=SIDE, seed=5))
        self.checkpoint = folder / "nano.ckpt"
        save_network(self.checkpoint, self.sam)
        self.folder = folder / "export"
        self.lines = []
        settings = ExportSettings(formats=("mindir", "onnx"), decoders=("4x3", "1x4"))
        self.manifest = export_model(self.sam, self.folder, settings, {"name": "nano.ckpt", "sha256": "0" * 64},
                                     {"mindspore": "of the test"}, say=self.lines.append)


@pytest.fixture(scope="session")
def small_export(tmp_path_factory):
    return SmallExport(tmp_path_factory.mktemp("exported"))


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


@pytest.fixture(scope="session")
def quantized(small_export, tmp_path_factory):
    ms.set_context(mode=ms.PYNATIVE_MODE)
    return QuantizedExport(small_export.checkpoint, tmp_path_factory.mktemp("quantized"))


@pytest.fixture
def clicks():
    """point_coords [1, 2, 3, 2] and point_labels [1, 2, 3]: a box, and a click with an empty slot."""
    coords = np.random.default_rng(3).uniform(0, 64, (1, 2, 3, 2)).astype(np.float32)
    return coords, np.array([[[2, 3, -2], [1, 0, -2]]], np.int32)


@pytest.fixture(scope="session")
def stirred():
    """`stir`, for a network of any kind."""
    return stir


def assert_same_answers(network, predictor):
    """Two predictors that have an image: five boxes, which decoders of 4 and of 1 prompts share; clicks; a click with a
    box."""
    for prompt in ({"boxes": BOXES}, {"point_coords": [[[7, 8], [20, 9]]], "point_labels": [[1, 0]]},
                   {"point_coords": [[[7, 8]]], "point_labels": [[1]], "boxes": BOXES[:1], "multimask_output": False}):
        wanted, got = network.predict_batch(**prompt), predictor.predict_batch(**prompt)
        assert np.mean(wanted[0] != got[0]) < 1e-3  # a pixel at a logit of 0 may fall either way
        for a, b in zip(wanted[1:], got[1:]):
            assert a.dtype == b.dtype and a.shape == b.shape
            np.testing.assert_allclose(b, a, atol=1e-4)


@pytest.fixture(scope="session")
def image():
    return np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)


@pytest.fixture
def quantized_copy(small_export, tmp_path):
    """A copy of the export whose manifest says that it is quantized, which is all that readers go by."""
    folder = tmp_path / "quantized"
    shutil.copytree(small_export.folder, folder)
    content = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**content, "quantization": "w8a8 ascend, scales sha256 5a"}))
    return folder


@pytest.fixture(scope="session")
def prompts():
    """(point_coords [1, 4, 3, 2], point_labels [1, 4, 3]): a click, two clicks, a box, and one more click."""
    point_coords = np.random.default_rng(1).uniform(0, SIDE, (1, 4, 3, 2)).astype(np.float32)
    point_labels = np.array([[[1, -1, -2], [1, 0, -1], [2, 3, -2], [1, -1, -2]]], np.int32)
    return point_coords, point_labels
