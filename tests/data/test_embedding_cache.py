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
"""Embedding cache: values through both dtypes, resume after a cut, and a named refusal for each kind of damage."""
import copy
import json
import os
import pickle
from types import SimpleNamespace

import numpy as np
import pytest

from src.data.embedding_cache import (
    CacheError,
    CacheMeta,
    EmbeddingCache,
    EmbeddingWriter,
    decode_record,
    done_keys,
    encode_record,
    meta_of,
    picture_print,
)


def make_meta(**changes):
    return CacheMeta(**{**dict(teacher="nano_teacher", checkpoint_sha256="ab" * 32, image_size=64, embed_dim=3,
                               grid_size=4, dtype="float16", flips=False), **changes})


def embedding(seed):
    return np.random.default_rng(seed).normal(0, 3, (3, 4, 4)).astype(np.float32)


def picture(seed, flip=False):
    image = np.random.default_rng([seed, 1]).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    return np.ascontiguousarray(image[:, ::-1]) if flip else image


def write(folder, meta, keys, rank=0, shard_records=2):
    writer = EmbeddingWriter(folder, meta, rank=rank, shard_records=shard_records)
    for image_id, flip in keys:
        writer.write(image_id, flip, embedding(2 * image_id + flip), picture(image_id, flip))
    writer.close()


def test_bytes_are_the_papers_arithmetic():
    # 256 channels x 64 x 64 cells x 2 bytes = 2,097,152; int8: the codes and 256 scales of 4 bytes
    assert make_meta(embed_dim=256, grid_size=64).record_bytes == 2097152
    assert make_meta(embed_dim=256, grid_size=64, dtype="int8").record_bytes == 1048576 + 1024
    assert make_meta(embed_dim=256, grid_size=64, flips=True).total_bytes(10) == 20 * 2097152


def test_int8_record_by_hand():
    # Channel 0: max 2.54 -> scale 0.02, 1.0 -> code 50 exactly; channel 1 is zero: scale 1, codes 0
    meta = make_meta(embed_dim=2, grid_size=1, dtype="int8")
    record = encode_record(np.array([[[-2.54]], [[0.0]]], np.float32), "int8")
    assert np.frombuffer(record, np.int8, offset=8).tolist() == [-127, 0]
    np.testing.assert_allclose(np.frombuffer(record, np.float32, 2), [0.02, 1.0], rtol=1e-6)
    np.testing.assert_allclose(decode_record(record, meta), [[[-2.54]], [[0.0]]], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_reads_back_what_two_ranks_wrote(tmp_path, dtype):
    meta = make_meta(dtype=dtype, flips=True)
    write(tmp_path, meta, [(7, False), (7, True), (8, False)], rank=0)
    write(tmp_path, meta, [(8, True), (9, False), (9, True)], rank=1)
    cache = EmbeddingCache(tmp_path, make_meta())
    assert len(cache) == 6
    cache.require([7, 8, 9], flips=True)
    for image_id in (7, 8, 9):
        for flip in (False, True):
            want = embedding(2 * image_id + flip)
            step = np.abs(want).max(axis=(1, 2), keepdims=True) / 127 / 2 if dtype == "int8" else np.abs(want) * 2**-11
            assert (np.abs(cache.read(image_id, flip) - want) <= step * 1.001 + 1e-7).all()


def test_a_cut_anywhere_is_resumed_to_the_same_files(tmp_path):
    meta, keys = make_meta(), [(i, False) for i in range(5)]
    write(tmp_path / "whole", meta, keys)
    write(tmp_path / "cut", meta, keys[:3])
    with open(tmp_path / "cut" / "shard-00000-00001.bin", "ab") as shard:
        shard.write(b"half a rec")  # killed while it wrote record 3
    with open(tmp_path / "cut" / "index-00000.jsonl", "ab") as index:
        index.write(b'{"image_id": 3, "fl')  # and a torn line
    writer = EmbeddingWriter(tmp_path / "cut", meta, shard_records=2)
    rest = [key for key in keys if key not in done_keys(tmp_path / "cut")]
    assert rest == [(3, False), (4, False)]
    writer.close()
    write(tmp_path / "cut", meta, rest)
    for path in sorted((tmp_path / "whole").iterdir()):
        assert (tmp_path / "cut" / path.name).read_bytes() == path.read_bytes(), path.name


def refusal(folder, expected=None, ids=(), flips=False):
    with pytest.raises(CacheError) as error:
        cache = EmbeddingCache(folder, expected or make_meta())
        cache.require(ids, flips)
        for image_id in ids:
            cache.read(image_id)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_refusals_name_the_damage(tmp_path):
    assert "holds no embedding cache (meta.json is missing)" in refusal(tmp_path)
    write(tmp_path, make_meta(), [(1, False), (2, False)])
    assert "cache was made with checkpoint_sha256" in refusal(tmp_path, make_meta(checkpoint_sha256="cd" * 32))
    assert "cache was made with image_size 64, this run has 128" in refusal(tmp_path, make_meta(image_size=128))
    assert "lacks 2 of 3 images, first: id 5" in refusal(tmp_path, ids=[1, 5, 6])
    assert "holds no flipped embeddings; set data.flip_probability=0" in refusal(tmp_path, ids=[1], flips=True)
    shard = tmp_path / "shard-00000-00000.bin"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:40] + b"\xff" + whole[41:])
    assert "record of image id 1 is damaged (checksum differs)" in refusal(tmp_path, ids=[1, 2])
    os.truncate(shard, 100)
    assert "shard-00000-00000.bin: has 100 of 192 bytes" in refusal(tmp_path, ids=[1])
    (tmp_path / "index-00000.jsonl").write_text('{"image": 1}\n')
    assert "index-00000.jsonl:1: is not a line of an embedding index" in refusal(tmp_path)
    (tmp_path / "meta.json").write_text(json.dumps({"teacher": "x"}))
    assert "is not the meta of an embedding cache" in refusal(tmp_path)


