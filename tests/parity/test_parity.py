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
"""Equality with PyTorch at equal weights: image embeddings, masks and predicted IoUs within 1e-4, both modes.

The vectors in this folder come from tools/make_parity_vectors.py, whose weights are a function of name and shape.
"""
import os
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest

from src.checkpoint import torch_name
from src.modeling.build_sam import build_sam, build_sam_around
from src.modeling.image_encoder import ImageEncoderViT
from src.modeling.sam import PromptDecoder
from tools.make_parity_vectors import CASES, PROMPTS, input_image, input_mask, reference_weight

HERE = Path(__file__).parent
TOLERANCE = 1e-4
NUM_SLOTS = 3
SLOW = ("tinyvit_5m_1024", "vit_b_1024")
every_case = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in CASES])


def network(name):
    """Our network of a case with the reference's weights, in evaluation mode."""
    case = CASES[name]
    if case.vit is None:
        sam = build_sam(name.rpartition("_")[0], image_size=case.image_size)  # tinyvit_5m, nano
    elif name == "vit_b_1024":
        sam = build_sam("vit_b", image_size=case.image_size)
    else:
        embed_dim, depth, num_heads, global_attn_indexes = case.vit

        def image_encoder(image_size):
            return ImageEncoderViT(image_size, 16, embed_dim, depth, num_heads, 14, global_attn_indexes, 256)

        sam = build_sam_around(image_encoder, 256, 2048, case.image_size, name)
    for parameter in sam.get_parameters():
        parameter.set_data(ms.Tensor(reference_weight(torch_name(parameter.name), parameter.shape)))
    return sam.set_train(False)


def prompt_slots(prompt, scale):
    """Coords [K, 2] and labels [K]: with a box its corners, else SAM's padding point; then empty slots."""
    points, box, _ = prompt
    coords = [point[:2] for point in points]
    labels = [point[2] for point in points]
    if box is not None:
        coords, labels = [box[:2], box[2:], *coords], [2, 3, *labels]
    elif points:
        coords, labels = [*coords, (0, 0)], [*labels, -1]
    empty = NUM_SLOTS - len(labels)
    coords, labels = coords + [(0, 0)] * empty, labels + [-2] * empty
    return np.array(coords, np.float32) * scale, np.array(labels, np.int32)


def decode(decoder, case, image_embeddings, with_mask):
    """Masks [B, M, 4, S/4 * S/4] and IoUs [B, M, 4] of the prompts with (or without) a mask input, and their places."""
    chosen = [index for index, prompt in enumerate(PROMPTS.values()) if prompt[2] == with_mask]
    slots = [prompt_slots(list(PROMPTS.values())[index], case.image_size / 1024) for index in chosen]
    coords = np.tile(np.stack([slot[0] for slot in slots]), (case.batch, 1, 1, 1))
    labels = np.tile(np.stack([slot[1] for slot in slots]), (case.batch, 1, 1))
    arguments = [image_embeddings, ms.Tensor(coords), ms.Tensor(labels)]
    if with_mask:
        arguments.append(ms.Tensor(np.tile(input_mask(case.image_size), (case.batch, len(chosen), 1, 1, 1))))
    masks, ious, _ = decoder(*arguments)
    return masks.asnumpy().reshape(case.batch, len(chosen), 4, -1), ious.asnumpy(), chosen


@every_case
def test_equals_the_reference(name, mode):
    case = CASES[name]
    expected = np.load(HERE / f"{name}.npz")
    sam = network(name)
    image_embeddings = sam.image_encoder(ms.Tensor(input_image(case.batch, case.image_size)))
    actual = image_embeddings.asnumpy().reshape(case.batch, -1)[:, expected["embedding_positions"]]
    np.testing.assert_allclose(actual, expected["image_embeddings"], rtol=0, atol=TOLERANCE)
    decoder = PromptDecoder(sam)
    for with_mask in (False, True):
        masks, ious, chosen = decode(decoder, case, image_embeddings, with_mask)
        actual = masks[..., expected["mask_positions"]]
        np.testing.assert_allclose(actual, expected["low_res_masks"][:, chosen], rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(ious, expected["iou_predictions"][:, chosen], rtol=0, atol=TOLERANCE)


@pytest.mark.reference
@every_case
def test_stored_vectors_are_what_the_reference_gives(name, tmp_path):
    # TINYSAM_REFERENCE_PYTHON: an interpreter with torch, where this one has none
    python = os.environ.get("TINYSAM_REFERENCE_PYTHON", sys.executable)
    probe = subprocess.run([python, "-c", "import torch"], capture_output=True, timeout=300)
    if probe.returncode:
        pytest.skip("needs torch, segment-anything and mobilesam-mirror here or in TINYSAM_REFERENCE_PYTHON")
    root = HERE.parents[1]
    command = [python, str(root / "tools" / "make_parity_vectors.py"), "--output", str(tmp_path), "--case", name]
    made = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert made.returncode == 0, made.stderr
    stored, fresh = np.load(HERE / f"{name}.npz"), np.load(tmp_path / f"{name}.npz")
    assert stored.files == fresh.files
    for key in stored.files:
        np.testing.assert_allclose(fresh[key], stored[key], rtol=0, atol=2e-5)
