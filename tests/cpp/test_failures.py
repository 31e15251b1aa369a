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
"""Every failure of the C++ program is one line on stderr that names the thing, exit code 2 and nothing half written."""
import io
import json
import os
import struct
import subprocess

import numpy as np
import pytest
from PIL import Image
from test_program import arguments, files, picture  # noqa: F401 (files is a fixture)


def refused(done, *parts):
    """The one line on stderr; it holds all `parts`."""
    assert done.returncode == 2, (done.returncode, done.stderr[-3000:])
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("tinysam: "), done.stderr
    for part in parts:
        assert part in lines[0], lines[0]
    return lines[0]


@pytest.mark.parametrize("options, reason", [
    (["--point=1"], "--point=1 is not understood; write --point=X,Y or X,Y,LABEL"),
    (["--point=1,2,3,4"], "--point=1,2,3,4 is not understood"), (["--point=1,x"], "--point=1,x is not understood"),
    (["--point=1,2,"], "--point=1,2, is not understood"), (["--point=nan,2"], "--point=nan,2 is not understood"),
    (["--point=1,2,2"], "point label 2 is unknown; 1 is foreground, 0 background"),
    (["--point=101,5"], "point (101, 5) lies outside the image of 100 x 70 pixels"),
    (["--point=-1,5"], "point (-1, 5) lies outside the image of 100 x 70 pixels"),
    (["--box=5,5,5,9"], "box (5, 5, 5, 9) is inside out; give x0 < x1 and y0 < y1"),
    (["--box=5,5,101,9"], "box (5, 5, 101, 9) reaches outside the image of 100 x 70 pixels; clip it"),
    (["--box=1,2,3"], "--box=1,2,3 is not understood; write --box=X0,Y0,X1,Y1"),
    (["--point=1,1", "--box=1,1,5,5", "--box=2,2,9,9"], "points with 2 boxes: whose are they?"),
    ([], "nothing to segment: give --point=X,Y or --box=X0,Y0,X1,Y1, --everything, --detections or --annotations"),
    (["--point=1,1", "--everything"], "exclude each other"),
    (["--point=1,1"] * 4, "a prompt of 5 slots (a slot each point, two a box, one more where there is no box) does not "
                          "fit; the exported decoders have at most 4"),
    (["--everything", "--everything.points_per_side=0"], "points_per_side=0: must be a whole number of at least 1"),
    (["--everything", "--everything.box_nms_thresh=2"], "box_nms_thresh (2) must be between 0 and 1"),
    (["--everything", "--everything.crop_n_layers=3", "--everything.crop_n_points_downscale_factor=8"],
     "points_per_side (32) leaves no point in crop layer 3"),
    (["--everything=yes"], "--everything takes no value, got yes"), (["photo.jpg"], "unknown argument photo.jpg"),
    (["--point=1,1", "--speed=9"], "unknown argument --speed=9; --help lists them, all written --name=value"),
    (["--point=1,1", "--device=gpu"], "--device=gpu is unknown; it is auto, cpu or ascend"),
    (["--annotations=gone.json"], "boxes of a file need the folder that holds the pictures")])
def test_options(toy, files, options, reason):  # noqa: F811
    refused(toy(*arguments(files, *options)), reason)


def test_missing_options(toy, files):  # noqa: F811
    refused(toy("--image=x.png", "--everything"), "--model is missing: give the folder that export.py wrote")
    refused(toy("--model=x", "--everything"), "--image is missing")
    refused(toy(*arguments(files, "--everything", "--image=nowhere.png")), "nowhere.png: no such image file")


def jpeg(**options):
    buffer = io.BytesIO()
    Image.fromarray(picture()).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def with_size(content, height, width):
    """A JPEG whose frame header claims another size."""
    place = content.index(b"\xff\xc0") + 5
    return content[:place] + struct.pack(">HH", height, width) + content[place + 4:]


def png():
    buffer = io.BytesIO()
    Image.fromarray(picture()).save(buffer, "PNG")
    return buffer.getvalue()


BROKEN = {
    "empty": (b"", "neither a JPEG nor a PNG (0 bytes)"),
    "text": (b"hello", "neither a JPEG nor a PNG (5 bytes); convert it to one of these"),
    "gif": (b"GIF89a" + bytes(50), "neither a JPEG nor a PNG"),
    "cut_jpeg": (jpeg()[:-300], "truncated or broken JPEG (Premature end of JPEG file)"),
    "no_end_jpeg": (jpeg()[:-2], "truncated or broken JPEG (Premature end of JPEG file)"),
    "header_jpeg": (jpeg()[:30], "truncated or broken JPEG ("),
    "start_jpeg": (b"\xff\xd8\xff", "truncated or broken JPEG ("),
    "tall_jpeg": (with_size(jpeg(), 7000, 100), "truncated or broken JPEG (Corrupt JPEG data: premature end of data"),
    "giant_jpeg": (with_size(jpeg(), 65000, 65000), "65000 x 65000 pixels are more than 178956970; make it smaller"),
    "flat_jpeg": (with_size(jpeg(), 0, 100), "truncated or broken JPEG ("),
    "cut_png": (png()[:-100], "truncated or broken PNG (the file ends too early)"),
    "wrong_png": (png()[:60] + bytes(60) + png()[120:], "truncated or broken PNG ("),
    "giant_png": (png()[:16] + struct.pack(">II", 65000, 65000) + png()[24:], "truncated or broken PNG ("),  # CRC
}


