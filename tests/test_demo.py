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
"""demo.py as a user runs it: a picture and run lengths come out, and what cannot be done is said in one line."""
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

import demo
from src.checkpoint import save_network
from src.data.images import read_image
from src.inference.visualize import draw_overlay, side_by_side
from src.modeling.build_sam import build_sam
from tests.root_scripts import run


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "nano.ckpt"
    save_network(path, build_sam("nano", image_size=64, seed=1), {"variant": "nano", "image_size": 64})
    return str(path)


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """40 x 30 pixels as stored, 30 x 40 when turned as its EXIF flag says."""
    path = tmp_path_factory.mktemp("photo") / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    Image.fromarray(pixels).save(path, exif=exif)
    return str(path)


def test_click_gives_picture_and_json(monkeypatch, capsys, tmp_path, checkpoint, photo):
    # (25, 38) lies inside the upright image only.
    code, out, err = run(monkeypatch, capsys, "demo.py", "--image", photo, "--point", "25,38", "--point", "2,3,0",
                         "--device", "cpu", "--mode", "pynative", "--checkpoint", checkpoint,
                         "--output", str(tmp_path / "out.png"), "--json", str(tmp_path / "out.json"))
    assert code == 0, err
    record = json.loads((tmp_path / "out.json").read_text())
    assert (record["width"], record["height"], len(record["masks"])) == (30, 40, 1)
    mask = record["masks"][0]
    pixels = coco_mask.decode(mask["segmentation"])
    assert pixels.shape == (40, 30) and pixels.sum() == mask["area"]
    assert mask["point_coords"] == [[25, 38], [2, 3]] and mask["point_labels"] == [1, 0] and mask["best"]
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.size == (720, 960)  # 24 times
    lines = out.splitlines()
    assert lines[0].startswith(f"object 1, candidate {mask['candidate'] + 1} (best): predicted IoU ")
    assert f"area {mask['area']} px" in lines[0]
    assert lines[1:] == [f"wrote {tmp_path / 'out.png'}", f"wrote {tmp_path / 'out.json'}"]


def test_the_picture_shows_mask_contour_marks_and_predicted_iou(monkeypatch, capsys, tmp_path, checkpoint, photo):
    code, _, err = run(monkeypatch, capsys, "demo.py", "--image", photo, "--point", "25,38", "--point", "2,3,0",
                       "--box", "2,3,28,39", "--device", "cpu", "--mode", "pynative", "--checkpoint", checkpoint,
                       "--output", str(tmp_path / "out.png"), "--json", str(tmp_path / "out.json"))
    assert code == 0, err
    (record,) = json.loads((tmp_path / "out.json").read_text())["masks"]
    mask = coco_mask.decode(record["segmentation"]).astype(bool)
    assert 0.02 < mask.mean() < 0.98  # a mask with an edge to draw
    drawn = np.asarray(Image.open(tmp_path / "out.png"))
    parts = {"masks": [mask], "iou_predictions": [record["predicted_iou"]], "point_coords": [[25, 38], [2, 3]],
             "point_labels": [1, 0], "boxes": [[2, 3, 28, 39]]}
    image = read_image(photo, apply_orientation=True)
    np.testing.assert_array_equal(drawn, draw_overlay(image, **parts))
    # Each part shows: without it, or with another value, the picture is another.
    for other in ({"masks": [~mask]}, {"masks": [np.zeros_like(mask)]}, {"iou_predictions": None},
                  {"iou_predictions": [record["predicted_iou"] + 0.01]}, {"point_labels": [1, 1]}, {"boxes": None}):
        assert (drawn != draw_overlay(image, **{**parts, **other})).any(), other
    contour = mask & ~cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    ys, xs = np.nonzero(contour)
    white = (drawn == 255).all(axis=2)  # contours have a white rim
    assert np.mean([white[24 * y:24 * y + 24, 24 * x:24 * x + 24].any() for y, x in zip(ys, xs)]) > 0.5


