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
"""Checkpoints of a run in its folder: the last k and the best, and going on from one (ours).

A checkpoint holds student, optimizer, step, the loss since the last save, the resolved configuration and the version
of the code. There is no random state to keep: every draw follows from (seed, step) or (seed, epoch, picture). Best is
the lowest mean of total_loss between two regular saves; a save that a signal asked for does not end such a stretch.
"""
import logging
import math
import shutil
import time
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

import yaml
from mindspore import nn

from src.checkpoint import load_state, newest_state, read_metadata, save_state

LOG = logging.getLogger("tinysam")
STATE_PATTERN = "step_*.ckpt"

# Another value makes other steps of the steps already made: this is a new run, not the rest of one.
FIXED_KEYS = ("runtime.seed", "model.student", "model.teacher", "data.format")
FIXED_NUMBERS = {
    "seed": "give both the same runtime.seed",
    "image_size": "give both the same model.image_size",
    "global_batch": "keep data.batch_size x train.accumulate_steps x ranks as it was",
    "steps_per_epoch": "give both the same data",
}
# Where a run is written, how fast it goes and how much it says change no step.
FREE_KEYS = ("train.resume", "train.output_dir", "train.log_every", "train.save_every", "train.keep_last",
             "train.sheet_every", "train.accumulate_steps", "data.batch_size", "data.workers")
FREE_SECTIONS = ("runtime", "eval", "everything", "embeddings")


