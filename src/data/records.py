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
"""What every data set hands out: a picture with annotations whose masks are decoded when asked for, and a log of what
was left out.

Masks follow the COCO format: polygons, uncompressed or compressed run lengths (column order, background first). Run
lengths are decoded here, because the usual decoder turns a damaged string into a wrong mask without a word.
"""
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Optional, Sequence, Tuple

import numpy as np
from pycocotools import mask as coco_mask

MIN_VISIBLE_SHARE = 0.3  # of a mask that others cover in part; less is not an object any more


class SegmentationError(ValueError):
    """A segmentation that does not describe a mask of its picture; the message is one line."""


@dataclass(frozen=True)
class Annotation:
    """One mask of a picture, not decoded yet.

    segmentation is COCO's (polygons or run lengths), size the picture's (h, w); box is (x0, y0, x1, y1) in pixels of
    the picture or None, area in pixels or None, both as the file states them.
    """

    annotation_id: int
    category_id: int
    segmentation: Any
    size: Tuple[int, int]
    box: Optional[Tuple[float, float, float, float]] = None
    area: Optional[float] = None
    iscrowd: bool = False

    def mask(self):
        """[h, w] bool. Raises SegmentationError."""
        try:
            return decode_segmentation(self.segmentation, self.size)
        except SegmentationError as error:
            raise SegmentationError(f"annotation {self.annotation_id}: {error}") from None


class DrawnMask:
    """A mask that is already an array; stands beside `Annotation`."""

    def __init__(self, annotation_id, category_id, mask):
        self.annotation_id, self.category_id, self.iscrowd = annotation_id, category_id, False
        self.area, self._mask = int(np.count_nonzero(mask)), mask

    def mask(self):
        """[H, W] bool."""
        return self._mask


@dataclass(frozen=True)
class Sample:
    """A picture [H, W, 3] uint8 RGB with its annotations; each has `mask()` -> [H, W] bool."""

    image_id: int
    image: np.ndarray
    annotations: Sequence


@dataclass
class SkipLog:
    """Counts what was left out, by reason, and keeps the first example of each."""

    counts: Counter = field(default_factory=Counter)
    examples: dict = field(default_factory=dict)

    def add(self, reason, example="", count=1):
        """Count `count` things left out for `reason`."""
        self.counts[reason] += count
        self.examples.setdefault(reason, str(example))

    def merge(self, other):
        """Add another log's counts to this one."""
        self.counts.update(other.counts)
        for reason, example in other.examples.items():
            self.examples.setdefault(reason, example)

    def __len__(self):
        return sum(self.counts.values())

    def __str__(self):
        """One line: "skipped 3: 2 unreadable images (first: a.jpg: no such image file); 1 ..."."""
        if not self.counts:
            return "skipped nothing"
        parts = [f"{count} {reason}" + (f" (first: {self.examples[reason]})" if self.examples[reason] else "")
                 for reason, count in self.counts.most_common()]
        return f"skipped {len(self)}: " + "; ".join(parts)


def decode_segmentation(segmentation, size):
    """Decode a COCO segmentation.

    Args:
        segmentation: a list of polygons [x0, y0, x1, y1, ...], or {"size": [h, w], "counts": list or string}.
        size: (h, w) of the picture.

    Returns:
        [h, w] bool, in column order like COCO's run lengths.

    Raises:
        SegmentationError: another kind of value, a size that is not the picture's, run lengths that are damaged or do
            not add up to h * w, a polygon of fewer than three corners, or with a coordinate that is no number or lies
            far outside.
    """
    if isinstance(segmentation, dict):
        return _decode_rle(segmentation, size)
    if isinstance(segmentation, list) and segmentation:
        return _decode_polygons(segmentation, size)
    raise SegmentationError(f"segmentation is {_short(segmentation)}, neither polygons nor run lengths")


def _decode_rle(rle, size):
    height, width = size
    stated = rle.get("size")
    if not isinstance(stated, (list, tuple)) or [*stated] != [height, width]:
        raise SegmentationError(f"run lengths of size {_short(stated)}, the image is [{height}, {width}]")
    counts = rle.get("counts")
    if isinstance(counts, (str, bytes)):
        counts = _runs_of_string(counts)
    elif isinstance(counts, list) and all(type(count) is int for count in counts):
        counts = np.array(counts, np.object_)  # Python integers: no overflow, whatever the file holds
    else:
        raise SegmentationError(f"counts are {_short(counts)}, neither a string nor a list of integers")
    if (counts < 0).any():
        raise SegmentationError("broken run lengths: a negative run")
    if int(counts.sum()) != height * width:
        raise SegmentationError(f"broken run lengths: they add up to {counts.sum()} of {height * width} pixels")
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts.astype(np.int64)).reshape(width, height).T


def _runs_of_string(text):
    """Run lengths of COCO's compressed string: characters 48..111 hold five bits each, low ones first, and a
    "more" bit; from the fourth number on it is the difference to the number two before."""
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    codes = np.frombuffer(raw, np.uint8).astype(np.int64) - 48
    if codes.size == 0 or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise SegmentationError(f"broken run lengths: {_short(text)} is empty, cut off, or holds foreign characters")
    ends = np.flatnonzero(codes & 32 == 0)
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > 12:
        raise SegmentationError("broken run lengths: a number of more than 60 bits")
    place = np.arange(codes.size) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((codes & 31) << (5 * place), starts)
    numbers -= (codes[ends] & 16 != 0) * (np.int64(1) << (5 * lengths))  # sign bit of the last five
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


def _decode_polygons(polygons, size):
    height, width = size
    checked = []
    for polygon in polygons:
        try:
            corners = np.asarray(polygon, np.float64)
        except (TypeError, ValueError, OverflowError):
            corners = np.zeros(0)
        if corners.ndim != 1 or corners.size < 6 or corners.size % 2:
            raise SegmentationError(f"polygon {_short(polygon)} is not a list of at least three x, y pairs")
        # Also keeps the rasteriser's memory in bounds: it walks every pixel of the outline.
        if not np.isfinite(corners).all() or np.abs(corners).max() > 4 * max(size):
            raise SegmentationError(f"polygon {_short(polygon)} leaves the image of {height} x {width} pixels by far")
        checked.append(corners.tolist())
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(checked, height, width))).astype(bool)


def encode_mask(mask):
    """COCO's compressed run lengths {"size": [h, w], "counts": str} of a [h, w] mask."""
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def _short(value):
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