def test_all_masks_of_several_boxes(monkeypatch, capsys, tmp_path, checkpoint, photo):
    code, out, err = run(monkeypatch, capsys, "demo.py", "--image", photo, "--box", "2,3,20,30", "--box", "5,5,29.5,39",
                         "--all-masks", "--device", "cpu", "--mode", "pynative", "--checkpoint", checkpoint,
                         "--output", str(tmp_path / "out.png"), "--json", str(tmp_path / "out.json"))
    assert code == 0, err
    masks = json.loads((tmp_path / "out.json").read_text())["masks"]
    assert [(mask["object"], mask["candidate"]) for mask in masks] == [(i, k) for i in range(2) for k in range(3)]
    for index in range(2):
        three = masks[3 * index:3 * index + 3]
        assert [mask["best"] for mask in three] == [
            mask["predicted_iou"] == max(other["predicted_iou"] for other in three) for mask in three]
        assert three[0]["box"] == [[2, 3, 20, 30], [5, 5, 29.5, 39]][index]
    assert out.count("(best)") == 2
    pixels = [coco_mask.decode(mask["segmentation"]).astype(bool) for mask in masks]
    image, boxes = read_image(photo, apply_orientation=True), [masks[0]["box"], masks[3]["box"]]
    three = [draw_overlay(image, [pixels[k], pixels[3 + k]], [masks[k]["predicted_iou"], masks[3 + k]["predicted_iou"]],
                          boxes=boxes) for k in range(3)]
    drawn = np.asarray(Image.open(tmp_path / "out.png"))
    whole = side_by_side(three, ["", "", ""])
    head = drawn.shape[0] - 960  # titles above, which are drawn elsewhere
    assert drawn.shape == whole.shape and drawn.shape[1] > 3 * 720
    np.testing.assert_array_equal(drawn[head:], whole[head:])


@pytest.mark.parametrize("arguments, message", [
    ([], "nothing to segment: give --point X,Y or --box X0,Y0,X1,Y1, or --everything"),
    (["--point", "3"], "--point 3 is not understood; write --point X,Y or X,Y,LABEL"),
    (["--point", "3,b"], "--point 3,b is not understood; write --point X,Y or X,Y,LABEL"),
    (["--box", "1,2,3"], "--box 1,2,3 is not understood; write --box X0,Y0,X1,Y1"),
    (["--point", "3,4", "--box", "1,2,3,4", "--box", "1,2,3,4"],
     "points with 2 boxes: whose are they? Give one box, or no points"),
    (["--point", "30,4,5"], "point label 5 is unknown; 1 is foreground, 0 background"),
    (["--point", "35,4"], "point (35, 4) lies outside the image of 30 x 40 pixels"),
    (["--point", "-1,4"], "point (-1, 4) lies outside the image of 30 x 40 pixels"),
    (["--box", "-5,0,9,9"], "box (-5, 0, 9, 9) reaches outside the image of 30 x 40 pixels; clip it"),
    (["--everything", "--point", "3,4"],
     "--point does not go with --everything: its points are a grid's (--hierarchical or --full-grid), and each picture "
     "gets a JSON"),
    (["--everything", "--everything.hierarchical=false"],
     "--everything.hierarchical=false does not go with --everything: its points are a grid's (--hierarchical or "
     "--full-grid), and each picture gets a JSON"),
    (["--everything", "--every", "3"], "--every goes with --video: it leaves out frames"),
    *((["--point", "3,4", *option.split()], f"{option.split()[0]} goes with --everything alone, not with prompts")
      for option in ("--every 3", "--hierarchical", "--full-grid", "--points-per-side 0", "--everything.fast=false")),
    (["--point", "3,4", "--output", "out.jpg"], "--output (out.jpg) must end in .png"),
    (["--box", "9,2,3,4"], "box (9, 2, 3, 4) is inside out; give x0 < x1 and y0 < y1"),
    (["--box", "1,2,3,41"], "box (1, 2, 3, 41) reaches outside the image of 30 x 40 pixels; clip it"),
])
def test_prompts_that_cannot_be_used_end_in_one_line(monkeypatch, capsys, checkpoint, photo, arguments, message):
    code, out, err = run(monkeypatch, capsys, "demo.py", "--image", photo, "--checkpoint", checkpoint, "--device",
                         "cpu", "--mode", "pynative", *arguments)
    assert (code, out, err) == (2, "", f"demo.py: {message}\n")


def test_files_that_cannot_be_used_end_in_one_line(monkeypatch, capsys, tmp_path, checkpoint, photo):
    code, _, err = run(monkeypatch, capsys, "demo.py", "--image", "nowhere.jpg", "--point", "1,2")
    assert (code, err) == (2, "demo.py: nowhere.jpg: no such image file\n")
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(Path(photo).read_bytes()[:300])
    code, _, err = run(monkeypatch, capsys, "demo.py", "--image", str(broken), "--point", "1,2")
    assert code == 2 and err.startswith(f"demo.py: {broken}: ") and err.count("\n") == 1
    code, _, err = run(monkeypatch, capsys, "demo.py", "--image", photo, "--point", "1,2", "--checkpoint", "no.ckpt",
                       "--device", "cpu")
    assert (code, err) == (2, "demo.py: checkpoint no.ckpt does not exist; name a file of weights\n")
    code, _, err = run(monkeypatch, capsys, "demo.py", "--image", photo, "--point", "1,2", "--device", "cpu",
                       "--checkpoint", str(tmp_path / "manifest.json"))  # an export, by the name
    assert code == 2 and "no manifest.json there; give the folder of an export" in err


