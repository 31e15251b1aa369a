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
"""Sheets of pictures during a run: photo, label, student, teacher, and the hard points by round, so that a person sees
the student improve and hard prompt sampling (arXiv 2312.13789, section 3.2) move to the edges.

The points of a sheet come from all rounds, not from as many as a step draws, and from noise that follows from the seed
and the step. Weights, BatchNorm statistics and the run's own randomness stay as they are.
"""
from pathlib import Path
from typing import List, Mapping, NamedTuple, Tuple

import mindspore as ms
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from mindspore import Tensor

from src.checkpoint import write_atomically
from src.data.images import PIXEL_MEAN, PIXEL_STD
from src.data.transforms import MASK_STRIDE
from src.distillation.hard_point_loop import FIRST_SLOTS
from src.distillation.preview import Preview

MAX_IMAGES = 4
PROMPTS_PER_IMAGE = 2
SHEET_STREAM = 3  # keeps a sheet's noise apart from the step's
LABEL_COLOR, STUDENT_COLOR, TEACHER_COLOR = "#00d47e", "#3b82f6", "#a855f7"
POSITIVE, NEGATIVE = "#16a34a", "#dc2626"
LETTERBOX = 0.6  # of the mask's longest side, seen around it


class Row(NamedTuple):
    """One prompt of a sheet; coordinates are pixels of the S x S frame, masks lie on its S/4 grid."""

    image_id: int
    photo: np.ndarray  # [S, S, 3] uint8 RGB
    label: np.ndarray  # [h, w] 0/1
    student: np.ndarray  # [h, w] bool
    teacher: np.ndarray  # [h, w] bool
    point_coords: np.ndarray  # [K, 2]
    point_labels: np.ndarray  # [K]


class Sheets:
    """Writes `sheets/step_NNNNNNNN.png` below the folder of a run.

    Args:
        preview: of the distiller that is trained.
        output_dir: folder of the run.
        every: steps between two sheets; 0: none.
        seed: of the run.
    """

    def __init__(self, preview: Preview, output_dir: Path, every: int, seed: int) -> None:
        self.preview, self.folder, self.every, self.seed = preview, Path(output_dir) / "sheets", every, seed

    def due(self, step: int) -> bool:
        """Whether a sheet belongs to the state after `step` steps."""
        return self.every > 0 and step % self.every == 0

    def write(self, step: int, batch: Mapping[str, np.ndarray]) -> Path:
        """Draw the first pictures of a batch -> path of the PNG. One compilation serves a whole run."""
        rows = self._rows(step, batch)
        path = self.folder / f"step_{step:08d}.png"
        self.folder.mkdir(parents=True, exist_ok=True)
        figure = draw_sheet(rows, self.preview.has_teacher, f"step {step}")
        write_atomically(path, ".png", lambda part: figure.savefig(part, dpi=100, format="png"))
        return path

    def _rows(self, step: int, batch: Mapping[str, np.ndarray]) -> List[Row]:
        images = batch["images"][:MAX_IMAGES]
        gt_masks, coords, labels, valid = (batch[name][:MAX_IMAGES, :PROMPTS_PER_IMAGE] for name in (
            "gt_masks", "point_coords", "point_labels", "mask_valid"))
        rounds = self.preview.max_rounds
        rng = np.random.default_rng([self.seed, step, 0, SHEET_STREAM])
        noise = rng.random((*valid.shape, max(1, rounds)), dtype=np.float32)
        inputs = [images, gt_masks, coords, labels, noise, np.array(rounds, np.int32)]
        if "teacher_embeddings" in batch:
            inputs.append(batch["teacher_embeddings"][:MAX_IMAGES])
        answers = self.preview.look(*(Tensor(np.ascontiguousarray(array)) for array in inputs))
        coords, labels, student, teacher = (answer.astype(ms.float32).asnumpy() for answer in answers)
        return [Row(int(batch["image_ids"][i]), photo_of(images[i]), gt_masks[i, j], student[i, j] > 0,
                    teacher[i, j] > 0, coords[i, j], labels[i, j].astype(int)) for i, j in np.argwhere(valid > 0)]


