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
"""The C++ program from end to end with the toy network: masks, JSONs and plans of Python's, pictures, timings."""
import json

import cv2
import numpy as np
import pytest
from cpp_programs import summary
from PIL import Image
from toy_network import ToyPredictor, write_toy_export

from src.inference.everything import EverythingGenerator, EverythingSettings
from src.inference.mask_records import decode_mask

SIZE = (70, 100)  # of the test picture (height, width)


def picture(height=SIZE[0], width=SIZE[1]):
    """Grey with soft discs and a bar whose red values differ."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    red = np.full((height, width), 40, np.float32)
    for cx, cy, radius, value in ((0.2, 0.3, 0.14, 120), (0.6, 0.25, 0.12, 200), (0.75, 0.7, 0.18, 90),
                                  (0.3, 0.8, 0.1, 240)):
        red[np.hypot(x - cx * width, (y - cy * height)) < radius * width] = value
    red[:, int(0.46 * width):int(0.5 * width)] = 160
    red = cv2.GaussianBlur(red, (0, 0), 1)
    return np.stack([red, red / 2, 255 - red], axis=2).astype(np.uint8)


@pytest.fixture()
def files(tmp_path):
    """Folder with model/ and photo.png."""
    write_toy_export(tmp_path / "model")
    Image.fromarray(picture()).save(tmp_path / "photo.png")
    return tmp_path


@pytest.fixture()
def predictor():
    """Python's predictor with the same network; without Intel's library, so that upscaling rounds alike."""
    cv2.ipp.setUseIPP(False)
    yield ToyPredictor(64)
    cv2.ipp.setUseIPP(True)


def arguments(files, *more):
    return [f"--model={files / 'model'}", f"--image={files / 'photo.png'}", f"--output={files / 'out'}", *more]


def results(files):
    return json.loads((files / "out" / "results.json").read_text())


def same_mask(rle, expected, most_wrong=0):
    return np.count_nonzero(decode_mask(rle) != expected) <= most_wrong


@pytest.mark.parametrize("points, box", [
    ([(20, 21, 1)], None), ([(20, 21, 1), (61, 17, 0)], None), ([], (60, 35, 95, 66)),
    ([(75, 49, 1)], (60, 35, 95, 66)),
    ([(0, 0, 1), (100, 70, 0)], None), ([(30.25, 56.75, 1), (1, 1, 0), (99, 2, 0)], None)])
def test_prompts_give_pythons_masks(toy, files, predictor, points, box):
    prompt = [f"--point={x},{y},{label}" for x, y, label in points]
    prompt += [f"--box={','.join(map(str, box))}"] if box else []
    done = toy(*arguments(files, "--masks", *prompt))
    counts = summary(done)
    predictor.set_image(picture())
    masks, ious, _ = predictor.predict([point[:2] for point in points] or None,
                                       [point[2] for point in points] or None, box)
    best = int(ious.argmax())
    [result] = results(files)
    assert (result["image_id"], result["category_id"], result["score"]) == (1, 1, float(ious[best]))
    assert same_mask(result["segmentation"], masks[best])
    assert np.array_equal(np.asarray(Image.open(files / "out" / "photo_mask_1.png")), masks[best] * np.uint8(255))
    painted = np.abs(np.asarray(Image.open(files / "out" / "photo_overlay.png")).astype(int) - picture())
    assert painted.shape == (*SIZE, 3)
    assert painted[masks[best]].mean() > 20 and np.median(painted[~masks[best]]) == 0  # marks stand beside the mask too
    assert {key: counts[key] for key in ("images", "masks", "skipped", "device")} == {
        "images": 1, "masks": 1, "skipped": {}, "device": "toy"}
    assert set(counts["seconds"]) == {"load", "preprocess", "encode", "decode", "postprocess", "write", "total"}
    assert all(0 <= seconds <= counts["seconds"]["total"] for seconds in counts["seconds"].values())
    assert f"area {masks[best].sum()} px" in done.stdout


def test_boxes_of_several_objects(toy, files, predictor):
    boxes = [(5, 5, 35, 40), (60, 35, 95, 66), (50, 4, 75, 30), (20, 48, 40, 69), (0, 0, 100, 70)]
    summary(toy(*arguments(files, *[f"--box={','.join(map(str, box))}" for box in boxes])))
    predictor.set_image(picture())
    masks, ious, _ = predictor.predict_batch(np.array(boxes))
    found = results(files)
    assert len(found) == 5
    for index, result in enumerate(found):
        assert same_mask(result["segmentation"], masks[index, ious[index].argmax()])


PLANS = {
    "hierarchical": {}, "full": {"hierarchical": False}, "tau": {"high_score_thresh": 30.0},
    "iou_off": {"pred_iou_thresh": 0.0},
    "crops": {"crop_n_layers": 1, "points_per_side": 9}, "regions": {"min_mask_region_area": 60},
    "loose": {"stability_score_thresh": 0.5, "box_nms_thresh": 0.9, "stability_score_offset": 2.0, "coarse_ratio": 0.5},
    "unstable": {"stability_score_thresh": 0.0},
    "empty": {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "crop_n_layers": 1, "points_per_side": 4}}


@pytest.mark.parametrize("plan", PLANS)
def test_everything_gives_pythons_records(toy, files, predictor, plan):
    settings = {"points_per_side": 12, "pred_iou_thresh": 0.85, "stability_score_thresh": 0.8, "hierarchical": True,
                **PLANS[plan]}
    options = [f"--everything.{key}={value}" for key, value in settings.items() if key != "hierarchical"]
    done = toy(*arguments(files, "--everything", *options, *([] if settings["hierarchical"] else ["--full-grid"])))
    generator = EverythingGenerator(predictor, EverythingSettings(**settings, output_mode="coco_rle"))
    records, counts = generator.run(picture())
    found = json.loads((files / "out" / "photo_everything.json").read_text())
    assert found["image"] == {"image_id": 1, "width": 100, "height": 70, "file_name": "photo.png"}
    assert len(records) > 3 and summary(done)["points"] == counts.points
    assert [annotation.pop("id") for annotation in found["annotations"]] == list(range(len(records)))
    assert found["annotations"] == records
    assert [result["segmentation"] for result in results(files)] == [record["segmentation"] for record in records]
    assert [result["score"] for result in results(files)] == [record["predicted_iou"] for record in records]


def test_a_folder_with_a_broken_picture(toy, files):
    folder = files / "folder"
    folder.mkdir()
    Image.fromarray(picture()).save(folder / "a.png")
    Image.fromarray(picture()).save(folder / "a.jpg")
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes()[:200])
    (folder / "notes.txt").write_text("no picture")
    done = toy(f"--model={files / 'model'}", f"--image={folder}", f"--output={files / 'out'}", "--everything",
               "--everything.points_per_side=4", "--everything.stability_score_thresh=0.5")
    counts = summary(done)
    assert (counts["images"], counts["skipped"]) == (2, {"images": 1})
    assert f"skipped {folder / 'b.png'}: truncated or broken PNG (the file ends too early)" in done.stderr
    assert sorted(path.name for path in (files / "out").iterdir()) == [
        "a_everything.json", "a_overlay.png", "a_png_everything.json", "a_png_overlay.png", "results.json"]
    assert {result["image_id"] for result in results(files)} == {1, 2}


def test_boxes_of_a_folder(toy, files, predictor):
    (files / "images").mkdir()
    Image.fromarray(picture()).save(files / "images" / "000000000009.png")
    Image.fromarray(picture(40, 60)).save(files / "images" / "small.jpg", quality=95)
    labels = {"images": [{"id": 9, "file_name": "000000000009.png", "height": 70, "width": 100},
                         {"id": 4, "file_name": "small.jpg", "height": 40, "width": 60},
                         {"id": 5, "file_name": "gone.jpg", "height": 40, "width": 60}],
              "annotations": [{"id": 31, "image_id": 9, "category_id": 2, "bbox": [60, 35, 35, 31]},
                              {"id": 30, "image_id": 4, "category_id": 3, "bbox": [-3, 0, 30.5, 20], "iscrowd": 0},
                              {"id": 32, "image_id": 5, "category_id": 3, "bbox": [0, 0, 30, 20]},
                              {"id": 33, "image_id": 9, "category_id": 3, "bbox": [0, 0, 30, 20], "iscrowd": 1}]}
    (files / "labels.json").write_text(json.dumps(labels))
    command = [f"--model={files / 'model'}", f"--image={files / 'images'}", f"--output={files / 'out'}",
               f"--annotations={files / 'labels.json'}"]
    done = toy(*command)
    assert summary(done)["skipped"] == {"images": 1}
    assert f"skipped {files / 'images' / 'gone.jpg'}: no such image file" in done.stderr
    found = results(files)
    assert [[result[key] for key in ("image_id", "category_id", "annotation_id")] for result in found] == [
        [9, 2, 31], [4, 3, 30]]
    predictor.set_image(picture())
    masks, ious, _ = predictor.predict(box=(60, 35, 95, 66))
    assert found[0]["score"] == found[0]["predicted_iou"] == float(ious.max())
    assert same_mask(found[0]["segmentation"], masks[ious.argmax()])

    boxes = [{"image_id": 4, "category_id": 8, "bbox": [5, 5, 20, 20], "score": score} for score in (0.25, 0.5, 0.125)]
    (files / "boxes.json").write_text(json.dumps(boxes))
    summary(toy(*command, f"--detections={files / 'boxes.json'}", "--max-detections=2", "--no-overlays"))
    assert [(result["image_id"], result["score"]) for result in results(files)] == [(4, 0.5), (4, 0.25)]
    assert all("annotation_id" not in result for result in results(files))


@pytest.mark.slow
def test_huge_and_tiny_pictures(toy, files):
    Image.fromarray(np.full((1, 1, 3), 9, np.uint8)).save(files / "photo.png")
    summary(toy(*arguments(files, "--point=0.5,0.5")))
    assert results(files)[0]["segmentation"]["size"] == [1, 1]
    summary(toy(*arguments(files, "--everything", "--everything.points_per_side=2")))
    huge = np.zeros((9000, 12000, 3), np.uint8)
    huge[1000:5000, 2000:9000] = 200
    Image.fromarray(huge).save(files / "huge.jpg", quality=90)
    write_toy_export(files / "larger", image_size=512)
    done = toy(f"--model={files / 'larger'}", f"--image={files / 'huge.jpg'}", f"--output={files / 'out'}",
               "--no-overlays", "--point=5000,3000")
    assert summary(done)["masks"] == 1
    mask = decode_mask(results(files)[0]["segmentation"])
    inside = np.zeros(mask.shape, bool)
    inside[1000:5000, 2000:9000] = True
    assert (mask & inside).sum() / (mask | inside).sum() > 0.95  # a low-res pixel is 94 of these wide


def test_help_names_every_option(toy):
    done = toy("--help")
    assert done.returncode == 0
    for option in ("--model", "--image", "--point", "--box", "--everything", "--full-grid", "--detections",
                   "--annotations", "--output", "--masks", "--no-overlays", "--device", "--device-id", "--precision",
                   "--lite-config", "--threads", "--max-detections", "--limit"):
        assert option in done.stdout
