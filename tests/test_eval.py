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
"""eval.py and scripts/run_eval.sh as a user runs them."""
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.checkpoint import save_network
from src.checkpoint.file_hash import file_sha256
from src.modeling.build_sam import build_sam
from tests.root_scripts import run

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """(checkpoint of a 64 px nano, annotation JSON of two images with three labels, one of them a crowd)."""
    folder = tmp_path_factory.mktemp("eval")
    save_network(folder / "nano.ckpt", build_sam("nano", image_size=64, seed=1), {"variant": "nano", "image_size": 64})
    (folder / "images").mkdir()
    for name in ("1.png", "2.png"):
        pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "images" / name)
    square = [[2, 3, 12, 3, 12, 13, 2, 13]]
    content = {
        "images": [{"id": number, "file_name": f"{number}.png", "height": 30, "width": 40} for number in (1, 2)],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "segmentation": square, "bbox": [2, 3, 10, 10], "area": 100},
            {"id": 2, "image_id": 2, "category_id": 1, "segmentation": square, "bbox": [2, 3, 10, 10], "area": 100},
            {"id": 3, "image_id": 2, "category_id": 1, "segmentation": square, "bbox": [2, 3, 10, 10], "iscrowd": 1}],
        "categories": [{"id": 1, "name": "square"}]}
    (folder / "labels.json").write_text(json.dumps(content))
    return folder / "nano.ckpt", folder / "labels.json"


def settings(files, output, *more):
    return (f"--eval.checkpoint={files[0]}", f"--eval.annotations={files[1]}", f"--eval.output_dir={output}",
            "--runtime.device=cpu", "--runtime.mode=pynative", *more)


def test_table_and_results_and_continuing(monkeypatch, capsys, tmp_path, files):
    arguments = settings(files, tmp_path / "out", "--eval.limit=1")
    code, out, err = run(monkeypatch, capsys, "eval.py", *arguments)
    assert code == 0, err
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (results["images"], results["masks"]) == (1, 1)
    assert 0 <= results["mean_iou"] <= 1 and f"mean IoU                {results['mean_iou']:.3f}" in out
    assert "mask AP large           -" in out  # no such label
    assert results["settings"]["checkpoint_sha256"] == file_sha256(files[0])
    assert (results["settings"]["variant"], results["settings"]["image_size"]) == ("nano", 64)
    assert results["command"].startswith("eval.py --eval.checkpoint=") and "mindspore" in results["versions"]
    assert results["mask_score"] == "predicted IoU"
    masks = json.loads((tmp_path / "out" / "masks.json").read_text())
    assert [(mask["image_id"], mask["category_id"]) for mask in masks] == [(1, 1)]

    # The second image is added to the first one's record; other settings are refused.
    code, out, err = run(monkeypatch, capsys, "eval.py", *settings(files, tmp_path / "out"))
    assert code == 0, err
    assert json.loads((tmp_path / "out" / "masks.json").read_text())[0] == masks[0]
    assert len((tmp_path / "out" / "per_image.jsonl").read_text().splitlines()) == 3
    assert "skipped 1: 1 crowd annotations" in out
    code, _, err = run(monkeypatch, capsys, "eval.py", *settings(files, tmp_path / "out", "--eval.prompt_batch=4"))
    assert code == 2 and "holds results of other settings (prompt_batch was 16, now 4)" in err


def test_other_pictures_under_the_same_labels_are_another_evaluation(monkeypatch, capsys, tmp_path, files):
    (tmp_path / "black").mkdir()
    for name in ("1.png", "2.png"):
        Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(tmp_path / "black" / name)
    first, pictures = settings(files, tmp_path / "out"), (files[1].parent / "images").resolve()
    assert run(monkeypatch, capsys, "eval.py", *first)[0] == 0
    code, _, err = run(monkeypatch, capsys, "eval.py", *first, f"--eval.image_root={tmp_path / 'black'}")
    assert code == 2
    black = (tmp_path / "black").resolve()
    assert f"holds results of other settings (image_root was '{pictures}', now '{black}')" in err
    # The same folder by another name is the same.
    code, _, err = run(monkeypatch, capsys, "eval.py", *first, f"--eval.image_root={pictures}/../images")
    assert code == 0, err
    assert json.loads((tmp_path / "out" / "results.json").read_text())["settings"]["image_root"] == str(pictures)


def test_a_size_that_is_asked_for_wins_over_the_file_s(monkeypatch, capsys, tmp_path, files):
    code, out, err = run(monkeypatch, capsys, "eval.py", *settings(files, tmp_path / "out", "--eval.limit=1",
                                                                   "--model.image_size=128"))
    assert code == 0, err
    assert "(nano, 128 px)" in out
    assert json.loads((tmp_path / "out" / "results.json").read_text())["settings"]["image_size"] == 128


def test_detections_prompt_by_their_boxes(monkeypatch, capsys, tmp_path, files):
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps([{"image_id": 1, "category_id": 1, "bbox": [2, 3, 10, 10], "score": 0.25},
                                 {"image_id": 7, "category_id": 1, "bbox": [2, 3, 10, 10], "score": 0.75}]))
    code, out, err = run(monkeypatch, capsys, "eval.py", *settings(files, tmp_path / "out", f"--eval.boxes={boxes}"))
    assert code == 0, err
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["skipped"] == {"crowd annotations": 1, "detections on unknown images": 1}
    assert results["mean_iou"] is None and results["mask_score"] == "the detection's score"
    assert results["settings"]["boxes_sha256"] == file_sha256(boxes)
    assert [mask["score"] for mask in json.loads((tmp_path / "out" / "masks.json").read_text())] == [0.25]