def test_a_writer_refuses_a_foreign_folder_and_bad_values(tmp_path):
    write(tmp_path, make_meta(), [(1, False)])
    with pytest.raises(CacheError, match="cache was made with dtype 'float16', this run has 'int8'"):
        EmbeddingWriter(tmp_path, make_meta(dtype="int8"))
    writer = EmbeddingWriter(tmp_path, make_meta())
    with pytest.raises(CacheError, match=r"embedding of image 2 has shape \(3, 4, 5\), not \(3, 4, 4\)"):
        writer.write(2, False, np.zeros((3, 4, 5), np.float32), picture(2))
    with pytest.raises(CacheError, match="is not finite"):
        writer.write(2, False, np.full((3, 4, 4), np.nan, np.float32), picture(2))
    with pytest.raises(CacheError, match="overflows float16; store int8 instead"):
        writer.write(2, False, np.full((3, 4, 4), 1e6, np.float32), picture(2))
    writer.close()
    with pytest.raises(CacheError, match="embedding dtype is 'bf16'; it must be one of float16, int8"):
        make_meta(dtype="bf16")


def test_meta_names_teacher_and_the_hash_of_its_file(tmp_path):
    (tmp_path / "teacher.ckpt").write_bytes(b"abc")
    teacher = SimpleNamespace(variant="nano_teacher", image_size=64, embed_dim=3, grid_size=4)
    assert meta_of(teacher, tmp_path / "teacher.ckpt", "int8", True) == CacheMeta(
        "nano_teacher", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", 64, 3, 4, "int8", True)


def test_picture_print_by_hand():
    # 8 x 8 in cells of 2 x 2: the second cell of the first row is red 30 everywhere, its grey mean 10 = 0x0a
    image = np.zeros((8, 8, 3), np.uint8)
    image[:2, 2:4, 0] = 30
    assert picture_print(image) == "000a" + 14 * "00"


def test_another_picture_under_the_same_id_is_refused(tmp_path):
    write(tmp_path, make_meta(flips=True), [(1, False), (1, True)])
    cache = EmbeddingCache(tmp_path, make_meta())
    np.testing.assert_array_equal(cache.read(1, False, picture(1)), cache.read(1))
    near = np.minimum(picture(1, True).astype(int) + 3, 255).astype(np.uint8)  # more than decoders differ
    np.testing.assert_array_equal(cache.read(1, True, near), cache.read(1, True))
    for other, flip in ((picture(2), False), (picture(1, True), False), (picture(1), True)):
        with pytest.raises(CacheError, match="image id 1 is another picture there than in this data set"):
            cache.read(1, flip, other)


def test_pictures_the_writer_could_not_read_are_not_missed(tmp_path):
    write(tmp_path, make_meta(), [(1, False)])
    writer = EmbeddingWriter(tmp_path, make_meta(), rank=1)
    writer.write_skipped({2: "b.jpg: truncated", 1: "could not be read there"})
    writer.close()
    cache = EmbeddingCache(tmp_path, make_meta())
    cache.require([1, 2], flips=False)
    assert cache.lacks(2) and not cache.lacks(1) and not cache.lacks(3)  # 1 has been read after all; 3 is just missing
    assert "lacks 1 of 2 images, first: id 3" in refusal(tmp_path, ids=[1, 2, 3])
    (tmp_path / "skipped-00001.json").write_text("[2]")
    assert "skipped-00001.json: is not a list of skipped images" in refusal(tmp_path)


def test_done_counts_every_rank_and_shards_may_grow_on_resume(tmp_path):
    write(tmp_path, make_meta(), [(i, False) for i in range(3)], rank=0, shard_records=2)
    write(tmp_path, make_meta(), [(9, False)], rank=3)
    assert done_keys(tmp_path) == {(0, False), (1, False), (2, False), (9, False)}
    # Three records are in two shards of 2; with shards of 3 from now on the second one takes two more.
    write(tmp_path, make_meta(), [(i, False) for i in range(3, 6)], rank=0, shard_records=3)
    sizes = [path.stat().st_size // make_meta().record_bytes for path in sorted(tmp_path.glob("shard-00000-*.bin"))]
    assert sizes == [2, 3, 1]
    cache = EmbeddingCache(tmp_path, make_meta())
    for image_id in (*range(6), 9):
        np.testing.assert_allclose(cache.read(image_id), embedding(2 * image_id), rtol=2**-10, atol=1e-6)


def test_a_rank_has_one_writer_at_a_time(tmp_path):
    writer = EmbeddingWriter(tmp_path, make_meta())
    with pytest.raises(CacheError, match="index-00000.jsonl: another process is writing it"):
        EmbeddingWriter(tmp_path, make_meta())
    writer.close()
    EmbeddingWriter(tmp_path, make_meta()).close()


def test_memory_maps_do_not_travel(tmp_path):
    write(tmp_path, make_meta(), [(1, False)])
    cache = EmbeddingCache(tmp_path, make_meta())
    before = len(pickle.dumps(cache))
    first = cache.read(1)
    assert len(pickle.dumps(cache)) == before
    np.testing.assert_array_equal(copy.copy(cache).read(1), first)
