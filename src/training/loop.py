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
numbers of one that never stopped, bit by bit on the same machine. A step's batch and noise are those of all ranks and
accumulated parts in a row, so that it does not matter how many processes share them.
"""
import contextlib
import logging
import signal
import threading
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from src.checkpoint import save_network
from src.distillation.distiller import NAMES
from src.training.accumulate import AccumulatedStep
from src.training.progress import Progress, ScalarLog, plot_losses
from src.training.ranks import RankMeeting, Share
from src.training.run_checkpoints import RunCheckpoints
from src.training.sheets import Sheets
from src.training.step import EXTRA_NAMES

LOG = logging.getLogger("tinysam")
MAX_SKIPPED_IN_A_ROW = 20  # steps that are not finite before a run gives up
BATCH_NAMES = ("images", "gt_masks", "point_coords", "point_labels", "mask_valid")
STORED = "teacher_embeddings"  # of a batch, where a cache is in use


class DivergedError(ValueError):
    """Too many steps in a row whose loss or gradient was not finite."""


def count_steps(steps_per_epoch: int, epochs: int, max_steps: int) -> int:
    """Steps of a run: all epochs, or `max_steps` where that is above 0 and fewer."""
    total = steps_per_epoch * epochs
    return min(total, max_steps) if max_steps > 0 else total


def steps_per_epoch(num_batches: int, accumulate_steps: int) -> int:
    """Updates of an epoch of `num_batches` batches a rank; ValueError when there is none."""
    if num_batches < accumulate_steps:
        raise ValueError(f"an epoch has {num_batches} batches a rank, fewer than train.accumulate_steps "
                         f"({accumulate_steps}); lower it, or give more data")
    return num_batches // accumulate_steps


def draw_noise(seed: int, step: int, batch: int, prompts: int, max_rounds: int) -> Tuple[np.ndarray, int]:
    """Randomness of one step.

    Args:
        seed: of the run.
        step: steps made before this one.
        batch, prompts, max_rounds: B of all ranks and parts together, M, and the largest number of hard rounds.

    Returns:
        noise [B, M, max(1, max_rounds)] float32 in [0, 1), and the number of rounds, uniform in 0..max_rounds.
    """
    rng = np.random.default_rng([seed, step])
    rounds = int(rng.integers(0, max_rounds + 1))
    return rng.random((batch, prompts, max(1, max_rounds)), dtype=np.float32), rounds


def inputs_of_part(part: Mapping[str, np.ndarray], noise: np.ndarray, rounds: int,
                   prompt_count: Optional[Tensor] = None) -> Tuple[Any, ...]:
    """Inputs of the distiller: a batch, its rows of `draw_noise`, the number of hard rounds."""
    return (*(Tensor(part[name]) for name in BATCH_NAMES), Tensor(noise), Tensor(rounds, ms.int32),
            Tensor(part[STORED]) if STORED in part else None, prompt_count)


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
        train_step: a `TrainStep` around a `Distiller`; with `ranks` where there are several.
        student: the network whose weights are saved.
        batches: len() and `epoch(e, start)` -> dicts of arrays of this rank (docs/design.md, "Batches").
        settings: the `train:` section.
        seed: of the run.
        max_rounds: as the distiller's.
        metadata: str -> str, int or float, stored with every checkpoint beside the position.
        rank, size: this process's place; only rank 0 writes and reports.
        sheets: draws what the networks answer now and then, or None.

    Raises:
        ValueError: `output_dir` holds another run, the checkpoint to resume is not of this one, ranks start apart, or
            an epoch has no step.
    """

    def __init__(self, train_step: nn.Cell, student: nn.Cell, batches: Any, settings: Any, seed: int, max_rounds: int,
                 metadata: Mapping[str, Any], rank: int = 0, size: int = 1, sheets: Optional[Sheets] = None) -> None:
        self.train_step = train_step
        self.student = student
        self.batches = batches
        self.settings = settings
        self.seed = seed
        self.max_rounds = max_rounds
        self.sheets = sheets if rank == 0 else None
        self.share = Share(rank, size, settings.accumulate_steps)
        self.meeting = RankMeeting(rank, size)
        self.accumulated = None
        if settings.accumulate_steps > 1:
            self.accumulated = AccumulatedStep(train_step, settings.accumulate_steps, len(NAMES))
        self.output_dir = Path(settings.output_dir)
        self.steps_per_epoch = steps_per_epoch(len(batches), settings.accumulate_steps)
        self.total_steps = count_steps(self.steps_per_epoch, settings.epochs, settings.max_steps)
        self.metadata = {**metadata, "seed": seed, "image_size": student.image_size,
                         "steps_per_epoch": self.steps_per_epoch, "total_steps": self.total_steps,
                         "global_batch": batches.batch_size * self.share.batches}
        cells = {"student": student, "optimizer": train_step.optimizer.state}
        if getattr(train_step.loss_cell, "adapter", None) is not None:
            cells["adapter"] = train_step.loss_cell.adapter
        self.checkpoints = RunCheckpoints(self.output_dir, cells, self.metadata, settings.keep_last, rank == 0)
        self.step = self.checkpoints.resume(settings.resume)
        self.meeting.check_same_start(self.step, cells)

    def run(self) -> int:
        """Train to the end, or to the first Ctrl-C or SIGTERM on any rank.

        Returns:
            0 at the end of the run, else the number of the signal that stopped it; the state is saved either way.

        Raises:
            DivergedError: see MAX_SKIPPED_IN_A_ROW.
        """
        columns = NAMES + EXTRA_NAMES
        if self.step == 0 and self.checkpoints.writes:  # what the run began with, to be judged beside its end
            save_network(self.output_dir / "student_start.ckpt", self.student, {**self.metadata, "step": 0})
        stopping, saved_at = False, None
        with contextlib.ExitStack() as stack:
            stop = stack.enter_context(StopSignal())
            progress = stack.enter_context(Progress(self.total_steps, self.step))
            scalars = None
            if self.checkpoints.writes:
                scalars = stack.enter_context(ScalarLog(self.output_dir / "metrics.csv", columns, self.step))
            while self.step < self.total_steps and not stopping:
                epoch, start = divmod(self.step, self.steps_per_epoch)
                for parts in self.share.groups(self.batches.epoch(epoch, start * self.share.parts)):
                    values, stopping = self._one_step(parts, stop)
                    self.checkpoints.count_loss(float(values[0]))
                    progress.count(self.metadata["global_batch"])
                    if self.step % self.settings.log_every == 0 or self.step == self.total_steps:
                        rate = progress.show(self.step, epoch, dict(zip(columns, values)))
                        if scalars is not None:
                            scalars.write(self.step, epoch, values, rate)
                    if self.sheets is not None and self.sheets.due(self.step):
                        self.sheets.write(self.step, parts[0])
                    if self.step % self.settings.save_every == 0:
                        self.checkpoints.save(self.step)
                        saved_at = self.step
                    if stopping or self.step >= self.total_steps:
                        break
        if saved_at != self.step:
            self.checkpoints.save(self.step, regular=False)
        if self.checkpoints.writes:
            plot_losses(self.output_dir / "metrics.csv", self.output_dir / "losses.png", NAMES)
        finished = self.step >= self.total_steps
        if finished and self.checkpoints.writes:
            self._save_students()
        self.meeting.wait()
        if finished:
            return 0
        LOG.info("stopped by %s after step %d of %d; --resume auto goes on from here", stop.name or "another rank",
                 self.step, self.total_steps)
        return stop.number or signal.SIGTERM

    def _save_students(self) -> None:
        """Write the trained network, and its running average where there is one."""
        path = self.output_dir / "student.ckpt"
        metadata = {**self.metadata, "step": self.step}
        save_network(path, self.student, metadata)
        average = self.train_step.optimizer.state.average
        if average is not None:
            with average.in_place_of_weights():
                save_network(self.output_dir / "student_ema.ckpt", self.student, metadata)
        LOG.info("trained %d steps; the student is in %s", self.step, path)

    def _one_step(self, parts: Sequence[Mapping[str, np.ndarray]], stop: StopSignal) -> Tuple[np.ndarray, bool]:
        """Train on the parts of one batch and count it -> values in the order of NAMES + EXTRA_NAMES, and whether this
        was the last step because some rank wants to stop."""
        alone = self.share.size == 1
        if stop.name and not alone:
            self.train_step.ranks.ask_to_stop()
        inputs = self._inputs(parts)
        result = self.train_step(*inputs[0]) if self.accumulated is None else self.accumulated(inputs)
        values = result.asnumpy()
        stopping = bool(stop.name)
        if not alone:  # all ranks leave after the same step
            values, stopping = values[:-1], bool(values[-1] > 0)
        self.step += 1
        if values[-1] >= MAX_SKIPPED_IN_A_ROW:
            raise DivergedError(f"{MAX_SKIPPED_IN_A_ROW} steps in a row up to step {self.step} had a loss or gradient "
                                f"that is not finite; lower optim.learning_rate, or look at the data of these steps")
        return values, stopping

    def _inputs(self, parts: Sequence[Mapping[str, np.ndarray]]) -> Sequence[Tuple[Any, ...]]:
        """Inputs of the distiller for each part."""
        batch, prompts = parts[0]["gt_masks"].shape[:2]
        noise, rounds = draw_noise(self.seed, self.step, batch * self.share.batches, prompts, self.max_rounds)
        prompt_count = None
        if self.share.batches > 1:
            prompt_count = Tensor(sum(float(part["mask_valid"].sum()) for part in parts) / len(parts), ms.float32)
        return [inputs_of_part(part, noise[self.share.rows(index, batch)], rounds, prompt_count)
                for index, part in enumerate(parts)]
