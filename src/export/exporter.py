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
"""A network into a folder of graphs and a manifest (docs/export.md), which is there whole or not at all."""
import functools
import json
import os
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from src.export.for_ascend import amct_record, lite_config, write_calibration
from src.export.graphs import graphs_of, parse_decoders, write_graph
from src.export.manifest import MANIFEST, describe_export, named_files
from src.export.onnx_graph import OnnxBuilder, convert_mindir, require_onnx, write_onnx
from src.export.qdq import QdqBuilder, check_integer
from src.quantization.calibrate import check_pictures
from src.quantization.cells import quantize_network
from src.quantization.npu_cells import check_npu, use_npu_cells
from src.quantization.scales_file import read_scales

SUFFIXES = {"mindir": "mindir", "onnx": "onnx", "air": "air", "lite": "lite.onnx", "amct": "amct.onnx",
            "npu": "npu.mindir"}
FORMATS = tuple(SUFFIXES)
ONNX_FORMATS = ("onnx", "lite", "amct")
QUANTIZED_FORMATS = ("lite", "amct", "npu")  # for Ascend, have no float form


class ExportSettings(NamedTuple):
    """What is exported: formats of `FORMATS`, decoders as texts such as "16x11" (prompts x slots), dtype of images,
    embeddings, masks and IoUs, whether there is also one graph of both halves for each decoder, and the path of the
    scales.json of quantize.py, empty for a float network."""

    formats: tuple[str, ...] = ("mindir",)
    decoders: tuple[str, ...] = ("1x11", "16x11", "64x2")
    dtype: str = "float32"
    single_graph: bool = False
    scales: str = ""


def check_export(settings, folder, device):
    """Raise what an export would trip over, before the work.

    Args:
        settings: ExportSettings.
        folder: that the export is to become.
        device: "CPU" or "Ascend", where this runs.

    Raises:
        ValueError: a setting that cannot be used, or a folder that holds something that no export wrote.
    """
    folder = Path(folder)
    parse_decoders(settings.decoders)
    if not settings.formats:
        raise ValueError(f"export.formats is empty; give at least one of {', '.join(FORMATS)}")
    for file_format in settings.formats:
        if file_format not in FORMATS:
            raise ValueError(f"export.formats: '{file_format}' is unknown; it must be one of {', '.join(FORMATS)}")
        if file_format in QUANTIZED_FORMATS and not settings.scales:
            raise ValueError(f"export.formats: '{file_format}' is for quantized networks; give the scales.json of "
                             "quantize.py: --quantized FILE")
    if set(settings.formats) & set(ONNX_FORMATS):
        require_onnx()
    if settings.scales:
        _check_quantized(settings)
    if "air" in settings.formats and device != "Ascend":
        raise ValueError(f"export.formats: air is written on an Ascend device only, and this runs on a {device}; "
                         "leave it out: the converter of MindSpore Lite takes mindir")
    if folder.is_dir():
        foreign = sorted(set(os.listdir(folder)) - named_files(folder))
        if foreign:
            raise ValueError(f"{folder}: holds {foreign[0]}, which no export wrote; the whole folder would be "
                             "replaced: choose another export.output_dir")
    elif folder.exists():
        raise ValueError(f"{folder}: is a file; export.output_dir must name a folder")


def _check_quantized(settings):
    """ValueError for scales that the formats cannot hold."""
    quantization = read_scales(settings.scales)
    if settings.dtype != "float32":
        raise ValueError(f"export.dtype is {settings.dtype}; a quantized network has float32 between its integer "
                         "products: leave it out")
    if "air" in settings.formats:
        raise ValueError("export.formats: air holds no quantized network; leave it out")
    if set(settings.formats) & set(ONNX_FORMATS):
        check_integer(quantization, settings.scales)
    if set(settings.formats) & {"lite", "npu"}:
        check_integer(quantization, settings.scales, zero_points=False)
    if "amct" in settings.formats and not any(layer.kind == "conv" for layer in quantization.layers):
        raise ValueError(f"export.formats: amct takes the scales of convolutions alone, and {settings.scales} leaves "
                         "all of them in float: leave amct out, or quantize with --quantize.convolutions=true")
    if "npu" in settings.formats:
        for layer in quantization.layers:
            check_npu(layer)


