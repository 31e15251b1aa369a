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


def require_openvino():
    """The `openvino` package, which only this needs; a ValueError says how to get it."""
    try:
        import openvino
    except ImportError:
        raise ValueError("the engine openvino needs the package openvino: pip install -r requirements-edge.txt, or use "
                         "the engine mindspore") from None
    return openvino


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
    openvino = require_openvino()
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32",
               **({"INFERENCE_NUM_THREADS": threads} if threads else {})}
    try:
        graph = openvino.Core().compile_model(str(path), "CPU", options)
    except RuntimeError as error:
        raise ValueError(f"{path}: OpenVINO cannot load it ({' '.join(str(error).split())[:200]})") from None
    outputs = range(len(graph.outputs))

    def run(*arrays):
        results = graph(list(arrays), share_inputs=True, share_outputs=False)
        return tuple(results[index] for index in outputs)

    return run