@pytest.mark.parametrize("name", BROKEN)
def test_pictures_that_cannot_be_read(toy, files, name):  # noqa: F811
    content, reason = BROKEN[name]
    (files / "photo.png").write_bytes(content)
    refused(toy(*arguments(files, "--point=1,1")), f"{files / 'photo.png'}: ", reason)
    assert list((files / "out").iterdir()) == []


def test_random_damage_never_crashes(toy, files):  # noqa: F811
    rng = np.random.default_rng(0)
    for content in (jpeg(progressive=True, exif=bytes.fromhex("457869660000") + b"II*\x00" + bytes(30)), png()):
        for _ in range(8):
            damaged = bytearray(content)
            for place in rng.integers(0, len(damaged), 6):
                damaged[place] = rng.integers(256)
            (files / "photo.png").write_bytes(bytes(damaged))
            done = toy(*arguments(files, "--point=1,1", "--no-overlays"))
            if done.returncode:
                refused(done, "photo.png: ")


@pytest.mark.parametrize("change, parts", [
    (lambda folder, manifest: (folder / "manifest.json").unlink(),
     ["manifest.json: no such manifest", "export.py wrote"]),
    (lambda folder, manifest: manifest.update(format="other"), ['format is "other", this program knows "tinysam-exp']),
    (lambda folder, manifest: manifest.update(version=2), ["version is 2, this program knows 1"]),
    (lambda folder, manifest: manifest.pop("masks"), ["not a manifest of export.py", "masks"]),
    (lambda folder, manifest: manifest.update(image_size=100), ["image_size (100) must be a multiple of 16"]),
    (lambda folder, manifest: manifest["preprocessing"]["resize"].update(filter="box"), ["preprocessing.resize is"]),
    (lambda folder, manifest: manifest["graphs"].pop(0), ["lists no image_encoder as MindIR"]),
    (lambda folder, manifest: manifest["graphs"][0]["files"].pop("mindir"),
     ["the image_encoder was not written as MindIR; export with mindir"]),
    (lambda folder, manifest: manifest["graphs"][0]["files"]["mindir"].update(name="../x"),
     ["file name '../x' holds a slash"]),
    (lambda folder, manifest: manifest["graphs"][1]["inputs"][1].update(shape=[1, 1, 9, 2]),
     ["shapes of the inputs of"]),
    (lambda folder, manifest: (folder / "image_encoder.mindir").unlink(),
     ["image_encoder.mindir: no such MindIR file"]),
    (lambda folder, manifest: (folder / "mask_decoder_p4_n4.mindir").write_bytes(b"\x0a\x05to"),
     ["mask_decoder_p4_n4.mindir: 4 bytes, the manifest says 7; the file is truncated or another one"]),
    (lambda folder, manifest: (folder / "image_encoder.mindir").write_bytes(b"\x0a\x06toy-1"),
     ["image_encoder.mindir: truncated, or no MindIR (broken at byte 2 of 7)"]),
    (lambda folder, manifest: (folder / "image_encoder.mindir").write_bytes(b"foreign"),
     ["image_encoder.mindir: truncated, or no MindIR"])])
def test_models_that_cannot_be_used(toy, files, change, parts):  # noqa: F811
    path = files / "model" / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text("")
    change(files / "model", manifest)
    if path.exists():
        path.write_text(json.dumps(manifest))
    refused(toy(*arguments(files, "--point=1,1")), *parts)


def test_a_full_disk(toy, files):  # noqa: F811
    (files / "out").mkdir()
    (files / "out" / "results.json").symlink_to("/dev/full")
    refused(toy(*arguments(files, "--point=1,1")),
            "results.json: cannot be written (No space left on device); free space or choose another --output")
    (files / "out" / "results.json").unlink()
    (files / "out" / "photo_overlay.png").unlink()
    (files / "out" / "photo_overlay.png").symlink_to("/dev/full")
    refused(toy(*arguments(files, "--point=1,1")), "photo_overlay.png: cannot be written (No space left on device)")
    with open("/dev/full", "w") as full:
        done = toy("--help", capture_output=False, stdout=full, stderr=-1)
    refused(done, "stdout: cannot be written")


def test_a_file_size_limit_leaves_nothing_behind(programs, files):  # noqa: F811
    command = [str(programs / "tinysam_toy"), *arguments(files, "--point=1,1", "--no-overlays")]
    done = subprocess.run(["bash", "-c", 'ulimit -f 0; exec "$@"', "bash", *command], capture_output=True, text=True,
                          env={**os.environ, "ASAN_OPTIONS": "detect_leaks=1"})
    refused(done, "results.json: cannot be written (File too large)")
    assert list((files / "out").iterdir()) == []


def test_an_output_that_cannot_be_made(toy, files):  # noqa: F811
    refused(toy(*arguments(files, "--point=1,1", f"--output={files / 'photo.png'}")), "photo.png: cannot be made (")


def test_a_folder_without_pictures(toy, files):  # noqa: F811
    refused(toy(*arguments(files, "--everything", f"--image={files / 'model'}")),
            "model: no picture in this folder; it may hold .jpg, .jpeg, .png")
    refused(toy(*arguments(files, "--point=1,1", f"--image={files / 'model'}")), "points and boxes belong to one")
