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
"""Speed and memory of this module beside the PyTorch reference and OpenVINO, on the machine at hand.

    TINYSAM_REFERENCE_PYTHON=reference/bin/python python tools/benchmark.py --images photos/
    python tools/benchmark.py --checkpoint student.ckpt --scales output/quantize/scales.json --repeats 21
    python tools/benchmark.py --image-size 128 --only encoder --repeats 3 --output output/small

TINYSAM_REFERENCE_PYTHON names an interpreter with torch and mobilesam-mirror; without it that side is left out, and so
is OpenVINO where it is not installed; --scales adds OpenVINO in int8, whose results are those of the quantized network.
Each section runs in one fresh process a side. The sides take turns, one run at a time; medians count, by the clock and
of the CPU time of all threads, which says more on a busy machine. All have the same weights (a checkpoint, or made-up
ones, which are a function of a parameter's name) and the same inputs, and their results are compared.

    encoder                    image -> image embeddings
    decoder_1, _16, _64        1, 16, 64 clicks on an embedded image -> low-resolution masks and IoUs
    box                        photograph and box -> masks at the photograph's size
    everything_full            all objects of the photographs, the full grid; settings: --everything.NAME=VALUE
    everything_hierarchical    two rounds of points; the reference's generator with the second plan added
    train_step                 labels alone: forward, losses, backward, clipping, Adam
    start                      from the start of a process to the first box's masks: import, network, first run
    start_cached               the same where MindSpore finds its compiled graphs (MS_COMPILER_CACHE_ENABLE)
    product                    a square matrix product, the machine's rate; with the multiply-accumulates of encoder and
                               decoder it gives their floor

Made-up weights predict arbitrary IoUs: for segment everything give a trained --checkpoint. OUTPUT/benchmark.json holds
every section that is finished; a run with the same settings goes on from it. benchmark.png shows the ratios.
For medians of more runs, and pictures: --seconds 300 --limit 3.
"""
import argparse
import dataclasses
import itertools
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from pycocotools import mask as coco_mask

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from src.checkpoint import read_metadata, write_atomically  # noqa: E402
from src.config import load_config  # noqa: E402
from src.inference.everything_files import read_pictures  # noqa: E402
from src.inference.mask_records import write_json  # noqa: E402
from src.modeling.build_sam import VARIANTS, TinyViTVariant  # noqa: E402
from src.runtime import versions  # noqa: E402
from tools.make_everything_vectors import input_picture  # noqa: E402

SECTIONS = ("product", "encoder", "decoder_1", "decoder_16", "decoder_64", "box", "everything_full",
            "everything_hierarchical", "train_step", "start", "start_cached")
REFERENCE, OURS, OPENVINO, INT8 = ALL = "reference", "mindspore", "openvino", "openvino_int8"
SIDES = {"train_step": (REFERENCE, OURS), "product": (REFERENCE, OURS), "start_cached": (OURS,)}  # else all
MACS_OF = ("encoder", "decoder_1", "decoder_16", "decoder_64")
DECODERS = ("1x2", "16x2", "64x2")  # of the export, prompts x slots
LEAST_ROUNDS = {"everything_full": 1, "everything_hierarchical": 1}  # minutes each on a CPU
MOST_STARTS = 3


class Side:
    """A child process that runs one section; docs in tools/benchmark_worker.py."""

    def __init__(self, name, section, options, environment=None):
        python = os.environ["TINYSAM_REFERENCE_PYTHON"] if name == REFERENCE else sys.executable
        script = ROOT / "tools" / f"benchmark_{'reference' if name == REFERENCE else 'ours'}.py"
        threads = str(options["threads"])
        self.name, self.started, self._log = name, time.time(), tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [python, str(script), json.dumps({**options, "section": section, "engine": name})], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log,
            env={**os.environ, "OMP_NUM_THREADS": threads, **(environment or {})})
        self.ready = self._read()

    def ask(self, question):
        """The answer to run, result or end."""
        self._process.stdin.write(question + "\n")
        self._process.stdin.flush()
        return self._read()

    def end(self):
        """Largest memory of the process, which has ended afterwards."""
        peak = self.ask("end")["peak_bytes"]
        self.close()
        return peak

    def close(self):
        """End the process, whatever it does."""
        for pipe in (self._process.stdin, self._process.stdout):
            pipe.close()
        if self._process.poll() is None:
            self._process.terminate()
        self._process.wait()
        self._log.close()

    def _read(self):
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        self._process.wait()
        self._log.seek(0)
        said = self._log.read().decode(errors="replace").strip().splitlines() or ["nothing"]
        raise ValueError(f"the side {self.name} has ended with code {self._process.returncode} and said: {said[-1]}")


