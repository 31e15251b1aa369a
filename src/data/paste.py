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
"""Objects of one picture on another, with their masks (copy-paste: arXiv 2012.07177): more objects a picture, of all
sizes, whose outlines can be seen. There the other picture keeps its layout, here each object gets a size and a place of
its own. NumPy and OpenCV; the random state is passed in.
"""
import itertools

import cv2
import numpy as np

from src.data.records import MIN_VISIBLE_SHARE, DrawnMask, Sample, SegmentationError
from src.prompts.from_masks import box_of_mask

SMALLEST_SIDE, LARGEST_SIDE = 1.0 / 40.0, 0.5  # of a pasted object, as a share of the picture's longest side
LARGEST_FACTOR = 1.5  # objects are not enlarged beyond it: they would be blurred
FEWEST_PIXELS = 64  # of an object that is worth copying


def paste_objects(rng, sample, donor, count):
    """Paste objects of `donor` into `sample`, each flipped or not, resized (its longest side log-uniform) and placed
    anywhere inside. Later ones cover earlier ones, and all cover what was there.

    Args:
        rng: numpy Generator; what is drawn from it depends on `donor` and `count` alone.
        sample: Sample that receives; it is left as it is.
        donor: Sample that gives; its objects are taken in random order, and again from the first until `count` are
            pasted.
        count: objects, at least 0. Broken masks and those of fewer than 64 pixels give none.

    Returns:
        Sample with a new picture. Its annotations are those of `sample` as far as 0.3 of each can still be seen, broken
        ones unchanged, then the pasted ones likewise.
    """
    image, size = sample.image.copy(), sample.image.shape[:2]
    order = rng.permutation(len(donor.annotations))
    objects = [_cut_out(donor.image, donor.annotations[position]) for position in order[:count]]
    pasted = []
    for cutout, (side, flip, down, across) in zip(itertools.cycle(objects), rng.random((count, 4))):
        if cutout is None:
            continue
        longest = SMALLEST_SIDE * np.exp(side * np.log(LARGEST_SIDE / SMALLEST_SIDE)) * max(size)
        category, *layer = cutout
        pixels, cover = (array[:, ::-1] if flip < 0.5 else array for array in _resize(layer, longest, size))
        top, left = (int(draw * (free - own + 1)) for draw, free, own in zip((down, across), size, cover.shape))
        window = (slice(top, top + cover.shape[0]), slice(left, left + cover.shape[1]))
        behind = image[window].astype(np.float32)
        image[window] = np.rint(behind + cover[:, :, None] * (pixels - behind))
        mask = np.zeros(size, bool)
        mask[window] = cover >= 0.5
        pasted.append((category, mask))
    return Sample(sample.image_id, image, _still_seen(sample.annotations, pasted, size))


def _cut_out(image, annotation):
    """(category, pixels [h, w, 3] float32, cover [h, w] float32 0/1) of an object in its box, or None."""
    try:
        mask = annotation.mask()
    except SegmentationError:
        return None
    if np.count_nonzero(mask) < FEWEST_PIXELS:
        return None
    left, top, right, bottom = box_of_mask(mask).astype(int)
    box = slice(top, bottom), slice(left, right)
    return annotation.category_id, image[box].astype(np.float32), mask[box].astype(np.float32)


def _resize(layer, longest, size):
    """(pixels, cover) of an object at `longest` pixels, or what LARGEST_FACTOR and the picture's size (h, w) allow."""
    shape = layer[1].shape
    factor = min(longest / max(shape), LARGEST_FACTOR, *(limit / side for limit, side in zip(size, shape)))
    height, width = (max(1, int(side * factor)) for side in shape)
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return [cv2.resize(array, (width, height), interpolation=how) for array in layer]


def _still_seen(annotations, pasted, size):
    """The annotations without what the pasted (category, mask) cover, and theirs."""
    seen, covered = [], np.zeros(size, bool)
    for category, mask in reversed(pasted):
        _keep(seen, category, mask, covered)
        covered |= mask
    seen.reverse()
    kept = []
    for annotation in annotations:
        try:
            mask = annotation.mask()
        except SegmentationError:
            kept.append(annotation)  # whoever reads it reports it
            continue
        _keep(kept, annotation.category_id, mask, covered)
    return kept + seen


def _keep(kept, category, mask, covered):
    visible = mask & ~covered
    if np.count_nonzero(visible) >= max(1, MIN_VISIBLE_SHARE * np.count_nonzero(mask)):
        kept.append(DrawnMask(len(kept), category, visible))
