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
"""Exported ONNX graphs in OpenVINO, for CPUs at the edge (docs/export.md). The package is optional.

What surprises: on processors that multiply bfloat16 OpenVINO does so unless it is told not to. Float graphs stay
float32 here; graphs with quantized operands run in int8 as they say.
"""

import contextlib
import logging
import os
from pathlib import Path

LOG = logging.getLogger("tinysam")
CPUINFO = Path("/proc/cpuinfo")
VNNI = {"avx512_vnni", "avx_vnni"}
ISA, OUR_ISA = "ONEDNN_MAX_CPU_ISA", "TINYSAM_CPU_ISA"
ISA_WITHOUT_VNNI = ("SSE41", "AVX", "AVX2", "AVX512_CORE")  # oneDNN's names
PRODUCTS, FUSED = ("Convolution", "FullyConnected", "MatMul"), "Subgraph"  # OpenVINO's names of kernels


def require_openvino():
    """The `openvino` package, which only this needs; a ValueError says how to get it."""
    try:
        import openvino
    except ImportError:
        raise ValueError("the engine openvino needs the package openvino: pip install -r requirements-edge.txt, or use "
                         "the engine mindspore") from None
    return openvino


def lacks_vnni():
    """Whether this is an x86 processor on which int8 products saturate: one whose flags name none of `VNNI`.

    False where there are no such flags to read: other processors, other systems than Linux.
    """
    try:
        lines = CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), None)
    return flags is not None and not VNNI & set(flags)


def why_int8_saturates():
    """Why sums of int8 products stop at 16 bits here, or ""."""
    if lacks_vnni():
        return "this processor lacks VNNI (avx512_vnni, avx_vnni)"
    isa = os.environ.get(ISA, "")
    if isa.upper() in ISA_WITHOUT_VNNI and not _is_ours():
        return f"{ISA}={isa} keeps OpenVINO from VNNI"
    return ""


def warn_without_vnni(source):
    """Log that results will be off where int8 products saturate. `source`: what message calls the quantized network."""
    reason = why_int8_saturates()
    if reason:
        LOG.warning("%s is quantized, and %s: sums of int8 products may saturate at 16 bits and masks be wrong; use "
                    "the engine mindspore, or weight_bits: 7", source, reason)


def product_precisions(path):
    """How OpenVINO runs the products of an ONNX file on this CPU.

    Args:
        path: of the file.

    Returns:
        {"i8": count, "f32": count}: convolutions and matrix products by the type of their operands, signed and
        unsigned codes together. An attention that runs as one kernel counts as its two products.

    Raises:
        ValueError: as `open_openvino`.
    """
    openvino = require_openvino()
    matmuls = {operation.get_friendly_name() for operation in openvino.Core().read_model(str(path)).get_ops()
               if operation.get_type_name() == "MatMul"}
    counts = {}
    for operation in _compile(path, 0).get_runtime_model().get_ops():
        kind, precision, names = (operation.get_rt_info()[key].astype(str)
                                  for key in ("layerType", "runtimePrecision", "originalLayersNames"))
        found = 1 if kind in PRODUCTS else len(matmuls & set(names.split(","))) if kind == FUSED else 0
        if found:
            precision = "i8" if precision in ("i8", "u8") else precision
            counts[precision] = counts.get(precision, 0) + found
    return counts


def open_openvino(path, threads=0):
    """Compile an ONNX file for the CPU.

    Args:
        path: of the file.
        threads: that OpenVINO may use; 0: its own choice.

    Returns:
        A function of arrays, in the order of the graph's inputs, that returns a tuple of arrays of its own.

    Raises:
        ValueError: no openvino package, or a file that it cannot load.
    """
    graph = _compile(path, threads)
    outputs = range(len(graph.outputs))

    def run(*arrays):
        results = graph(list(arrays), share_inputs=True, share_outputs=False)
        return tuple(results[index] for index in outputs)

    return run


def _is_ours():
    """Whether `ISA` is what src/runtime.py has set."""
    return ISA in os.environ and os.environ[ISA] == os.environ.get(OUR_ISA)


@contextlib.contextmanager
def _all_instructions():
    """MindSpore's kernels are kept to AVX2 (src/runtime.py); OpenVINO's, a copy of the same library that reads the same
    variable when it compiles its first model, would be too, and int8 products of AVX2 saturate at 16 bits. What the
    user has set holds here, too: src/runtime.py leaves its own value in a second variable."""
    ours = _is_ours()
    kept = os.environ.pop(ISA) if ours else None
    try:
        yield
    finally:
        if ours:
            os.environ[ISA] = kept


def _compile(path, threads):
    """The compiled model. Arguments and errors of `open_openvino`."""
    openvino = require_openvino()
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32",
               **({"INFERENCE_NUM_THREADS": threads} if threads else {})}
    try:
        with _all_instructions():
            return openvino.Core().compile_model(str(path), "CPU", options)
    except RuntimeError as error:
        raise ValueError(f"{path}: OpenVINO cannot load it ({' '.join(str(error).split())[:200]})") from None
