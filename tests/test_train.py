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
"""train.py from the command line: a distilled run that is cut off and goes on, the shipped configurations, refusals."""
import csv
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest

from src.checkpoint import read_metadata, read_weights, save_network
from src.config import load_config
from src.data.workers import Workers
from src.modeling.build_sam import VARIANTS, build_sam

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "scripts" / "run_standalone_train.sh"
TINY = ["--config", str(ROOT / "configs" / "smoke_cpu.yaml"), "--runtime.mode=pynative", "--model.image_size=64",
        "--data.synthetic_images=6", "--data.prompts_per_image=2", "--distill.max_rounds=1", "--train.log_every=1",
        "--train.save_every=2", "--train.max_steps=3"]


@pytest.fixture
def train_main():
    """train.main, with the mode put back afterwards."""
    sys.path.insert(0, str(ROOT))
    import train
    yield train.main
    sys.path.remove(str(ROOT))
    ms.set_context(mode=ms.GRAPH_MODE)


@pytest.fixture
def teacher(tmp_path):
    path = tmp_path / "teacher.ckpt"
    save_network(path, build_sam("nano_teacher", 64, seed=3))
    return path


def rows(folder):
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    return [{key: value for key, value in row.items() if key != "images_per_second"} for row in table]


@pytest.mark.slow
def test_a_run_cut_off_in_mid_epoch_goes_on_to_the_same_student(train_main, teacher, tmp_path, capsys):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    arguments = [*TINY, f"--model.teacher_checkpoint={teacher}"]
    assert train_main([*arguments, f"--train.output_dir={whole}"]) == 0
    table = rows(whole)
    assert [row["step"] for row in table] == ["1", "2", "3"]
    for name in ("embedding_loss", "token_loss", "output_loss", "focal_loss", "dice_loss", "iou_loss", "grad_norm"):
        assert all(float(row[name]) > 0 for row in table), name
    assert read_metadata(whole / "student.ckpt")["variant"] == "nano"
    assert read_metadata(whole / "student.ckpt")["step"] == 3

    parts.mkdir()
    (parts / "step_00000002.ckpt").write_bytes((whole / "step_00000002.ckpt").read_bytes())  # what a killed run leaves
    (parts / "metrics.csv").write_bytes((whole / "metrics.csv").read_bytes())
    assert train_main([*arguments, f"--train.output_dir={parts}", "--resume", "auto"]) == 0
    assert rows(parts) == table
    ours, theirs = read_weights(parts / "student.ckpt"), read_weights(whole / "student.ckpt")
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], name)

    capsys.readouterr()
    assert train_main([*arguments, f"--train.output_dir={whole}"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("train.py: ") and "holds checkpoints of an earlier run" in error


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_configuration_loads(path):
    config = load_config(["--config", str(path)])
    assert config.model.student in VARIANTS
    assert config.model.teacher == "none" or config.model.teacher in VARIANTS
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# Copyright")


def test_distillation_configurations_pair_networks_that_fit():
    for path in (ROOT / "configs").glob("*.yaml"):
        config = load_config(["--config", str(path)])
        model = config.model
        if model.teacher != "none" and not config.distill.embedding_adapter:
            assert VARIANTS[model.student].transformer_dim == VARIANTS[model.teacher].transformer_dim, path


@pytest.mark.parametrize("arguments, message", [
    (["--config", "nowhere.yaml"],
     "train.py: nowhere.yaml: cannot be read (No such file or directory); give --config an existing YAML file"),
    (["--optim.learning_rat=1"], "train.py: command line: unknown key 'optim.learning_rat'; did you mean "
                                 "'optim.learning_rate'?"),
    ([*TINY, "--model.student=nanoo", "--model.teacher=none"],
     "train.py: unknown variant 'nanoo'; did you mean 'nano'?"),
    (TINY, "train.py: model.teacher is 'nano_teacher' but model.teacher_checkpoint is empty: random weights never "
           "teach; give its checkpoint, or train on labels alone with --model.teacher=none"),
    ([*TINY, "--model.teacher_checkpoint=gone.ckpt"], "gone.ckpt"),
    ([*TINY, "--model.teacher=none", "--data.format=coco"], "train.py: data.paths is empty"),
    ([*TINY, "--model.teacher=none", "--data.batch_size=7"],
     "train.py: the data set has 6 usable images, fewer than one batch of 7"),
    ([*TINY, "--model.teacher=none", "--optim.learning_rate=1e-6"],
     "train.py: optim.final_learning_rate (1e-05) is above optim.learning_rate (1e-06)"),
])
def test_refusals_take_one_line_and_exit_code_2(train_main, tmp_path, capsys, arguments, message):
    assert train_main([*arguments, f"--train.output_dir={tmp_path}"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert message in lines[-1]
    assert not any(line.startswith("Traceback") for line in lines)


def test_a_teacher_of_another_variant_is_refused(train_main, tmp_path, capsys):
    path = tmp_path / "student.ckpt"
    save_network(path, build_sam("nano", 64, seed=3))
    assert train_main([*TINY, f"--model.teacher_checkpoint={path}"]) == 2
    assert "holds variant nano (image_size 64), not variant nano_teacher" in capsys.readouterr().err


def test_a_data_worker_that_is_killed_ends_the_run_in_one_line(train_main, tmp_path, capsys, monkeypatch):
    def start_and_lose(workers, start=Workers._start):
        start(workers)
        workers._processes[0].kill()  # as the system does when memory is out

    monkeypatch.setattr(Workers, "_start", start_and_lose)
    assert train_main([*TINY, "--model.teacher=none", "--data.workers=1", f"--train.output_dir={tmp_path}"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1] == "train.py: data worker 0 ended (exit code -9); if it ran out of memory, lower data.workers"
    assert not any(line.startswith("Traceback") for line in lines)


@pytest.mark.parametrize("arguments, message", [
    ([], "run_standalone_train.sh: usage: bash scripts/run_standalone_train.sh CONFIG [--resume auto] "
         "[--section.key=value ...]"),
    (["gone.yaml"], "run_standalone_train.sh: no config file 'gone.yaml'; configs/ holds them"),
])
def test_the_script_says_how_to_call_it(arguments, message):
    result = subprocess.run(["bash", str(SCRIPT), *arguments], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr.strip()) == (2, message)


def test_the_script_passes_the_rest_on(tmp_path):
    config = tmp_path / "mine.yaml"
    config.write_text("train: {epochs: 1}\n", encoding="utf-8")
    result = subprocess.run(["bash", str(SCRIPT), "mine.yaml", "--resume", "auto"], cwd=tmp_path, capture_output=True,
                            text=True, timeout=60, env={"PYTHON": "echo", "PATH": "/usr/bin:/bin"})
    assert result.stdout.split() == ["train.py", "--config", str(config), "--resume", "auto"]


def test_progressive_training_starts_each_stage_from_the_one_before(tmp_path):
    config = tmp_path / "mine.yaml"
    config.write_text("train: {epochs: 1}\n", encoding="utf-8")
    script, out = SCRIPT.with_name("run_progressive_train.sh"), tmp_path / "out"
    result = subprocess.run(["bash", str(script), "mine.yaml", "out", "--runtime.seed=3"], cwd=tmp_path, text=True,
                            capture_output=True, timeout=60, env={"PYTHON": "echo", "PATH": "/usr/bin:/bin"})
    common = f"train.py --config {config}"
    assert result.stdout.splitlines() == [
        f"{common} --config configs/stage_64px.yaml --runtime.seed=3 --train.output_dir={out}/64px --resume auto",
        f"{common} --config configs/stage_128px.yaml --runtime.seed=3 "
        f"--model.student_checkpoint={out}/64px/student.ckpt --train.output_dir={out}/128px --resume auto",
        f"{common} --config configs/stage_ellipses.yaml --runtime.seed=3 "
        f"--model.student_checkpoint={out}/128px/student.ckpt --train.output_dir={out}/ellipses --resume auto",
        f"{common} --runtime.seed=3 --model.student_checkpoint={out}/ellipses/student.ckpt "
        f"--train.output_dir={out}/last --resume auto"]
    for stage in ("stage_64px.yaml", "stage_128px.yaml", "stage_ellipses.yaml"):
        load_config(["--config", str(ROOT / "configs" / "nano_cpu.yaml"), "--config", str(ROOT / "configs" / stage)])
