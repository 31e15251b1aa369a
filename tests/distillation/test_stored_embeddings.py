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
"""Training from stored teacher embeddings against the teacher in the loop: three steps, flips, both dtypes."""
import gc
import weakref
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from src.data.embedding_cache import EmbeddingCache, EmbeddingWriter, meta_of
from src.data.embedding_pictures import TeacherPictures
from src.data.images import normalise_and_pad
from src.data.loader import Batches
from src.data.synthetic import SyntheticDataset
from src.distillation.distiller import NAMES, Distiller
from src.modeling.build_sam import build_sam_around
from src.modeling.tiny_vit import TinyViT
from src.training.optimizer import build_optimizer
from src.training.step import TrainStep

IMAGE_SIZE, IMAGES = 64, 6
SETTINGS = SimpleNamespace(embedding_weight=1.0, embedding_adapter=False, token_weight=1.0, output_weight=1.0,
                           hard_mask_weighting=True,
                           focal_weight=20.0, dice_weight=1.0, iou_weight=1.0, max_rounds=0, hard_region="error")
OPTIM = SimpleNamespace(name="adam", learning_rate=1e-4, final_learning_rate=1e-5, warmup_steps=0, weight_decay=0.0,
                        clip_norm=1.0, layer_decay=1.0, ema_decay=0.0)


def tiny_sam(seed):
    def encoder(image_size):
        return TinyViT(image_size=image_size, embed_dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2),
                       window_sizes=(4, 4, 4, 4), out_chans=32)

    return build_sam_around(encoder, 32, 64, IMAGE_SIZE, "tiny", seed)


def store(folder, dtype):
    """The tiny teacher's embeddings of the drawn set, plain and flipped."""
    teacher, dataset = tiny_sam(7), SyntheticDataset(IMAGES, IMAGE_SIZE, 1)
    teacher.set_train(False)
    encoder = teacher.image_encoder
    (folder / "teacher.ckpt").write_bytes(b"weights")
    meta = meta_of(teacher, folder / "teacher.ckpt", dtype, flips=True)
    writer = EmbeddingWriter(folder / dtype, meta)
    for index in range(IMAGES):
        for flip in (False, True):
            picture = TeacherPictures(dataset, IMAGE_SIZE).chunk([(index, index, flip)])[0]
            inputs = Tensor(normalise_and_pad(picture, IMAGE_SIZE)[None])
            writer.write(index, flip, encoder(inputs).asnumpy()[0], picture)
    writer.close()
    return EmbeddingCache(folder / dtype, meta_of(teacher, folder / "teacher.ckpt"))


class Run:
    """A student, its optimizer and a step, to be put back to where they started. Without hard rounds: a click that
    moves by a pixel would hide what rounding does."""

    def __init__(self, stored):
        student = tiny_sam(3)
        distiller = Distiller(student, tiny_sam(7), SETTINGS, stored_embeddings=stored)
        optimizer = build_optimizer(student, OPTIM, 3)
        self.step = TrainStep(distiller, optimizer, OPTIM.clip_norm)
        self.state = [*student.get_parameters(), *optimizer.state.get_parameters()]
        self.start = [parameter.asnumpy().copy() for parameter in self.state]

    def losses_of_three_steps(self, cache):
        """[3, len(NAMES)] from the start."""
        for parameter, value in zip(self.state, self.start):
            parameter.set_data(Tensor(value))
        rows = []
        with Batches(SyntheticDataset(IMAGES, IMAGE_SIZE, 1), IMAGE_SIZE, 2, 2, 2, flip_probability=0.5, seed=4,
                     embedding_cache=cache) as batches:
            for number, batch in enumerate(batches.epoch(0)):
                names = ["images", "gt_masks", "point_coords", "point_labels", "mask_valid"]
                noise = Tensor(np.random.default_rng(number).random((2, 2, 1), dtype=np.float32))
                stored = [] if cache is None else [Tensor(batch["teacher_embeddings"])]
                values = self.step(*(Tensor(batch[name]) for name in names), noise, Tensor(0, ms.int32), *stored)
                rows.append(values.asnumpy()[:len(NAMES)])
        return np.array(rows)


# float16 rounds an embedding by at most 2^-11 of its value, int8 by half of 1/127 of its channel's largest. Losses are
# means of absolute differences of embeddings of about 1, or of what a decoder makes of them.
TOLERANCES = {"float16": 2e-3, "int8": 3e-2}


@pytest.fixture(autouse=True)
def graph_mode_afterwards():
    yield
    ms.set_context(mode=ms.GRAPH_MODE)


def test_three_steps_from_the_cache_equal_those_with_the_teacher(tmp_path):
    ms.set_context(mode=ms.PYNATIVE_MODE)
    want = Run(stored=False).losses_of_three_steps(None)
    assert (want[:, 1:4] > 0.01).all()  # embedding, token and output losses are there to differ
    run = Run(stored=True)
    for dtype, relative in TOLERANCES.items():
        cache, reads = store(tmp_path, dtype), []
        read = cache.read
        cache.read = lambda *key, read=read, reads=reads: (reads.append(key), read(*key))[1]
        found = run.losses_of_three_steps(cache)
        np.testing.assert_allclose(found, want, rtol=relative, atol=1e-4, err_msg=dtype)
        assert (found[:, 1] != want[:, 1]).all()  # it did read the rounded ones
        flips = [read[1] for read in reads]
        assert len(flips) == 6 and 0 < sum(flips) < 6


def test_the_encoder_is_not_kept_and_stored_embeddings_are_asked_for():
    teacher = tiny_sam(7)
    encoder = weakref.ref(teacher.image_encoder)
    distiller = Distiller(tiny_sam(3), teacher, SETTINGS, stored_embeddings=True)
    assert distiller.teacher.image_encoder is None
    del teacher
    gc.collect()
    assert encoder() is None
    assert not any(p.name.startswith("teacher.image_encoder") for p in distiller.get_parameters())
    with pytest.raises(ValueError, match="was made for stored teacher embeddings; pass teacher_embeddings"):
        distiller.embed_with_teacher(None, None)
