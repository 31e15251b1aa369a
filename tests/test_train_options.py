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
"""train.py with stored embeddings, frozen parts and sheets: one short run, and every refusal."""
import csv
import json
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest

from src.checkpoint import read_weights, save_network
from src.modeling.build_sam import build_sam
from tools.make_teacher_embeddings import main as make_embeddings

ROOT = Path(__file__).resolve().parent.parent
SHARED = ["--config", str(ROOT / "configs" / "smoke_cpu.yaml"), "--runtime.mode=pynative", "--model.image_size=64",
          "--model.teacher=nano", "--data.synthetic_images=4"]
TINY = [*SHARED, "--data.prompts_per_image=2", "--distill.max_rounds=1", "--train.log_every=1", "--train.max_steps=2"]


@pytest.fixture(scope="module")
def train_main():
    sys.path.insert(0, str(ROOT))
    import train
    yield train.main
    sys.path.remove(str(ROOT))
    ms.set_context(mode=ms.GRAPH_MODE)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Checkpoints of a teacher and of a student to start from."""
    folder = tmp_path_factory.mktemp("weights")
    for seed, name in ((3, "teacher"), (4, "student")):
        save_network(folder / f"{name}.ckpt", build_sam("nano", 64, seed=seed))
    return folder


@pytest.fixture(scope="module")
def cache(weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    assert make_embeddings([*SHARED, f"--model.teacher_checkpoint={weights / 'teacher.ckpt'}",
                            f"--embeddings.output_dir={folder}"]) == 0
    return folder


@pytest.mark.slow
def test_fine_tuning_from_a_cache_with_a_frozen_part_and_a_sheet(train_main, weights, cache, tmp_path):
    assert train_main([*TINY, f"--model.teacher_checkpoint={weights / 'teacher.ckpt'}",
                       f"--model.student_checkpoint={weights / 'student.ckpt'}", f"--data.embedding_cache={cache}",
                       "--model.freeze=[image_encoder.patch_embed, image_encoder.layers.0]", "--train.sheet_every=2",
                       f"--train.output_dir={tmp_path}"]) == 0
    before, after = read_weights(weights / "student.ckpt"), read_weights(tmp_path / "student.ckpt")
    frozen = [name for name in before if name.startswith(("image_encoder.patch_embed.", "image_encoder.layers.0."))]
    assert any("running_var" in name for name in frozen)
    for name in frozen:
        np.testing.assert_array_equal(after[name], before[name], name)
    for name in ("image_encoder.layers.1.blocks.0.mlp.fc1.weight", "mask_decoder.mask_tokens.weight"):
        assert (after[name] != before[name]).any(), name
    with open(tmp_path / "metrics.csv", newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    for name in ("embedding_loss", "token_loss", "output_loss", "focal_loss", "dice_loss", "iou_loss", "grad_norm",
                 "learning_rate"):
        assert all(float(row[name]) > 0 for row in table), name
    assert float(table[1]["images_per_second"]) > 0
    assert [path.name for path in (tmp_path / "sheets").iterdir()] == ["step_00000002.png"]


def refusal(train_main, capsys, *arguments):
    assert train_main([*TINY, *arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("train.py: ")
    return lines[-1]


def test_a_decoder_that_cannot_start_as_the_teachers(train_main, weights, tmp_path, capsys):
    message = "decoder_from_teacher is true: it needs a model.teacher, and fresh weights instead of model.student_check"
    for given in (["--model.teacher=none"], [f"--model.teacher_checkpoint={weights / 'teacher.ckpt'}",
                                             f"--model.student_checkpoint={weights / 'student.ckpt'}"]):
        assert message in refusal(train_main, capsys, *given, "--model.decoder_from_teacher=true",
                                  f"--train.output_dir={tmp_path / 'out'}")


def test_caches_that_cannot_be_used(train_main, weights, cache, tmp_path, capsys):
    ours = [f"--model.teacher_checkpoint={weights / 'teacher.ckpt'}", f"--train.output_dir={tmp_path / 'out'}"]
    given = [*ours, f"--data.embedding_cache={cache}"]
    assert "holds no embedding cache (meta.json is missing); make one with scripts/run_teacher_embeddings" in refusal(
        train_main, capsys, *ours, f"--data.embedding_cache={tmp_path}")
    assert "cache was made with checkpoint_sha256" in refusal(
        train_main, capsys, *given, f"--model.teacher_checkpoint={weights / 'student.ckpt'}")
    assert "lacks 2 of 6 images, first: id 4" in refusal(train_main, capsys, *given, "--data.synthetic_images=6")
    assert "is another picture there than in this data set" in refusal(
        train_main, capsys, *given, "--runtime.seed=2")  # other drawn pictures under the same ids
    meta = json.loads((cache / "meta.json").read_text())
    (cache / "meta.json").write_text(json.dumps({**meta, "transform": "squeezed to a square"}))
    try:
        assert "cache was made with transform 'squeezed to a square'" in refusal(train_main, capsys, *given)
    finally:
        (cache / "meta.json").write_text(json.dumps(meta))


@pytest.mark.parametrize("arguments, message", [
    (["--data.embedding_cache=cache", "--data.scale_jitter=[0.5, 2]"],
     "train.py: 'data.scale_jitter' is [0.5, 2.0] but 'data.embedding_cache' is set: stored embeddings show every "
     "picture at its full size; set it to [1.0, 1.0]"),
    (["--data.embedding_cache=cache", "--model.teacher=none"],
     "train.py: 'data.embedding_cache' is set but 'model.teacher' is none; name the teacher that made the cache, or "
     "leave the cache away"),
    (["--model.teacher=none", "--model.freeze=[image_encoder.layer.0]"],
     "train.py: model.freeze: the network has no part 'image_encoder.layer.0'; did you mean 'image_encoder.layers.0'?"),
    (["--model.teacher=none", "--model.freeze=[image_encoder, prompt_encoder, mask_decoder]"],
     "train.py: the student has no trainable parameter; there is nothing to train"),
])
def test_settings_that_contradict_each_other(train_main, tmp_path, capsys, arguments, message):
    assert refusal(train_main, capsys, *arguments, f"--train.output_dir={tmp_path}") == message