class RunCheckpoints:
    """Saves and resumes a run.

    Args:
        folder: of the run.
        cells: "student" and "optimizer" -> cell.
        metadata: stored with every checkpoint; `config` is the resolved configuration as YAML, `total_steps` the
            length of the run, FIXED_NUMBERS name what else a resumed run must share.
        keep_last: newest checkpoints that stay beside the best.
        writes: this process writes (rank 0); the others only count and load.
    """

    def __init__(self, folder: Path, cells: Mapping[str, nn.Cell], metadata: Mapping[str, Any], keep_last: int,
                 writes: bool = True) -> None:
        self.folder = folder
        self.cells = cells
        self.metadata = dict(metadata)
        self.keep_last = keep_last
        self.writes = writes
        self.loss_sum = 0.0
        self.loss_count = 0
        self.best_step = -1
        self.best_loss = math.inf
        if writes:
            folder.mkdir(parents=True, exist_ok=True)

    def count_loss(self, total_loss: float) -> None:
        """Add a step's loss to the mean that decides which checkpoint is the best."""
        if math.isfinite(total_loss):
            self.loss_sum += total_loss
            self.loss_count += 1

    def save(self, step: int, regular: bool = True) -> None:
        """Write the state of `step`, then drop what is neither among the last `keep_last` nor the best.

        Files of later steps come from a run that was resumed further back; left there, `auto` would take them up.

        Args:
            step: steps made.
            regular: a save of every so many steps, which competes for the best.
        """
        started = time.monotonic()
        if regular:
            self._close_stretch(step)
        if not self.writes:
            return
        path = self._path(step)
        save_state(path, self.cells, {**self.metadata, **self._position(step)})
        earlier = sorted(old for old in self.folder.glob(STATE_PATTERN) if old <= path)
        kept = earlier[-self.keep_last:] + [self._path(self.best_step)]
        for old in self.folder.glob(STATE_PATTERN):
            if old not in kept:
                old.unlink()
        LOG.debug("saved %s in %.1f s", path, time.monotonic() - started)

    def resume(self, wanted: str) -> int:
        """Go on from a checkpoint.

        Args:
            wanted: "" for a new run, "auto" for the newest whole checkpoint of the folder if there is any, else a
                file: one of the folder's, or from elsewhere where the folder holds none.

        Returns:
            Steps made so far.

        Raises:
            ValueError: a run would mix with another one in the folder, no checkpoint is whole, or the checkpoint is not
                of this run; the message names what differs.
        """
        self._remove_leftovers()
        there = sorted(self.folder.glob(STATE_PATTERN))
        if not wanted:
            if there:
                raise ValueError(f"{self.folder} holds checkpoints of an earlier run, newest {there[-1].name}; go "
                                 f"on with --resume auto, or choose another --train.output_dir")
            return 0
        path: Optional[Path] = newest_state(self.folder) if wanted == "auto" else Path(wanted)
        if path is None:
            if there:
                raise ValueError(f"no checkpoint in {self.folder} is whole, though {there[-1].name} is there; "
                                 f"remove them to start afresh")
            LOG.info("nothing to resume in %s: starting at step 0", self.folder)
            return 0
        found = read_metadata(path)
        if there and path.resolve().parent != self.folder.resolve():  # the first save would remove them
            raise ValueError(f"{self.folder} holds checkpoints of an earlier run, newest {there[-1].name}, and {path} "
                             "is not among them; choose another --train.output_dir to go on from it")
        self._check(path, found)
        load_state(path, self.cells)
        self.loss_sum, self.loss_count = found.get("loss_sum", 0.0), found.get("loss_count", 0)
        self.best_step, self.best_loss = found.get("best_step", -1), found.get("best_loss", math.inf)
        total = self.metadata["total_steps"]
        if found["total_steps"] != total:
            LOG.info("the run had %d steps and has %d now: the learning rate follows the new length",
                     found["total_steps"], total)
        LOG.info("resumed %s at step %d of %d", path, found["step"], total)
        return int(found["step"])

    def _close_stretch(self, step: int) -> None:
        """Compare the mean loss since the last regular save with the best, and start anew."""
        if self.loss_count:
            mean = self.loss_sum / self.loss_count
            if mean < self.best_loss:
                self.best_step, self.best_loss = step, mean
                LOG.debug("best so far: step %d, mean total_loss %.6g", step, mean)
        self.loss_sum, self.loss_count = 0.0, 0

    def _position(self, step: int) -> Dict[str, Any]:
        position = {"step": step, "loss_sum": self.loss_sum, "loss_count": self.loss_count}
        if self.best_step >= 0:
            position.update(best_step=self.best_step, best_loss=self.best_loss)
        return position

    def _path(self, step: int) -> Path:
        return self.folder / f"step_{step:08d}.ckpt"

    def _remove_leftovers(self) -> None:
        """Folders of files that a kill left half written."""
        if self.writes:
            for left in self.folder.glob(".*.ckpt.*"):
                shutil.rmtree(left, ignore_errors=True)

    def _check(self, path: Path, found: Mapping[str, Any]) -> None:
        """Refuse a checkpoint of another run; say which settings changed where that is allowed."""
        if "step" not in found:
            raise ValueError(f"{path} holds weights, not the state of a training run; give it as "
                             "--model.student_checkpoint to start from them")
        changed = changed_keys(str(found.get("config", "")), str(self.metadata.get("config", "")))
        fixed = [change for key, change in changed.items() if key in FIXED_KEYS]
        if fixed:
            raise ValueError(f"{path} is not of this run: {', '.join(fixed)}; set them back, or start a new run from "
                             "its weights with --model.student_checkpoint")
        for name, remedy in FIXED_NUMBERS.items():
            if found.get(name) != self.metadata[name]:
                raise ValueError(f"{path} was made with {name} {found.get(name)}, this run has {self.metadata[name]}; "
                                 f"{remedy}")
        if found["step"] > self.metadata["total_steps"]:
            raise ValueError(f"{path} is at step {found['step']}, beyond this run's last step "
                             f"{self.metadata['total_steps']}; raise train.epochs or train.max_steps")
        said = [change for key, change in changed.items()
                if key not in FREE_KEYS and key.split(".")[0] not in FREE_SECTIONS]
        if said:
            LOG.warning("goes on with changed settings: %s", ", ".join(said))
        if found.get("code") != self.metadata.get("code"):
            LOG.info("the checkpoint was made by version %s, this is %s", found.get("code"), self.metadata.get("code"))


def changed_keys(before: str, after: str) -> Dict[str, str]:
    """Keys that differ between two configurations given as YAML -> "section.key was A, is B"; in order of name."""
    old, new = (_flat(yaml.safe_load(text) or {}) for text in (before, after))
    return {key: f"{key} was {old.get(key, 'not there')}, is {new.get(key, 'not there')}"
            for key in sorted({*old, *new}) if old.get(key) != new.get(key)}


def _flat(sections: Mapping[str, Any]) -> Dict[str, Any]:
    """{'section.key': value}"""
    return {f"{section}.{key}": value for section, keys in sections.items() for key, value in keys.items()}
