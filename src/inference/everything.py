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
"""Everything mode: masks of a whole image from a grid of points.

Sources: SAM's automatic mask generator (arXiv 2304.02643, section 5 and appendix B) and TinySAM's hierarchical strategy
(arXiv 2312.13789, section 3.3). Both are one path with two plans of points: the full grid asks for all points in one
round; the hierarchical plan asks for a coarse part of the same grid, marks as confident what lies in a kept mask with
logits above `high_score_thresh`, and then asks for the remaining points outside. What surprises: masks exist as run
lengths; at most 64 MiB of them, or one, are ever held at the size of the image.
"""
import time
from typing import NamedTuple, Optional

import numpy as np

from src.inference.everything_decoding import FastDecoding, PlainDecoding
from src.inference.everything_scoring import MaskScorer, last_pixel_boxes, without_duplicates
from src.inference.everything_settings import EverythingSettings
from src.inference.mask_filters import remove_small_regions
from src.inference.mask_records import decode_mask, encode_masks, rle_areas, uncompressed_rle
from src.modeling.token_first import can_decode_tokens_first
from src.prompts.grids import coarse_points, crop_boxes, point_grid, points_of_layer


class Counts(NamedTuple):
    """What one image took: points decoded, batches of points, masks above the predicted IoU, masks upscaled to the
    image's size; seconds: of the image encoder, of the mask decoder, and in all. For the choice of high_score_thresh:
    points of the grids, decoded or not, and the median over the masks returned of their largest logits (None: none)."""

    points: int
    decoder_calls: int
    candidates: int
    full_size_masks: int
    encoder_seconds: float
    decoder_seconds: float
    seconds: float
    grid_points: int
    largest_logit: Optional[float]


class EverythingGenerator:
    """Segments everything on one image after the other; keeps nothing of an image.

    Args:
        predictor: a `SamPredictor`; its own image is forgotten.
        settings: `EverythingSettings`. `fast` needs a network as `build_sam` makes it; others are decoded plainly.
    """

    def __init__(self, predictor, settings=None):
        self.predictor = predictor
        self.settings = EverythingSettings() if settings is None else settings
        network = getattr(predictor, "sam", None)  # an exported graph has none
        fast = self.settings.fast and network is not None and can_decode_tokens_first(network)
        self._decoding = (FastDecoding if fast else PlainDecoding)(predictor, self.settings.points_per_batch)

    def warm_up(self, image):
        """Compile or load all that a run on any image may need, so that later seconds are of work alone.

        Args:
            image: [H, W, 3] uint8 RGB, any.
        """
        self.predictor.set_image(image)
        try:
            self.predictor.wait()
            self._decoding.warm_up()
        finally:
            self.predictor.reset_image()

    def generate(self, image, on_progress=None):
        """Records of SAM's generator, those of `run`."""
        return self.run(image, on_progress)[0]

    def run(self, image, on_progress=None):
        """Segment everything on an image.

        Args:
            image: [H, W, 3] uint8 RGB.
            on_progress: called with (points done or skipped, points in all) after every batch, or None.

        Returns:
            (records, Counts). A record holds segmentation (in the form of output_mode), area (pixels), bbox
            [x, y, width, height] (SAM's: to the last column and row), predicted_iou, point_coords [[x, y]],
            stability_score, crop_box [x, y, width, height]; order as SAM's.

        Raises:
            ValueError: not an [H, W, 3] uint8 image.
        """
        return _Run(self.predictor, self._decoding, self.settings, image, on_progress).run()


