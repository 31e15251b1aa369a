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
"""An export in float32 beside its quantized form, both in OpenVINO, run by run in turn: what int8 gains and changes.

    python export.py --export.checkpoint=FILE --export.formats=[onnx] --export.output_dir=output/float
    python export.py --export.checkpoint=FILE --export.formats=[onnx] --export.output_dir=output/int8 --quantized SCALES
    python tools/benchmark_int8.py --float output/float --int8 output/int8 --threads 1

Prints, for the image encoder and for every decoder that both exports have, milliseconds of processor time of either
(medians) and their ratio, products by the type that they run in, and the correlation of the outputs on a picture of
noise. Processor time does not count what other programs do; compare ratios of one run only.
"""
import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np

os.environ.setdefault("GLOG_v", "3")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from src.export.manifest import read_export  # noqa: E402
from src.export.openvino_engine import open_openvino, product_precisions  # noqa: E402


def arrays_of(graph, seed=0):
    """Inputs of an ExportedGraph: noise, and in every prompt a click at a place of its own."""
    rng, found = np.random.default_rng(seed), []
    for spec in graph.inputs:
        if spec.name == "point_labels":
            labels = np.full(spec.shape, -2, np.int32)
            labels[..., 0], labels[..., 1] = 1, -1
            found.append(labels)
        elif spec.name == "point_coords":
            found.append(rng.uniform(0, 1024, spec.shape).astype(np.float32))
        else:
            found.append(rng.standard_normal(spec.shape).astype(np.float32))
    return found


def compare(pair, runs, threads):
    """A line of the table for (float graph, int8 graph)."""
    arrays = arrays_of(pair[0])
    sides = [open_openvino(graph.path, threads) for graph in pair]
    outputs = [run(*arrays)[0].ravel() for run in sides]
    times = [[], []]
    for _ in range(runs):
        for run, seconds in zip(sides, times):
            start = time.process_time()
            run(*arrays)
            seconds.append(time.process_time() - start)
    float_ms, int8_ms = (1e3 * float(np.median(seconds)) for seconds in times)
    counts = ", ".join(f"{count} {name}" for name, count in sorted(product_precisions(pair[1].path).items()))
    name = pair[0].path.stem
    return (f"{name:<24}{float_ms:9.1f}{int8_ms:9.1f}{int8_ms / float_ms:8.2f}   {counts:<18}"
            f"{np.corrcoef(*outputs)[0, 1]:.4f}")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     allow_abbrev=False)
    parser.add_argument("--float", required=True, dest="float_folder", help="folder of the export in float32")
    parser.add_argument("--int8", required=True, help="folder of the quantized export")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=0, help="0: OpenVINO's own choice")
    arguments = parser.parse_args(argv)
    if arguments.runs < 1:
        raise ValueError(f"--runs is {arguments.runs}; it must be at least 1")
    exports = [read_export(folder, "onnx") for folder in (arguments.float_folder, arguments.int8)]
    pairs = [tuple(export.image_encoder for export in exports)]
    decoders = [{(graph.prompts, graph.slots): graph for graph in export.mask_decoders} for export in exports]
    pairs += [(decoders[0][shape], decoders[1][shape]) for shape in sorted(set(decoders[0]) & set(decoders[1]))]
    if any(a.inputs != b.inputs for a, b in pairs):
        raise ValueError(f"{arguments.float_folder} and {arguments.int8} are exports of different networks")
    print(f"{'graph':<24}{'f32, ms':>9}{'int8, ms':>9}{'ratio':>8}   {'products':<18}correlation")
    for pair in pairs:
        print(compare(pair, arguments.runs, arguments.threads), flush=True)


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        print(f"benchmark_int8.py: {error}", file=sys.stderr)
        sys.exit(2)