def test_everything_refuses_its_files_before_it_opens_the_network(monkeypatch, capsys, tmp_path, photo):
    """The checkpoint is no file of weights: whoever reads it first says so."""
    (tmp_path / "no.ckpt").write_text("no weights")
    (tmp_path / "empty").mkdir()
    (tmp_path / "taken.png").touch()
    for image, output, message in (
            (photo, tmp_path / "taken.png", f"--output ({tmp_path / 'taken.png'}) is a file; give a folder"),
            (tmp_path / "empty", tmp_path / "out", f"{tmp_path / 'empty'}: no picture in this folder; it may hold ")):
        code, _, err = run(monkeypatch, capsys, "demo.py", "--image", image, "--everything", "--output", output,
                           "--checkpoint", tmp_path / "no.ckpt", "--device", "cpu", "--mode", "pynative")
        assert code == 2 and err.startswith(f"demo.py: {message}") and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_everything_of_a_folder(monkeypatch, capsys, tmp_path, checkpoint, photo):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg"):
        (folder / name).write_bytes(Path(photo).read_bytes()[:300 if name == "b.jpg" else None])
    code, out, err = run(monkeypatch, capsys, "demo.py", "--image", str(folder), "--everything", "--points-per-side=2",
                         "--checkpoint", checkpoint, "--device", "cpu", "--mode", "pynative",
                         "--everything.pred_iou_thresh=0", "--everything.stability_score_thresh=0",
                         "--output", str(tmp_path / "out"))
    assert code == 0, err
    assert f"skipped {folder / 'b.jpg'}: " in out and out.endswith("1 images segmented, 1 skipped\n")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a_everything.json", "a_everything.png"]
    content = json.loads((tmp_path / "out" / "a_everything.json").read_text())
    assert content["image"] == {"image_id": 1, "width": 30, "height": 40, "file_name": "a.jpg"}


@pytest.mark.parametrize("plan, points", [((), 1), (("--hierarchical",), 1), (("--full-grid",), 16)])
def test_everything_takes_the_hierarchical_points_unless_told_otherwise(monkeypatch, capsys, tmp_path, checkpoint,
                                                                        photo, plan, points):
    """Round one of 4 x 4 points has one, and as every logit is confident, all of the picture is: no second round."""
    code, out, err = run(monkeypatch, capsys, "demo.py", "--image", photo, "--everything", *plan, "--points-per-side=4",
                         "--checkpoint", checkpoint, "--device", "cpu", "--mode", "pynative",
                         "--everything.pred_iou_thresh=0", "--everything.stability_score_thresh=0",
                         "--everything.high_score_thresh=-1000", "--output", str(tmp_path))
    assert code == 0, err
    assert f" masks, {points} points in " in out


def test_everything_of_a_video(monkeypatch, capsys, tmp_path, checkpoint):
    path = tmp_path / "clip.v2.avi"
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (48, 32))
    for value in (0, 60, 120, 180):
        video.write(np.full((32, 48, 3), value, np.uint8))
    video.release()
    arguments = ["--everything", "--points-per-side=1", "--everything.pred_iou_thresh=0",
                 "--everything.stability_score_thresh=0", "--checkpoint", checkpoint, "--device", "cpu", "--mode",
                 "pynative", "--output", str(tmp_path / "out")]
    code, out, err = run(monkeypatch, capsys, "demo.py", "--video", str(path), "--every", "3", *arguments)
    assert code == 0, err
    assert sorted(file.name for file in (tmp_path / "out").glob("*.json")) == [
        "clip.v2_000000_everything.json", "clip.v2_000003_everything.json"]
    assert out.endswith("2 images segmented, 0 skipped\n")
    content = json.loads((tmp_path / "out" / "clip.v2_000003_everything.json").read_text())
    assert content["image"] == {"image_id": 2, "width": 48, "height": 32, "file_name": "clip.v2_000003"}
    code, out, err = run(monkeypatch, capsys, "demo.py", "--video", str(path), *arguments)
    assert code == 0 and out.endswith("4 images segmented, 0 skipped\n")  # every frame
    code, out, err = run(monkeypatch, capsys, "demo.py", "--video", str(path), "--every", "0", *arguments)
    assert (code, err) == (2, "demo.py: every (0) must be at least 1 frame\n")


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit) as end:
        demo.parse_arguments(["--help"])
    assert end.value.code == 0
    assert "python demo.py --image photo.jpg --point 320,240" in capsys.readouterr().out
