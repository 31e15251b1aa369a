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
"""Equality with the PyTorch predictors on photographs at equal weights: mask IoU > 0.999; predicted IoUs and
low-resolution logits of all masks within 1e-4. The reference values come from tools/make_predictor_vectors.py.
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
from src.checkpoint.file_hash import file_sha256
from src.data.images import read_image
from src.inference.predictor import SamPredictor, load_predictor
from src.modeling.build_sam import build_sam
from tools.convert_checkpoint import main as convert
from tools.make_parity_vectors import reference_weight
from tools.make_predictor_vectors import LOW_RES_STEP, PACKAGES, PHOTOGRAPHS, PROMPTS, photograph_path, prompt_in_pixels

HERE = Path(__file__).parent
MOBILE_SAM_SHA256 = "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f"


def mask_iou(text, other, size):
    """IoU of two masks of size (h, w) given as the bytes of their run lengths."""
    return coco_mask.iou([{"size": size, "counts": text}], [{"size": size, "counts": other}], [0])[0, 0]


def assert_equal_on_photographs(predictor, expected, atol):
    """`expected`: the arrays of tools/make_predictor_vectors.py; `atol` of logits and predicted IoUs."""
    for photograph in PHOTOGRAPHS:
        image = read_image(photograph_path(photograph))
        predictor.set_image(image)
        for prompt_name, prompt in PROMPTS.items():
            arguments = prompt_in_pixels(prompt, *image.shape[:2])
            masks, ious, low_res = predictor.predict(**arguments)
            key = f"{photograph}.{prompt_name}"
            np.testing.assert_allclose(low_res.ravel()[::LOW_RES_STEP], expected[f"{key}.logits"], rtol=0, atol=atol)
            np.testing.assert_allclose(ious, expected[f"{key}.ious"], rtol=0, atol=atol)
            best = masks[expected[f"{key}.ious"].argmax()]
            rle = coco_mask.encode(np.asfortranarray(best, dtype=np.uint8))
            iou = mask_iou(rle["counts"], expected[f"{key}.mask"].tobytes(), best.shape)
            assert iou > 0.999, f"{key}: {iou}"
            assert 0.01 < best.mean() < 0.99  # a mask that could differ
        logits, _, again = predictor.predict(**arguments, return_logits=True)
        np.testing.assert_array_equal(logits > 0, masks)
        np.testing.assert_array_equal(again, low_res)


@pytest.mark.slow
@pytest.mark.parametrize("name", PACKAGES)
def test_predictor_equals_the_reference_on_photographs(name):
    sam = build_sam(name.rsplit("_", 1)[0], image_size=1024)
    for parameter in sam.get_parameters():
        parameter.set_data(ms.Tensor(reference_weight(torch_name(parameter.name), parameter.shape)))
    assert_equal_on_photographs(SamPredictor(sam), np.load(HERE / f"predictor_{name}.npz"), 1e-4)


@pytest.mark.slow
def test_released_weights_of_mobilesam_give_what_pytorch_gives(tmp_path):
    """The .pt file as it was released, converted and run; its logits reach 40, so their rounding is larger."""
    released = os.environ.get("TINYSAM_MOBILE_SAM")
    if not released:
        pytest.skip("needs MobileSAM's mobile_sam.pt: name it in TINYSAM_MOBILE_SAM (README, Weights)")
    assert file_sha256(released) == MOBILE_SAM_SHA256
    assert convert([released, str(tmp_path / "mobile_sam.ckpt"), "--variant", "tinyvit_5m"]) == 0
    predictor = load_predictor(tmp_path / "mobile_sam.ckpt")
    assert_equal_on_photographs(predictor, np.load(HERE / "predictor_mobile_sam.npz"), 5e-4)


@pytest.mark.reference
@pytest.mark.slow
@pytest.mark.parametrize("name", PACKAGES)
def test_stored_masks_are_what_the_reference_gives(name, tmp_path):
    # TINYSAM_REFERENCE_PYTHON: an interpreter with torch, where this one has none
    python = os.environ.get("TINYSAM_REFERENCE_PYTHON", sys.executable)
    if subprocess.run([python, "-c", "import torch, pycocotools"], capture_output=True, timeout=300).returncode:
        pytest.skip("needs torch, segment-anything and mobilesam-mirror here or in TINYSAM_REFERENCE_PYTHON")
    command = [python, str(HERE.parents[1] / "tools" / "make_predictor_vectors.py"), "--output", str(tmp_path),
               "--case", name]
    made = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert made.returncode == 0, made.stderr
    stored, fresh = np.load(HERE / f"predictor_{name}.npz"), np.load(tmp_path / f"predictor_{name}.npz")
    assert stored.files == fresh.files
    for key in stored.files:
        if not key.endswith(".mask"):
            np.testing.assert_allclose(fresh[key], stored[key], rtol=0, atol=2e-5)
        else:
            size = read_image(photograph_path(key.split(".")[0])).shape[:2]
            assert mask_iou(fresh[key].tobytes(), stored[key].tobytes(), size) > 0.9999, key