def test_points_protocol_by_its_short_name(monkeypatch, capsys, tmp_path, files):
    arguments = settings(files, tmp_path / "out", "--protocol", "points", "--eval.max_points=2", "--eval.limit=1")
    code, out, err = run(monkeypatch, capsys, "eval.py", *arguments)
    assert code == 0, err
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["protocol"] == "points" and results["settings"]["first_mask"] == "confident"
    assert len(results["miou"]) == 2 and f"mean IoU, 2 points      {results['miou'][1]:.3f}" in out
    assert (tmp_path / "out" / "points.png").is_file() and "points.png" in out
    # Another protocol does not go on in this folder.
    code, _, err = run(monkeypatch, capsys, "eval.py", *settings(files, tmp_path / "out", "--eval.limit=1"))
    assert code == 2 and "holds results of other settings" in err


def test_everything_protocol_side_by_side(monkeypatch, capsys, tmp_path, files):
    arguments = settings(files, tmp_path / "out", "--protocol", "everything", "--everything.points_per_side=2",
                         "--everything.points_per_batch=4", "--everything.coarse_ratio=0.5", "--eval.limit=1")
    code, out, err = run(monkeypatch, capsys, "eval.py", *arguments)
    assert code == 0, err
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert list(results["modes"]) == ["full", "hierarchical"]
    assert results["modes"]["full"]["points_per_image"] == 4
    assert results["settings"]["everything.points_per_side"] == 2
    assert "full hierarchical hierarchical / full mean IoU of best mask" in " ".join(out.split())
    # Seconds are compared, so what they depend on must not change between the images.
    assert [results["settings"][f"runtime.{name}"] for name in ("mode", "threads", "native_kernels")] == [
        "pynative", 0, True]
    code, _, err = run(monkeypatch, capsys, "eval.py", *arguments, "--runtime.mode=graph")
    assert code == 2 and "holds results of other settings (runtime.mode was 'pynative', now 'graph')" in err


def test_a_plan_of_points_beside_the_modes_ends_in_one_line(monkeypatch, capsys, files):
    code, out, err = run(monkeypatch, capsys, "eval.py", "--protocol=everything", f"--eval.annotations={files[1]}",
                         "--everything.hierarchical=true")
    assert (code, out, err) == (2, "", "eval.py: everything.hierarchical=true changes nothing: each mode (full, "
                                "hierarchical) has its own plan of points; leave it out\n")


@pytest.mark.parametrize("arguments, message", [
    (["--protocol=boxes"], "command line: 'eval.protocol' is 'boxes'; it must be one of box, points, everything"),
    ([], "eval.annotations is empty; give a COCO-format JSON: --eval.annotations=FILE"),
    (["--eval.annotations=none.json"], "none.json: no such annotation file"),
    (["--eval.anotations=x"], "command line: unknown key 'eval.anotations'; did you mean 'eval.annotations'?"),
    (["--eval.prompt_batch=0"], "command line: 'eval.prompt_batch' is 0; it must be at least 1"),
])
def test_what_cannot_be_used_ends_in_one_line(monkeypatch, capsys, arguments, message):
    assert run(monkeypatch, capsys, "eval.py", *arguments) == (2, "", f"eval.py: {message}\n")


def test_missing_checkpoint_ends_in_one_line(monkeypatch, capsys, tmp_path, files):
    code, out, err = run(monkeypatch, capsys, "eval.py", f"--eval.annotations={files[1]}", "--eval.checkpoint=no.ckpt",
                         f"--eval.output_dir={tmp_path}", "--runtime.device=cpu")
    assert code == 2 and "no.ckpt" in err and err.count("\n") == 1 and out == ""


def test_script_checks_its_arguments_and_passes_the_rest_on(tmp_path, files):
    def script(*arguments):
        return subprocess.run(["bash", str(ROOT / "scripts" / "run_eval.sh"), *map(str, arguments)], cwd=tmp_path,
                              capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHON": str(fake)})

    fake = tmp_path / "python"  # says what it is called with, and where
    fake.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$PWD" "$@"\n')
    fake.chmod(0o755)
    (tmp_path / "boxes.json").touch()
    done = script(files[0], files[1], "boxes.json", "--eval.limit=3")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        str(ROOT), "eval.py", f"--eval.checkpoint={files[0]}", f"--eval.annotations={files[1]}",
        f"--eval.boxes={tmp_path / 'boxes.json'}", "--eval.limit=3"]
    assert script(files[0], files[1], "--eval.limit=3").stdout.splitlines()[-1] == "--eval.limit=3"
    for wrong in ((), (files[0],), ("no.ckpt", files[1])):
        refused = script(*wrong)
        assert refused.returncode == 2
        assert refused.stderr.startswith("run_eval.sh: usage: bash scripts/run_eval.sh CHECKPOINT")


def test_a_list_of_image_ids(monkeypatch, capsys, tmp_path, files):
    (tmp_path / "ids.txt").write_text("2\n77\n")
    code, _, err = run(monkeypatch, capsys, "eval.py",
                       *settings(files, tmp_path / "out", f"--eval.image_ids={tmp_path}/ids.txt"))
    assert code == 0, err
    lines = (tmp_path / "out" / "per_image.jsonl").read_text().splitlines()
    assert [json.loads(line)["image_id"] for line in lines if "image_id" in line] == [2]
    (tmp_path / "ids.txt").write_text("77\n")
    code, _, err = run(monkeypatch, capsys, "eval.py",
                       *settings(files, tmp_path / "no", f"--eval.image_ids={tmp_path}/ids.txt"))
    assert code == 2 and err == (f"eval.py: {tmp_path}/ids.txt: none of its 1 image ids is in {files[1]}\n")
