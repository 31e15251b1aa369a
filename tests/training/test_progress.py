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
"""The CSV of a run, and the lines a person reads."""
import logging

import numpy as np
import pytest
from PIL import Image

from src.training.progress import Progress, ScalarLog, plot_losses, read_scalars

COLUMNS = ("total_loss", "focal_loss")


def write_log(path, steps, resumed_step=0):
    with ScalarLog(path, COLUMNS, resumed_step) as log:
        for step in steps:
            log.write(step, 0, (step / 2, 0.125), None if step == 1 else 3.0)


def test_rows_after_the_resumed_step_are_made_again(tmp_path):
    path = tmp_path / "metrics.csv"
    write_log(path, [1, 2, 3, 4])
    with open(path, "a", encoding="utf-8") as file:
        file.write("5,0,2.5")  # a kill cut this row short
    write_log(path, [3], resumed_step=2)
    assert path.read_text(encoding="utf-8").split() == [
        "step,epoch,total_loss,focal_loss,images_per_second",
        "1,0,0.5,0.125,", "2,0,1,0.125,3.000", "3,0,1.5,0.125,3.000"]


def test_a_fresh_run_starts_a_fresh_file(tmp_path):
    write_log(tmp_path / "metrics.csv", [1, 2])
    write_log(tmp_path / "metrics.csv", [1])
    assert read_scalars(tmp_path / "metrics.csv")["step"] == [1.0]


def test_other_columns_are_refused(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,loss\n1,2\n", encoding="utf-8")
    with pytest.raises(ValueError, match="metrics.csv has columns step, loss, not this version's; move it away"):
        ScalarLog(path, COLUMNS, 1)


def test_an_empty_log_gives_no_picture(tmp_path):
    write_log(tmp_path / "metrics.csv", [])
    plot_losses(tmp_path / "metrics.csv", tmp_path / "losses.png", COLUMNS)
    assert not (tmp_path / "losses.png").exists()


def curve_in(panel):
    """[columns, 2] (x, mean y) of the pixels of a curve in matplotlib's first colour, y downwards."""
    near = np.abs(panel.astype(int) - [31, 119, 180]).max(axis=2) < 40
    columns = np.flatnonzero(near.any(axis=0))
    return np.array([(x, np.flatnonzero(near[:, x]).mean()) for x in columns])


def test_the_picture_shows_the_curve_of_each_loss(tmp_path):
    """One falls on a straight line, one rises, one stays 0 and gets no panel."""
    names = ("falling_loss", "rising_loss", "absent_loss")
    with ScalarLog(tmp_path / "metrics.csv", names, 0) as log:
        for step in range(1, 41):
            log.write(step, 0, (41 - step, step, 0.0), None)
    plot_losses(tmp_path / "metrics.csv", tmp_path / "losses.png", names)
    picture = np.asarray(Image.open(tmp_path / "losses.png").convert("RGB"))
    panels = np.split(picture[:, :picture.shape[1] // 2 * 2], 2, axis=1)
    assert 2.4 < picture.shape[1] / picture.shape[0] < 3.2  # two panels in a row, no third
    for panel, direction in zip(panels, (1, -1)):
        curve = curve_in(panel)
        assert len(curve) > panel.shape[1] / 2 and np.ptp(curve[:, 1]) > panel.shape[0] / 2
        slope, start = np.polyfit(*curve.T, 1)
        assert slope * direction > 0  # a loss that falls goes down the picture
        assert np.abs(slope * curve[:, 0] + start - curve[:, 1]).max() < 4  # straight, as its numbers are


def test_the_line_of_a_step(monkeypatch, caplog):
    clock = iter([100.0, 102.0, 102.0])  # end of the first step; `show`, read twice
    monkeypatch.setattr("src.training.progress.time.monotonic", lambda: next(clock))
    logger = logging.getLogger("tinysam")
    monkeypatch.setattr(logger, "propagate", True)
    monkeypatch.setattr(logger, "handlers", [])  # what root scripts of other tests have left there
    with caplog.at_level(logging.INFO, logger="tinysam"), Progress(1000, 0) as progress:
        for _ in range(5):
            progress.count(4)
        # Four steps of four images in 2 s behind the first: 8 images/s; 995 steps of 0.5 s are left: 497 s.
        rate = progress.show(5, 0, {"total_loss": 1.5, "token_loss": 0.0, "mean_iou": 0.25, "grad_norm": 3.0})
    assert rate == 8.0
    assert caplog.messages == ["step 5/1000 epoch 0 | total 1.5 mean_iou 0.25 | 8.0 images/s, 0:08:17 left"]
