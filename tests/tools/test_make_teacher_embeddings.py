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
"""Storing embeddings from the command line: values, two parts, kill -9 and going on, refusals, broken pictures."""
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from src.checkpoint import load_network, save_network
from src.data.embedding_cache import EmbeddingCache, done_keys, meta_of, read_meta
from src.data.images import normalise_and_pad, resize_longest_side
from src.data.synthetic import SyntheticDataset, write_coco
from src.modeling.build_sam import build_sam
from tools.make_teacher_embeddings import check_space, main

ROOT = Path(__file__).resolve().parents[2]
SIZE, IMAGES = 64, 10


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    path = tmp_path_factory.mktemp("teacher") / "teacher.ckpt"
    save_network(path, build_sam("nano_teacher", SIZE, seed=3))
    return path


def arguments(teacher, folder, *more):
    return ["--runtime.device=cpu", "--runtime.mode=pynative", "--model.teacher=nano_teacher",
            f"--model.image_size={SIZE}", f"--model.teacher_checkpoint={teacher}", "--data.format=synthetic",
            f"--data.synthetic_images={IMAGES}", "--data.workers=0", "--embeddings.batch_size=3",
            "--embeddings.shard_images=4", f"--embeddings.output_dir={folder}", *more]


@pytest.fixture(autouse=True)
def graph_mode_afterwards():
    yield
    ms.set_context(mode=ms.GRAPH_MODE)


