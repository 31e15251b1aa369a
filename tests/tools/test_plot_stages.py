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
"""tools/plot_stages.py: means of hand-worked logs, steps that count on, and refusals in one line."""
import csv
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tools.plot_stages import averaged, main

ROOT = Path(__file__).resolve().parent.parent.parent


def test_windows_average_what_is_logged_and_leave_out_what_is_never_there():
    nan = float("nan")
    scalars = {"step": [5.0, 10.0, 15.0, 20.0, 25.0], "dice_loss": [1.0, 0.5, 0.25, nan, 0.75], "token_loss": [0.0] * 5,
               "mean_iou": [0.0, 0.5, 0.5, 0.75, 1.0], "grad_norm": [9.0] * 5}
    # Steps 1..10 and 11..20 and 21..30.
    assert averaged(scalars, 10) == [{"step": 10, "dice_loss": 0.75, "mean_iou": 0.25},
                                     {"step": 20, "dice_loss": 0.25, "mean_iou": 0.625},
                                     {"step": 25, "dice_loss": 0.75, "mean_iou": 1.0}]


def test_stages_follow_each_other_in_the_table_and_the_picture(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("step,dice_loss,mean_iou\n5,0.5,0.25\n10,0.25,0.75\n")
    (tmp_path / "b.csv").write_text("step,dice_loss,mean_iou,token_loss\n10,0.125,0.875,2\n")
    main([f"64 px={tmp_path / 'a.csv'}", f"last={tmp_path / 'b.csv'}", "--output", str(tmp_path / "v1.0"),
          "--window", "10"])
    assert list(csv.DictReader((tmp_path / "v1.0.csv").open())) == [
        {"stage": "64 px", "step": "10", "dice_loss": "0.375", "mean_iou": "0.5", "token_loss": ""},
        {"stage": "last", "step": "20", "dice_loss": "0.125", "mean_iou": "0.875", "token_loss": "2"}]
    with Image.open(tmp_path / "v1.0.png") as picture:
        assert len(set(picture.convert("RGB").getdata())) > 20  # axes and two curves of their own colours
    assert capsys.readouterr().out == f"wrote {tmp_path / 'v1.0.csv'}, {tmp_path / 'v1.0.png'}\n"


@pytest.mark.parametrize("arguments, message", [
    (["metrics.csv"], "stage 'metrics.csv' must be NAME=metrics.csv"),
    (["a=nowhere.csv"], "stage a: nowhere.csv does not exist; give the metrics.csv of a run of train.py"),
    (["a=nowhere.csv", "--window", "0"], "--window (0) must be at least 1 step"),
])
def test_refusals(tmp_path, arguments, message):
    done = subprocess.run([sys.executable, str(ROOT / "tools" / "plot_stages.py"), "--output", "out", *arguments],
                          cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (2, "") and done.stderr == f"plot_stages.py: {message}\n"
    assert not list(tmp_path.iterdir())
