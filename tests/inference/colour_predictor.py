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
"""A predictor without a network: the mask of a point is the region of the point's colour. Knows what it was asked. With
pictures for it, and what all tests of everything mode ask."""
import cv2
import numpy as np

from src.data.images import longest_side_size
from src.inference.everything import EverythingGenerator, EverythingSettings
from src.inference.predictor import SamPredictor

RED, GREEN, BLUE = (200, 0, 0), (0, 200, 0), (10, 0, 200)


class ColourPredictor:
    """Three masks of a point: pixels of its colour (logits +-height), its inverse and nothing.

    Predicted IoU: quality[red value] of the colour for the first, 0.1 and 0.2 for the others.
    """

    image_size = 256
    sam = None

    def __init__(self, height=20.0, quality=None):
        self.height, self.quality = height, quality or {}
        self.asked = []  # (x, y) in pixels of the image or crop, one list a batch
        self.images = 0
        self.image_embeddings = None

    def set_image(self, image):
        self.image = image
        self.images += 1
        self.original_size = image.shape[:2]
        self.input_size = longest_side_size(*image.shape[:2], self.image_size)
        self.image_embeddings = True
        self._mask_side = self.image_size // 4

    def wait(self):
        pass

    def reset_image(self):
        self.image = self.image_embeddings = self.original_size = self.input_size = None

    def predict_low_res(self, point_coords, point_labels, prompt_batch):
        assert point_labels.tolist() == [[1]] * len(point_coords) and len(point_coords) <= prompt_batch
        self.asked.append([tuple(point) for point in point_coords[:, 0].tolist()])
        masks = np.full((len(point_coords), 3, self._mask_side, self._mask_side), -self.height, np.float32)
        ious = np.tile(np.float32([0, 0.1, 0.2]), (len(point_coords), 1))
        h, w = (max(1, round(side / 4)) for side in self.input_size)
        for index, (x, y) in enumerate(self.asked[-1]):
            colour = self.image[int(y), int(x)]
            region = (self.image == colour).all(axis=-1).astype(np.float32)
            small = cv2.resize(region, (w, h), interpolation=cv2.INTER_AREA)
            masks[index, 0, :h, :w] = (2 * small - 1) * self.height
            masks[index, 1] = -masks[index, 0]
            ious[index, 0] = self.quality.get(int(colour[0]), 0.95)
        return masks, ious

    _embeddings = SamPredictor._embeddings
    upscale = SamPredictor.upscale


def scene(height=128, width=256):
    """A green square (x 32..95, y 32..95) and a blue bar (x 160..223, y 16..111) on red: edges on the low-res grid."""
    image = np.full((height, width, 3), RED, np.uint8)
    image[32:96, 32:96] = GREEN
    image[16:112, 160:224] = BLUE
    return image


def segment(image, predictor=None, **settings):
    """(records, counts, predictor) with run lengths as segmentation and 8 points a side."""
    predictor = predictor or ColourPredictor()
    settings = {"points_per_side": 8, "points_per_batch": 10, "output_mode": "coco_rle", **settings}
    records, counts = EverythingGenerator(predictor, EverythingSettings(**settings)).run(image)
    return records, counts, predictor


def rounded(width, height):
    """Pixels of a rectangle on the low-res grid, upscaled 4 times: at its corners the nearest pixel mixes (5/8)^2 of
    inside, less than half, and is lost."""
    return width * height - 4


def asked_points(predictor):
    return [point for batch in predictor.asked for point in batch]


def grid(points_per_side, width, height):
    return [((i + 0.5) / points_per_side * width, (k + 0.5) / points_per_side * height)
            for k in range(points_per_side) for i in range(points_per_side)]