def measure(section, sides, options, repeats, seconds):
    """{side: what it took} of a section: sides in turn, `repeats` rounds or, after three (LEAST_ROUNDS), `seconds`."""
    open_sides, rounds, begun = [], {name: [] for name in sides}, time.time()
    try:
        for name in sides:
            open_sides.append(Side(name, section, options))
        begun = time.time()
        for number in range(repeats):
            if number >= LEAST_ROUNDS.get(section, 3) and time.time() - begun > seconds:
                break
            for side in open_sides:
                rounds[side.name].append(side.ask("run"))
        found = {}
        for side in open_sides:
            times = rounds[side.name]
            found[side.name] = {
                "seconds": statistics.median(one["seconds"] for one in times),
                "cpu_seconds": statistics.median(one["cpu_seconds"] for one in times),
                "all_seconds": [one["seconds"] for one in times], "first_seconds": side.ready["first_seconds"],
                "model_bytes": side.ready["model_bytes"], "result": side.ask("result"), "peak_bytes": side.end()}
        return found
    finally:
        for side in open_sides:
            side.close()


def measure_start(sides, options, repeats, cached):
    """{side: seconds from the start of a process to its first box, and their parts}, processes in turn."""
    starts = {name: [] for name in sides}
    with tempfile.TemporaryDirectory() as folder:
        environment = {"MS_COMPILER_CACHE_ENABLE": "1", "MS_COMPILER_CACHE_PATH": folder} if cached else {}
        for number in range(repeats + cached):  # the first one fills the cache
            for name in sides:
                side = Side(name, "box", options, environment)
                ready = side.ready
                side.end()
                if number >= cached:
                    starts[name].append({"import": ready["imported"] - side.started,
                                         "network": ready["built"] - ready["imported"],
                                         "first_run": ready["ready"] - ready["built"],
                                         "seconds": ready["ready"] - side.started})
    return {name: {key: statistics.median(one[key] for one in times) for key in times[0]}
            for name, times in starts.items()}


def compare(wanted, found):
    """How far a side's result is from the reference's: {"largest_difference": as a share of the largest value}, or of
    masks {"masks": [theirs, ours], "mean_best_iou": of the reference's masks}."""
    if "values" in wanted:
        wanted, found = np.array(wanted["values"]), np.array(found["values"])
        return {"largest_difference": float(np.abs(wanted - found).max() / np.abs(wanted).max())}
    best = []
    for theirs, ours in zip(wanted["records"], found["records"]):
        best += coco_mask.iou(theirs, ours, [0] * len(ours)).max(1).tolist() if theirs and ours else [0.0] * len(theirs)
    return {"masks": [sum(map(len, side["records"])) for side in (wanted, found)],
            "mean_best_iou": statistics.mean(best) if best else None}


def summary(section, sides, options):
    """What is stored of a section: its sides without their results, ratios to the reference, and how results agree."""
    results = {name: side.pop("result", None) for name, side in sides.items()}
    stored = {"sides": sides}
    if REFERENCE in sides:
        stored["ratio"] = _ratios(sides, "seconds")
        if "cpu_seconds" in sides[REFERENCE]:
            stored["cpu_ratio"] = _ratios(sides, "cpu_seconds")
        stored["agreement"] = {name: compare(results[REFERENCE], result) for name, result in results.items()
                               if name != REFERENCE and result is not None}
    if section == "product":
        stored["macs_per_second"] = options["product_size"] ** 3 / min(side["seconds"] for side in sides.values())
    return stored


def _ratios(sides, key):
    return {name: side[key] / sides[REFERENCE][key] for name, side in sides.items()}


def count_macs(options):
    """{section: multiply-accumulates} of MACS_OF."""
    side = Side(OURS, "macs", options)
    try:
        return dict(zip(MACS_OF, side.ask("result")["values"]))
    finally:
        side.close()