def export_model(sam, folder, settings, checkpoint, versions, device="CPU", say=print, pictures=()):
    """Write all graphs of a network and their manifest; an earlier export in the folder is replaced at the end.

    Args:
        sam: a `Sam` with its weights. With dtype float16, and with scales, its products are exchanged in place.
        folder: see `check_export`.
        settings: ExportSettings.
        checkpoint: {"name", "sha256"} of the weights.
        versions: dict of texts for the manifest.
        device: "CPU" or "Ascend", where this runs.
        say: called with a line for every file.
        pictures: [1, 3, S, S] each, normalised, that MindSpore Lite may calibrate with (format lite).

    Returns:
        Path of the manifest.

    Raises:
        ValueError: as `check_export`, pictures that nothing can be calibrated with, or weights that do not go into one
        file. OSError: the folder cannot be written; what was there before still is.
    """
    check_export(settings, folder, device)
    check_pictures(pictures)
    folder = Path(folder).resolve()
    quantization = read_scales(settings.scales) if settings.scales else None
    shapes = parse_decoders(settings.decoders)
    if quantization:
        quantize_network(sam, quantization, checkpoint["sha256"], settings.scales)
    builders = _builders(quantization)
    graphs = graphs_of(sam, shapes, settings.dtype, settings.single_graph)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as beside:
        new = Path(beside) / "new"
        new.mkdir()
        files = {graph.name: _write_formats(graph, new, settings.formats, builders, say) for graph in graphs}
        if quantization:
            _write_for_ascend(sam, new, settings, quantization, pictures, files, say)
        content = describe_export(sam, settings.dtype, checkpoint, graphs, files, versions, settings.scales)
        (new / MANIFEST).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        _put_in_place(new, folder, Path(beside) / "old")
    return folder / MANIFEST


def _builders(quantization):
    """{format: function that makes its OnnxBuilder}."""
    if quantization is None:
        return {"onnx": OnnxBuilder}
    qdq = functools.partial(QdqBuilder, quantization=quantization)
    return {"onnx": qdq, "lite": functools.partial(qdq, integer_weights=False),
            "amct": functools.partial(qdq, integer_weights=False, kinds=("conv",))}


def _write_for_ascend(sam, folder, settings, quantization, pictures, files, say):
    """What tools for Ascend take beside the graphs; adds to `files`. The network's products are exchanged once more."""
    encoder = files["image_encoder"]
    if "amct" in settings.formats:
        encoder["amct_record"] = folder / "image_encoder.amct.txt"
        encoder["amct_record"].write_text(amct_record(quantization.layers), encoding="utf-8")
    if "lite" in settings.formats and pictures:
        kept = [name for name in quantization.kept if name.startswith("image_encoder.")]
        encoder["lite_config"] = folder / "image_encoder.lite.cfg"
        encoder["lite_config"].write_text(lite_config(len(pictures), kept), encoding="utf-8")
        write_calibration(folder, pictures)
    if "npu" in settings.formats:
        use_npu_cells(sam, quantization)
        for graph in graphs_of(sam, parse_decoders(settings.decoders), single_graph=settings.single_graph):
            path = files[graph.name]["npu"] = folder / f"{graph.name}.{SUFFIXES['npu']}"
            write_graph(graph, path)
            say(f"  {path.name:<32}{path.stat().st_size / 1e6:7.1f} MB")


def _write_formats(graph, folder, formats, builders, say):
    """Files of one graph: {format: Path}."""
    start = time.perf_counter()
    files = {file_format: folder / f"{graph.name}.{suffix}" for file_format, suffix in SUFFIXES.items()
             if file_format in formats and file_format != "npu"}
    if graph.role == "mask_decoder":
        files.pop("amct", None)  # it has no convolutions
    mindir = folder / f"{graph.name}.mindir"
    for file_format, path in {**({} if "mindir" in files else {"mindir": mindir}), **files}.items():
        if file_format in builders:
            names = [spec.name for spec in graph.outputs]
            write_onnx(convert_mindir(mindir, names, graph.name, builders[file_format]), path)
        else:
            write_graph(graph, path, file_format.upper())
        if file_format in files:
            say(f"  {path.name:<32}{path.stat().st_size / 1e6:7.1f} MB{time.perf_counter() - start:7.1f} s")
        start = time.perf_counter()
    if "mindir" not in files:
        mindir.unlink()
    return files


def _put_in_place(new, folder, old):
    """Rename `new` to `folder`; what `folder` was becomes `old`, or stays when the renaming fails."""
    if folder.exists():
        os.replace(folder, old)
    try:
        os.replace(new, folder)
    except OSError:
        if old.exists():
            os.replace(old, folder)
        raise
