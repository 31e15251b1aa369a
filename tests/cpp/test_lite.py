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
"""The C++ program with the real MindSpore Lite 2.0.0 on a CPU: masks and scores of the network in Python.

The library comes from PyPI and reads older MindIR: old_mindir.py rewrites the export. Compiled and run through the API
that serves Ascend; no NPU is involved.
"""
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from cpp_programs import ROOT, build, give_up, summary
from old_mindir import rewrite_export
from PIL import Image
from test_program import picture

from src.checkpoint import load_network, save_network
from src.data.images import read_image
from src.inference.chosen_checkpoint import shipped_checkpoint
from src.inference.mask_records import decode_mask, encode_masks
from src.inference.predictor import load_predictor
from src.modeling.build_sam import build_sam

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture(scope="session")
def lite_home():
    """MindSpore Lite for CPUs, fetched once into build/."""
    done = subprocess.run(["bash", "ascend310_infer/fetch_lite_cpu.sh"], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, "PYTHON": sys.executable})
    if done.returncode:
        give_up(f"needs MindSpore Lite 2.0.0 from PyPI: {done.stderr.strip()[-300:]}")
    return done.stdout.strip()


@pytest.fixture(scope="session")
def lite(lite_home):
    """The program: lite("--model=...", ...) -> CompletedProcess."""
    folder = build(ROOT / "build" / "ascend310", LITE_HOME=lite_home)
    environment = {key: value for key, value in os.environ.items() if key != "GLOG_v"}  # which brings Lite's log back
    return lambda *arguments: subprocess.run([folder / "tinysam", "--threads=2", *arguments], capture_output=True,
                                             text=True, env=environment)


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """Folder with nano.ckpt (the weights that ship, at 256 px; at 128 they find nothing in a photograph), its export in
    new/, and in old/ for Lite 2.0.0."""
    folder = tmp_path_factory.mktemp("lite")
    sam = build_sam("nano", image_size=256, draw_weights=False)
    load_network(sam, shipped_checkpoint())
    save_network(folder / "nano.ckpt", sam)
    done = subprocess.run(
        [sys.executable, "export.py", f"--export.checkpoint={folder / 'nano.ckpt'}", "--export.decoders=[1x4,8x2]",
         f"--export.output_dir={folder / 'new'}", "--runtime.device=cpu"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    rewrite_export(folder / "new", folder / "old")
    Image.fromarray(picture(70, 100)).save(folder / "photo.png")
    return folder


def compare_prompts(lite, model, photo, prompts):
    """Every prompt (points, box) once in C++ and once in Python."""
    predictor = load_predictor(model / "nano.ckpt")
    predictor.set_image(read_image(photo, apply_orientation=True))
    for points, box in prompts:
        options = [f"--point={x},{y},{label}" for x, y, label in points]
        options += [f"--box={','.join(map(str, box))}"] if box else []
        done = lite(f"--model={model / 'old'}", f"--image={photo}", f"--output={model / 'out'}", *options)
        assert (summary(done)["device"], done.stderr) == ("cpu", "")
        [result] = json.loads((model / "out" / "results.json").read_text())
        masks, ious, _ = predictor.predict([point[:2] for point in points] or None,
                                           [point[2] for point in points] or None, box)
        assert result["score"] == pytest.approx(ious.max(), abs=5e-4)  # Lite's exp is coarser; seen: 1.1e-4
        wanted = masks[ious.argmax()]
        differing = np.count_nonzero(decode_mask(result["segmentation"]) ^ wanted)
        assert differing <= max(2, 0.005 * np.count_nonzero(wanted))  # a click's mask may have 80 pixels in all


def test_masks_are_pythons(lite, model):
    compare_prompts(lite, model, model / "photo.png", [
        ([(20, 21, 1)], None), ([(20, 21, 1), (61, 17, 0)], None), ([], (60, 35, 95, 66))])


@pytest.mark.data
def test_masks_of_a_photograph_are_pythons(lite, model, data_root):
    photo = sorted((data_root / "eval" / "coco_val2017" / "images").iterdir())[3]
    compare_prompts(lite, model, photo, [
        ([(120, 90, 1)], None), ([(120, 90, 1), (20, 30, 0)], None), ([], (40, 30, 300, 220))])


def test_failures_of_the_runtime(lite, model):
    common = [f"--image={model / 'photo.png'}", f"--output={model / 'out'}", "--point=1,1"]

    def refused(folder, *options):
        done = lite(f"--model={folder}", *common, *options)
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
        return done.stderr

    assert "--device=ascend: this machine has no Ascend device (/dev/davinci0 is missing); run where one is, or with " \
           "--device=cpu" in refused(model / "old", "--device=ascend")
    assert "image_encoder.mindir: MindSpore Lite cannot load it on cpu (status" in refused(model / "new")
    assert "gone.ini: no such Lite config file" in refused(model / "old", "--lite-config=gone.ini")
    foreign = model / "foreign"
    rewrite_export(model / "new", foreign)
    content = (foreign / "mask_decoder_p8_n2.mindir").read_bytes()
    (foreign / "image_encoder.mindir").write_bytes(content)
    assert f"image_encoder.mindir: {len(content)} bytes, the manifest says" in refused(foreign)
    manifest = json.loads((foreign / "manifest.json").read_text())
    manifest["graphs"][0]["files"]["mindir"]["bytes"] = len(content)
    (foreign / "manifest.json").write_text(json.dumps(manifest))
    assert "inputs are [1, 128, 16, 16] [1, 8, 2, 2] [1, 8, 2], the manifest says [1, 3, 256, 256]; it is another " \
        "model" in refused(foreign)


def compare_scores(lite_home, model, annotations, images):
    """scripts/run_infer_cpp.sh and eval.py on the same set: (scores of C++, scores of Python)."""
    infer, plain = (model / f"{kind}_{annotations.stem}" for kind in ("infer", "eval"))
    done = subprocess.run(
        ["bash", "scripts/run_infer_cpp.sh", model / "old", images, annotations, "--device=cpu", "--no-overlays"],
        cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "PYTHON": sys.executable, "LITE_HOME": lite_home, "OUTPUT": str(infer)})
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    done = subprocess.run(
        [sys.executable, "eval.py", f"--eval.checkpoint={model / 'nano.ckpt'}", f"--eval.annotations={annotations}",
         f"--eval.image_root={images}", f"--eval.output_dir={plain}", "--runtime.device=cpu"],
        cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads((folder / "results.json").read_text()) for folder in (infer / "eval", plain)]


def test_the_script_builds_runs_and_evaluates(lite, lite_home, model):
    folder = model / "set"
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for number in (1, 2, 3):
        height, width = 60 + 10 * number, 100
        Image.fromarray(picture(height, width)).save(folder / "images" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": height, "width": width})
        for x0, y0, x1, y1 in ((5, 5, 35, 40), (60, 35, 95, 66), (50, 4, 75, 30)):
            mask = np.zeros((1, height, width), np.uint8)
            mask[0, y0:y1, x0:x1] = 1
            annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": number % 2 + 1,
                                "bbox": [x0, y0, x1 - x0, y1 - y0], "segmentation": encode_masks(mask)[0]})
    (folder / "labels.json").write_text(json.dumps({"images": images, "annotations": annotations,
                                                    "categories": [{"id": 1}, {"id": 2}]}))
    found, expected = compare_scores(lite_home, model, folder / "labels.json", folder / "images")
    assert (found["images"], found["masks"]) == (3, 9) == (expected["images"], expected["masks"])
    assert found["mean_iou"] == pytest.approx(expected["mean_iou"], abs=1e-3) and expected["mean_iou"] > 0
    assert found["ap"] == pytest.approx(expected["ap"], abs=1e-3)