def run_sections(wanted, available, options, arguments, path, content):
    """Measure what is not in `content` yet, and write it after each section."""
    for section in wanted:
        if section in content["sections"]:
            print(f"{section}: measured before")
            continue
        sides = [name for name in SIDES.get(section, ALL) if name in available]
        if section in ("start", "start_cached"):
            found = measure_start(sides, options, min(arguments.repeats, MOST_STARTS), section == "start_cached")
        else:
            found = measure(section, sides, options, arguments.repeats, arguments.seconds)
        content["sections"][section] = summary(section, found, options)
        if section == "product":
            content["macs"] = count_macs(options)
        write_json(path, content)
        print("\n".join(section_lines(section, content)), flush=True)


def section_lines(section, content):
    """Lines of the table for one section."""
    stored, lines = content["sections"][section], []
    for name, side in stored["sides"].items():
        line = f"{section:<24}{name:<11}{side['seconds']:>10.4f} s"
        if "ratio" in stored:
            line += f"{stored['ratio'][name]:>8.2f}"
        if "cpu_ratio" in stored:
            line += f" (CPU time{stored['cpu_ratio'][name]:>5.2f})"
        if "peak_bytes" in side:
            peak, more = side["peak_bytes"], side["peak_bytes"] - side["model_bytes"]
            line += f"   {peak / 2**20:.0f} MiB, {more / 2**20:.0f} beyond the network"
        else:
            line += f"   import {side['import']:.1f}, network {side['network']:.1f}, first run {side['first_run']:.1f}"
        agreement = stored.get("agreement", {}).get(name, {})
        line += "".join(f"   {key.replace('_', ' ')} {value if isinstance(value, list) else format(value, '.2g')}"
                        for key, value in agreement.items() if value is not None)
        lines.append(line)
    rate = content["sections"].get("product", {}).get("macs_per_second")
    if rate and section in content.get("macs", {}):
        macs = content["macs"][section]
        lines.append(f"{section:<24}{'floor':<11}{macs / rate:>10.4f} s   {macs / 1e9:.2f} G multiply-accumulates at "
                     f"{rate / 1e9:.0f} G/s")
    return lines


def plot(content, path):
    """Bars of each section's seconds as a share of the reference's, or of our own where there is no reference."""
    sections = [name for name in SECTIONS if name in content["sections"]]
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.add_subplot()
    rate = content["sections"].get("product", {}).get("macs_per_second")
    width = 0.8 / len(ALL)
    for number, name in enumerate(ALL):
        places, heights = [], []
        for place, section in enumerate(sections):
            sides = content["sections"][section]["sides"]
            if name in sides:
                places.append(place + width * (number - (len(ALL) - 1) / 2))
                heights.append(sides[name]["seconds"] / _unit(sides))
        axes.bar(places, heights, 0.9 * width, color=f"C{number}", label=name)
    for place, section in enumerate(sections):
        if rate and section in content.get("macs", {}):
            floor = content["macs"][section] / rate / _unit(content["sections"][section]["sides"])
            axes.plot([place - 0.4, place + 0.4], [floor, floor], "k--", linewidth=1)
    axes.axhline(1, color="0.5", linewidth=1)
    axes.set(ylabel="seconds, share of the reference's (dashed: floor)")
    axes.set_xticks(range(len(sections)), [name.replace("_", "\n") for name in sections])
    axes.legend()
    write_atomically(path, ".png", lambda part: figure.savefig(part, dpi=120))


def _unit(sides):
    return sides.get(REFERENCE, sides[OURS])["seconds"]


def available_sides(scales):
    """The sides that can run here; a line for each that cannot. `scales`: of the int8 side, empty: none is wanted."""
    sides = [OURS]
    if os.environ.get("TINYSAM_REFERENCE_PYTHON"):
        sides.insert(0, REFERENCE)
    else:
        print("without the reference: TINYSAM_REFERENCE_PYTHON names no interpreter")
    if subprocess.run([sys.executable, "-c", "import openvino"], capture_output=True, check=False).returncode:
        print("without OpenVINO: pip install -r requirements-edge.txt")
    else:
        sides += [OPENVINO, INT8] if scales else [OPENVINO]
    return sides


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     allow_abbrev=False)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, metavar="SECTION", help="default: all")
    parser.add_argument("--checkpoint", help="weights of all sides; default: made-up ones of --variant")
    parser.add_argument("--scales", default="", help="scales.json of quantize.py for the checkpoint: int8, too")
    parser.add_argument("--variant", default="tinyvit_5m", help="without a checkpoint; default: tinyvit_5m")
    parser.add_argument("--image-size", type=int, help="pixels of the input; default: the network's own")
    parser.add_argument("--images", help="photographs, a folder or a file; default: one drawn picture")
    parser.add_argument("--limit", type=int, default=1, help="the first N photographs; default: 1")
    parser.add_argument("--train-size", type=int, default=512, help="pixels of the training step; default: 512")
    parser.add_argument("--train-prompts", type=int, default=16, help="prompts of the training step; default: 16")
    parser.add_argument("--product-size", type=int, default=2048, help="side of the square product; default: 2048")
    parser.add_argument("--repeats", type=int, default=15, help="rounds, of which the median counts; default: 15")
    parser.add_argument("--seconds", type=float, default=20, help="after which a section ends early; default: 20")
    parser.add_argument("--threads", type=int, default=2, help="of each side; default: 2")
    parser.add_argument("--output", default="output/benchmark", help="folder; default: output/benchmark")
    return parser.parse_known_args(argv)


