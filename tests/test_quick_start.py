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
"""The README's first command: what it runs, in which order, and that each of its commands means something here."""
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import demo
from src.checkpoint import read_metadata
from src.config import load_config
from src.data.coco import CocoDataset
from src.data.synthetic import SyntheticDataset
from src.prompts.from_masks import box_of_mask
from src.prompts.from_text import parse_prompts

ROOT = Path(__file__).resolve().parent.parent
OUT = "output/quick_start"
DRAW = f"tools/make_synthetic_set.py --output {OUT}/data --size 160"
COMMANDS = [
    "-m pip install --quiet --disable-pip-version-check -r requirements.txt",
    f"demo.py --image examples/cattle.jpg --box 106,250,283,385 --box 325,310,395,353 --output {OUT}/photograph.png",
    DRAW,
    "train.py --config configs/quick_start.yaml --resume auto",
    *(f"eval.py --config configs/quick_start.yaml --eval.checkpoint={OUT}/student/{weights}.ckpt "
      f"--eval.output_dir={OUT}/eval_{weights}" for weights in ("student_start", "student")),
    f"demo.py --image {OUT}/data/val/images/000007.png --box 19,34,91,101 --box 84,35,136,79 "
    f"--checkpoint {OUT}/student/student.ckpt --output {OUT}/drawn.png",
]
# Stands in for the interpreter of the virtual environment: notes what it is called with, and where.
RECORDER = """#!/usr/bin/env bash
echo "$*" >> "$LOG"
[[ "$PWD" == "$CLONE" ]] || exit 9
[[ "$1" != tools/make_synthetic_set.py ]] || { mkdir -p "$3/val" && touch "$3/val/instances.json"; }
[[ "$1" != "$FAILS" ]] || exit 3
"""


@pytest.fixture
def quick_start(tmp_path):
    """Function of the command that fails -> (exit code, lines of commands) of the script in a copy of the clone."""
    clone, venv, log = (tmp_path / "a clone").resolve(), tmp_path / "venv", tmp_path / "commands.txt"
    shutil.copytree(ROOT / "scripts", clone / "scripts")
    shutil.copy(ROOT / "requirements.txt", clone)
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").write_text(RECORDER)
    (venv / "bin" / "python").chmod(0o755)

    def start(fails=""):
        log.unlink(missing_ok=True)
        environment = {**os.environ, "VENV": str(venv), "LOG": str(log), "CLONE": str(clone), "FAILS": fails}
        done = subprocess.run(["bash", str(clone / "scripts" / "run_quick_start.sh")], cwd=tmp_path, timeout=60,
                              env=environment, capture_output=True, text=True, check=False)
        return done.returncode, log.read_text().splitlines()

    return start


def test_the_readmes_first_command_is_this_script():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = [line.split("#")[0].strip() for block in text.split("```bash\n")[1:] for line in block.split("\n```")[0]
                .splitlines()]
    assert [command for command in commands if command][:2] == [
        "bash scripts/run_quick_start.sh", "bash scripts/run_tests.sh"]


def test_commands_in_their_order_and_nothing_drawn_twice(quick_start):
    assert quick_start() == (0, COMMANDS)
    assert quick_start() == (0, [command for command in COMMANDS if command != DRAW])


@pytest.mark.parametrize("fails", ["-m", "demo.py", "tools/make_synthetic_set.py", "train.py", "eval.py"])
def test_a_command_that_fails_is_the_last_one(quick_start, fails):
    first = next(index for index, command in enumerate(COMMANDS) if command.startswith(fails))
    assert quick_start(fails) == (3, COMMANDS[:first + 1])


def test_configuration_and_commands_name_the_same_files():
    config = load_config(["--config", str(ROOT / "configs" / "quick_start.yaml")])
    assert config.data.paths == (f"{OUT}/data/train/instances.json",)
    assert config.eval.annotations == f"{OUT}/data/val/instances.json"
    assert config.train.output_dir == f"{OUT}/student"
    assert config.model.teacher == "nano"  # docs/deviations.md says why it is not nano_teacher
    assert read_metadata(ROOT / config.model.teacher_checkpoint)["variant"] == "nano"
    for command in COMMANDS[3:6]:
        script, *arguments = shlex.split(command)
        assert (ROOT / script).is_file()
        assert load_config([argument.replace("configs/", f"{ROOT}/configs/") for argument in arguments],
                           aliases={"--resume": "train.resume"}).model.student == "nano"


def test_boxes_lie_on_objects_of_their_pictures():
    photograph, _ = demo.parse_arguments(shlex.split(COMMANDS[1])[1:])
    with Image.open(ROOT / photograph.image) as picture:
        assert (parse_prompts([], photograph.box)[0] <= np.tile(picture.size, 2)).all()
    # Picture 7 of the set that is judged on: labels whose boxes are those of the command.
    drawn, _ = demo.parse_arguments(shlex.split(COMMANDS[-1])[1:])
    labels = [box_of_mask(item.mask()).tolist() for item in SyntheticDataset(40, 160, 3).read(6).annotations]
    assert all(list(box) in labels for box in parse_prompts([], drawn.box)[0])


def test_the_drawing_command_writes_both_parts(tmp_path):
    def draw(*arguments):
        return subprocess.run([sys.executable, str(ROOT / "tools" / "make_synthetic_set.py"), *arguments], timeout=120,
                              capture_output=True, text=True, check=False)

    done = draw("--output", str(tmp_path / "data"), "--train", "2", "--val", "1", "--size", "64")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"{tmp_path / 'data' / 'train'}: 2 pictures and instances.json",
                                        f"{tmp_path / 'data' / 'val'}: 1 pictures and instances.json"]
    for part, count, seed in (("train", 2, 2), ("val", 1, 3)):
        written = CocoDataset([tmp_path / "data" / part / "instances.json"])
        expected = SyntheticDataset(count, 64, seed)
        assert written.image_ids == list(range(1, count + 1))
        for index in range(count):
            np.testing.assert_array_equal(written.read(index).image, expected.read(index).image)
            np.testing.assert_array_equal([item.mask() for item in written.read(index).annotations],
                                          [item.mask() for item in expected.read(index).annotations])
    refused = draw("--output", str(tmp_path / "no"), "--size", "16")
    assert (refused.returncode, refused.stderr) == (
        2, "make_synthetic_set.py: size of synthetic images (16) must be at least 32 pixels\n")