def test_the_scripts_stop_at_the_first_failure(lite_home, model):
    def run(*command):
        done = subprocess.run(["bash", *map(str, command)], cwd=ROOT, capture_output=True, text=True,
                              env={**os.environ, "PYTHON": sys.executable, "LITE_HOME": lite_home, "BUILD": "",
                                   "OUTPUT": str(model / "stopped")})
        return done.returncode, done.stderr.strip().splitlines()[-1]

    assert run("scripts/run_infer_cpp.sh", "x") == (
        2, "run_infer_cpp.sh: usage: run_infer_cpp.sh MODEL_FOLDER IMAGE_FOLDER ANNOTATIONS [BOXES_JSON] [OPTIONS]; "
           "all must exist")
    labels = model / "labels.json"
    labels.write_text('{"images": [], "annotations": []}')
    code, line = run("scripts/run_infer_310.sh", model / "old", model, labels)
    assert (code, line) == (2, f"tinysam: {labels}: no usable box in it")
    assert not (model / "stopped" / "eval").exists()


def test_conversion_refuses_what_it_cannot_do(model):
    def run(*command, lite_home="nowhere"):
        done = subprocess.run(["bash", "ascend310_infer/convert.sh", *map(str, command)], cwd=ROOT, text=True,
                              capture_output=True, env={**os.environ, "PYTHON": sys.executable, "LITE_HOME": lite_home})
        return done.returncode, done.stderr.strip()

    assert run(model / "new", model / "converted", "310", "int4")[0] == 2
    assert run(model / "new", model / "converted", "310", "fp16") == (
        2, "convert.sh: no converter_lite below LITE_HOME=nowhere; give the unpacked tarball")


