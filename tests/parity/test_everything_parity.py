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
"""Segment everything equals the PyTorch generators at equal weights: same masks, same order, same fields.

The records in everything.npz come from tools/make_everything_vectors.py; where torch is at hand they are made again.
"""
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
from tools.make_everything_vectors import COMMON, FIELDS, RUNS, adjust, input_picture, read_records
from tools.make_parity_vectors import CASES, reference_weight

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def expected():
    """{name of RUNS: records of the reference}."""
    return read_records(HERE / "everything.npz")


@pytest.fixture(scope="module")
def predictors():
    """{name of CASES: our predictor with the reference's weights}, PyNative: graphs would be compiled for minutes."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    made = {}
    for name in {case for case, _, _ in RUNS.values()}:
        case = CASES[name]
        if case.vit is None:
            sam = build_sam("tinyvit_5m", image_size=case.image_size, draw_weights=False)
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


@pytest.mark.parametrize("name, fast", [*((name, True) for name in RUNS), ("grid", False)])
def test_full_grid_returns_what_the_reference_returns(name, fast, expected, predictors):
    case, _, changes = RUNS[name]
    settings = EverythingSettings(output_mode="coco_rle", fast=fast, **{**COMMON, **changes})
    records, counts = EverythingGenerator(predictors[case], settings).run(input_picture())
    assert len(records) == len(expected[name]) >= 8
    for ours, theirs in zip(records, expected[name]):
        assert_equal_records(ours, theirs)
    # The settings do what they are for: thresholds part the masks, and crops add theirs.
    assert len(records) < 3 * counts.points
    assert len({tuple(record["crop_box"]) for record in records}) == (5 if "crops" in name else 1)


def assert_equal_records(ours, theirs):
    assert ours.keys() == theirs.keys() == {"segmentation", *FIELDS}
    assert ours["segmentation"]["size"] == theirs["segmentation"]["size"]
    both_empty = ours["area"] == theirs["area"] == 0
    assert both_empty or coco_mask.iou([ours["segmentation"]], [theirs["segmentation"]], [0])[0, 0] > 0.99
    np.testing.assert_allclose(ours["predicted_iou"], theirs["predicted_iou"], atol=1e-4)
    # docs/deviations.md: 0 where SAM divides 0 by 0.
    np.testing.assert_allclose(ours["stability_score"], np.nan_to_num(theirs["stability_score"]), atol=0.01)
    np.testing.assert_allclose(ours["point_coords"], theirs["point_coords"], atol=1e-9)
    np.testing.assert_allclose(ours["bbox"], theirs["bbox"], atol=1)
    assert ours["crop_box"] == theirs["crop_box"]
    assert abs(ours["area"] - theirs["area"]) <= 0.01 * theirs["area"]


@pytest.mark.reference
@pytest.mark.slow
def test_stored_records_are_what_the_reference_gives(expected, tmp_path):
    # TINYSAM_REFERENCE_PYTHON: an interpreter with torch, where this one has none
    python = os.environ.get("TINYSAM_REFERENCE_PYTHON", sys.executable)
    probe = subprocess.run([python, "-c", "import torch, pycocotools, cv2"], capture_output=True, timeout=300)
    if probe.returncode:
        pytest.skip("needs torch, segment-anything and mobilesam-mirror here or in TINYSAM_REFERENCE_PYTHON")
    tool, path = HERE.parents[1] / "tools" / "make_everything_vectors.py", tmp_path / "everything.npz"
    made = subprocess.run([python, str(tool), "--output", str(path)], capture_output=True, text=True, timeout=900)
    assert made.returncode == 0, made.stderr
    for name, records in read_records(path).items():
        assert len(records) == len(expected[name])
        for fresh, stored in zip(records, expected[name]):
            assert_equal_records(fresh, stored)
