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
"""What a person sees of a run: a progress line, a CSV of every logged step, a picture of the losses."""
import csv
import logging
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

from matplotlib.figure import Figure
from tqdm import tqdm

from src.checkpoint import write_atomically

LOG = logging.getLogger("tinysam")


class Progress:
    """A bar on a terminal, one line per logged step elsewhere. A context manager.

    Args:
        total_steps: of the whole run.
        start: steps made before this process.
    """

    def __init__(self, total_steps: int, start: int) -> None:
        self.total_steps = total_steps
        self._bar = tqdm(total=total_steps, initial=start, unit="step", disable=None, dynamic_ncols=True)
        self._images = 0
        self._steps = 0
        self._since: Optional[float] = None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: Any) -> None:
        self._bar.close()

    def count(self, images: int) -> None:
        """One step of so many images is done. The first step compiles the graph and is left out of the speed."""
        self._bar.update()
        if self._since is None:
            self._since = time.monotonic()
            return
        self._images += images
        self._steps += 1

    def show(self, step: int, epoch: int, values: Mapping[str, float]) -> Optional[float]:
        """Show the values of a step -> images per second since the last call; None when only the first is done."""
        rate, left = None, "?"
        if self._steps and self._since is not None:
            seconds = max(time.monotonic() - self._since, 1e-9)
            rate = self._images / seconds
            left = _clock((self.total_steps - step) * seconds / self._steps)
            self._images, self._steps, self._since = 0, 0, time.monotonic()
        losses = " ".join(f"{name.replace('_loss', '')} {value:.4g}" for name, value in values.items()
                          if name.endswith(("_loss", "_iou")) and value != 0)
        speed = f"{rate:.1f} images/s" if rate is not None else "first step"
        if self._bar.disable:
            LOG.info("step %d/%d epoch %d | %s | %s, %s left", step, self.total_steps, epoch, losses, speed, left)
        else:
            self._bar.set_postfix_str(f"{losses}, {speed}")
        return rate


class ScalarLog:
    """`metrics.csv`: step, epoch, every value of a step, images per second. A context manager.

    Args:
        path: of the file; rows of an earlier process up to `resumed_step` stay, later ones go: they are made again.
        columns: names of the values.
        resumed_step: steps made before this process.

    Raises:
        ValueError: the file is there with other columns.
    """

    def __init__(self, path: Path, columns: Sequence[str], resumed_step: int) -> None:
        self._header = ["step", "epoch", *columns, "images_per_second"]
        kept = [row for row in self._rows(path) if int(row[0]) <= resumed_step] if resumed_step else []

        def write(part: Path) -> None:
            with open(part, "w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([self._header, *kept])

        write_atomically(path, ".csv", write)
        self._file = open(path, "a", newline="", encoding="utf-8")  # noqa: SIM115 - closed by __exit__
        self._writer = csv.writer(self._file)

    def __enter__(self) -> "ScalarLog":
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()

    def write(self, step: int, epoch: int, values: Sequence[float], images_per_second: Optional[float]) -> None:
        """Append one row and hand it to the system, so that a killed run keeps it."""
        speed = "" if images_per_second is None else f"{images_per_second:.3f}"
        self._writer.writerow([step, epoch, *(f"{float(value):.9g}" for value in values), speed])
        self._file.flush()

    def _rows(self, path: Path) -> List[List[str]]:
        """Whole rows of an existing file; a row that a kill cut short is dropped."""
        if not path.exists():
            return []
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        if rows and rows[0] != self._header:
            raise ValueError(f"{path} has columns {', '.join(rows[0])}, not this version's; move it away to go on")
        return [row for row in rows[1:] if len(row) == len(self._header) and row[0].isdigit()]


def read_scalars(path: Path) -> Dict[str, List[float]]:
    """`metrics.csv` as a list per column; an empty cell is NaN."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name] or "nan") for row in rows] for name in (rows[0] if rows else ())}


def plot_losses(csv_path: Path, png_path: Path, names: Sequence[str]) -> None:
    """Draw one curve per name that was ever other than 0, each in a panel of its own, over the steps."""
    scalars = read_scalars(csv_path)
    shown = [name for name in names if any(value != 0 for value in scalars.get(name, ()))]
    if not shown:
        return
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(3.6 * columns, 2.6 * rows), layout="constrained")
    for place, name in enumerate(shown, 1):
        axes = figure.add_subplot(rows, columns, place)
        axes.plot(scalars["step"], scalars[name], linewidth=0.8, marker="." if len(scalars["step"]) < 30 else "")
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
    write_atomically(png_path, ".png", lambda part: figure.savefig(part, dpi=110))


def _clock(seconds: float) -> str:
    """h:mm:ss"""
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
