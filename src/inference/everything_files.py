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
"""Everything mode on files: a picture, a folder of pictures or the frames of a video, each to an overlay and a JSON.

The JSON of an image is SA-1B's (arXiv 2304.02643, section 4): `image` and `annotations`, masks as COCO's compressed run
lengths, so whatever reads SA-1B reads it.
"""
import itertools
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from src.data.images import ImageError, read_image
from src.inference.everything_settings import NO_MASK_HINT
from src.inference.mask_records import write_json
from src.inference.visualize import draw_everything, write_png

RESULT = "_everything"  # what the names of a picture's overlay and JSON end in
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def read_pictures(path, on_broken):
    """Pictures of a file or of all picture files of a folder, in order of their names, but for the overlays that
    `segment_files` wrote there.

    Args:
        path: a file, or a folder.
        on_broken: called with the line that says why a picture of a folder was left out.

    Returns:
        Iterator of (file name, [H, W, 3] uint8 RGB, upright as its EXIF flag says).

    Raises:
        ValueError: the one picture cannot be read, or a folder without pictures; at the call, before any is asked for.
    """
    path = Path(path)
    if not path.is_dir():
        return iter([(path.name, read_image(path, apply_orientation=True))])
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in PICTURE_SUFFIXES and not _is_result(file))
    if not files:
        raise ValueError(f"{path}: no picture in this folder; it may hold {', '.join(PICTURE_SUFFIXES)}")
    return _readable(files, on_broken)


def _readable(files, on_broken):
    for file in files:
        try:
            image = read_image(file, apply_orientation=True)
        except ImageError as error:
            on_broken(str(error))
            continue
        yield file.name, image


def read_frames(path, every=1):
    """Every `every`-th frame of a video.

    Returns:
        Iterator of ("STEM_000123", [H, W, 3] uint8 RGB), the number counting all frames from 0.

    Raises:
        ValueError: no such file, at the call; with the first frame: it cannot be read as a video.
    """
    if every < 1:
        raise ValueError(f"every ({every}) must be at least 1 frame")
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such video file")
    return _frames(path, every)


def _frames(path, every):
    video = cv2.VideoCapture(str(path))
    try:
        index = 0
        while video.grab():  # a frame that is not wanted is not decoded
            if index % every == 0:
                readable, frame = video.retrieve()
                if not readable:
                    break
                yield f"{path.stem}_{index:06d}", np.ascontiguousarray(frame[..., ::-1])
            index += 1
        if index == 0:
            raise ValueError(f"{path}: not a video, or OpenCV cannot decode its first frame")
    finally:
        video.release()


def make_folder(path):
    """The folder of --output, made if it is not there -> Path; a ValueError where a file is in its way."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        file = next(place for place in (path, *path.parents) if place.exists())
        raise ValueError(f"--output ({file}) is a file; give a folder") from None
    return path


def _is_result(file):
    """Whether `segment_files` wrote this picture: its JSON lies beside it."""
    return file.name.endswith(f"{RESULT}.png") and file.with_suffix(".json").exists()


def image_json(records, name, image_id, size):
    """SA-1B's JSON of one image from records with `coco_rle` segmentations; size is (height, width)."""
    return {"image": {"image_id": image_id, "width": size[1], "height": size[0], "file_name": name},
            "annotations": [{"id": index, **record} for index, record in enumerate(records)]}


def segment_files(generator, images, folder, report):
    """Segment everything on each image; write STEM_everything.png and STEM_everything.json into `folder`.

    Args:
        generator: an `EverythingGenerator` with output_mode "coco_rle".
        images: iterable of (name, image) as `read_pictures` and `read_frames` yield them.
        folder: made if it is not there.
        report: called with a line per image.

    Returns:
        int, how many images were segmented.
    """
    count, used = 0, set()
    for count, (name, image) in enumerate(images, start=1):
        with tqdm(desc=name, unit="point", leave=False, disable=None) as bar:
            records, counts = generator.run(image, lambda done, total, bar=bar: _advance(bar, done, total))
        stem = _free_stem(name, used)
        used.add(stem)
        target = Path(folder, stem + RESULT)
        write_png(f"{target}.png", draw_everything(image, [record["segmentation"] for record in records]))
        write_json(f"{target}.json", image_json(records, name, count, image.shape[:2]))
        report(f"{name}: {len(records)} masks, {counts.points} points in {counts.seconds:.1f} s "
               f"(encoder {counts.encoder_seconds:.1f} s, decoder {counts.decoder_seconds:.1f} s); wrote {target}.png")
        if not records:
            report(f"{name}: {NO_MASK_HINT}")
    return count


def _free_stem(name, used):
    """The name without a picture's suffix, or with it, or with a number, whichever no image before took: a.jpg beside
    a.png. Frames have none: that of clip.v2.mp4 is clip.v2_000000."""
    stem = Path(name).stem if Path(name).suffix.lower() in PICTURE_SUFFIXES else name
    choices = itertools.chain((stem, name.replace(".", "_")),
                              (f"{name.replace('.', '_')}_{number}" for number in itertools.count(2)))
    return next(stem for stem in choices if stem not in used)


def _advance(bar, done, total):
    bar.total = total
    bar.update(done - bar.n)
