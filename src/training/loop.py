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
"""The run around the training step: batches, noise, checkpoints, signals, resuming in mid-epoch.

Step n of a run follows from the configuration and n alone: its batch from (seed, epoch, index), its noise and number of
rounds from `numpy.random.default_rng([seed, n])`. With the saved weights and optimizer a resumed run repeats the
numbers of one that never stopped, bit by bit on the same machine.
"""
import logging
import signal
import threading
import time
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Tuple

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from src.checkpoint import load_state, newest_state, save_network, save_state
from src.distillation.distiller import NAMES
from src.training.progress import Progress, ScalarLog, plot_losses
from src.training.step import EXTRA_NAMES

LOG = logging.getLogger("tinysam")
MAX_SKIPPED_IN_A_ROW = 20  # steps that are not finite before a run gives up
BATCH_NAMES = ("images", "gt_masks", "point_coords", "point_labels", "mask_valid")
STATE_PATTERN = "step_*.ckpt"


class DivergedError(ValueError):
    """Too many steps in a row whose loss or gradient was not finite."""


def count_steps(steps_per_epoch: int, epochs: int, max_steps: int) -> int:
    """Steps of a run: all epochs, or `max_steps` where that is above 0 and fewer."""
    total = steps_per_epoch * epochs
    return min(total, max_steps) if max_steps > 0 else total


def draw_noise(seed: int, step: int, batch: int, prompts: int, max_rounds: int) -> Tuple[np.ndarray, int]:
    """Randomness of one step.

    Args:
        seed: of the run.
        step: steps made before this one.
        batch, prompts, max_rounds: B, M and the largest number of hard rounds.

    Returns:
        noise [B, M, max(1, max_rounds)] float32 in [0, 1), and the number of rounds, uniform in 0..max_rounds.
    """
    rng = np.random.default_rng([seed, step])
    rounds = int(rng.integers(0, max_rounds + 1))
    return rng.random((batch, prompts, max(1, max_rounds)), dtype=np.float32), rounds


class StopSignal:
    """Context in which the first Ctrl-C or SIGTERM only sets `name`; a second one ends the process as usual."""

    def __init__(self) -> None:
        self.name = ""
        self.number = 0
        self._before: Dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._catch)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _catch(self, number: int, _: Any) -> None:
        self.name, self.number = signal.Signals(number).name, number
        for other, handler in self._before.items():
            signal.signal(other, handler)
        LOG.info("%s: finishing the step, then saving; a second one stops at once", self.name)


