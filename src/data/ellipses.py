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
"""Random ellipses in place of a set's own masks: what a mask decoder can learn before it sees objects.

A decoder that starts from random weights takes long to find where a box is, small boxes most of all: the picture tells
it next to nothing as long as its tokens cannot place themselves. An ellipse follows from its box alone, boxes of all
sizes can be drawn, and the image encoder need not learn meanwhile (`model.freeze`). The inscribed ellipse is also a
better guess at an object of which only the box is known than the filled box.
"""
import numpy as np

from src.data.records import Sample

SMALLEST_SIDE = 1.0 / 64.0  # of a box, as a share of the picture's longest side
LARGEST_SIDE = 0.95
ELLIPSE_STREAM = 3  # keeps these draws apart from those of the sample


class EllipseMask:
    """The ellipse inscribed in a box, drawn when asked for; stands beside `records.Annotation`.

    Args:
        annotation_id: number of the mask in its picture.
        box: (x0, y0, x1, y1) pixels, outer edges.
        size: (h, w) of the picture.
    """

    def __init__(self, annotation_id, box, size):
        self.annotation_id, self.category_id, self.iscrowd = annotation_id, 1, False
        self.box, self._size = box, size

    def mask(self):
        """[h, w] bool: the pixels whose middle lies inside."""
        x0, y0, x1, y1 = self.box
        height, width = self._size
        dx = (np.arange(width) + 0.5 - (x0 + x1) / 2) / ((x1 - x0) / 2)
        dy = (np.arange(height) + 0.5 - (y0 + y1) / 2) / ((y1 - y0) / 2)
        return dx[None, :] ** 2 + dy[:, None] ** 2 <= 1.0


class EllipseDataset:
    """The pictures of a set with `count` random ellipses each, the same ones whenever a picture is read.

    Sides are drawn log-uniformly between 1/64 and 0.95 of the picture's longest side and cut to the picture.

    Args:
        dataset: len(), `read(index)` -> Sample, `image_id(index)`, `skipped`.
        count: ellipses of a picture, at least 1.
        seed: integer >= 0.
    """

    def __init__(self, dataset, count, seed):
        self._dataset, self._count, self._seed = dataset, count, seed
        self.skipped = dataset.skipped

    def __len__(self):
        return len(self._dataset)

    def image_id(self, index):
        """Id of picture `index`."""
        return self._dataset.image_id(index)

    def read(self, index):
        """Sample of picture `index`; ImageError as the set raises it."""
        sample = self._dataset.read(index)
        height, width = sample.image.shape[:2]
        rng = np.random.default_rng([self._seed, index, 0, ELLIPSE_STREAM])
        longest = max(height, width)
        sides = longest * np.exp(rng.uniform(np.log(SMALLEST_SIDE), np.log(LARGEST_SIDE), (self._count, 2)))
        sides = np.minimum(sides, (width, height))
        corners = rng.uniform(size=(self._count, 2)) * ((width, height) - sides)
        masks = [EllipseMask(number, (*corner, *(corner + side)), (height, width))
                 for number, (corner, side) in enumerate(zip(corners, sides), 1)]
        return Sample(sample.image_id, sample.image, masks)
