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
"""Weights of any supported file as NumPy arrays under their released (torch) names.

The container is recognised by its first bytes, whatever the file is called: torch's zip, safetensors,
MindSpore's .ckpt.
"""
from pathlib import Path

import numpy as np
import safetensors

from src.checkpoint.atomic import write_atomically
from src.checkpoint.ckpt_file import (
    METADATA_KEY,
    from_bfloat16,
    metadata_text,
    parse_metadata,
    read_ckpt,
    read_ckpt_metadata,
)
from src.checkpoint.names import torch_name
from src.checkpoint.torch_file import read_torch_file

CONTENTS_KEY = "contents"  # reserved metadata entry; TRAINING_STATE marks the files of save_state
TRAINING_STATE = "training state"
STATE_NETWORK = "student"  # the cell of a training state that read_weights takes


def read_weights(path):
    """Weights of a .safetensors, .pth, .pt or .ckpt file -> dict of torch name -> NumPy array (read-only).

    bfloat16 becomes float32; other types stay. Of a training state the weights of its student are read.
    Raises ValueError in one line for a file that is damaged, of another format, or asks for more than tensors.
    """
    path = Path(path)
    container = _container(path)
    if container == "torch":
        return read_torch_file(path)
    if container == "safetensors":
        return _read_safetensors(path)
    arrays, metadata = read_ckpt(path)
    if metadata.get(CONTENTS_KEY) == TRAINING_STATE:
        prefix = STATE_NETWORK + "."
        arrays = {name[len(prefix):]: array for name, array in arrays.items() if name.startswith(prefix)}
    weights = {torch_name(name): array for name, array in arrays.items()}
    if len(weights) != len(arrays):
        names = list(arrays)
        first = next(name for i, name in enumerate(names) if torch_name(name) in map(torch_name, names[:i]))
        raise ValueError(f"{path}: two parameters are called {torch_name(first)} in torch's terms, one of them {first}")
    return weights


def read_metadata(path):
    """Metadata that this module wrote into a file -> dict of str -> str, int or float; {} for files of others."""
    path = Path(path)
    container = _container(path)
    if container == "ckpt":
        return read_ckpt_metadata(path)
    if container == "safetensors":
        with _open_safetensors(path) as file:
            text = (file.metadata() or {}).get(METADATA_KEY)
        return parse_metadata(text, path) if text is not None else {}
    return {}


def write_safetensors(path, arrays, metadata):
    """Write arrays (dict of torch name -> NumPy array) and a metadata dict as .safetensors, whole or not at all."""
    from safetensors.numpy import save_file

    strings = {"format": "pt", METADATA_KEY: metadata_text(metadata)}  # "pt": what other readers expect of torch names
    write_atomically(path, ".safetensors", lambda part: save_file(arrays, str(part), metadata=strings))


def _container(path):
    with path.open("rb") as stream:
        start = stream.read(9)
    if not start:
        raise ValueError(f"{path}: the file is empty")
    if start.startswith(b"PK\x03\x04"):
        return "torch"
    if start[8:] == b"{":  # eight bytes of length, then the JSON header
        return "safetensors"
    if start.startswith(b"\n"):
        return "ckpt"
    if start.startswith(b"\x80"):
        raise ValueError(f"{path}: a bare pickle or the torch format before 1.6, which is not read; "
                         "save it again with torch >= 1.6")
    raise ValueError(f"{path}: not a weight file; .safetensors, .pth, .pt (torch >= 1.6) and .ckpt are read")


def _open_safetensors(path):
    try:
        return safetensors.safe_open(str(path), "numpy")
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path}: broken safetensors file ({error})") from None


def _read_safetensors(path):
    weights, bfloat16 = {}, False
    with _open_safetensors(path) as file:
        for name in file.keys():  # noqa: SIM118 - not a dict
            kind = file.get_slice(name).get_dtype()
            if kind == "BF16":
                bfloat16 = True
            elif kind[0] in "FIUB" and not kind.startswith("F8"):
                weights[name] = file.get_tensor(name)
            else:
                raise ValueError(f"{path}: {name} has type {kind}, which is not read")
    if bfloat16:  # NumPy has no such type, so the library gives the bytes only
        for name, entry in safetensors.deserialize(path.read_bytes()):
            if entry["dtype"] == "BF16":
                bits = np.frombuffer(entry["data"], "<u2")
                weights[name] = from_bfloat16(bits).reshape(entry["shape"])
    return weights
