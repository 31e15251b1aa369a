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
"""What segment everything costs on given pictures: three modes in turn, and what each step of the fast path saves.

    python tools/benchmark_everything.py --checkpoint output/train/student.ckpt --images photos/ --limit 5
    python tools/benchmark_everything.py --checkpoint nano.ckpt --images photo.jpg --repeats 5 --output b.json \
        --everything.pred_iou_thresh=0.6 --everything.stability_score_thresh=0.8

Modes: full_plain, full and hierarchical, those of `eval.py --protocol everything`, one after the other on each picture,
each round in another order. A time is the median of the rounds, averaged over the pictures; the first run of each mode
compiles and is not counted. Masks of `full` are compared with those of `full_plain` one to one.

Steps, on all points of each picture, each beside the way it replaces and with its results compared:

    decoder: every prompt projects the image anew, as published -> the first layer's keys and values shared -> tokens
             first, all masks upscaled -> only prompts with a mask above pred_iou_thresh
    scores:  every such mask brought to the image's size -> those only that a bound at low resolution leaves
    lengths: run lengths of one mask after the other -> of many in one call
    boxes:   non-maximum suppression pair by pair -> one box against all others

More settings as everywhere: --everything.NAME=VALUE, --runtime.threads=1. Networks that are not trained long predict
low IoUs: lower pred_iou_thresh and stability_score_thresh until masks remain, or there is nothing to compare.
"""
import argparse
import dataclasses
import itertools
import shlex
import statistics
import sys
import time
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import nn, ops
from pycocotools import mask as coco_mask

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from src.config import load_config  # noqa: E402
from src.data.images import scale_points  # noqa: E402
from src.evaluation.protocols import MODES  # noqa: E402
from src.inference.everything import EverythingGenerator, EverythingSettings  # noqa: E402
from src.inference.everything_decoding import FastDecoding, PlainDecoding, passing  # noqa: E402
from src.inference.everything_files import read_pictures  # noqa: E402
from src.inference.everything_scoring import MaskScorer  # noqa: E402
from src.inference.mask_filters import box_nms  # noqa: E402
from src.inference.mask_records import decode_mask, encode_transposed_masks, write_json  # noqa: E402
from src.inference.predictor import load_predictor  # noqa: E402
from src.modeling.token_first import can_decode_tokens_first  # noqa: E402
from src.prompts.grids import point_grid  # noqa: E402
from src.prompts.labels import EMPTY, FOREGROUND, NOT_A_POINT  # noqa: E402
from src.runtime import init_runtime, versions  # noqa: E402

PLAIN, FAST, HIERARCHICAL = "full_plain", "full", "hierarchical"
PHASES = ("encoder_seconds", "decoder_seconds", "seconds")
MASKS_IN_A_CALL = 64


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


def run_modes(generators, pictures, repeats):
    """{mode: {picture: {"counts": one per round, "records"}}}, modes in turn."""
    names = list(generators)
    runs = {mode: {} for mode in names}
    for generator in generators.values():
        generator.run(pictures[0][1])
    for repeat in range(repeats):
        for name, image in pictures:
            for place in range(len(names)):
                mode = names[(repeat + place) % len(names)]
                records, counts = generators[mode].run(image)
                runs[mode].setdefault(name, {"counts": []})["counts"].append(counts)
                runs[mode][name]["records"] = records
    return runs


def mode_costs(runs):
    """Means over the pictures of what a mode took: seconds (medians of the rounds), points, calls and masks."""
    pictures = list(runs.values())
    costs = {phase: statistics.mean(statistics.median(getattr(counts, phase) for counts in picture["counts"])
                                    for picture in pictures) for phase in PHASES}
    for field in ("points", "decoder_calls", "candidates", "full_size_masks"):
        costs[field] = statistics.mean(getattr(picture["counts"][0], field) for picture in pictures)
    costs["masks"] = statistics.mean(len(picture["records"]) for picture in pictures)
    return costs


def compare_records(records, others):
    """How far two lists of records are apart, mask by mask in their order."""
    pairs = list(zip(records, others))
    ious = [_iou(one["segmentation"], other["segmentation"]) for one, other in pairs]
    return {"masks": [len(records), len(others)], "least_iou": min(ious, default=None),
            "same_points": all(one["point_coords"] == other["point_coords"] for one, other in pairs),
            **{f"largest_difference_{field}": max((abs(one[field] - other[field]) for one, other in pairs), default=0.0)
               for field in ("predicted_iou", "stability_score")}}