class _Run:
    """The work on one image; everything that must not outlive it."""

    def __init__(self, predictor, decoding, settings, image, on_progress):
        self.predictor, self.decoding, self.settings = predictor, decoding, settings
        self.image = np.asarray(image)
        self.on_progress = on_progress
        self.points = self.decoder_calls = self.candidates = self.full_size_masks = 0
        self.encoder_seconds = self.decoder_seconds = 0.0
        self.done = self.total = 0

    def run(self):
        start, settings = time.perf_counter(), self.settings
        if self.image.ndim != 3 or 0 in self.image.shape:
            raise ValueError(f"image must be [H, W, 3] uint8, got {list(self.image.shape)} {self.image.dtype}")
        crops = crop_boxes(self.image.shape[:2], settings.crop_n_layers, settings.crop_overlap_ratio)
        grids = [point_grid(points_of_layer(settings.points_per_side, layer, settings.crop_n_points_downscale_factor))
                 for layer in range(settings.crop_n_layers + 1)]
        self.total = sum(len(grids[layer]) for _, layer in crops)
        kept = []
        try:
            for crop_box, layer in crops:
                kept += self._crop(crop_box, grids[layer])
        finally:
            self.predictor.reset_image()
        if len(crops) > 1:  # masks of small crops are finer
            areas = np.array([(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (mask.crop_box for mask in kept)], np.float32)
            kept = without_duplicates(kept, 1 / areas, settings.crop_nms_thresh)
        if settings.min_mask_region_area > 0:
            kept = self._without_small_regions(kept)
        records = self._records(kept)
        seconds = time.perf_counter() - start
        largest_logit = float(np.median([mask.largest_logit for mask in kept])) if kept else None
        return records, Counts(self.points, self.decoder_calls, self.candidates, self.full_size_masks,
                               self.encoder_seconds, self.decoder_seconds, seconds, self.total, largest_logit)

    def _crop(self, crop_box, grid):
        """Candidates of one crop without duplicates: all rounds of the point plan."""
        settings, predictor = self.settings, self.predictor
        x0, y0, x1, y1 = crop_box
        start = time.perf_counter()
        predictor.set_image(self.image[y0:y1, x0:x1])
        predictor.wait()
        self.encoder_seconds += time.perf_counter() - start
        points = grid * (x1 - x0, y1 - y0)
        scorer = MaskScorer(settings, predictor, crop_box, self.image.shape[:2], points)
        rounds = [np.ones(len(points), bool)]
        if settings.hierarchical:
            side = round(len(points) ** 0.5)
            rounds.insert(0, coarse_points(side, settings.coarse_ratio))
        asked = np.zeros(len(points), bool)
        kept = []
        for index, wanted in enumerate(rounds):
            places = np.flatnonzero(wanted & ~asked & ~scorer.confident)
            asked[places] = True
            for first in range(0, len(places), settings.points_per_batch):
                part = places[first:first + settings.points_per_batch]
                kept += self._batch(points[part], scorer, mark_confident=index + 1 < len(rounds))
                self._advance(len(part))
        self._advance(np.count_nonzero(~asked))
        self.full_size_masks += scorer.full_size_masks
        return without_duplicates(kept, [mask.predicted_iou for mask in kept], settings.box_nms_thresh)

    def _batch(self, points, scorer, mark_confident):
        """Candidates of at most points_per_batch points of the crop."""
        start = time.perf_counter()
        prompts, low_res_masks, predicted_iou = self.decoding.decode(points, self.settings.pred_iou_thresh)
        self.decoder_seconds += time.perf_counter() - start
        self.points += len(points)
        self.decoder_calls += 1
        self.candidates += len(prompts)
        return scorer.score(points[prompts], low_res_masks, predicted_iou, mark_confident)

    def _advance(self, count):
        self.done += int(count)
        if self.on_progress is not None and count:
            self.on_progress(self.done, self.total)

    def _without_small_regions(self, kept):
        """Holes filled and islands dropped, one mask at a time; of new duplicates the untouched mask stays."""
        settings, cleaned, untouched = self.settings, [], []
        for candidate in kept:
            mask, changed = remove_small_regions(decode_mask(candidate.rle), settings.min_mask_region_area)
            if changed:
                rles = encode_masks(mask[None])
                candidate = candidate._replace(rle=rles[0], box=last_pixel_boxes(rles)[0])
            cleaned.append(candidate)
            untouched.append(float(not changed))
        return without_duplicates(cleaned, untouched, max(settings.box_nms_thresh, settings.crop_nms_thresh))

    def _records(self, kept):
        convert = {"binary_mask": decode_mask, "uncompressed_rle": uncompressed_rle, "coco_rle": dict}
        segmentation = convert[self.settings.output_mode]
        areas = rle_areas([mask.rle for mask in kept])
        return [{"segmentation": segmentation(mask.rle), "area": area, "bbox": _xywh(mask.box),
                 "predicted_iou": mask.predicted_iou, "point_coords": [list(mask.point)],
                 "stability_score": mask.stability_score, "crop_box": _xywh(mask.crop_box)}
                for mask, area in zip(kept, areas)]


def _xywh(box):
    x0, y0, x1, y1 = box
    return [x0, y0, x1 - x0, y1 - y0]
