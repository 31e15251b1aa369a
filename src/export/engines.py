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
"""What runs a network: MindSpore, or OpenVINO on graphs that are exported for it when it first meets a checkpoint.

An export made here is kept in a cache folder. Its key covers the weights, the size, the decoders and every source file
that decides what the graphs hold, so it is never older than the code.
"""
import hashlib
from pathlib import Path

import mindspore as ms

from src.checkpoint.file_hash import file_sha256, sources_sha256
from src.export.exported_predictor import ExportedPredictor
from src.export.exporter import ExportSettings, export_model
from src.export.manifest import MANIFEST, read_export
from src.export.openvino_engine import require_openvino
from src.inference.predictor import load_predictor
from src.modeling.fold import fold_batch_norm
from src.modeling.native_kernels import use_native_kernels
from src.quantization.load import apply_scales, describe_scales
from src.quantization.native_cells import use_native_cells

ENGINES = ("mindspore", "openvino")
CACHE = Path("output", "engine_cache")
DECODERS = ExportSettings().decoders


def is_export(path):
    """Whether a path names an export, by its folder or its manifest.json; anything else is a checkpoint."""
    return Path(path).is_dir() or Path(path).name == MANIFEST


def open_predictor(engine, path, variant=None, image_size=None, threads=0, cache=CACHE, say=print, scales=""):
    """A predictor for weights, whose network is made ready for inference alone, or for an export.

    Args:
        engine: one of `ENGINES`. mindspore runs an export's MindIR, openvino its ONNX graphs.
        path: a checkpoint, or the folder of an export or its manifest.json.
        variant, image_size: of a checkpoint; None: what its metadata says.
        threads: of OpenVINO; 0: its own choice.
        cache: folder of the exports that openvino has made of checkpoints.
        say: called with a line for every file that is exported.
        scales: path of the scales.json of quantize.py for a checkpoint; mindspore runs it on codes, bit for bit as
            its MindIR does, openvino in int8. Empty: float.

    Returns:
        SamPredictor

    Raises:
        ValueError: another engine, no openvino package, or what the predictors refuse. FileNotFoundError: no such file.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine ({engine!r}) must be one of {', '.join(ENGINES)}")
    if engine == "openvino":
        require_openvino()
    path = Path(path)
    if scales and is_export(path):
        raise ValueError(f"{scales} quantizes a checkpoint, not the export {path}; export.py --quantized writes a "
                         "quantized one")
    if is_export(path):
        return ExportedPredictor(path, "mindir" if engine == "mindspore" else engine, threads)
    if engine == "mindspore":
        predictor = load_predictor(path, variant, image_size)
        fold_batch_norm(predictor.sam)
        if scales:  # with the operators of its MindIR: another rounding of a GELU would move codes at their borders
            predictor.engine = apply_scales(predictor.sam, scales, path)
            use_native_cells(predictor.sam)
        else:
            use_native_kernels(predictor.sam)
        return predictor
    return ExportedPredictor(cached_export(path, cache, variant, image_size, scales=scales, say=say), engine, threads)


def cached_export(checkpoint, cache=CACHE, variant=None, image_size=None, decoders=DECODERS, scales="", say=print):
    """Folder of a checkpoint's ONNX export, made unless it is there whole.

    Args: as `open_predictor`; decoders and scales as in `ExportSettings`.

    Raises:
        ValueError, OSError: the checkpoint cannot be read or exported, or the folder cannot be written.
    """
    if not Path(checkpoint).is_file():
        raise FileNotFoundError(f"checkpoint {checkpoint} does not exist")
    digest = file_sha256(checkpoint)
    quantized = (describe_scales(scales),) if scales else ()
    folder = Path(cache) / _key(digest, variant, image_size, decoders, *quantized)
    try:
        read_export(folder, "onnx")
    except ValueError:  # not there, or damaged
        say(f"exporting {checkpoint} to {folder}, once")
        sam = load_predictor(checkpoint, variant, image_size).sam
        export_model(sam, folder, ExportSettings(formats=("onnx",), decoders=tuple(decoders), scales=scales),
                     {"name": Path(checkpoint).name, "sha256": digest}, {"mindspore": ms.__version__}, say=say)
    return folder


def _key(*parts):
    """Short name for everything that an export depends on."""
    everything = (*parts, ms.__version__, sources_sha256("modeling", "quantization", "export"))
    return hashlib.sha256(repr(everything).encode()).hexdigest()[:16]
