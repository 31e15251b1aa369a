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
"""Batches with stored teacher embeddings: the right record for each sample, whatever is flipped or replaced."""
import json

import numpy as np
import pytest

from src.data.embedding_cache import CacheError, CacheMeta, EmbeddingCache, EmbeddingWriter
from src.data.embedding_pictures import TeacherPictures
from src.data.images import ImageError
from src.data.loader import Batches
from src.data.records import Annotation, Sample, SkipLog

META = CacheMeta("nano_teacher", "ab" * 32, image_size=32, embed_dim=2, grid_size=2, dtype="float16", flips=True)
PLAIN = {"image_size": 32, "prompts_per_image": 2, "slots": 3, "batch_size": 2, "seed": 5}


class Pictures:
    """Picture i is 16 x 32 with id 100 + i, left half 20 i, right half 20 i + 100; those in `broken` cannot be read."""

    def __init__(self, count=6, broken=()):
        self.count, self.broken, self.skipped = count, broken, SkipLog()

    def __len__(self):
        return self.count

    def image_id(self, index):
        return 100 + index

    def read(self, index):
        if index in self.broken:
            raise ImageError(f"{index}.jpg: truncated")
        image = np.full((16, 32, 3), 20 * index, np.uint8)
        image[:, 16:] += 100
        return Sample(100 + index, image, [Annotation(1, 1, [[4, 4, 12, 4, 12, 12, 4, 12]], (16, 32))])


def marked(image_id, flip):
    """[2, 2, 2]: channel 0 is the id, channel 1 is 1 where flipped."""
    return np.stack([np.full((2, 2), image_id, np.float32), np.full((2, 2), flip, np.float32)])


def store(folder, dataset, meta=META, keys=None):
    writer = EmbeddingWriter(folder, meta)
    for index in range(len(dataset)):
        for flip in (False, True) if meta.flips else (False,):
            picture = TeacherPictures(dataset, 32).chunk([(index, 100 + index, flip)])[0]
            if not isinstance(picture, str):
                writer.write(100 + index, flip, marked(100 + index, flip), picture)
    writer.write_skipped({100 + index: "truncated" for index in dataset.broken})
    writer.close()
    return EmbeddingCache(folder, meta)


@pytest.mark.parametrize("workers", [0, 2])
def test_every_sample_has_its_own_embedding_flipped_where_it_is(tmp_path, workers):
    cache = store(tmp_path, Pictures())
    flipped = 0
    with Batches(Pictures(), **PLAIN, flip_probability=0.5, workers=workers, embedding_cache=cache) as batches:
        for epoch in range(3):
            for batch in batches.epoch(epoch):
                assert batch["teacher_embeddings"].dtype == np.float32
                for image, image_id, embedding in zip(batch["images"], batch["image_ids"], batch["teacher_embeddings"]):
                    flip = bool(image[0, 0, 0] > image[0, 0, 31])  # the right half is the brighter one
                    np.testing.assert_array_equal(embedding, marked(image_id, flip))
                    flipped += flip
    assert 3 <= flipped <= 15  # of 18


def test_int8_comes_as_float32_too(tmp_path):
    cache = store(tmp_path, Pictures(), CacheMeta(**{**META.__dict__, "dtype": "int8"}))
    with Batches(Pictures(), **PLAIN, flip_probability=0.0, embedding_cache=cache) as batches:
        batch = next(batches.epoch(0))
    assert batch["teacher_embeddings"].dtype == np.float32
    np.testing.assert_allclose(batch["teacher_embeddings"][:, 0, 0, 0], batch["image_ids"], rtol=1e-5)


def test_a_broken_picture_is_replaced_with_its_replacements_embedding(tmp_path):
    cache = store(tmp_path, Pictures(broken=(2, 3)))
    with Batches(Pictures(broken=(2, 3)), **PLAIN, flip_probability=0.0, embedding_cache=cache) as batches:
        seen = [(int(i), e) for batch in batches.epoch(0) for i, e in zip(batch["image_ids"],
                                                                           batch["teacher_embeddings"])]
    assert sorted(image_id for image_id, _ in seen) == [100, 101, 104, 104, 104, 105]
    for image_id, embedding in seen:
        np.testing.assert_array_equal(embedding, marked(image_id, False))
    # A picture that could not be read when the cache was made is left out, also when it can be read now.
    with Batches(Pictures(), **PLAIN, flip_probability=0.0, embedding_cache=cache) as batches:
        list(batches.epoch(0))
        assert batches.skipped.counts == {"images without a teacher embedding": 3}  # 2, then 3 in its place, and 3


def refusal(dataset, cache, **settings):
    with pytest.raises(ValueError) as error, Batches(dataset, **PLAIN, **settings, embedding_cache=cache) as batches:
        list(batches.epoch(0))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_refusals(tmp_path):
    cache = store(tmp_path / "all", Pictures())
    assert "data.scale_jitter ([0.5, 1.5]) must be [1.0, 1.0] with data.embedding_cache" in refusal(
        Pictures(), cache, scale_jitter=[0.5, 1.5])
    assert "lacks 2 of 8 images, first: id 106" in refusal(Pictures(8), cache)
    unflipped = store(tmp_path / "unflipped", Pictures(), CacheMeta(**{**META.__dict__, "flips": False}))
    assert "holds no flipped embeddings; set data.flip_probability=0" in refusal(Pictures(), unflipped)

    class Others(Pictures):
        def read(self, index):
            sample = super().read(index)
            return Sample(sample.image_id, 255 - sample.image, sample.annotations)

    assert "is another picture there than in this data set" in refusal(Others(), cache)
    index = tmp_path / "all" / "index-00000.jsonl"
    lines = [json.loads(line) for line in index.read_text().splitlines()]
    index.write_text("".join(json.dumps({**line, "crc32": line["crc32"] ^ 1}) + "\n" for line in lines))
    with pytest.raises(CacheError, match="is damaged"):
        EmbeddingCache(tmp_path / "all", META).read(100)
    assert "is damaged (checksum differs)" in refusal(Pictures(), EmbeddingCache(tmp_path / "all", META), workers=1)