@pytest.fixture(scope="module")
def whole(teacher, tmp_path_factory):
    """The cache of one process that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole") / "cache"
    assert main(arguments(teacher, folder)) == 0
    return folder


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def expected(teacher):
    sam = build_sam("nano_teacher", SIZE, seed=0)
    load_network(sam, teacher)
    return sam, meta_of(sam, teacher)


def test_what_is_stored_is_what_the_teacher_says(teacher, whole):
    sam, meta = expected(teacher)
    sam.set_train(False)
    ms.set_context(mode=ms.PYNATIVE_MODE)
    cache = EmbeddingCache(whole, meta)
    assert len(cache) == 2 * IMAGES and not (whole / "shard-00000-00003.bin").exists()  # 20 records, 8 a shard
    cache.require(range(IMAGES), flips=True)
    image = SyntheticDataset(IMAGES, SIZE, 1).read(4).image
    for flip in (False, True):
        picture = resize_longest_side(np.ascontiguousarray(image[:, ::-1]) if flip else image, SIZE)
        want = sam.image_encoder(Tensor(normalise_and_pad(picture, SIZE)[None])).asnumpy()[0]
        np.testing.assert_allclose(cache.read(4, flip, picture), want, rtol=1e-3, atol=1e-4)


def test_a_killed_process_goes_on_to_the_same_bytes(teacher, whole, tmp_path):
    folder = tmp_path / "cache"
    command = [sys.executable, str(ROOT / "tools" / "make_teacher_embeddings.py"), *arguments(teacher, folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT) as process:
        until = time.monotonic() + 120
        while len(done_keys(folder)) < 4 and time.monotonic() < until and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    done = len(done_keys(folder))
    assert 4 <= done < 2 * IMAGES and not (folder / "skipped-00000.json").exists()
    assert main(arguments(teacher, folder)) == 0
    assert files(folder) == files(whole)
    assert main(arguments(teacher, folder)) == 0  # nothing left to do
    assert files(folder) == files(whole)


def test_two_parts_make_the_whole_set_also_after_a_part_was_lost(teacher, whole, tmp_path, capsys):
    folder = tmp_path / "cache"
    shares = []
    for part in (0, 1):
        assert main(arguments(teacher, folder, "--embeddings.parts=2", f"--embeddings.part={part}")) == 0
        shares.append(done_keys(folder))
    assert {image_id for image_id, _ in shares[0]} == {0, 2, 4, 6, 8} and shares[1] == done_keys(whole)
    one, two = (EmbeddingCache(path, expected(teacher)[1]) for path in (whole, folder))
    for image_id, flip in shares[1]:  # the place in the batch differs, so the last bit may
        np.testing.assert_allclose(two.read(image_id, flip).astype(np.float32),
                                   one.read(image_id, flip).astype(np.float32), rtol=2e-3, atol=1e-4)
    os.unlink(folder / "index-00001.jsonl")
    os.unlink(folder / "shard-00001-00000.bin")
    capsys.readouterr()
    assert main(arguments(teacher, folder)) == 0  # one process now
    record = read_meta(folder).record_bytes
    assert f"{10 * record / 1e9:.3f} GB of it still to write" in capsys.readouterr().out
    assert done_keys(folder) == done_keys(whole)
    EmbeddingCache(folder, expected(teacher)[1]).require(range(IMAGES), flips=True)


def test_broken_pictures_are_named_counted_and_not_missed(teacher, tmp_path, capsys):
    annotations = write_coco(tmp_path / "set", 3, SIZE, 1)
    (tmp_path / "set" / "images" / "000002.png").write_bytes(b"no picture")
    folder = tmp_path / "cache"
    coco = ["--data.format=coco", f"--data.paths={annotations}", "--embeddings.flips=false", "--embeddings.dtype=int8"]
    assert main(arguments(teacher, folder, *coco)) == 0
    said = capsys.readouterr()
    assert said.out.startswith("3 images, 128 x 4 x 4 int8: ")
    assert "left out 1 images that cannot be read, first: id 2: " in said.err and "000002.png" in said.err
    assert list(json.loads((folder / "skipped-00000.json").read_text())) == ["2"]
    cache = EmbeddingCache(folder, expected(teacher)[1])
    cache.require([1, 2, 3], flips=False)
    assert len(cache) == 2 and cache.lacks(2)


def test_what_does_not_fit_is_refused_before_anything_is_written(teacher, tmp_path, monkeypatch):
    sam, meta = expected(teacher)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 8, 4 * meta.record_bytes))
    line = check_space(tmp_path / "new" / "cache", meta, images=6, missing=4)  # 4 records of 4096 bytes: just fits
    assert line == (f"6 images, 128 x 4 x 4 float16: 0.000 GB in {tmp_path}/new/cache, 0.000 GB of it still to write, "
                    "0.0 GB free")
    with pytest.raises(ValueError, match="it does not fit; choose another embeddings.output_dir, dtype=int8 or flips"):
        check_space(tmp_path / "new" / "cache", meta, images=6, missing=5)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("change, message", [
    ("--model.teacher=none", "model.teacher is 'none'"),
    ("--model.teacher_checkpoint=", "model.teacher_checkpoint ''; embeddings need a teacher and its weights"),
    ("--embeddings.part=1", "'embeddings.part' is 1; it must be below 'embeddings.parts' (1)"),
])
def test_refusals_are_one_line(teacher, tmp_path, capsys, change, message):
    assert main(arguments(teacher, tmp_path / "cache", change)) == 2
    said = capsys.readouterr().err
    assert said.startswith("make_teacher_embeddings.py: ") and message in said and said.count("\n") == 1
    assert not (tmp_path / "cache").exists()


SHELL = str(ROOT / "scripts" / "run_teacher_embeddings.sh")


@pytest.mark.parametrize("arguments, before", [
    ([], []),
    (["--distribute"], ["tools/launch.py"]),
    (["--distribute", "--nodes", "2", "--node_rank", "1"], ["tools/launch.py", "--nodes", "2", "--node_rank", "1"]),
])
def test_the_script_runs_alone_or_under_the_launcher(tmp_path, arguments, before):
    """A stand-in for the interpreter prints what it is called with."""
    echo = tmp_path / "python"
    echo.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    echo.chmod(0o755)
    config = str(ROOT / "configs" / "smoke_cpu.yaml")
    done = subprocess.run(["bash", SHELL, *arguments, config, "--embeddings.dtype=int8"], capture_output=True,
                          text=True, check=True, env={**os.environ, "PYTHON": str(echo)})
    assert done.stdout.split() == [*before, "tools/make_teacher_embeddings.py", "--config", config,
                                   "--embeddings.dtype=int8"]


@pytest.mark.parametrize("arguments, named", [([], ""), (["--distribute"], ""), (["none.yaml"], "none.yaml"),
                                              (["--nodes", "2", "none.yaml"], "--nodes")])
def test_the_script_says_how_to_call_it(arguments, named):
    done = subprocess.run(["bash", SHELL, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (f"run_teacher_embeddings.sh: no config file '{named}'; usage: bash "
                           "scripts/run_teacher_embeddings.sh [--distribute [--nodes N ...]] CONFIG "
                           "[--section.key=value ...]\n")
