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

import numpy as np

from src.checkpoint.atomic import write_atomically
from src.checkpoint.file_hash import file_sha256
from src.quantization.spec import quantization_of, read_json_object

CODES_SUFFIX = "_codes.npz"


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
        ValueError: a file is missing, broken, or the codes are not the ones the JSON was written with; one line each.
    """
    path = Path(path)
    content = read_json_object(path, "scales.json")
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
    return quantization_of(path, content, arrays)
