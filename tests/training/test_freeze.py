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
"""Frozen parts: bit-equal weights and BatchNorm statistics after training steps, everything else moves; refusals."""
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from src.distillation.distiller import Distiller
from src.modeling.build_sam import build_sam_around
from src.modeling.tiny_vit import TinyViT
from src.training.freeze import freeze_parts
from src.training.optimizer import build_optimizer
from src.training.step import TrainStep

LABELS_ONLY = SimpleNamespace(embedding_weight=0.0, embedding_adapter=False, token_weight=0.0, output_weight=0.0,
                              hard_mask_weighting=False,
                              focal_weight=20.0, dice_weight=1.0, iou_weight=1.0, max_rounds=0, hard_region="error")
OPTIM = SimpleNamespace(name="adamw", learning_rate=1e-2, final_learning_rate=1e-3, warmup_steps=0, weight_decay=0.1,
                        layer_decay=1.0, ema_decay=0.0)


def tiny_sam():
    def encoder(size):
        return TinyViT(image_size=size, embed_dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2),
                       window_sizes=(4, 4, 4, 4), out_chans=16)
    return build_sam_around(encoder, 16, 32, 64, "tiny", 5)


pytestmark = pytest.mark.usefixtures("pynative")


def one_batch():
    rng = np.random.default_rng(1)
    coords = np.array([[[[20, 20], [0, 0]]], [[[30, 40], [0, 0]]]], np.float32)
    gt_masks = np.zeros((2, 1, 16, 16), np.uint8)
    gt_masks[:, :, 3:12, 3:12] = 1
    return [Tensor(rng.normal(size=(2, 3, 64, 64)).astype(np.float32)), Tensor(gt_masks), Tensor(coords),
            Tensor(np.tile(np.array([1, -1], np.int32), (2, 1, 1))), Tensor(np.ones((2, 1), np.float32)),
            Tensor(np.zeros((2, 1, 1), np.float32)), Tensor(0, ms.int32)]


def test_frozen_parts_stay_bit_equal_and_the_rest_moves():
    student = tiny_sam()
    parts = ("image_encoder.patch_embed", "image_encoder.layers.0", "prompt_encoder")
    freeze_parts(student, parts)
    before = {p.name: p.asnumpy().copy() for p in student.get_parameters()}
    step = TrainStep(Distiller(student, None, LABELS_ONLY), build_optimizer(student, OPTIM, 2), 0.0)
    for _ in range(2):
        step(*one_batch())
    moved = {p.name for p in student.get_parameters() if (p.asnumpy() != before[p.name]).any()}
    frozen = {name for name in before if name.startswith(tuple(part + "." for part in parts))}
    assert any("moving_mean" in name for name in frozen)
    assert moved & frozen == set()
    for name in before:  # one family of each kind: weights and statistics of the encoder's later layers, the decoder
        if name.startswith("image_encoder.layers.1.") and not name.endswith(("attention_biases", "qkv.bias")):
            assert name in moved, name
    assert any(name.startswith("image_encoder.layers.1.") and name.endswith("moving_variance") for name in moved)
    assert "mask_decoder.mask_tokens.weight" in moved or "mask_decoder.mask_tokens.embedding_table" in moved


def test_a_name_ends_at_a_dot_and_statistics_stay_in_training_mode():
    student = tiny_sam()
    count = freeze_parts(student, ["image_encoder.layers.1", "mask_decoder"])
    trainable = {p.name for p in student.trainable_params()}
    assert count == len([p for p in tiny_sam().trainable_params()
                         if p.name.startswith(("image_encoder.layers.1.", "mask_decoder."))])
    assert not any(name.startswith(("image_encoder.layers.1.", "mask_decoder.")) for name in trainable)
    assert any(name.startswith("image_encoder.layers.2.") for name in trainable)
    student.set_train(True)
    norms = {name: cell for name, cell in student.cells_and_names() if isinstance(cell, nn.BatchNorm2d)}
    frozen = {name for name, cell in norms.items() if cell.use_batch_statistics is False}
    assert frozen and frozen == {name for name in norms if name.startswith("image_encoder.layers.1.")}


def test_nothing_named_freezes_nothing():
    student = tiny_sam()
    assert freeze_parts(student, ()) == 0
    assert len(student.trainable_params()) == len(tiny_sam().trainable_params())


@pytest.mark.parametrize("part, near", [("image_encodr", "image_encoder"), ("mask_decoder.iou_head", "mask_decoder."),
                                        ("image_encoder.layer.0", "image_encoder.layers.0")])
def test_unknown_parts_are_named_with_the_nearest(part, near):
    with pytest.raises(ValueError) as error:
        freeze_parts(tiny_sam(), [part])
    assert str(error.value).startswith(f"model.freeze: the network has no part '{part}'; did you mean '{near}")
    assert "\n" not in str(error.value)


def test_everything_frozen_is_refused():
    student = tiny_sam()
    freeze_parts(student, ["image_encoder", "prompt_encoder", "mask_decoder"])
    with pytest.raises(ValueError, match="the student has no trainable parameter; there is nothing to train"):
        build_optimizer(student, OPTIM, 2)
