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
"""Segment everything equals the PyTorch generators at equal weights: same masks, same order, same fields."""
import json
import os
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from src.checkpoint import torch_name
from src.inference.everything import EverythingGenerator, EverythingSettings
from src.inference.predictor import SamPredictor
from src.modeling.build_sam import build_sam, build_sam_around
from src.modeling.image_encoder import ImageEncoderViT
from tests.parity.reference_everything import COMMON, RUNS, adjust, input_picture
from tools.make_parity_vectors import CASES, reference_weight

HERE = Path(__file__).parent
pytestmark = [pytest.mark.reference, pytest.mark.slow]


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """{name of RUNS: records of the reference}."""
    # TINYSAM_REFERENCE_PYTHON: an interpreter with torch, where this one has none
    python = os.environ.get("TINYSAM_REFERENCE_PYTHON", sys.executable)
    probe = subprocess.run([python, "-c", "import torch, pycocotools, cv2"], capture_output=True, timeout=300)
    if probe.returncode:
        pytest.skip("needs torch, segment-anything and mobilesam-mirror here or in TINYSAM_REFERENCE_PYTHON")
    path = tmp_path_factory.mktemp("reference") / "records.json"
    made = subprocess.run([python, str(HERE / "reference_everything.py"), str(path)], capture_output=True, text=True,
                          timeout=900)
    assert made.returncode == 0, made.stderr
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def predictors():
    """{name of CASES: our predictor with the reference's weights}, PyNative: graphs would be compiled for minutes."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    made = {}
    for name in {case for case, _, _ in RUNS.values()}:
        case = CASES[name]
        if case.vit is None:
            sam = build_sam("tinyvit_5m", image_size=case.image_size)
        else:
            embed_dim, depth, num_heads, global_attn_indexes = case.vit

            def image_encoder(size, vit=(embed_dim, depth, num_heads, 14, global_attn_indexes)):
                return ImageEncoderViT(size, 16, *vit, 256)

            sam = build_sam_around(image_encoder, 256, 2048, case.image_size, name)
        for parameter in sam.get_parameters():
            stored = torch_name(parameter.name)
            parameter.set_data(ms.Tensor(adjust(stored, reference_weight(stored, parameter.shape)).astype(np.float32)))
        made[name] = SamPredictor(sam)
    yield made
    ms.set_context(mode=ms.GRAPH_MODE)


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "plain"])
@pytest.mark.parametrize("name", RUNS)
def test_full_grid_returns_what_the_reference_returns(name, fast, expected, predictors):
    case, _, changes = RUNS[name]
    settings = EverythingSettings(output_mode="coco_rle", fast=fast, **{**COMMON, **changes})
    records = EverythingGenerator(predictors[case], settings).generate(input_picture())
    reference = expected[name]
    assert len(records) == len(reference) > 3
    for ours, theirs in zip(records, reference):
        assert ours.keys() == theirs.keys()
        both_empty = ours["area"] == theirs["area"] == 0
        segmentations = [ours["segmentation"]], [theirs["segmentation"]]
        assert both_empty or coco_mask.iou(*segmentations, [0])[0, 0] > 0.99
        assert ours["segmentation"]["size"] == theirs["segmentation"]["size"]
        np.testing.assert_allclose(ours["predicted_iou"], theirs["predicted_iou"], atol=1e-4)
        np.testing.assert_allclose(ours["stability_score"], theirs["stability_score"], atol=0.01)
        np.testing.assert_allclose(ours["point_coords"], theirs["point_coords"], atol=1e-9)
        np.testing.assert_allclose(ours["bbox"], theirs["bbox"], atol=1)
        assert ours["crop_box"] == theirs["crop_box"]
        assert abs(ours["area"] - theirs["area"]) <= 0.01 * theirs["area"]
