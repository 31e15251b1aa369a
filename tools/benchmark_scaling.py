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
"""How time and memory grow with the picture, with the number of prompts and with the grid of points.

    python tools/benchmark_scaling.py --checkpoint student.ckpt --image photo.jpg
    python tools/benchmark_scaling.py --checkpoint student.ckpt --only megapixels --megapixels 12 48 --output output/big
    python tools/benchmark_scaling.py --variant nano --image-size 128 --prompts 1 64 --only prompts --repeats 1

    megapixels         segment everything on pictures of 0.3 to 48 megapixels: the photograph, enlarged or reduced
    prompts            1 to 4096 boxes on one picture, to run lengths (the path of eval.py)
    points_per_side    segment everything with grids of 8 x 8 to 64 x 64 points

Every value runs in a fresh process, once to compile and then --repeats times; the median counts. Memory is the largest
of the process beyond what it has with the network and the picture loaded. --engine openvino runs the export. Writes
OUTPUT/scaling.json and OUTPUT/scaling.png. Settings of segment everything: --everything.NAME=VALUE.
"""
import argparse
import dataclasses
import shlex
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from src.checkpoint import write_atomically  # noqa: E402
from src.config import load_config  # noqa: E402
from src.data.images import read_image  # noqa: E402
from src.export.engines import ENGINES  # noqa: E402
from src.inference.mask_records import write_json  # noqa: E402
from src.runtime import versions  # noqa: E402
from tools.benchmark import DECODERS, OPENVINO, OURS, Side, network_options  # noqa: E402
from tools.make_everything_vectors import input_picture  # noqa: E402

SWEEPS = {"megapixels": (0.3, 1, 3, 12, 48), "prompts": (1, 4, 16, 64, 256, 1024, 4096),
          "points_per_side": (8, 16, 32, 64)}


def resized(picture, megapixels):
    """The picture [H, W, 3] at another number of pixels, sides rounded."""
    height, width = picture.shape[:2]
    factor = (megapixels * 1e6 / (height * width)) ** 0.5
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(Image.fromarray(picture).resize(size, Image.BILINEAR))


def measure(sweep, value, picture, options, arguments, folder):
    """{"value", "seconds", "first_seconds", "extra_bytes", "peak_bytes", "pixels"} of one value of a sweep."""
    everything = dict(options["everything"], hierarchical=arguments.hierarchical)
    if sweep == "megapixels":
        picture = resized(picture, value)
    elif sweep == "points_per_side":
        everything["points_per_side"] = int(value)
    np.save(f"{folder}/picture.npy", picture)
    section = "boxes" if sweep == "prompts" else \
        "everything_hierarchical" if arguments.hierarchical else "everything_full"
    side = Side(arguments.engine, section, {
        **options, "everything": everything, "boxes": int(value), "pictures": [f"{folder}/picture.npy"]})
    try:
        times = [side.ask("run")["seconds"] for _ in range(arguments.repeats)]
        peak = side.ask("end")["peak_bytes"]
    finally:
        side.close()
    return {"value": value, "seconds": statistics.median(times), "first_seconds": side.ready["first_seconds"],
            "extra_bytes": peak - side.ready["model_bytes"], "peak_bytes": peak, "pixels": list(picture.shape[:2])}


def plot(sweeps, path):
    """Seconds (solid, left) and memory beyond the network (dashed, right) of every sweep."""
    figure = Figure(figsize=(4 * len(sweeps), 3.5), layout="constrained")
    for axes, (sweep, rows) in zip(np.atleast_1d(figure.subplots(1, len(sweeps))), sweeps.items()):
        values = [row["value"] for row in rows]
        axes.plot(values, [row["seconds"] for row in rows], "o-", color="C0")
        axes.set(xlabel=sweep.replace("_", " "), xscale="log", yscale="log")
        axes.set_xticks(values, [f"{value:g}" for value in values], minor=False)
        axes.set_xticks([], minor=True)
        axes.yaxis.set_major_formatter(LogFormatter())  # plain numbers: powers would need fonts of their own
        axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.2, 0.8)))
        axes.set_ylabel("seconds", color="C0")
        memory = axes.twinx()
        memory.plot(values, [row["extra_bytes"] / 2**20 for row in rows], "s--", color="C1")
        memory.set_ylabel("MiB beyond the network", color="C1")
        memory.set_ylim(bottom=0)
    write_atomically(path, ".png", lambda part: figure.savefig(part, dpi=120))


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     allow_abbrev=False)
    parser.add_argument("--only", nargs="+", choices=SWEEPS, default=list(SWEEPS), metavar="SWEEP", help="default: all")
    for sweep, values in SWEEPS.items():
        parser.add_argument(f"--{sweep.replace('_', '-')}", nargs="+", type=float, default=values, metavar="N",
                            help=f"default: {' '.join(map(str, values))}")
    parser.add_argument("--checkpoint", help="weights; default: made-up ones of --variant")
    parser.add_argument("--variant", default="tinyvit_5m", help="without a checkpoint; default: tinyvit_5m")
    parser.add_argument("--image-size", type=int, help="pixels of the input; default: the network's own")
    parser.add_argument("--image", help="a photograph; default: a drawn picture")
    parser.add_argument("--hierarchical", action="store_true", help="two rounds of points, not the full grid")
    parser.add_argument("--engine", choices=ENGINES, default=OURS, help="what runs the network")
    parser.add_argument("--repeats", type=int, default=3, help="default: 3")
    parser.add_argument("--threads", type=int, default=2, help="default: 2")
    parser.add_argument("--output", default="output/scaling", help="folder; default: output/scaling")
    return parser.parse_known_args(argv)


def main(argv=None):
    arguments, rest = parse_arguments(argv)
    try:
        if min(arguments.repeats, arguments.threads) < 1:
            raise ValueError("--repeats and --threads must be at least 1")
        options = {**network_options(arguments), "everything": dataclasses.asdict(load_config(rest).everything),
                   "threads": arguments.threads, "decoders": DECODERS, "export": arguments.engine == OPENVINO}
        picture = read_image(arguments.image, True) if arguments.image else input_picture(600, 800)
        sweeps, output = {sweep: [] for sweep in arguments.only}, Path(arguments.output)
        with tempfile.TemporaryDirectory() as folder:
            options.update(checkpoint=arguments.checkpoint or f"{folder}/weights.ckpt", weights=f"{folder}/weights.npz",
                           cache=f"{folder}/exports")
            Side(OURS, "weights", options).end()
            for sweep in sweeps:
                for value in getattr(arguments, sweep):
                    row = measure(sweep, value, picture, options, arguments, folder)
                    sweeps[sweep].append(row)
                    print(f"{sweep:<16}{value:>8g}{row['seconds']:>10.3f} s{row['extra_bytes'] / 2**20:>8.0f} MiB "
                          "beyond the network", flush=True)
                    write_json(output / "scaling.json", {
                        "sweeps": sweeps, "engine": arguments.engine, "variant": options["variant"],
                        "image_size": options["image_size"], "everything": options["everything"],
                        "hierarchical": arguments.hierarchical, "threads": arguments.threads, "versions": versions(),
                        "command": shlex.join(["benchmark_scaling.py", *(sys.argv[1:] if argv is None else argv)])})
        plot(sweeps, output / "scaling.png")
    except (ValueError, OSError) as error:
        print(f"benchmark_scaling.py: {error}", file=sys.stderr)
        return 2
    print(f"wrote {output / 'scaling.json'} and {output / 'scaling.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
