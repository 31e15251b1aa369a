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
"""The steps of everything mode's fast path (docs/everything.md), each beside the way it replaces: decoders that share
less or throw more away, run lengths of one mask after the other, suppression pair by pair. No command of its own:
tools/benchmark_everything.py runs it.
"""
import dataclasses
import statistics
import time

import mindspore as ms
import numpy as np
from mindspore import nn, ops
from pycocotools import mask as coco_mask

from src.data.images import scale_points
from src.inference.everything_decoding import FastDecoding, PlainDecoding, passing
from src.inference.everything_scoring import MaskScorer
from src.inference.mask_filters import box_nms
from src.inference.mask_records import decode_mask, encode_transposed_masks
from src.prompts.grids import point_grid
from src.prompts.labels import EMPTY, FOREGROUND, NOT_A_POINT

MASKS_IN_A_CALL = 64
STEPS = ("first layer shared", "tokens first", "only passing prompts upscaled", "unstable dropped at a quarter",
         "run lengths in one call", "suppression of one against all")  # the rows of docs/everything.md


class UnsharedDecoder(nn.Cell):
    """The mask decoder as published: the image is repeated for each prompt before the first layer."""

    def __init__(self, sam):
        super().__init__(auto_prefix=False)
        self.prompt_encoder = sam.prompt_encoder
        self.mask_decoder = sam.mask_decoder

    def construct(self, image_embeddings, point_coords, point_labels):
        sparse, dense = self.prompt_encoder(point_coords, point_labels)
        dense = ops.broadcast_to(dense, (1, point_coords.shape[1]) + image_embeddings.shape[1:])
        return self.mask_decoder(image_embeddings, self.prompt_encoder.image_pe(), sparse, dense, point_labels)


class UnsharedDecoding:
    """Every mask of every point through an `UnsharedDecoder`; `decode` as in src/inference/everything_decoding.py."""

    def __init__(self, predictor, points_per_batch):
        self._predictor, self._batch = predictor, points_per_batch
        self._decoder = UnsharedDecoder(predictor.sam).set_train(False)

    def warm_up(self):
        self.decode(np.zeros((1, 2)), 0)

    def decode(self, points, pred_iou_thresh):
        predictor, count = self._predictor, len(points)
        coords = np.zeros((1, self._batch, 2, 2), np.float32)
        coords[0, :count, 0] = scale_points(points, predictor.original_size, predictor.input_size)
        labels = np.full((1, self._batch, 2), EMPTY, np.int32)
        labels[0, :count] = FOREGROUND, NOT_A_POINT
        outputs = self._decoder(predictor.image_embeddings, ms.Tensor(coords), ms.Tensor(labels))
        low_res_masks, iou_predictions = (values.asnumpy()[0, :count, 1:] for values in outputs[:2])
        prompts, masks = passing(iou_predictions, pred_iou_thresh)
        return prompts, low_res_masks[prompts, masks], iou_predictions[prompts, masks]


class AllMasksDecoding(FastDecoding):
    """`FastDecoding` that upscales the masks of all prompts and discards afterwards."""

    def decode(self, points, pred_iou_thresh):
        _, low_res_masks, predicted_iou = super().decode(points, 0)
        prompts, masks = passing(predicted_iou.reshape(-1, 3), pred_iou_thresh)
        return prompts, low_res_masks[3 * prompts + masks], predicted_iou[3 * prompts + masks]


def time_in_turn(variants, repeats):
    """([median seconds of each variant], [its result]) of functions without arguments, called in turn."""
    seconds, results = [[] for _ in variants], [None] * len(variants)
    for _ in range(repeats):
        for index, variant in enumerate(variants):
            start = time.perf_counter()
            results[index] = variant()
            seconds[index].append(time.perf_counter() - start)
    return [statistics.median(times) for times in seconds], results


def decoder_steps(decodings, predictor, settings, image, repeats):
    """Seconds of each decoding, differences of each from the one before, what the last one decoded, in batches, and all
    points [N, 2] of the picture."""
    predictor.set_image(image)
    predictor.wait()
    points = point_grid(settings.points_per_side) * image.shape[1::-1]
    batches = [points[first:first + settings.points_per_batch]
               for first in range(0, len(points), settings.points_per_batch)]
    seconds, results = time_in_turn(
        [lambda decoding=decoding: [decoding.decode(batch, settings.pred_iou_thresh) for batch in batches]
         for decoding in decodings], repeats)
    differences = [max(map(_decoding_difference, *pair)) for pair in zip(results, results[1:])]
    return seconds, differences, [(batch[prompts], masks, ious)
                                  for batch, (prompts, masks, ious) in zip(batches, results[-1])], points


def _decoding_difference(expected, found):
    """Largest difference of logits as a share of the largest logit; inf where other masks passed the threshold."""
    (prompts, masks, ious), (found_prompts, found_masks, found_ious) = expected, found
    if len(ious) != len(found_ious) or not np.array_equal(prompts, found_prompts):
        return float("inf")
    if not len(ious):
        return 0.0
    return float(max(np.abs(masks - found_masks).max() / np.abs(masks).max(), np.abs(ious - found_ious).max()))