def _iou(one, other):
    return float(coco_mask.iou([one], [other], [0])[0, 0]) if coco_mask.area(one) or coco_mask.area(other) else 1.0


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
    """Seconds of each decoding, their largest differences from the first, and what the last one decoded, in batches."""
    predictor.set_image(image)
    predictor.wait()
    points = point_grid(settings.points_per_side) * image.shape[1::-1]
    batches = [points[first:first + settings.points_per_batch]
               for first in range(0, len(points), settings.points_per_batch)]
    seconds, results = time_in_turn(
        [lambda decoding=decoding: [decoding.decode(batch, settings.pred_iou_thresh) for batch in batches]
         for decoding in decodings], repeats)
    differences = [max(map(_decoding_difference, results[0], result)) for result in results]
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
    """[{"part", "step", "seconds", "same_masks", "largest_difference"}]: seconds are means over the pictures, and the
    results are compared with those of the first way of the same part; no difference where other masks were kept."""
    decodings = [kind(predictor, settings.points_per_batch)
                 for kind in (UnsharedDecoding, PlainDecoding, AllMasksDecoding, FastDecoding)]
    measured = []
    for number, (_, image) in enumerate(pictures):
        if number == 0:
            decoder_steps(decodings, predictor, settings, image, 1)  # compiles
        seconds, differences, decoded, points = decoder_steps(decodings, predictor, settings, image, repeats)
        rows = [("decoder", time_of, difference) for time_of, difference in zip(seconds, differences)]
        scored, found = score_steps(predictor, settings, image, points, decoded, repeats)
        candidates = found[1]
        parts = (("scores", scored, found), ("lengths", *length_steps(candidates, repeats)),
                 ("boxes", *box_steps(candidates, settings.box_nms_thresh, repeats)))
        for part, times, results in parts:
            rows += [(part, time_of, 0.0 if result == results[0] else float("inf"))
                     for time_of, result in zip(times, results)]
        measured.append(rows)
    predictor.reset_image()
    names = ("nothing shared", "first layer shared", "tokens first, all masks", "masks of passing prompts only",
             "every mask at the image's size", "bound at low resolution first", "one mask at a time", "in one call",
             "pair by pair", "one against all")
    steps = []
    for name, rows in zip(names, zip(*measured)):
        difference = max(difference for *_, difference in rows)
        steps.append({"part": rows[0][0], "step": name, "seconds": statistics.mean(seconds for _, seconds, _ in rows),
                      "same_masks": difference < float("inf"),
                      "largest_difference": difference if difference < float("inf") else None})
    return steps


def mode_table(costs):
    """Lines of the table of modes; shares are of full_plain."""
    first = costs[PLAIN]
    lines = [f"{'mode':<14}{'masks':>7}{'points':>8}{'upscaled':>10}{'encoder s':>11}{'decoder s':>11}{'share':>8}"
             f"{'total s':>10}{'share':>8}"]
    for mode, cost in costs.items():
        lines.append(f"{mode:<14}{cost['masks']:>7.1f}{cost['points']:>8.1f}{cost['full_size_masks']:>10.1f}"
                     f"{cost['encoder_seconds']:>11.3f}{cost['decoder_seconds']:>11.3f}"
                     f"{cost['decoder_seconds'] / first['decoder_seconds']:>8.1%}{cost['seconds']:>10.3f}"
                     f"{cost['seconds'] / first['seconds']:>8.1%}")
    return lines


def step_table(steps):
    """Lines of the table of steps; shares are of the first way of each part."""
    lines = [f"{'part':<9}{'step':<32}{'seconds':>9}{'share':>8}  results"]
    for _, group in itertools.groupby(steps, key=lambda step: step["part"]):
        first = None
        for step in group:
            first = first or step["seconds"]
            same = "equal" if step["largest_difference"] == 0 else "other masks"
            if step["same_masks"] and step["largest_difference"]:
                same = f"within {step['largest_difference']:.1g}"
            lines.append(f"{step['part']:<9}{step['step']:<32}{step['seconds']:>9.4f}"
                         f"{step['seconds'] / first if first else 1:>8.1%}  {same}")
    return lines


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     allow_abbrev=False)
    parser.add_argument("--checkpoint", required=True, help="weights of the network")
    parser.add_argument("--images", required=True, help="a picture, or a folder of pictures")
    parser.add_argument("--limit", type=int, default=0, help="the first N pictures; default: all")
    parser.add_argument("--repeats", type=int, default=3, help="rounds, of which the median counts; default: 3")
    parser.add_argument("--output", help="JSON file to write")
    return parser.parse_known_args(argv)


def main(argv=None):
    arguments, rest = parse_arguments(argv)
    try:
        config = load_config(rest)
        if arguments.repeats < 1:
            raise ValueError(f"--repeats ({arguments.repeats}) must be at least 1")
        settings = EverythingSettings(**{**dataclasses.asdict(config.everything), "output_mode": "coco_rle"})
        pictures = list(itertools.islice(read_pictures(arguments.images, print), arguments.limit or None))
        if not pictures:
            raise ValueError(f"{arguments.images}: none of the pictures can be read")
        device = init_runtime(config.runtime).device
        predictor = load_predictor(arguments.checkpoint)
        if not can_decode_tokens_first(predictor.sam):
            raise ValueError(f"{arguments.checkpoint}: a quantized network has no fast path to compare")
        generators = {mode: EverythingGenerator(predictor, dataclasses.replace(settings, **MODES[mode]))
                      for mode in (PLAIN, FAST, HIERARCHICAL)}
        runs = run_modes(generators, pictures, arguments.repeats)
        equality = {name: compare_records(runs[FAST][name]["records"], runs[PLAIN][name]["records"])
                    for name, _ in pictures}
        costs = {mode: mode_costs(runs[mode]) for mode in generators}
        steps = run_steps(predictor, settings, pictures, arguments.repeats)
        print(f"{arguments.checkpoint} ({predictor.variant}, {predictor.image_size} px) on {device}; "
              f"{len(pictures)} pictures, {arguments.repeats} rounds")
        print("\n".join(["", *mode_table(costs), "", f"{FAST} against {PLAIN}:"]))
        for name, found in equality.items():
            print(f"  {name}: " + ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in found.items()))
        print("\n".join(["", *step_table(steps)]))
        if arguments.output:
            write_json(Path(arguments.output), {
                "modes": costs, "equality": equality, "steps": steps, "checkpoint": arguments.checkpoint,
                "variant": predictor.variant, "image_size": predictor.image_size, "device": device,
                "settings": dataclasses.asdict(settings), "pictures": [name for name, _ in pictures],
                "repeats": arguments.repeats, "versions": versions(),
                "command": shlex.join(["benchmark_everything.py", *(sys.argv[1:] if argv is None else argv)])})
            print(f"wrote {arguments.output}")
    except (ValueError, OSError) as error:
        print(f"benchmark_everything.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
