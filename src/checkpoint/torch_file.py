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
"""Weights of a .pth or .pt file (torch >= 1.6) without torch and without running its pickle.

The file is a zip archive: <name>/data.pkl describes the tensors, <name>/data/<key> hold the numbers, uncompressed.
"""
import struct
import zipfile

import numpy as np

from src.checkpoint.ckpt_file import from_bfloat16
from src.checkpoint.torch_pickle import Refusal, StoredTensor, interpret

_LARGEST_PICKLE = 64 << 20  # bytes; ViT-H's is 0.1 MB
_WRAPPERS = ("model", "state_dict", "model_state_dict")  # keys under which training scripts keep the weights


def read_torch_file(path):
    """State dict of a torch file -> dict of name -> NumPy array (read-only views; bfloat16 as float32).

    A dict that holds the weights under `model`, `state_dict` or `model_state_dict` is unwrapped. Raises ValueError in
    one line when the archive is damaged, its pickle names anything but tensors, or a tensor does not fit its storage.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _Archive(archive, path.stat().st_size).read()
    except Refusal as refusal:
        raise ValueError(f"{path}: {' '.join(str(refusal).split())}") from None
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, RuntimeError, OverflowError, struct.error) as error:
        detail = " ".join(str(error).split())[:200]  # zipfile lets all of these through, depending on what is broken
        raise ValueError(f"{path}: truncated or damaged zip archive ({detail})") from None


class _Archive:
    """One open torch file; storages are read once, however many tensors share them."""

    def __init__(self, archive, size):
        self.archive, self.storages = archive, {}
        self.entries = {info.filename: info for info in archive.infolist()}
        declared = sum(info.file_size for info in archive.infolist())
        if declared > size or any(info.compress_type for info in archive.infolist()):
            raise Refusal(f"declares {declared} bytes in a file of {size}; torch stores its data uncompressed")
        pickles = [name for name in self.entries if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise Refusal(f"a zip archive with {len(pickles)} data.pkl, not a torch file")
        self.root = pickles[0][:-len("data.pkl")]

    def read(self):
        order = self._entry("byteorder") if self.root + "byteorder" in self.entries else b"little"
        if order != b"little":
            raise Refusal(f"byte order {order[:10]!r}; only little is read")
        if self.entries[self.root + "data.pkl"].file_size > _LARGEST_PICKLE:
            raise Refusal(f"data.pkl is larger than {_LARGEST_PICKLE >> 20} MiB")
        tensors = _state_dict(interpret(self._entry("data.pkl")))
        return {name: self._view(name, tensor) for name, tensor in tensors.items()}

    def _entry(self, name):
        if self.root + name not in self.entries:
            raise Refusal(f"no entry {name[:80]!r} in the archive")
        return self.archive.read(self.root + name)

    def _storage(self, storage):
        if storage not in self.storages:
            data = self._entry(f"data/{storage.key}")
            is_bfloat16 = storage.dtype == "bfloat16"
            item_size = 2 if is_bfloat16 else storage.dtype.itemsize
            if len(data) != item_size * storage.count:
                raise Refusal(f"storage {storage.key[:80]} declares {storage.count} elements of {item_size} bytes "
                              f"but holds {len(data)} bytes")
            numbers = np.frombuffer(data, "<u2" if is_bfloat16 else storage.dtype)
            self.storages[storage] = from_bfloat16(numbers) if is_bfloat16 else numbers
        return self.storages[storage]

    def _view(self, name, tensor):
        count = 1
        for side in tensor.size:
            count *= side
        last = tensor.offset + sum((side - 1) * step for side, step in zip(tensor.size, tensor.stride))
        if count > tensor.storage.count or (count and last >= tensor.storage.count):
            raise Refusal(f"{name[:200]} of size {list(tensor.size)} at offset {tensor.offset} does not fit its "
                          f"storage of {tensor.storage.count} elements")
        storage = self._storage(tensor.storage)
        if count == 0:
            return np.zeros(tensor.size, storage.dtype)
        strides = [step * storage.itemsize for step in tensor.stride]
        return np.lib.stride_tricks.as_strided(storage[tensor.offset:], tensor.size, strides, writeable=False)


def _state_dict(value):
    """The name -> tensor dict in the value of a pickle, unwrapped at most once."""
    if isinstance(value, dict):
        value = next((value[key] for key in _WRAPPERS if isinstance(value.get(key), dict)), value)
    if not isinstance(value, dict) or not value:
        raise Refusal(f"holds {'an empty dict' if value == {} else _kind(value)}, not a dict of tensors")
    for name, tensor in value.items():
        if not isinstance(name, str) or not isinstance(tensor, StoredTensor):
            raise Refusal(f"entry {str(name)[:200]!r} is {_kind(tensor)}, not a tensor")
    return value


def _kind(value):
    return "a tensor" if isinstance(value, StoredTensor) else f"a value of type {type(value).__name__}"
