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
"""Real networks made tiny, and a batch for them."""
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from src.modeling.build_sam import build_sam_around
from src.modeling.tiny_vit import TinyViT

ROUNDS = 3
SETTINGS = {"embedding_weight": 1.0, "embedding_adapter": False, "token_weight": 1.0, "output_weight": 1.0,
            "hard_mask_weighting": True, "focal_weight": 20.0, "dice_weight": 1.0, "iou_weight": 1.0,
            "max_rounds": ROUNDS, "hard_region": "error"}


def make_tiny(seed, variant="tiny", image_size=64, width=16):
    """A SAM with one block a stage."""
    def encoder(size):
        return TinyViT(image_size=size, embed_dims=(8, 16, 16, 16), depths=(1, 1, 1, 1), num_heads=(1, 2, 2, 2),
                       window_sizes=(4, 4, 4, 4), out_chans=width)
    return build_sam_around(encoder, width, 32, image_size, variant, seed)


@pytest.fixture
def tiny_sam():
    return make_tiny


@pytest.fixture
def settings():
    """Function of changes -> a `distill:` section."""
    return lambda **changes: SimpleNamespace(**{**SETTINGS, **changes})


@pytest.fixture
def batch():
    """Two images of two prompts, the last prompt not valid; a dict of arrays without noise and rounds."""
    rng = np.random.default_rng(0)
    gt_masks = np.zeros((2, 2, 16, 16), np.uint8)
    gt_masks[:, 0, 3:9, 4:10] = 1
    gt_masks[0, 1, 8:, 8:] = 1
    point_coords = np.zeros((2, 2, 2 + ROUNDS, 2), np.float32)
    point_labels = np.full((2, 2, 2 + ROUNDS), -2, np.int32)
    point_coords[:, :, 0] = (26, 22), (50, 50)
    point_labels[:, :, :2] = 1, -1
    return {"images": rng.normal(size=(2, 3, 64, 64)).astype(np.float32), "gt_masks": gt_masks,
            "point_coords": point_coords, "point_labels": point_labels,
            "mask_valid": np.array([[1, 1], [1, 0]], np.float32)}


@pytest.fixture
def inputs_of():
    """Function of (batch, rounds) -> inputs of a Distiller."""
    def make(batch, rounds, max_rounds=ROUNDS):
        shape = batch["gt_masks"].shape[:2] + (max(1, max_rounds),)
        noise = np.random.default_rng(9).random(shape, dtype=np.float32)
        return [Tensor(value) for value in batch.values()] + [Tensor(noise), Tensor(rounds, ms.int32)]
    return make
