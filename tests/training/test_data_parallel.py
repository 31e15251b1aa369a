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
"""Two real processes against one: equal losses and weights, a rank killed in the middle, and going on from there."""
import csv
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from src.checkpoint import newest_state, read_metadata, read_weights

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = str(Path(__file__).with_name("train_tiny.py"))
STEPS = 6
SETTINGS = ["--runtime.device=cpu", "--runtime.threads=1", "--runtime.devices=2", "--model.student=nano",
            "--model.teacher=none", "--model.image_size=64", "--data.format=synthetic", "--data.synthetic_images=14",
            "--data.prompts_per_image=3", "--data.workers=0", "--distill.max_rounds=0", "--distill.token_weight=0",
            "--distill.output_weight=0", "--optim.warmup_steps=1", "--optim.learning_rate=0.0003", "--train.epochs=1",
            f"--train.max_steps={STEPS}", "--train.log_every=1", "--train.save_every=2", "--train.batch_norm=sync"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def launch(folder, *arguments, **environment):
    """Start two ranks of batch 1; the process of the launcher."""
    command = [sys.executable, "tools/launch.py", "--log_dir", str(folder / "log"), "--master_port", str(free_port()),
               SCRIPT, *SETTINGS, "--data.batch_size=1", f"--train.output_dir={folder}", *arguments]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def rows(folder):
    """metrics.csv without the speed, as numbers."""
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
        return np.array([[float(value) for value in row[:-1]] for row in list(csv.reader(file))[1:]])


def process_of_rank(folder, rank):
    """The worker process of a rank: its log is its standard output."""
    log = str(folder / "log" / f"worker_{rank}.log")
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(path / "fd" / "1") == log and "train_tiny" in (path / "cmdline").read_text():
                return int(path.name)
        except OSError:
            continue
    raise AssertionError(f"no process writes {log}")


def wait_for(path, process, seconds=240):
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    """Folder of the run that one process makes with batch 2."""
    folder = tmp_path_factory.mktemp("one")
    done = subprocess.run([sys.executable, SCRIPT, *SETTINGS, "--data.batch_size=2", f"--train.output_dir={folder}",
                           "--train.save_every=1", "--train.keep_last=9"],
                          cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_two_processes_equal_one_also_when_a_rank_was_killed(one_process, tmp_path):
    first = launch(tmp_path, TINY_PAUSE="0.7")
    wait_for(tmp_path / "step_00000002.ckpt", first)
    os.kill(process_of_rank(tmp_path, 1), signal.SIGKILL)
    killed_at = time.monotonic()
    said = first.communicate(timeout=60)
    assert time.monotonic() - killed_at < 15
    assert first.returncode == 1, said
    assert "launch.py: rank 1 was ended by signal 9; logs are in " in said[1]
    assert "the same command again goes on from here (train.py: with --resume auto, from the newest" in said[1]
    assert f"--- {tmp_path / 'log' / 'worker_1.log'}" in said[1]
    assert f"step 2/{STEPS}" in said[0]  # what rank 0 says is seen
    assert not (tmp_path / "student.ckpt").exists()

    second = launch(tmp_path, "--resume", "auto")
    said = second.communicate(timeout=300)
    assert second.returncode == 0, said
    assert "step_00000002.ckpt at step 2 of 6" in said[0] or "step_00000004.ckpt at step 4 of 6" in said[0]

    ours, theirs = rows(tmp_path), rows(one_process)
    np.testing.assert_array_equal(ours[:, 0], range(1, STEPS + 1))
    np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=1e-5)
    ours, theirs = read_weights(tmp_path / "student.ckpt"), read_weights(one_process / "student.ckpt")
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], atol=1e-5, err_msg=name)
    assert read_metadata(tmp_path / "student.ckpt")["global_batch"] == 2


@pytest.mark.slow
def test_ctrl_c_saves_the_same_step_of_all_ranks_and_statistics_are_averaged(one_process, tmp_path):
    """Under `local` a rank's moving mean moves towards its own batch's mean. Batches are of one size, so in the first
    step, where all weights are equal still, the ranks' average is that of the whole batch."""
    running = launch(tmp_path, "--train.batch_norm=local", "--train.save_every=1", TINY_PAUSE="0.7")
    wait_for(tmp_path / "step_00000001.ckpt", running)
    first = read_weights(tmp_path / "step_00000001.ckpt")["image_encoder.1.running_mean"]
    running.send_signal(signal.SIGINT)
    said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    step = read_metadata(newest_state(tmp_path))["step"]
    assert 1 <= step < STEPS
    assert f"after step {step} of {STEPS}; --resume auto goes on from here" in said[0]
    assert not (tmp_path / "student.ckpt").exists()
    whole = read_weights(one_process / "step_00000001.ckpt")["image_encoder.1.running_mean"]
    assert np.abs(whole).max() > 1e-3
    np.testing.assert_allclose(first, whole, atol=1e-6)
