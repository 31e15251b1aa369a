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
"""manifest.json of an export: all that a program needs to know to use the graphs beside it (docs/export.md)."""
import json
from pathlib import Path
from typing import NamedTuple

from src.checkpoint.file_hash import file_sha256
from src.data.images import PIXEL_MEAN, PIXEL_STD
from src.export.for_ascend import CALIBRATION
from src.export.graphs import TensorSpec
from src.prompts.labels import BACKGROUND, BOX_BOTTOM_RIGHT, BOX_TOP_LEFT, EMPTY, FOREGROUND, NOT_A_POINT
from src.quantization.load import describe_scales

MANIFEST = "manifest.json"
FORMAT = "tinysam-export"
VERSION = 1


class ExportedGraph(NamedTuple):
    """A graph as a manifest lists it; `path` is its file in one format."""

    role: str
    prompts: int
    slots: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    path: Path


class Export(NamedTuple):
    """An export in one format, read back: what its manifest says, and its graphs by role. `quantization`: the text of
    `describe_scales`, empty for a float network."""

    path: Path
    variant: str
    image_size: int
    embed_dim: int
    dtype: str
    quantization: str
    image_encoder: ExportedGraph
    mask_decoders: list[ExportedGraph]


def describe_export(sam, dtype, checkpoint, graphs, files, versions, scales=""):
    """The manifest as a dict.

    Args:
        sam: the `Sam` that was exported.
        dtype: "float32" or "float16".
        checkpoint: {"name", "sha256"}.
        graphs: list of `Graph`.
        files: {graph name: {format: Path of the finished file}}.
        versions: dict of texts.
        scales: path of the scales.json that the network was quantized by; empty: it was not.
    """
    return {
        "format": FORMAT, "version": VERSION,
        "variant": sam.variant, "image_size": sam.image_size, "embed_dim": sam.embed_dim, "dtype": dtype,
        "checkpoint": checkpoint, **({"quantization": describe_scales(scales)} if scales else {}),
        **({"folders": [CALIBRATION]} if any("lite_config" in written for written in files.values()) else {}),
        "preprocessing": {
            "channels": "RGB",
            "resize": {"rule": "longest_side", "rounding": "half_up", "filter": "pillow_bilinear"},
            "pixel_mean": [float(str(value)) for value in PIXEL_MEAN],
            "pixel_std": [float(str(value)) for value in PIXEL_STD],
            "padding": {"side": "bottom_right", "value": 0.0, "order": "after_normalising"},
        },
        "prompts": {
            "coordinates": "xy_of_resized_image",
            "labels": {"empty": EMPTY, "not_a_point": NOT_A_POINT, "background": BACKGROUND, "foreground": FOREGROUND,
                       "box_top_left": BOX_TOP_LEFT, "box_bottom_right": BOX_BOTTOM_RIGHT},
        },
        "masks": {"threshold": 0.0, "interpolation": "bilinear_half_pixel", "single": [0], "multimask": [1, 2, 3]},
        "graphs": [{
            "role": graph.role,
            **({"prompts": graph.prompts, "slots": graph.slots} if graph.prompts else {}),
            "inputs": [spec._asdict() for spec in graph.inputs],
            "outputs": [spec._asdict() for spec in graph.outputs],
            "files": {file_format: {"name": path.name, "sha256": file_sha256(path), "bytes": path.stat().st_size}
                      for file_format, path in files[graph.name].items()},
        } for graph in graphs],
        "versions": versions,
    }


def named_files(folder):
    """Names of the files that belong to the export in a folder: those its manifest names, and the manifest; none where
    there is no manifest of ours."""
    try:
        content = _read(Path(folder) / MANIFEST)
        files = {file["name"] for graph in content["graphs"] for file in graph["files"].values()}
        return {MANIFEST, *content.get("folders", ()), *files}
    except (ValueError, OSError, KeyError, TypeError, AttributeError):
        return set()


def read_export(folder, file_format):
    """Read a manifest and check the files it names, by size and hash.

    Args:
        folder: of the export, or its manifest.json.
        file_format: mindir or onnx.

    Raises:
        ValueError: no manifest, a foreign or newer one, a graph that lacks the format, or a file that has changed.
    """
    folder = Path(folder)
    path = folder if folder.name == MANIFEST else folder / MANIFEST
    try:
        content = _read(path)
        graphs = [_graph(path, entry, file_format) for entry in content["graphs"] if entry["role"] != "sam"]
        encoders = [graph for graph in graphs if graph.role == "image_encoder"]
        decoders = [graph for graph in graphs if graph.role == "mask_decoder"]
        if len(encoders) != 1 or not decoders:
            raise ValueError(f"{path}: names {len(encoders)} image encoders and {len(decoders)} mask decoders; "
                             "an export has one encoder and at least one decoder")
        return Export(path, str(content["variant"]), int(content["image_size"]), int(content["embed_dim"]),
                      str(content["dtype"]), str(content.get("quantization", "")), encoders[0], decoders)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a manifest that this version wrote ({type(error).__name__}: {error})") from None


def _read(path):
    if not path.is_file():
        raise ValueError(f"{path.parent}: no {MANIFEST} there; give the folder of an export (docs/export.md)")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path}: not the manifest of an export: its format is not '{FORMAT}'")
    if content.get("version") != VERSION:
        raise ValueError(f"{path}: version {content.get('version')} of the manifest; this program reads {VERSION}")
    return content


def _graph(path, entry, file_format):
    shape = f" of {entry['prompts']} x {entry['slots']}" if entry["role"] == "mask_decoder" else ""
    if file_format not in entry["files"]:
        raise ValueError(f"{path}: its {entry['role']}{shape} was not written as {file_format}, only as "
                         f"{', '.join(entry['files'])}; export again with export.formats={file_format}")
    file = entry["files"][file_format]
    target = path.parent / file["name"]
    if target.parent != path.parent:
        raise ValueError(f"{path}: names the file {file['name']} outside its folder")
    if not target.is_file():
        raise ValueError(f"{target}: missing, though {path.name} names it; export again")
    if target.stat().st_size != file["bytes"] or file_sha256(target) != file["sha256"]:
        raise ValueError(f"{target}: not the file that {path.name} describes: its size or hash differs; export again")
    specs = [tuple(TensorSpec(spec["name"], tuple(spec["shape"]), spec["dtype"]) for spec in entry[side])
             for side in ("inputs", "outputs")]
    return ExportedGraph(entry["role"], entry.get("prompts", 0), entry.get("slots", 0), *specs, target)
