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
"""Segment everything on files: names, frames, overlays, SA-1B's JSON, and what cannot be read."""
import io
import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from src.data.records import decode_segmentation
from src.inference import everything_files
from src.inference.everything_files import make_folder, read_frames, read_pictures, segment_files
from src.inference.mask_records import mask_record

GREY = 100


class Halves:
    """A generator whose masks are the left and the right half; a black picture has none."""

    def run(self, image, progress):
        progress(3, 4)
        left = np.zeros(image.shape[:2], bool)
        left[:, : image.shape[1] // 2] = True
        records = [mask_record(mask, 0.5) for mask in (left, ~left)] if image.any() else []
        return records, SimpleNamespace(points=4, seconds=0.5, encoder_seconds=0.25, decoder_seconds=0.125)


def grey(value=GREY, height=20, width=30):
    return np.full((height, width, 3), value, np.uint8)


def test_overlay_json_and_line_of_each_image(tmp_path):
    lines = []
    assert segment_files(Halves(), [("one.jpg", grey()), ("dark.png", grey(0))], tmp_path / "new", lines.append) == 2
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "dark_everything.json", "dark_everything.png", "one_everything.json", "one_everything.png"]
    content = json.loads((tmp_path / "new" / "one_everything.json").read_text())
    assert content["image"] == {"image_id": 1, "width": 30, "height": 20, "file_name": "one.jpg"}
    assert [record["id"] for record in content["annotations"]] == [0, 1]
    assert [record["area"] for record in content["annotations"]] == [300, 300]
    np.testing.assert_array_equal(np.flatnonzero(
        decode_segmentation(content["annotations"][1]["segmentation"], (20, 30)).all(axis=0)), range(15, 30))
    picture = np.asarray(Image.open(tmp_path / "new" / "one_everything.png"), np.int64)
    middle = picture.shape[0] // 2
    left, right = picture[middle, picture.shape[1] // 4], picture[middle, 3 * picture.shape[1] // 4]
    assert np.abs(left - GREY).max() > 10 and np.abs(right - GREY).max() > 10 and np.abs(left - right).max() > 10
    assert lines[0].startswith("one.jpg: 2 masks, 4 points in 0.5 s (encoder 0.2 s, decoder 0.1 s); wrote ")
    assert lines[2] == ("dark.png: no mask passed the thresholds; lower --everything.pred_iou_thresh or "
                        "--everything.stability_score_thresh, or with the weights that ship give --config "
                        "configs/nano_everything.yaml")


def test_no_image_overwrites_another(tmp_path):
    names = ["a.jpg", "a.png", "a_png.jpg", "a_png.png", "a.png"]
    segment_files(Halves(), [(name, grey()) for name in names], tmp_path, lambda line: None)
    written = sorted(tmp_path.glob("*.json"))
    assert len(written) == 5 and len(list(tmp_path.glob("*.png"))) == 5
    stated = [json.loads(path.read_text())["image"]["file_name"] for path in written]
    assert sorted(stated) == sorted(names)


def test_a_bar_for_each_image(tmp_path, monkeypatch):
    bars = []

    class Bar(everything_files.tqdm):
        def __init__(self, *arguments, **options):
            assert options.pop("disable") is None  # shown on a terminal
            super().__init__(*arguments, **options, file=io.StringIO())
            bars.append(self)

    monkeypatch.setattr(everything_files, "tqdm", Bar)
    segment_files(Halves(), [("one.jpg", grey()), ("two.jpg", grey())], tmp_path, lambda line: None)
    assert [(bar.desc, bar.n, bar.total, bar.unit) for bar in bars] == [
        ("one.jpg", 3, 4, "point"), ("two.jpg", 3, 4, "point")]


def test_dots_in_a_name(tmp_path):
    names = ["clip.v2_000000", "clip.v2_000004", "my.photo.JPG"]
    segment_files(Halves(), [(name, grey()) for name in names], tmp_path, lambda line: None)
    assert sorted(path.name for path in tmp_path.glob("*.json")) == [
        "clip.v2_000000_everything.json", "clip.v2_000004_everything.json", "my.photo_everything.json"]


def test_pictures_of_a_folder(tmp_path):
    for name, value in (("b.png", 7), ("a.png", 3)):
        Image.fromarray(grey(value)).save(tmp_path / name)
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    (tmp_path / "notes.txt").write_text("no picture")
    # A quarter turn by EXIF, and beside it the width as text, which is no number that a reader could use.
    exif = b"Exif\0\0II*\0\x08\0\0\0\x02\0\0\x01\x02\0\x04\0\0\0abc\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    Image.fromarray(grey()).save(tmp_path / "c.jpg", exif=exif)
    broken = []
    read = list(read_pictures(tmp_path, broken.append))
    assert [(name, int(image[0, 0, 0])) for name, image in read] == [("a.png", 3), ("b.png", 7), ("c.jpg", GREY)]
    assert [image.shape[:2] for _, image in read] == [(20, 30), (20, 30), (30, 20)]
    assert len(broken) == 1 and broken[0].startswith(f"{tmp_path / 'broken.jpg'}: not an image")
    with pytest.raises(ValueError, match="not an image"):  # named itself, it is refused
        list(read_pictures(tmp_path / "broken.jpg", broken.append))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: no picture in this folder; it may hold .jpg"):
        list(read_pictures(tmp_path / "empty", broken.append))


def test_a_second_run_on_a_folder_leaves_out_its_own_overlays(tmp_path):
    """Those with their JSON beside them; a picture that only has such a name stays."""
    names = ["a.jpg", "b_everything.png", "c.v2.png"]
    for name in names:
        Image.fromarray(grey()).save(tmp_path / name)
    for _ in range(2):
        assert segment_files(Halves(), read_pictures(tmp_path, print), tmp_path, lambda line: None) == 3
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [
        "a_everything.png", "b_everything.png", "b_everything_everything.png", "c.v2.png", "c.v2_everything.png"]
    assert [name for name, _ in read_pictures(tmp_path, print)] == names


def test_what_cannot_be_read_is_refused_at_the_call(tmp_path):
    """Before a network is opened, not with the first picture that is asked for."""
    with pytest.raises(ValueError, match="no picture in this folder"):
        read_pictures(tmp_path, print)
    with pytest.raises(ValueError, match="none.jpg: no such image file"):
        read_pictures(tmp_path / "none.jpg", print)
    with pytest.raises(ValueError, match="none.mp4: no such video file"):
        read_frames(tmp_path / "none.mp4")


def test_the_output_folder_is_made_unless_a_file_is_in_its_way(tmp_path):
    assert make_folder(str(tmp_path / "a" / "b")) == make_folder(tmp_path / "a" / "b")  # there already
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file.png").touch()
    for path in (tmp_path / "file.png", tmp_path / "file.png" / "below"):
        with pytest.raises(ValueError) as error:
            make_folder(path)
        assert str(error.value) == f"--output ({tmp_path / 'file.png'}) is a file; give a folder"


def test_frames_of_a_video(tmp_path, monkeypatch):
    path = tmp_path / "clip.avi"
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (48, 32))
    for value in range(0, 200, 20):
        video.write(grey(value, 32, 48))
    video.release()
    frames = list(read_frames(path, 4))
    assert [name for name, _ in frames] == ["clip_000000", "clip_000004", "clip_000008"]
    for (_, frame), value in zip(frames, (0, 80, 160)):
        assert frame.shape == (32, 48, 3) and abs(frame.mean() - value) < 5
    with pytest.raises(ValueError, match="every \\(0\\) must be at least 1 frame"):
        list(read_frames(path, 0))
    with pytest.raises(ValueError, match="none.mp4: no such video file"):
        list(read_frames(tmp_path / "none.mp4"))
    (tmp_path / "text.mp4").write_text("no video")
    message = "text.mp4: not a video, or OpenCV cannot decode its first frame"
    with pytest.raises(ValueError, match=message):
        list(read_frames(tmp_path / "text.mp4"))
    # A container that opens, with a frame that cannot be decoded.
    capture = SimpleNamespace(grab=lambda: True, retrieve=lambda: (False, None), release=lambda: None)
    monkeypatch.setattr(cv2, "VideoCapture", lambda _: capture)
    with pytest.raises(ValueError, match=message):
        list(read_frames(tmp_path / "text.mp4"))