class TrainLoop:
    """Runs a training step over the epochs of a batch source.

    Args:
        train_step: a `TrainStep` around a `Distiller`.
        student: the network whose weights are saved.
        batches: len() and `epoch(e, start)` -> dicts of arrays (docs/design.md, "Batches").
        settings: the `train:` section.
        seed: of the run.
        max_rounds: as the distiller's.
        metadata: str -> str, int or float, stored with every checkpoint beside the position.

    Raises:
        ValueError: `output_dir` holds another run, or the checkpoint to resume is not of this one.
    """

    def __init__(self, train_step: nn.Cell, student: nn.Cell, batches: Any, settings: Any, seed: int, max_rounds: int,
                 metadata: Mapping[str, Any]) -> None:
        self.train_step = train_step
        self.student = student
        self.batches = batches
        self.settings = settings
        self.seed = seed
        self.max_rounds = max_rounds
        self.output_dir = Path(settings.output_dir)
        self.total_steps = count_steps(len(batches), settings.epochs, settings.max_steps)
        self.metadata = {**metadata, "seed": seed, "steps_per_epoch": len(batches), "total_steps": self.total_steps}
        self.cells = {"student": student, "optimizer": train_step.optimizer.state}
        self.output_dir.mkdir(parents=True, exist_ok=True)
        self.step = self._resume()

    def run(self) -> int:
        """Train to the end, or to the first Ctrl-C or SIGTERM.

        Returns:
            0 at the end of the run, else the number of the signal that stopped it; the state is saved either way.

        Raises:
            DivergedError: see MAX_SKIPPED_IN_A_ROW.
        """
        columns = NAMES + EXTRA_NAMES
        saved_at = None
        with StopSignal() as stop, Progress(self.total_steps, self.step) as progress, \
                ScalarLog(self.output_dir / "metrics.csv", columns, self.step) as scalars:
            while self.step < self.total_steps and not stop.name:
                epoch, start = divmod(self.step, len(self.batches))
                for batch in self.batches.epoch(epoch, start):
                    values = self._one_step(batch)
                    progress.count(len(batch["images"]))
                    if self.step % self.settings.log_every == 0 or self.step == self.total_steps:
                        rate = progress.show(self.step, epoch, dict(zip(columns, values)))
                        scalars.write(self.step, epoch, values, rate)
                    if self.step % self.settings.save_every == 0:
                        saved_at = self._save()
                    if stop.name or self.step >= self.total_steps:
                        break
        if saved_at != self.step:
            self._save()
        plot_losses(self.output_dir / "metrics.csv", self.output_dir / "losses.png", NAMES)
        if stop.name and self.step < self.total_steps:
            LOG.info("stopped by %s after step %d of %d; --resume auto goes on from here", stop.name, self.step,
                     self.total_steps)
            return stop.number
        path = self.output_dir / "student.ckpt"
        save_network(path, self.student, {**self.metadata, "step": self.step})
        average = self.train_step.optimizer.state.average
        if average is not None:
            with average.in_place_of_weights():
                save_network(self.output_dir / "student_ema.ckpt", self.student, {**self.metadata, "step": self.step})
        LOG.info("trained %d steps; the student is in %s", self.step, path)
        return 0

    def _one_step(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        """Train on one batch and count it -> values in the order of NAMES + EXTRA_NAMES."""
        size, prompts = batch["gt_masks"].shape[:2]
        noise, rounds = draw_noise(self.seed, self.step, size, prompts, self.max_rounds)
        inputs = [Tensor(batch[name]) for name in BATCH_NAMES]
        values = self.train_step(*inputs, Tensor(noise), Tensor(rounds, ms.int32)).asnumpy()
        self.step += 1
        if values[-1] >= MAX_SKIPPED_IN_A_ROW:
            raise DivergedError(f"{MAX_SKIPPED_IN_A_ROW} steps in a row up to step {self.step} had a loss or gradient "
                                f"that is not finite; lower optim.learning_rate, or look at the data of these steps")
        return values

    def _resume(self) -> int:
        """Load what `resume` names -> steps made so far."""
        wanted = self.settings.resume
        there = sorted(self.output_dir.glob(STATE_PATTERN))
        if not wanted:
            if there:
                raise ValueError(f"{self.output_dir} holds checkpoints of an earlier run, newest {there[-1].name}; go "
                                 f"on with --resume auto, or choose another --train.output_dir")
            return 0
        path: Optional[Path] = newest_state(self.output_dir) if wanted == "auto" else Path(wanted)
        if path is None:
            if there:
                raise ValueError(f"no checkpoint in {self.output_dir} is whole, though {there[-1].name} is there; "
                                 f"remove them to start afresh")
            LOG.info("nothing to resume in %s: starting at step 0", self.output_dir)
            return 0
        found = load_state(path, self.cells)
        for key in ("seed", "steps_per_epoch"):
            if found.get(key) != self.metadata[key]:
                raise ValueError(f"{path} was made with {key} {found.get(key)}, this run has {self.metadata[key]}; "
                                 f"give both the same runtime.seed, data and batch_size")
        if found["step"] > self.total_steps:
            raise ValueError(f"{path} is at step {found['step']}, beyond this run's last step {self.total_steps}; "
                             f"raise train.epochs or train.max_steps")
        if found["total_steps"] != self.total_steps:
            LOG.info("the run had %d steps and has %d now: the learning rate follows the new length",
                     found["total_steps"], self.total_steps)
        LOG.info("resumed %s at step %d of %d", path, found["step"], self.total_steps)
        return int(found["step"])

    def _save(self) -> int:
        """Save the state, drop all but the last `keep_last` -> the step."""
        started = time.monotonic()
        path = self.output_dir / f"step_{self.step:08d}.ckpt"
        save_state(path, self.cells, {**self.metadata, "step": self.step})
        for old in sorted(self.output_dir.glob(STATE_PATTERN))[:-self.settings.keep_last]:
            old.unlink()
        LOG.debug("saved %s in %.1f s", path, time.monotonic() - started)
        return self.step
