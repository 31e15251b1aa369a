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
"""A teacher of another width and of a finer grid: the map between embeddings; prompts and masks in the student's
frame."""
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from src.distillation.distiller import NAMES, Distiller
from src.distillation.embedding_adapter import EmbeddingAdapter
from src.distillation.frozen_teacher import FrozenTeacher
from src.modeling.sam import PromptDecoder
from src.training.optimizer import build_optimizer
from src.training.step import TrainStep

OPTIM = SimpleNamespace(name="adam", learning_rate=1e-2, final_learning_rate=1e-3, warmup_steps=0, weight_decay=0.0,
                        clip_norm=1.0, layer_decay=1.0, ema_decay=0.0)
WIDE = {"embedding_adapter": True, "token_weight": 0.0}


@pytest.fixture
def stored():
    """Embeddings [2, 32, 8, 8] of a teacher twice as wide and twice as fine as the tiny student."""
    return np.random.default_rng(1).standard_normal((2, 32, 8, 8)).astype(np.float32)


@pytest.fixture
def pair(tiny_sam):
    """Student, and a teacher of 128 px and width 32 of which the embeddings are stored."""
    return tiny_sam(1), tiny_sam(2, "wide", image_size=128, width=32)


def test_every_cell_is_mapped_to_the_cells_of_the_teacher_that_lie_there(pynative):
    """Student [1, 1, 1, 2]; a weight of 10 c + 2 y + x for channel c at (y, x) of the 2 x 2 cells."""
    adapter = EmbeddingAdapter(1, 2, 2)
    adapter.weight.set_data(Tensor(np.array([[0], [1], [2], [3], [10], [11], [12], [13]], np.float32)))
    teacher = np.array([[[0, 1, 0, 2], [2, 3, 4, 6]], [[10, 11, 20, 22], [12, 13, 24, 26]]], np.float32)[None]
    student = Tensor(np.array([1, 2], np.float32).reshape(1, 1, 1, 2))
    np.testing.assert_array_equal(adapter(student).asnumpy(), adapter.cells_of(Tensor(teacher)).asnumpy())
    adapter.bias.set_data(Tensor(np.arange(8, dtype=np.float32)))
    assert adapter(student).asnumpy()[0, 1].tolist() == [0, 3, 6, 9, 24, 27, 30, 33]


def test_embedding_loss_is_the_mean_distance_after_the_map(pynative, pair, settings, batch, inputs_of, stored):
    distiller = Distiller(*pair, settings(**WIDE), stored_embeddings=True)
    assert not distiller.adapter.weight.asnumpy().any()  # it starts as 0
    rng = np.random.default_rng(2)
    distiller.adapter.weight.set_data(Tensor(rng.standard_normal((128, 16)).astype(np.float32)))
    losses = dict(zip(NAMES, (float(v) for v in distiller(*inputs_of(batch, 1), Tensor(stored)))))
    ours = distiller.student.image_encoder(Tensor(batch["images"])).asnumpy()
    weight = distiller.adapter.weight.asnumpy().reshape(32, 2, 2, 16)
    mapped = np.einsum("cyxk,bkij->bciyjx", weight, ours).reshape(2, 32, 8, 8)
    assert losses["embedding_loss"] == pytest.approx(np.abs(mapped - stored).mean(), rel=1e-4)
    assert losses["token_loss"] == 0 and losses["output_loss"] > 0 and losses["mean_iou"] > 0


def test_the_teacher_answers_in_the_student_s_frame(pynative, pair, batch, stored):
    """Prompts at twice the coordinates; logits are means over 2 x 2."""
    prompts = batch["point_coords"], batch["point_labels"]
    wanted = PromptDecoder(pair[1])(Tensor(stored), Tensor(prompts[0] * 2), Tensor(prompts[1]))
    teacher = FrozenTeacher(pair[1], encodes=False, factor=2)
    found = teacher(Tensor(stored), *map(Tensor, prompts))
    masks = wanted[0].asnumpy()
    assert masks.shape[-1] == 32 and found[0].shape[-1] == 16
    pooled = (masks[..., ::2, ::2] + masks[..., 1::2, ::2] + masks[..., ::2, 1::2] + masks[..., 1::2, 1::2]) / 4
    np.testing.assert_allclose(found[0].asnumpy(), pooled, atol=1e-5)
    for ours, theirs in zip(found[1:], wanted[1:]):
        np.testing.assert_array_equal(ours.asnumpy(), theirs.asnumpy())
    best = teacher.best_multimask(Tensor(stored), *map(Tensor, prompts)).asnumpy()
    chosen = wanted[1].asnumpy()[:, :, 1:].argmax(-1) + 1
    np.testing.assert_allclose(best, np.take_along_axis(pooled, chosen[..., None, None, None], 2)[:, :, 0], atol=1e-5)


def test_the_map_learns_with_the_student_and_lowers_the_loss(pair, settings, batch, inputs_of, stored):
    """Twenty steps of one graph on one batch; the embedding loss alone, so that nothing is decoded."""
    ms.set_context(mode=ms.GRAPH_MODE)
    alone = settings(**WIDE, output_weight=0.0, focal_weight=0.0, dice_weight=0.0, iou_weight=0.0)
    distiller = Distiller(*pair, alone, stored_embeddings=True)
    start = distiller.adapter.weight.asnumpy().copy()
    neck = distiller.student.image_encoder.neck[0].weight.asnumpy().copy()
    decoder = {p.name: p.asnumpy().copy() for p in distiller.student.mask_decoder.get_parameters()}
    step = TrainStep(distiller, build_optimizer(distiller, OPTIM, 20), 1.0)
    inputs = [*inputs_of(batch, 1), Tensor(stored)]
    losses = np.array([step(*inputs).asnumpy()[:len(NAMES)] for _ in range(20)])
    assert losses[-1, 1] < 0.9 * losses[0, 1] and (losses[:, 0] == losses[:, 1]).all() and not losses[:, 2:].any()
    assert (distiller.adapter.weight.asnumpy() != start).all()
    assert (distiller.student.image_encoder.neck[0].weight.asnumpy() != neck).any()
    assert all((decoder[p.name] == p.asnumpy()).all() for p in distiller.student.mask_decoder.get_parameters())


def test_pairs_that_no_map_joins_are_refused(tiny_sam, settings):
    with pytest.raises(ValueError, match="^distill.token_weight is 1.0, but tokens of teacher wide have 32 channels "
                                         "and those of student tiny 16; set it to 0"):
        Distiller(tiny_sam(1), tiny_sam(2, "wide", width=32), settings(embedding_adapter=True))
    with pytest.raises(ValueError, match=r"^teacher big has grid_size 8 and student odd has 12 .* must be a multiple"):
        Distiller(tiny_sam(1, "odd", image_size=192), tiny_sam(2, "big", image_size=128), settings(**WIDE))
    with pytest.raises(ValueError, match="^the teacher reads pictures of 128 px and the student of 64: a step has the "
                                         "student's alone, so store the teacher's embeddings first"):
        Distiller(tiny_sam(1), tiny_sam(2, "big", image_size=128), settings(**WIDE))
