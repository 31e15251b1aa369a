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
"""Does kill -9 lose work? Trains to the end once, then again with kills at random moments, and compares bit by bit.

    python tools/kill_test.py --kills 20

Every start of the second run is train.py with --resume auto, in its own process; it is killed after a drawn step, while
it writes a checkpoint, or while it starts. Weights, optimizer, loss log and the final student must then equal those of
the run that was left alone. Further arguments go to train.py. Exit code: 0 equal, 1 different, 2 could not be run.
"""
import argparse
import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Set, Tuple

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from src.checkpoint import read_state, read_weights  # noqa: E402

SAVE_EVERY = 2
SETTINGS = ["--config", "configs/smoke_cpu.yaml", "--model.student=nano", "--model.teacher=none",
            "--model.image_size=64", "--data.batch_size=1", "--data.prompts_per_image=2", "--distill.max_rounds=1",
            "--train.epochs=3", "--train.log_every=1", f"--train.save_every={SAVE_EVERY}"]
MOMENTS = ("in a step", "while saving", "while starting")
SHARES = (0.45, 0.45, 0.1)
STARTING_SECONDS = 4.0  # a start takes longer than this
SAVING_SECONDS = 0.03   # about what a save takes
PATIENCE_SECONDS = 900  # without a new step


class RunFailed(RuntimeError):
    """train.py ended by itself with an error; the message holds its last lines."""