def score_steps(predictor, settings, image, points, decoded, repeats):
    """Seconds and results of scoring with every mask at the image's size, and with the bound."""
    height, width = image.shape[:2]

    def score(fast):
        scorer = MaskScorer(dataclasses.replace(settings, fast=fast), predictor, (0, 0, width, height),
                            (height, width), points)
        return [candidate for batch in decoded for candidate in scorer.score(*batch, mark_confident=False)]

    return time_in_turn([lambda: score(False), lambda: score(True)], repeats)


def length_steps(candidates, repeats):
    """Seconds and results of encoding the masks one at a time, and together."""
    masks = [decode_mask(candidate.rle) for candidate in candidates[:MASKS_IN_A_CALL]]
    columns = [np.ascontiguousarray(mask.T).view(np.uint8) for mask in masks]
    return time_in_turn([lambda: [lengths_of_one(mask) for mask in columns],
                         lambda: encode_transposed_masks(np.stack(columns)) if columns else []], repeats)


def lengths_of_one(mask):
    """Compressed run lengths of a transposed mask [W, H] by way of a list of its runs."""
    pixels = mask.ravel()
    borders = np.flatnonzero(np.diff(pixels, prepend=np.uint8(0)))
    counts = np.diff(borders, prepend=0, append=len(pixels)).tolist()
    rle = coco_mask.frPyObjects({"size": list(mask.shape[::-1]), "counts": counts}, *mask.shape[::-1])
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def box_steps(candidates, threshold, repeats):
    """Seconds and kept places of suppression pair by pair, and of one box against all others."""
    boxes, scores = [candidate.box for candidate in candidates], [candidate.predicted_iou for candidate in candidates]
    return time_in_turn([lambda: pairwise_nms(boxes, scores, threshold),
                         lambda: box_nms(boxes, scores, threshold).tolist()], repeats)


def pairwise_nms(boxes, scores, threshold):
    """Places of the kept boxes by falling score, two boxes at a time."""
    kept = []
    for index in np.argsort(-np.asarray(scores, np.float32), kind="stable").tolist():
        x0, y0, x1, y1 = map(np.float32, boxes[index])
        for other in kept:
            a0, b0, a1, b1 = map(np.float32, boxes[other])
            overlap = max(min(x1, a1) - max(x0, a0), 0) * max(min(y1, b1) - max(y0, b0), 0)
            both = (a1 - a0) * (b1 - b0) + (x1 - x0) * (y1 - y0) - overlap
            if both > 0 and float(overlap / both) > threshold:
                break
        else:
            kept.append(index)
    return kept


def run_steps(predictor, settings, pictures, repeats):
    """What each step of the fast path saves on the pictures.

    Returns:
        ([{"step", "plain_seconds", "fast_seconds", "saved", "same_masks", "largest_difference"}] in the order of STEPS,
        {"nothing_shared_seconds", "fast_seconds", "share"} of the decoder). Seconds are means over the pictures; saved
        is a share of the plain way's; no difference where other masks were kept.
    """
    decodings = [kind(predictor, settings.points_per_batch)
                 for kind in (UnsharedDecoding, PlainDecoding, AllMasksDecoding, FastDecoding)]
    predictor.set_image(pictures[0][1])
    for decoding in decodings:
        decoding.warm_up()
    measured, whole = [], []
    for _, image in pictures:
        seconds, differences, decoded, points = decoder_steps(decodings, predictor, settings, image, repeats)
        whole.append((seconds[0], seconds[-1]))
        rows = list(zip(seconds, seconds[1:], differences))
        scored, found = score_steps(predictor, settings, image, points, decoded, repeats)
        for times, results in ((scored, found), length_steps(found[1], repeats),
                               box_steps(found[1], settings.box_nms_thresh, repeats)):
            rows.append((*times, 0.0 if results[0] == results[1] else float("inf")))
        measured.append(rows)
    predictor.reset_image()
    unshared, fast = np.mean(whole, axis=0).tolist()
    return ([step_costs(name, rows) for name, rows in zip(STEPS, zip(*measured))],
            {"nothing_shared_seconds": unshared, "fast_seconds": fast, "share": fast / unshared})


def step_costs(name, rows):
    """What `run_steps` says of a step; rows: (plain seconds, fast seconds, difference) of each picture."""
    plain, fast = (statistics.mean(row[place] for row in rows) for place in (0, 1))
    difference = max(row[2] for row in rows)
    return {"step": name, "plain_seconds": plain, "fast_seconds": fast, "saved": 1 - fast / plain if plain else 0.0,
            "same_masks": difference < float("inf"),
            "largest_difference": difference if difference < float("inf") else None}


def step_table(steps, decoder):
    """Lines of the table of steps, and of the decoder that shares nothing beside the fast path."""
    lines = [f"{'step':<32}{'plain s':>10}{'fast s':>10}{'saved':>8}  results"]
    for step in steps:
        same = "equal" if step["largest_difference"] == 0 else "other masks"
        if step["same_masks"] and step["largest_difference"]:
            same = f"within {step['largest_difference']:.1g}"
        lines.append(f"{step['step']:<32}{step['plain_seconds']:>10.4f}{step['fast_seconds']:>10.4f}"
                     f"{step['saved']:>8.1%}  {same}")
    return [*lines, f"decoder: {decoder['nothing_shared_seconds']:.4f} s with nothing shared, "
                    f"{decoder['fast_seconds']:.4f} s on the fast path, {decoder['share']:.1%} of it"]
