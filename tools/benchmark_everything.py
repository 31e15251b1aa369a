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
each round in another order. A time is the median of the rounds, averaged over the pictures; what is compiled is
compiled before. Masks of `full` are compared with those of `full_plain` one to one.

Steps, those of docs/everything.md, on all points of each picture. Each stands beside the way it replaces, all steps
before it taken, and its results are compared with that way's. And the decoder that shares nothing, as published, beside
the fast path.

More settings as everywhere: --everything.NAME=VALUE, --runtime.threads=1. Networks that are not trained long predict
low IoUs: lower pred_iou_thresh and stability_score_thresh until masks remain, or there is nothing to compare.
"""
import argparse
import dataclasses
import itertools
import shlex
import statistics
import sys
from pathlib import Path

from pycocotools import mask as coco_mask

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from src.config import load_config  # noqa: E402
from src.evaluation.protocols import settings_of_modes  # noqa: E402
from src.inference.everything import EverythingGenerator, EverythingSettings  # noqa: E402
from src.inference.everything_files import read_pictures  # noqa: E402
from src.inference.mask_records import write_json  # noqa: E402
from src.inference.predictor import load_predictor  # noqa: E402
from src.modeling.token_first import can_decode_tokens_first  # noqa: E402
from src.runtime import init_runtime, versions  # noqa: E402
from tools.everything_steps import run_steps, step_table  # noqa: E402

PLAIN, FAST, HIERARCHICAL = "full_plain", "full", "hierarchical"
PHASES = ("encoder_seconds", "decoder_seconds", "seconds")


def run_modes(generators, pictures, repeats):
    """{mode: {picture: {"counts": one per round, "records"}}}, modes in turn."""
    names = list(generators)
    runs = {mode: {} for mode in names}
    for generator in generators.values():
        generator.warm_up(pictures[0][1])
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
        modes = settings_of_modes(settings, (PLAIN, FAST, HIERARCHICAL))
        pictures = list(itertools.islice(read_pictures(arguments.images, print), arguments.limit or None))
        if not pictures:
            raise ValueError(f"{arguments.images}: none of the pictures can be read")
        device = init_runtime(config.runtime).device
        predictor = load_predictor(arguments.checkpoint)
        if not can_decode_tokens_first(predictor.sam):
            raise ValueError(f"{arguments.checkpoint}: a quantized network has no fast path to compare")
        generators = {mode: EverythingGenerator(predictor, modes[mode]) for mode in modes}
        runs = run_modes(generators, pictures, arguments.repeats)
        equality = {name: compare_records(runs[FAST][name]["records"], runs[PLAIN][name]["records"])
                    for name, _ in pictures}
        costs = {mode: mode_costs(runs[mode]) for mode in generators}
        steps, decoder = run_steps(predictor, settings, pictures, arguments.repeats)
        print(f"{arguments.checkpoint} ({predictor.variant}, {predictor.image_size} px) on {device}; "
              f"{len(pictures)} pictures, {arguments.repeats} rounds")
        print("\n".join(["", *mode_table(costs), "", f"{FAST} against {PLAIN}:"]))
        for name, found in equality.items():
            print(f"  {name}: " + ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in found.items()))
        print("\n".join(["", *step_table(steps, decoder)]))
        if arguments.output:
            write_json(Path(arguments.output), {
                "modes": costs, "equality": equality, "steps": steps, "decoder": decoder,
                "checkpoint": arguments.checkpoint, "variant": predictor.variant, "image_size": predictor.image_size,
                "device": device,
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
