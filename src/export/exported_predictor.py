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
"""An export in place of a network: every protocol and the everything mode run on it as on a `SamPredictor`.

MindIR runs in MindSpore, ONNX in onnxruntime or OpenVINO. Decoders have static shapes, so prompts are dealt to those
that there are by the rule of docs/export.md, and empty slots fill up what is left.
"""
import mindspore as ms
import numpy as np
from mindspore import nn

from src.export.manifest import read_export
from src.export.openvino_engine import open_openvino, warn_without_vnni
from src.inference.predictor import SamPredictor


class ExportedPredictor(SamPredictor):
    """`SamPredictor` whose image encoder and prompt decoder are exported graphs. A decoder is loaded when it is needed.

    Args:
        folder: of the export, or its manifest.json.
        engine: "mindir" (MindSpore), "onnx" (onnxruntime) or "openvino", which runs the ONNX graphs too.
        threads: of OpenVINO; 0: its own choice. The others have theirs set elsewhere.

    Attributes:
        engine: as given; of a quantized export with the text of its manifest behind, as records name it.

    Raises:
        ValueError: what `read_export` refuses, a file that the engine cannot load, or no such engine installed.
    """

    def __init__(self, folder, engine, threads=0):
        export = read_export(folder, "onnx" if engine == "openvino" else engine)
        self.manifest = export.path
        self.variant = export.variant
        self.image_size = export.image_size
        self._engine = engine
        self.engine = f"{engine} {export.quantization}".strip()
        if engine == "openvino" and export.quantization:
            warn_without_vnni(export.path)
        self._threads = threads
        self._dtype = np.dtype(export.dtype)
        self._mask_side = export.image_size // 4
        self._decoders = {(graph.prompts, graph.slots): graph.path for graph in export.mask_decoders}
        self._loaded = {}
        self._image_encoder = open_graph(export.image_encoder.path, engine, threads)
        self.reset_image()

    def wait(self):
        self._embeddings()

    def _encode(self, images):
        return self._image_encoder(images.astype(self._dtype))[0]

    def _calls(self, count, slots, limit):
        return decoder_calls(list(self._decoders), count, slots, limit)

    def _decode(self, point_coords, point_labels, mask_input):
        if mask_input is not None:
            raise ValueError("an exported decoder takes no mask_input: leave it out (eval.feed_mask=false)")
        shape = point_labels.shape[1:]
        if shape not in self._loaded:
            self._loaded[shape] = open_graph(self._decoders[shape], self._engine, self._threads)
        masks, ious = self._loaded[shape](self._embeddings(), point_coords, point_labels)
        return masks.astype(np.float32, copy=False), ious.astype(np.float32, copy=False)


def decoder_calls(shapes, count, slots, limit):
    """Deal `count` prompts of at most `slots` slots to decoders of static shapes.

    Of the decoders with enough slots, and at most `limit` prompts where there is one, each call takes the one of most
    prompts of which at least three quarters are used, else the one of fewest; among equals that of fewest slots.

    Args:
        shapes: [(M, K)] of the decoders.

    Returns:
        [(first, used, M, K)].

    Raises:
        ValueError: no decoder has enough slots, or limit is not positive.
    """
    if limit < 1:
        raise ValueError(f"prompt_batch ({limit}) must be at least 1")
    fitting = [shape for shape in shapes if shape[1] >= slots]
    if not fitting:
        raise ValueError(f"a prompt of {slots} slots: the decoders of this export have at most "
                         f"{max(shape[1] for shape in shapes)}; export one with more (export.decoders)")
    fitting = [shape for shape in fitting if shape[0] <= limit] or [shape for shape in fitting
                                                                    if shape[0] == min(fitting)[0]]
    fitting.sort(key=lambda shape: (-shape[0], shape[1]))
    smallest = min(shape[0] for shape in fitting)
    calls, first = [], 0
    while first < count:
        left = count - first
        prompts, wide = next(shape for shape in fitting if left >= 0.75 * shape[0] or shape[0] == smallest)
        calls.append((first, min(left, prompts), prompts, wide))
        first += min(left, prompts)
    return calls


def open_graph(path, engine, threads=0):
    """A function of arrays, in the order of the manifest, that returns a tuple of arrays. Arguments as above.

    Raises:
        ValueError: the file cannot be loaded, or the engine is not installed.
    """
    if engine == "openvino":
        return open_openvino(path, threads)
    return _open_mindir(path) if engine == "mindir" else _open_onnx(path)


def _open_mindir(path):
    try:
        cell = nn.GraphCell(ms.load(str(path)))
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{path}: MindSpore cannot load it ({' '.join(str(error).split())[:200]})") from None

    def run(*arrays):
        outputs = cell(*map(ms.Tensor, arrays))
        return tuple(output.asnumpy() for output in (outputs if isinstance(outputs, tuple) else (outputs,)))

    return run


def _open_onnx(path):
    try:
        import onnxruntime
    except ImportError:
        raise ValueError("ONNX files run in the package onnxruntime: pip install -r requirements-edge.txt") from None
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes, which derive from nothing narrower
        raise ValueError(f"{path}: onnxruntime cannot load it ({' '.join(str(error).split())[:200]})") from None
    names = [value.name for value in session.get_inputs()]
    return lambda *arrays: tuple(session.run(None, dict(zip(names, arrays))))
