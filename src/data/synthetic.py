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
"""A segmentation set that is drawn, not downloaded: overlapping shapes on textured ground, visible parts as masks.

Picture i follows from (seed, i) alone. Shapes vary in size, contrast and texture and cover each other, so a filled box
is a poor answer and colour alone is not enough; what is learnt is to follow outlines.
"""
import json
import os
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from src.data.records import MIN_VISIBLE_SHARE, DrawnMask, Sample, SkipLog, encode_mask

SHAPES = ("ellipse", "polygon", "ring", "rectangle")  # category ids 1..4
MIN_PIXELS = 24
SUBPIXEL_BITS = 4  # cv2 takes coordinates in sixteenths of a pixel


class SyntheticDataset:
    """`count` pictures drawn when they are read.

    Args:
        count: pictures of the set.
        size: longest side in pixels, at least 32; the other side is 0.6 to 1 of it.
        seed: integer >= 0; another seed is another set.

    Raises:
        ValueError: count or size is too small.
    """

    def __init__(self, count, size, seed):
        if count < 1:
            raise ValueError(f"data.synthetic_images ({count}) must be at least 1")
        if size < 32:
            raise ValueError(f"size of synthetic images ({size}) must be at least 32 pixels")
        self.image_ids, self.skipped = range(count), SkipLog()
        self.categories = [{"id": number, "name": name} for number, name in enumerate(SHAPES, 1)]
        self._size, self._seed = size, seed

    def __len__(self):
        return len(self.image_ids)

    def image_id(self, index):
        """Id of picture `index`: the index."""
        return self.image_ids[index]

    def read(self, index):
        """Sample of picture `index`; its id is the index."""
        rng = np.random.default_rng([self._seed, index, 0, 2])
        image, masks = draw_picture(rng, self._size)
        return Sample(index, image, [DrawnMask(number, kind, mask) for number, (kind, mask) in enumerate(masks)])


def draw_picture(rng, size):
    """Draw one picture.

    Args:
        rng: numpy Generator.
        size: longest side in pixels.

    Returns:
        image [H, W, 3] uint8 RGB, and a non-empty list of (category id, visible mask [H, W] bool).
    """
    sides = size, int(size * rng.uniform(0.6, 1.0))
    height, width = sides if rng.random() < 0.5 else sides[::-1]
    while True:
        image = _texture(rng, height, width, rng.uniform(30, 225, 3))
        owner = np.full((height, width), -1)
        kinds, areas = [], []
        for number in range(rng.integers(4, 13)):
            kind = int(rng.integers(len(SHAPES)))
            shape = _shape(rng, SHAPES[kind], height, width)
            _paint(rng, image, shape)
            owner[shape > 0.5] = number
            kinds.append(kind + 1)
            areas.append(np.count_nonzero(shape > 0.5))
        visible = [owner == number for number in range(len(kinds))]
        masks = [(kind, mask) for kind, area, mask in zip(kinds, areas, visible)
                 if np.count_nonzero(mask) >= max(MIN_PIXELS, MIN_VISIBLE_SHARE * area)]
        if masks:
            return _photograph(rng, image), masks


def _shape(rng, kind, height, width):
    """Coverage [H, W] float32 in 0..1 of one shape at a random place, edges antialiased."""
    longest = max(height, width)
    radius = longest * np.exp(rng.uniform(np.log(0.04), np.log(0.28)))
    centre = np.array([rng.uniform(0, width), rng.uniform(0, height)])
    aspect, turn = rng.uniform(0.3, 1.0), rng.uniform(0, np.pi)
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    if kind == "polygon":  # star-shaped round its centre: convex or with deep bays
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(5, 10)))
    elif kind == "rectangle":
        angles = np.pi / 4 + np.pi / 2 * np.arange(4)
    reach = rng.uniform(0.4, 1.0, len(angles)) if kind == "polygon" else np.ones(len(angles))
    outline = np.stack((np.cos(angles), np.sin(angles) * aspect), axis=1) * (radius * reach)[:, None]
    outline = outline @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    loops = [outline, outline * rng.uniform(0.45, 0.7)] if kind == "ring" else [outline]
    coverage = np.zeros((height, width), np.uint8)
    points = [np.round((loop + centre) * (1 << SUBPIXEL_BITS)).astype(np.int32) for loop in loops]
    cv2.fillPoly(coverage, points, 255, cv2.LINE_AA, SUBPIXEL_BITS)  # even-odd: the ring's inner loop is a hole
    return coverage.astype(np.float32) / 255