class Trainer:
    """One way to start train.py, again and again.

    Args:
        script: train.py, or one that takes the same arguments.
        settings: arguments.
        folder: train.output_dir of the run.
        cache: folder where the framework keeps compiled graphs, so that only the first start compiles.
    """

    def __init__(self, script: str, settings: Sequence[str], folder: Path, cache: Path) -> None:
        self.folder = folder
        self.command = [sys.executable, script, *settings, f"--train.output_dir={folder}", "--resume", "auto"]
        self.environment = {**os.environ, "MS_COMPILER_CACHE_ENABLE": "1", "MS_COMPILER_CACHE_PATH": str(cache)}
        self.log = folder.with_suffix(".log")

    def start(self) -> subprocess.Popen:
        """The process; what it says goes to the log beside the folder."""
        with open(self.log, "a", encoding="utf-8") as log:
            return subprocess.Popen(self.command, cwd=ROOT, env=self.environment, stdout=log, stderr=log,
                                    start_new_session=True)

    def finish(self) -> None:
        """Run to the end."""
        if self.start().wait():
            raise RunFailed(self.last_words())

    def last_words(self) -> str:
        """End of the log."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-10:])

    def step(self) -> int:
        """Last step in metrics.csv; 0 before the first."""
        path = self.folder / "metrics.csv"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        number = lines[-1].split(",")[0] if lines else ""
        return int(number) if number.isdigit() else 0

    def half_written(self) -> Set[Path]:
        """Checkpoints that are being written, or that a kill left so."""
        return set(self.folder.glob(".step_*"))

    def log_number(self) -> int:
        """Changes when a start has begun metrics.csv anew."""
        path = self.folder / "metrics.csv"
        return path.stat().st_ino if path.exists() else 0

    def kill_at(self, target: int, moment: str, rng: np.random.Generator) -> Tuple[int, bool]:
        """Start, and kill when `target` steps are made.

        Returns:
            The step it had reached, and whether this kill left a half written file behind.
        """
        left, log_number = self.half_written(), self.log_number()
        process = self.start()
        try:
            if moment == "while starting":
                time.sleep(rng.uniform(0, STARTING_SECONDS))
            else:
                self._wait_until(process, lambda: self.log_number() != log_number and self.step() >= target)
                if moment == "while saving":
                    self._wait_until(process, lambda: self.half_written() - left)
                    time.sleep(rng.uniform(0, SAVING_SECONDS))
                else:
                    time.sleep(rng.uniform(0, 0.3))
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return self.step(), bool(self.half_written() - left)

    def _wait_until(self, process: subprocess.Popen, happened: Any) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while not happened():
            if process.poll() is not None:
                raise RunFailed(f"the run ended before it could be killed:\n{self.last_words()}")
            if time.monotonic() > end:
                raise RunFailed(f"no progress within {PATIENCE_SECONDS} s:\n{self.last_words()}")
            time.sleep(0.002)


def differences(one: Path, other: Path, steps: int) -> List[str]:
    """What is not bit-equal between two finished runs of `steps` steps."""
    name = f"step_{steps:08d}.ckpt"
    found = []
    states = [read_state(folder / name)[0] for folder in (one, other)]
    students = [read_weights(folder / "student.ckpt") for folder in (one, other)]
    for what, (left, right) in ((name, states), ("student.ckpt", students)):
        if left.keys() != right.keys():
            found.append(f"{what}: other names")
            continue
        unequal = [key for key in left if not _same_bits(left[key], right[key])]
        if unequal:
            found.append(f"{what}: {len(unequal)} of {len(left)} arrays, first: {unequal[0]}")
    logs = [_rows(folder / "metrics.csv") for folder in (one, other)]
    if logs[0] != logs[1]:
        found.append("metrics.csv")
    return found


def _same_bits(left: np.ndarray, right: np.ndarray) -> bool:
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()


def _rows(path: Path) -> List[Dict[str, str]]:
    """Rows of the log without the speed, the one number that may differ."""
    with open(path, newline="", encoding="utf-8") as file:
        return [{key: value for key, value in row.items() if key != "images_per_second"}
                for row in csv.DictReader(file)]


def kill_and_resume(trainer: Trainer, kills: int, steps: int, rng: np.random.Generator) -> int:
    """Kill a run `kills` times and let it end -> how many kills left a half written file."""
    # The first kill comes after the first save, the last one before the last, so that each resumes from something.
    targets = np.sort(rng.integers(SAVE_EVERY, steps - SAVE_EVERY, kills))
    halves = 0
    for number, target in enumerate(targets, 1):
        moment = str(rng.choice(MOMENTS, p=SHARES))
        step, half = trainer.kill_at(int(target), moment, rng)
        halves += half
        print(f"kill {number} of {kills}, {moment}: step {step}" + (", a half written file is left" if half else ""),
              flush=True)
    trainer.finish()
    return halves


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the test; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="kill -9 so many times (default 20)")
    parser.add_argument("--steps", type=int, default=60, help="length of the run (default 60)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--work_dir", default="output/kill_test", help="emptied first (default output/kill_test)")
    parser.add_argument("--script", default="train.py", help="takes train.py's arguments (default train.py)")
    arguments, settings = parser.parse_known_args(argv)
    if arguments.kills < 1 or arguments.steps <= 2 * SAVE_EVERY:
        print(f"kill_test.py: --kills is {arguments.kills} and --steps {arguments.steps}; they must be at least 1 and "
              f"{2 * SAVE_EVERY + 1}", file=sys.stderr)
        return 2
    work = Path(arguments.work_dir).resolve()
    if work.exists() and any(work.iterdir()) and not (work / "whole.log").exists():
        print(f"kill_test.py: --work_dir {work} holds something else; give another folder", file=sys.stderr)
        return 2
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    settings = [*SETTINGS, f"--train.max_steps={arguments.steps}", *settings]
    whole, killed = (Trainer(arguments.script, settings, work / name, work / "graphs") for name in ("whole", "killed"))
    started = time.monotonic()
    try:
        whole.finish()
        print(f"left alone: {arguments.steps} steps in {time.monotonic() - started:.0f} s", flush=True)
        halves = kill_and_resume(killed, arguments.kills, arguments.steps, np.random.default_rng(arguments.seed))
    except RunFailed as error:
        print(f"kill_test.py: {error}", file=sys.stderr)
        return 2
    different = differences(whole.folder, killed.folder, arguments.steps)
    verdict = "differs: " + "; ".join(different) if different else "is bit-equal to the run left alone"
    print(f"{arguments.kills} kills, {halves} of which left a half written file; after {arguments.steps} steps the run "
          f"{verdict} ({time.monotonic() - started:.0f} s)")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
