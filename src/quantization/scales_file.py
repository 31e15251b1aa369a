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
"""Reading and writing `scales.json` and the `.npz` of integer weights beside it, whole or not at all."""
import json
import zipfile
from pathlib import Path
from typing import Any, Dict, List

import numpy as np

from src.checkpoint.atomic import write_atomically
from src.checkpoint.file_hash import file_sha256
from src.quantization.spec import FORMAT, LayerScales, Quantization, Quantizer, check_bits, signed_limits

CODES_SUFFIX = "_codes.npz"
KINDS = ("linear", "conv", "matmul")


def write_scales(path, quantization):
    """Write a Quantization as `path` (JSON) and, first, its arrays as NAME_codes.npz beside it. Returns both paths."""
    path = Path(path)
    codes = path.with_name(path.stem + CODES_SUFFIX)
    arrays = quantization.arrays()
    write_atomically(codes, ".npz", lambda part: np.savez(part, **arrays))
    text = json.dumps(quantization.record(codes.name, file_sha256(codes)), indent=1)
    write_atomically(path, ".json", lambda part: part.write_text(text, encoding="utf-8"))
    return path, codes


def read_scales(path):
    """The Quantization of a scales.json.

    Raises:
        ValueError: a file is missing or broken, the codes are not the ones the JSON was written with, or a value is
            none that quantize.py writes; one line each.
    """
    path = Path(path)
    content = _read_json_object(path, "scales.json")
    codes = path.with_name(Path(str(content.get("codes_file", ""))).name or "missing")
    if not codes.is_file():
        raise ValueError(f"{path}: its file of integer weights, {codes.name}, is not beside it")
    if file_sha256(codes) != content.get("codes_sha256"):
        raise ValueError(f"{path}: {codes.name} is not the file it was written with; run quantize.py again")
    try:
        with np.load(codes) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{codes}: cannot be read ({error})") from None
    return _quantization_of(path, content, arrays)


def _quantization_of(path, content: Dict[str, Any], arrays: Dict[str, np.ndarray]) -> Quantization:
    """Quantization of a parsed scales.json and its arrays; ValueError in one line that names the path."""
    try:
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']} is not {FORMAT}")
        for key in ("weight_bits", "activation_bits"):
            check_bits(key, content[key])
        layers: List[LayerScales] = [_layer_of(entry, arrays) for entry in content["layers"]]
        parameters = {name: arrays[f"parameter:{name}"] for name in content["parameters"]}
        return Quantization(
            content["checkpoint_sha256"], content["variant"], int(content["image_size"]), content["preset"],
            content["weight_bits"], content["activation_bits"], tuple(layers),
            {entry["name"]: entry["reason"] for entry in content["kept"]},
            {entry["name"]: int(entry["macs"]) for entry in content["kept"]}, tuple(content["wider"]), parameters,
            content["settings"], content.get("parameter_bytes"))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a whole scales.json ({type(error).__name__}: {error})") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _layer_of(entry, arrays):
    name, kind, bits = entry["name"], entry["kind"], entry["activation_bits"]
    check_bits(f"activation_bits of {name}", bits)
    inputs = tuple(_quantizer_of(name, bits, record) for record in entry["inputs"])
    if kind not in KINDS or len(inputs) != (2 if kind == "matmul" else 1):
        raise ValueError(f"{name} is a {kind} with {len(inputs)} quantizers; a matmul has two, others one")
    if kind == "matmul":
        return LayerScales(name, kind, 0, bits, inputs, entry["reduction"], entry["macs"], entry["error"])
    check_bits(f"weight_bits of {name}", entry["weight_bits"])
    scales, codes = np.asarray(entry["weight_scales"], np.float32), arrays[f"{name}.weight_codes"]
    bias = arrays.get(f"{name}.bias")
    _check_weights(name, entry["weight_bits"], scales, codes, bias)
    return LayerScales(name, kind, entry["weight_bits"], bits, inputs, entry["reduction"], entry["macs"],
                       entry["error"], scales, codes, bias)


def _quantizer_of(name, bits, record):
    """Quantizer of one operand of the layer `name`, whose activations have `bits`."""
    try:
        quantizer = Quantizer.from_record(record)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if quantizer.bits != bits:
        raise ValueError(f"{name} has a quantizer of {quantizer.bits} bits, its activation_bits are {bits}")
    return quantizer


def _check_weights(name, bits, scales, codes, bias):
    """ValueError unless these can be the weights of a layer."""
    if scales.shape != codes.shape[:1] or codes.dtype != np.int8:
        raise ValueError(f"{name} has {scales.size} weight_scales for codes {list(codes.shape)} {codes.dtype}")
    for index in np.flatnonzero(~(np.isfinite(scales) & (scales > 0)))[:1]:
        raise ValueError(f"weight scale {index} of {name} is {scales[index]}; it must be finite and positive")
    low, high = signed_limits(bits)
    for code in codes[(codes < low) | (codes > high)][:1]:
        raise ValueError(f"{name} has the weight code {code}; {bits} bits hold {low}..{high}")
    if bias is not None and not (bias.shape == scales.shape and np.isfinite(bias).all()):
        raise ValueError(f"bias of {name} is {list(bias.shape)} for {scales.size} channels, or not finite")


def _read_json_object(path, what):
    """The JSON object of a file; ValueError in one line otherwise."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; give the {what} that quantize.py wrote") from None
    except (ValueError, RecursionError, OSError) as error:
        raise ValueError(f"{path}: cannot be read as {what} ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}, not the object of a {what}")
    return content