def photo_of(image: np.ndarray) -> np.ndarray:
    """[3, S, S] normalised -> [S, S, 3] uint8 RGB; the padding becomes the mean colour."""
    pixels = image.transpose(1, 2, 0) * PIXEL_STD + PIXEL_MEAN
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def window_around(mask: np.ndarray, points: np.ndarray, side: int) -> Tuple[float, float, float, float]:
    """(left, top, right, bottom) of a square in the frame of `side` pixels, round a mask [h, w] and points [n, 2]."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    low = np.array([columns[0], rows[0]]) * MASK_STRIDE
    high = np.array([columns[-1] + 1, rows[-1] + 1]) * MASK_STRIDE
    low, high = np.minimum(low, points.min(axis=0)), np.maximum(high, points.max(axis=0))
    length = min(max((high - low).max() * (1 + LETTERBOX), side / 8), side)
    start = np.clip((low + high) / 2 - length / 2, 0, side - length)
    return float(start[0]), float(start[1]), float(start[0] + length), float(start[1] + length)


def draw_sheet(rows: List[Row], has_teacher: bool, title: str) -> Figure:
    """A row per prompt: the photo with the first prompt, then, enlarged, the label's, the student's and the teacher's
    mask. The hard points stand with their rounds over the first two, green on missed and red on wrong foreground."""
    columns = 4 if has_teacher else 3
    figure = Figure(figsize=(3.1 * columns, 3.2 * max(1, len(rows)) + 0.5), layout="constrained")
    figure.suptitle(f"{title}: hard points of rounds 1, 2, ... (green: missed, red: wrong)", fontsize=10)
    for number, row in enumerate(rows):
        hard = np.flatnonzero(row.point_labels[FIRST_SLOTS:] >= 0) + FIRST_SLOTS
        shown = np.flatnonzero(row.point_labels >= 0)
        side = row.photo.shape[0]
        window = window_around(row.label, row.point_coords[shown], side)
        panels = [("label", row.label, LABEL_COLOR), ("student", row.student, STUDENT_COLOR)]
        panels += [("teacher", row.teacher, TEACHER_COLOR)] if has_teacher else []
        axes = figure.add_subplot(len(rows), columns, columns * number + 1)
        _draw_photo(axes, row, window)
        for place, (name, mask, color) in enumerate(panels, columns * number + 2):
            axes = figure.add_subplot(len(rows), columns, place)
            iou = "" if name == "label" else f", IoU {_iou(mask, row.label):.2f}"
            axes.set_title(name + iou, fontsize=9)
            _draw_mask(axes, row.photo, mask, color)
            _draw_first_prompt(axes, row)
            if name != "teacher":
                _draw_points(axes, row, hard)
            axes.set_xlim(window[0] - 0.5, window[2] - 0.5)
            axes.set_ylim(window[3] - 0.5, window[1] - 0.5)
    return figure


def _draw_photo(axes: Axes, row: Row, window: Tuple[float, float, float, float]) -> None:
    axes.set_title(f"image {row.image_id}", fontsize=9)
    axes.imshow(row.photo)
    axes.set_axis_off()
    left, top, right, bottom = window
    axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, color="white", linewidth=1.2))
    _draw_first_prompt(axes, row)
    side = row.photo.shape[0]
    axes.set_xlim(-0.5, side - 0.5)  # a frame on the border would else shrink the photo
    axes.set_ylim(side - 0.5, -0.5)


def _draw_mask(axes: Axes, photo: np.ndarray, mask: np.ndarray, color: str) -> None:
    axes.imshow(photo)
    axes.set_axis_off()
    if not mask.any():
        return
    side = photo.shape[0]
    centres = (np.arange(mask.shape[0]) + 0.5) * MASK_STRIDE - 0.5
    filled = mask.astype(float)
    if mask.all():
        axes.add_patch(Rectangle((-0.5, -0.5), side, side, facecolor=color, alpha=0.4))
        return
    axes.contourf(centres, centres, filled, levels=[0.5, 1.5], colors=[color], alpha=0.4)
    axes.contour(centres, centres, filled, levels=[0.5], colors=[color], linewidths=1.4)


def _draw_first_prompt(axes: Axes, row: Row) -> None:
    """A dashed box of labels 2 and 3, or a star at the first click."""
    first, second = row.point_coords[:FIRST_SLOTS]
    if row.point_labels[0] == 2:
        axes.add_patch(Rectangle(first, *(second - first), fill=False, color="#facc15", linewidth=1.4, linestyle="--"))
    else:
        axes.plot(*first, marker="*", markersize=11, color="#facc15", markeredgecolor="black", markeredgewidth=0.6)


def _draw_points(axes: Axes, row: Row, hard: np.ndarray) -> None:
    for slot in hard:
        color = POSITIVE if row.point_labels[slot] == 1 else NEGATIVE
        axes.text(*row.point_coords[slot], str(slot - FIRST_SLOTS + 1), color="white", fontsize=7, fontweight="bold",
                  ha="center", va="center", clip_on=True,
                  bbox={"boxstyle": "circle,pad=0.22", "facecolor": color, "edgecolor": "white", "linewidth": 0.8})


def _iou(mask: np.ndarray, label: np.ndarray) -> float:
    union = np.count_nonzero(mask | (label > 0))
    return np.count_nonzero(mask & (label > 0)) / union if union else 0.0
