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
"""kill -9 and going on: a short form of tools/kill_test.py, and that it sees a difference where there is one."""
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn

from src.checkpoint import save_network, save_state

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = ROOT / "tools" / "kill_test.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("kill_test_tool", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def finished_run(folder, weight=1.0, moment=0.0, loss="0.5"):
    """A folder as a run of 2 steps leaves it."""
    student, optimizer = nn.Cell(), nn.Cell()
    student.w = Parameter(Tensor(np.float32([weight])), name="w")
    student.variant, student.image_size = "nano", 64
    optimizer.m = Parameter(Tensor(np.float32([moment])), name="m")
    folder.mkdir()
    save_state(folder / "step_00000002.ckpt", {"student": student, "optimizer": optimizer}, {"step": 2})
    save_network(folder / "student.ckpt", student, {})
    (folder / "metrics.csv").write_text(f"step,total_loss,images_per_second\n2,{loss},{np.random.rand()}\n")
    return folder


def test_equal_runs_have_no_differences_whatever_their_speed(tool, tmp_path):
    assert tool.differences(finished_run(tmp_path / "a"), finished_run(tmp_path / "b"), 2) == []


def test_every_difference_is_named(tool, tmp_path):
    whole = finished_run(tmp_path / "whole")
    smallest = np.nextafter(np.float32(1), np.float32(2))  # one bit
    assert tool.differences(whole, finished_run(tmp_path / "w", weight=smallest), 2) == [
        "step_00000002.ckpt: 1 of 2 arrays, first: student.w", "student.ckpt: 1 of 1 arrays, first: w"]
    assert tool.differences(whole, finished_run(tmp_path / "m", moment=-0.0), 2) == [
        "step_00000002.ckpt: 1 of 2 arrays, first: optimizer.m"]
    assert tool.differences(whole, finished_run(tmp_path / "l", loss="0.6"), 2) == ["metrics.csv"]


def test_impossible_arguments_are_refused(tool, tmp_path, capsys):
    assert tool.main(["--kills", "0", "--work_dir", str(tmp_path / "new")]) == 2
    assert "--kills is 0 and --steps 60; they must be at least 1 and 5" in capsys.readouterr().err
    (tmp_path / "mine.txt").write_text("precious")
    assert tool.main(["--work_dir", str(tmp_path)]) == 2
    assert f"--work_dir {tmp_path} holds something else; give another folder" in capsys.readouterr().err
    assert (tmp_path / "mine.txt").exists()


def test_a_run_that_cannot_start_is_reported(tool, tmp_path, capsys):
    assert tool.main(["--work_dir", str(tmp_path / "w"), "--script", str(ROOT / "no_such.py")]) == 2
    assert "no_such.py" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_killed_twice_ends_bit_equal(tmp_path):
    done = subprocess.run([sys.executable, str(SCRIPT), "--kills", "2", "--steps", "12", "--work_dir",
                           str(tmp_path / "work"), "--script", "tests/training/train_tiny.py", "--seed", "3",
                           "--distill.max_rounds=0", "--runtime.threads=1"], cwd=ROOT, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("left alone: 12 steps in ")
    assert lines[1].startswith("kill 1 of 2, ") and lines[2].startswith("kill 2 of 2, ")
    assert lines[3].startswith("2 kills, ") and "after 12 steps the run is bit-equal to the run left alone" in lines[3]