@pytest.mark.parametrize("profile, soc, processor, expected", [
    ("fp16", "310P", "Ascend310P3", "precision_mode=enforce_fp16"),
    ("quant", "910", "Ascend910", "quant_type=WEIGHT_QUANT")])
def test_conversion_converts_every_graph(model, tmp_path, profile, soc, processor, expected):
    """With a stand-in for converter_lite, which copies the graph and keeps the profile."""
    converter = tmp_path / "tools" / "converter" / "converter" / "converter_lite"
    converter.parent.mkdir(parents=True)
    converter.write_text('#!/usr/bin/env bash\nfor a in "$@"; do case $a in --modelFile=*) m=${a#*=};; '
                         '--outputFile=*) o=${a#*=};; --configFile=*) c=${a#*=};; esac; done\n'
                         'cp "$m" "$o.mindir"; echo >> "$o.mindir"; cp "$c" "$o.profile"\n')
    converter.chmod(0o755)
    done = subprocess.run(
        ["bash", "ascend310_infer/convert.sh", model / "new", tmp_path / "converted", soc, profile], cwd=ROOT,
        text=True, capture_output=True, env={**os.environ, "PYTHON": sys.executable, "LITE_HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    names = {path.stem for path in (model / "new").glob("*.mindir")}
    assert {path.stem for path in (tmp_path / "converted").glob("*.mindir")} == names and len(names) == 3
    for name in names:
        lines = (tmp_path / "converted" / f"{name}.profile").read_text().splitlines()
        assert expected in lines and lines[-2:] == ["[acl_init_options]", f"ge.socVersion={processor}"]
        assert lines[0].startswith(f"# converter_lite, {name.split('_p')[0]}")
    for graph in json.loads((tmp_path / "converted" / "manifest.json").read_text())["graphs"]:
        file = graph["files"]["mindir"]
        assert file["bytes"] == (tmp_path / "converted" / file["name"]).stat().st_size


@pytest.mark.data
def test_scores_on_photographs(lite, lite_home, model, data_root):
    folder = data_root / "eval" / "coco_val2017"
    content = json.loads((folder / "instances.json").read_text())
    content["images"] = content["images"][:8]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [record for record in content["annotations"] if record["image_id"] in kept]
    (model / "eight.json").write_text(json.dumps(content))
    found, expected = compare_scores(lite_home, model, model / "eight.json", folder / "images")
    assert found["masks"] == expected["masks"] > 20
    assert found["mean_iou"] == pytest.approx(expected["mean_iou"], abs=1e-3)
    assert found["ap"] == pytest.approx(expected["ap"], abs=2e-3)
