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
"""One picture with its masks and first prompts as a training sample (docs/design.md, "Batches"): everything drawn in
it follows from numpy.random.default_rng([seed, epoch, index]) alone.
"""
from dataclasses import dataclass
from typing import Optional, Tuple

import numpy as np

from src.data.ellipses import draw_ellipse
from src.data.embedding_cache import EmbeddingCache
from src.data.images import ImageError
from src.data.paste import paste_objects
from src.data.records import SegmentationError, SkipLog
from src.data.transforms import MASK_STRIDE, draw_geometry
from src.prompts.from_masks import MAX_BOX_NOISE, assemble_prompt, box_of_mask, jitter_box, sample_click

SAM_IMAGE_SIZE = 1024  # the frame that MAX_BOX_NOISE is stated in


@dataclass(frozen=True)
class SampleMaker:
    """Turns a picture of a data set into one sample of a batch. Lives in the worker processes."""

    dataset: object
    image_size: int
    prompts_per_image: int
    slots: int
    box_share: float
    box_jitter: float
    flip_probability: float
    scale_jitter: Tuple[float, float]
    seed: int
    min_mask_pixels: int
    repeat_masks: bool = False
    embedding_cache: Optional[EmbeddingCache] = None
    ellipses: int = 0
    pasted_objects: int = 0

    def batch(self, epoch, indices):
        """(samples `indices` of an epoch, SkipLog)."""
        skipped = SkipLog()
        return [self.sample(epoch, index, skipped) for index in indices], skipped

    def sample(self, epoch, index, skipped):
        """Sample `index` of an epoch, or of the next usable picture when that one is not; ValueError if none is."""
        for step in range(len(self.dataset)):
            # A fresh generator each time: the replacement does not depend on how far the unusable one got.
            rng = np.random.default_rng([self.seed, epoch, index])
            sample = self._try(rng, (index + step) % len(self.dataset), skipped)
            if sample is not None:
                return sample
        raise ValueError(f"no usable image among the {len(self.dataset)} of the data set; {skipped}")

    def _try(self, rng, index, skipped):
        try:
            record = self.dataset.read(index)
        except (ImageError, SegmentationError) as error:
            skipped.add("unreadable images", error)
            return None
        if self.embedding_cache and self.embedding_cache.lacks(record.image_id):
            skipped.add("images without a teacher embedding", f"image {record.image_id}")
            return None
        if self.pasted_objects:
            record = self._paste(rng, record)
        geometry = draw_geometry(rng, record.image.shape[:2], self.image_size, self.scale_jitter, self.flip_probability)
        count, grid = self.prompts_per_image, self.image_size // MASK_STRIDE
        own = count - self.ellipses
        sample = {
            "images": geometry.image(record.image),  # bytes travel between processes, `collate` makes floats of them
            "gt_masks": np.zeros((count, grid, grid), np.uint8),
            "point_coords": np.zeros((count, self.slots, 2), np.float32),
            "point_labels": np.tile(assemble_prompt(self.slots)[1], (count, 1)),
            "mask_valid": np.zeros(count, np.float32),
            "image_ids": np.int64(record.image_id),
        }
        usable = []
        for position in rng.permutation(len(record.annotations)):
            if len(usable) == own:
                break
            masks = self._masks(record, record.annotations[position], geometry, skipped)
            if masks is not None:
                usable.append(masks)
        if own and not usable:
            skipped.add("images without a usable mask", f"image {record.image_id}")
            return None
        for row in range(own if self.repeat_masks else len(usable)):
            masks = usable[row % len(usable)]
            sample["gt_masks"][row] = masks[1]
            sample["point_coords"][row], sample["point_labels"][row] = self._prompt(rng, geometry, *masks)
            sample["mask_valid"][row] = 1
        for row in range(own, count):
            box, sample["gt_masks"][row] = draw_ellipse(rng, geometry.content_size, grid, MASK_STRIDE)
            sample["point_coords"][row], sample["point_labels"][row] = assemble_prompt(self.slots, box=box)
            sample["mask_valid"][row] = 1
        if self.embedding_cache:
            sample["teacher_embeddings"] = self.embedding_cache.read(record.image_id, geometry.flip, sample["images"])
        return sample

    def _paste(self, rng, record):
        """The record with objects of another picture; alone where that one cannot be read: its own turn counts it."""
        try:
            donor = self.dataset.read(int(rng.integers(len(self.dataset))))
        except (ImageError, SegmentationError):
            return record
        return paste_objects(rng, record, donor, self.pasted_objects)

    def _masks(self, record, annotation, geometry, skipped):
        """(mask in the original frame, mask on the grid), or None where it is broken, too small or out of sight."""
        try:
            mask = annotation.mask()
        except SegmentationError as error:
            skipped.add("broken masks", f"image {record.image_id}, {error}")
            return None
        if np.count_nonzero(mask) < self.min_mask_pixels:
            skipped.add(f"masks below {self.min_mask_pixels} pixels")
            return None
        on_grid = geometry.mask(mask)
        if not on_grid.any():  # too thin for the grid, or cut off
            skipped.add("masks out of sight after resizing and cutting")
            return None
        return mask, on_grid

    def _prompt(self, rng, geometry, mask, on_grid):
        if rng.random() < self.box_share:
            box = geometry.box(box_of_mask(geometry.visible(mask)))
            max_noise = MAX_BOX_NOISE * self.image_size / SAM_IMAGE_SIZE
            noisy = jitter_box(box, rng, self.box_jitter, geometry.content_size, max_noise)
            return assemble_prompt(self.slots, box=noisy)
        return assemble_prompt(self.slots, click=sample_click(on_grid, rng, MASK_STRIDE))