def _paint(rng, image, coverage):
    """Blend one shape into image [H, W, 3] float32 in place: own shaded texture, near or far in colour."""
    rows, columns = np.flatnonzero(coverage.any(axis=1)), np.flatnonzero(coverage.any(axis=0))
    if len(rows) == 0:  # a bay of the outline, or the whole shape, lies beyond the border
        return
    covered = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    image, coverage = image[covered], coverage[covered]
    colour = np.average(image.reshape(-1, 3), axis=0, weights=coverage.ravel())
    contrast = rng.uniform(18, 110)
    direction = rng.standard_normal(3)
    colour = colour + contrast * direction / np.linalg.norm(direction) * np.sqrt(3)
    texture = _texture(rng, *coverage.shape, np.clip(colour, 5, 250))
    image += coverage[:, :, None] * (texture - image)


def _texture(rng, height, width, colour):
    """[H, W, 3] float32: a colour with soft blotches, sometimes stripes, and a shading gradient."""
    cells = int(rng.integers(3, 24))
    blotches = cv2.resize(rng.standard_normal((cells, cells)).astype(np.float32), (width, height),
                          interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / max(height, width)
    angle, stripes = rng.uniform(0, np.pi), rng.random() < 0.35
    along = x * np.cos(angle) + y * np.sin(angle)
    value = rng.uniform(2, 14) * blotches + rng.uniform(-40, 40) * (along - 0.5)
    frequency, depth = rng.uniform(20, 120), rng.uniform(5, 25)
    if stripes:
        value = value + depth * np.sin(frequency * (y * np.cos(angle) - x * np.sin(angle)))
    tint = rng.uniform(0.6, 1.0, 3).astype(np.float32)
    return np.asarray(colour, np.float32) + value[:, :, None].astype(np.float32) * tint


def _photograph(rng, image):
    """Lens and sensor: blur, noise, 8 bits."""
    blur = rng.uniform(0.2, 1.0)
    image = cv2.GaussianBlur(image, (0, 0), blur)
    image += rng.uniform(1, 6) * rng.standard_normal(image.shape, np.float32)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def write_coco(folder, count, size, seed):
    """Write `count` pictures of the set as a COCO-format folder: instances.json and images/NNNNNN.png.

    Args:
        folder: made if missing; files of the same names are replaced, the JSON last.
        count, size, seed: as for SyntheticDataset. Picture i is the set's picture i, with id i + 1.

    Returns:
        Path of the JSON.
    """
    dataset = SyntheticDataset(count, size, seed)
    folder = Path(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for index in range(count):
        sample = dataset.read(index)
        name = f"{index + 1:06d}.png"
        picture = Image.fromarray(sample.image)
        _write_replacing(folder / "images" / name, partial(picture.save, format="PNG"))
        height, width = sample.image.shape[:2]
        images.append({"id": index + 1, "file_name": name, "height": height, "width": width})
        for drawn in sample.annotations:
            annotations.append(_coco_record(len(annotations) + 1, index + 1, drawn))
    content = {"images": images, "categories": dataset.categories, "annotations": annotations}
    path = folder / "instances.json"
    _write_replacing(path, lambda file: file.write(json.dumps(content).encode("utf-8")))
    return path


def _coco_record(annotation_id, image_id, drawn):
    mask = drawn.mask()
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    return {"id": annotation_id, "image_id": image_id, "category_id": drawn.category_id, "iscrowd": 0,
            "area": drawn.area, "bbox": [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y],
            "segmentation": encode_mask(mask)}


def _write_replacing(path, write):
    """Write beside and rename, so that a stopped run leaves no half file under the final name."""
    beside = path.with_name(path.name + ".part")
    with open(beside, "wb") as file:
        write(file)
    os.replace(beside, path)
