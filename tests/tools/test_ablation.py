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
"""The ablation's arithmetic by hand, its commands, and that it goes on where it was stopped."""
import json
import os
import subprocess
from pathlib import Path

import pytest

from src.config import load_config
from tools.ablation import ROWS, main, markdown, summarise

ROOT = Path(__file__).resolve().parents[2]
# Stands in for the interpreter: notes its arguments, leaves what train.py and eval.py leave; the seed is the box score.
FAKE = """#!/usr/bin/env python3
import json, os, pathlib, sys
pathlib.Path(os.environ["NOTES"]).open("a").write(" ".join([pathlib.Path(sys.argv[1]).name, *sys.argv[2:]]) + "\\n")
given = dict(item.split("=", 1) for item in sys.argv[2:] if "=" in item)
if "--train.output_dir" in given:
    if os.environ.get("FAIL"):
        print("train.py: out of luck")
        sys.exit(2)
    folder, name, content = given["--train.output_dir"], "student.ckpt", {}
else:
    folder, name = given["--eval.output_dir"], "results.json"
    score = float(given["--runtime.seed"]) / 10
    content = {"mean_iou": score} if given["--eval.protocol"] == "box" else {"miou": [0.25, 0.5]}
pathlib.Path(folder).mkdir(parents=True)
(pathlib.Path(folder) / name).write_text(json.dumps(content))
"""


def scores(box):
    return {"box": box, "point": 0.5, "points": 0.5}


def test_means_spreads_and_gains_by_hand():
    runs = {"labels": {1: scores(0.50), 2: scores(0.60)}, "hard_masks": {1: scores(0.54), 2: scores(0.66)}}
    baseline, best = summarise(runs)
    # Means 0.55 and 0.60; deviations sqrt(2 * 0.05^2) = 0.0707 and sqrt(2 * 0.06^2) = 0.0849; gains 0.04 and 0.06.
    assert list(baseline["box"].values()) == pytest.approx([0.55, 0.0707, 0.0, 0.0], abs=1e-4)
    assert list(best["box"].values()) == pytest.approx([0.60, 0.0849, 0.05, 0.0141], abs=1e-4)
    text = markdown([baseline, best], "the command")
    assert "| baseline: labels only | 2 | 55.00 ± 7.07 (+0.00 ± 0.00) |" in text
    same = "50.00 ± 0.00 (+0.00 ± 0.00)"
    assert f"| 2 | 60.00 ± 8.49 (+5.00 ± 1.41) | {same} | {same} | 42.3 |" in text


def test_one_seed_has_no_spread():
    row, = summarise({"labels": {3: scores(0.5)}})
    assert row["box"] == {"mean": 0.5, "spread": None, "gain": 0.0, "gain_spread": None}
    assert "| 1 | 50.00 (+0.00) |" in markdown([row], "")
    row, = summarise({"hard_masks": {3: scores(0.5)}})  # no baseline to compare with
    assert row["box"]["gain"] is None and "| 1 | 50.00 |" in markdown([row], "")


def test_every_row_is_a_configuration():
    given = ["--config", str(ROOT / "configs" / "ablation_cpu.yaml"), "--model.teacher_checkpoint=t.ckpt"]
    built = {row: load_config([*given, *options]) for row, _, options, _ in ROWS}
    assert [config.distill.max_rounds for config in built.values()] == [0, 0, 3, 3, 3, 3]
    assert [config.distill.hard_mask_weighting for config in built.values()] == [True, False, False, True, False, False]
    assert built["labels"].model.teacher == "none"
    assert built["token_output"].distill.embedding_weight == 0 and built["embedding_output"].distill.token_weight == 0


def test_runs_and_goes_on(tmp_path, monkeypatch, capsys):
    fake = tmp_path / "python"
    fake.write_text(FAKE, encoding="utf-8")
    fake.chmod(0o755)
    monkeypatch.setenv("PYTHON", str(fake))
    monkeypatch.setenv("NOTES", str(tmp_path / "notes"))
    out = tmp_path / "out"
    call = ["--output", str(out), "--rows", "labels", "hard_masks", "--config", "a.yaml", "--optim.learning_rate=0.5"]
    assert main([*call, "--seeds", "4"]) == 0
    run = out / "labels" / "seed_4"
    shared = "--config a.yaml --optim.learning_rate=0.5 --model.teacher=none --data.embedding_cache= " \
             "--distill.max_rounds=0 --runtime.seed=4"
    assert (tmp_path / "notes").read_text(encoding="utf-8").splitlines()[:2] == [
        f"train.py {shared} --train.output_dir={run}/train --resume auto",
        f"eval.py {shared} --eval.protocol=box --eval.checkpoint={run}/train/student.ckpt --eval.output_dir={run}/box"]
    assert main([*call, "--seeds", "4", "6"]) == 0
    assert len((tmp_path / "notes").read_text(encoding="utf-8").splitlines()) == 12  # 2 rows x 2 seeds x 3, none twice
    rows = json.loads((out / "ablation.json").read_bytes())["rows"]
    assert [row["box"]["mean"] for row in rows] == pytest.approx([0.5, 0.5]) and rows[0]["points"]["mean"] == 0.5
    assert (out / "ablation.png").stat().st_size > 5000 and "± 14.14" in (out / "ablation.md").read_text("utf-8")
    monkeypatch.setenv("FAIL", "1")
    capsys.readouterr()
    assert main([*call, "--seeds", "5"]) == 2
    assert ("ablation.py: train.py ended with exit code 2: train.py: out of luck (all of it: "
            f"{out / 'labels' / 'seed_5' / 'train.log'})") in capsys.readouterr().err


def test_the_script(tmp_path):
    for name in ("start.ckpt", "teacher.ckpt", "train.json", "val.json"):
        (tmp_path / name).write_text("", encoding="utf-8")
    script = ROOT / "scripts" / "run_ablation.sh"
    env = {**os.environ, "PYTHON": "echo"}
    given = ["start.ckpt", "teacher.ckpt", "train.json", "val.json", "out", "--seeds", "1", "--optim.learning_rate=0.5"]
    result = subprocess.run(["bash", str(script), *given], cwd=tmp_path, env=env, capture_output=True, text=True,
                            timeout=60)
    shared = ["--config", "configs/ablation_cpu.yaml", f"--model.teacher_checkpoint={tmp_path}/teacher.ckpt",
              f"--data.paths=[{tmp_path}/train.json]"]
    stored, ablation = (line.split() for line in result.stdout.splitlines())
    assert stored == ["tools/make_teacher_embeddings.py", *shared, f"--embeddings.output_dir={tmp_path}/out/embeddings",
                      "--optim.learning_rate=0.5"]
    assert ablation == [
        "tools/ablation.py", "--output", f"{tmp_path}/out", *shared,
        f"--model.student_checkpoint={tmp_path}/start.ckpt",
        f"--data.embedding_cache={tmp_path}/out/embeddings", f"--eval.annotations={tmp_path}/val.json", "--seeds", "1",
        "--optim.learning_rate=0.5"]
    result = subprocess.run(["bash", str(script), "none.ckpt"], cwd=tmp_path, env=env, capture_output=True, text=True,
                            timeout=60)
    assert result.returncode == 2 and result.stderr.startswith("run_ablation.sh: usage: bash scripts/run_ablation.sh")