def network_options(arguments):
    """{"variant", "image_size", "spec"} of the network that is measured."""
    metadata = read_metadata(arguments.checkpoint) if arguments.checkpoint else {}
    variant = metadata.get("variant") or arguments.variant
    spec = VARIANTS.get(variant)
    if not isinstance(spec, TinyViTVariant):
        raise ValueError(f"variant {variant} is measured by none of the sides; it must be one of "
                         f"{', '.join(name for name, one in VARIANTS.items() if isinstance(one, TinyViTVariant))}")
    size = arguments.image_size or metadata.get("image_size") or spec.image_size
    return {"variant": variant, "image_size": int(size), "spec": spec._asdict()}


def read_content(path, settings):
    """What an earlier run has stored, or an empty table; a ValueError where its settings were others."""
    if not path.is_file():
        return {"settings": settings, "sections": {}}
    content = json.loads(path.read_text(encoding="utf-8"))
    other = [name for name in settings if content.get("settings", {}).get(name) != settings[name]]
    if other:
        raise ValueError(f"{path}: holds results of another {other[0]} ({content.get('settings', {}).get(other[0])!r}, "
                         f"now {settings[other[0]]!r}); give another --output")
    return content


def main(argv=None):
    arguments, rest = parse_arguments(argv)
    try:
        if min(arguments.repeats, arguments.threads, arguments.limit) < 1:
            raise ValueError("--repeats, --threads and --limit must be at least 1")
        if arguments.scales and not arguments.checkpoint:
            raise ValueError(f"--scales {arguments.scales} belongs to a checkpoint; give it as --checkpoint")
        everything = dataclasses.asdict(load_config(rest).everything)
        options = {**network_options(arguments), "everything": everything, "threads": arguments.threads,
                   "train_size": arguments.train_size, "train_prompts": arguments.train_prompts,
                   "product_size": arguments.product_size, "scales": arguments.scales}
        pictures = [("drawn picture", input_picture(768, 1024))] if not arguments.images else list(
            itertools.islice(read_pictures(arguments.images, print), arguments.limit))
        if not pictures:
            raise ValueError(f"{arguments.images}: none of the pictures can be read")
        output = Path(arguments.output)
        path, available = output / "benchmark.json", available_sides(arguments.scales)
        content = read_content(path, json.loads(json.dumps({
            **options, "checkpoint": arguments.checkpoint, "sides": available,
            "pictures": [[name, *image.shape[:2]] for name, image in pictures]})))
        content["versions"] = versions()
        content["command"] = shlex.join(["benchmark.py", *(sys.argv[1:] if argv is None else argv)])
        with tempfile.TemporaryDirectory() as folder:
            options.update(checkpoint=arguments.checkpoint or f"{folder}/weights.ckpt", weights=f"{folder}/weights.npz",
                           decoders=DECODERS[:1] if arguments.only == ["encoder"] else DECODERS,
                           cache=f"{folder}/exports", pictures=[f"{folder}/{i}.npy" for i in range(len(pictures))])
            for file, (_, image) in zip(options["pictures"], pictures):
                np.save(file, image)
            exports = OPENVINO in available and any(OPENVINO in SIDES.get(section, (OPENVINO,)) for section in
                                                    set(arguments.only) - set(content["sections"]))
            Side(OURS, "weights", {**options, "export": exports}).end()
            run_sections(arguments.only, available, options, arguments, path, content)
        plot(content, output / "benchmark.png")
    except (ValueError, OSError) as error:
        print(f"benchmark.py: {error}", file=sys.stderr)
        return 2
    print(f"wrote {path} and {output / 'benchmark.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
