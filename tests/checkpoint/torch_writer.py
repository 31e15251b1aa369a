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
"""Writes the layout of torch.save byte by byte, good and bad, as torch is not among the requirements."""
import struct
import zipfile

import numpy as np

STORAGE_TYPES = {"float32": "FloatStorage", "float16": "HalfStorage", "float64": "DoubleStorage",
                 "int64": "LongStorage", "int32": "IntStorage", "int16": "ShortStorage", "int8": "CharStorage",
                 "uint8": "ByteStorage", "bool": "BoolStorage"}
EMPTY_ORDERED_DICT = b"ccollections\nOrderedDict\n)R"


def text(value):
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def integer(value):
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    encoded = value.to_bytes(16, "little", signed=True)
    return b"\x8a" + bytes([len(encoded)]) + encoded


def global_name(module, name):
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n"


def tuple_of(items):
    return b"(" + b"".join(items) + b"t"


def dict_of(items):
    """items: name -> opcodes of the value; an OrderedDict with attributes, as a state dict is."""
    pairs = b"".join(text(name) + value for name, value in items.items())
    attributes = b"}(" + text("_metadata") + EMPTY_ORDERED_DICT + b"u"
    return EMPTY_ORDERED_DICT + b"(" + pairs + b"u" + attributes + b"b"


def tensor(key, storage_type, count, size, stride, offset=0):
    identity = [text("storage"), global_name("torch", storage_type), text(key), text("cpu"), integer(count)]
    storage = tuple_of(identity) + b"Q"
    arguments = [storage, integer(offset), tuple_of(map(integer, size)), tuple_of(map(integer, stride)), b"\x89",
                 EMPTY_ORDERED_DICT]
    return global_name("torch._utils", "_rebuild_tensor_v2") + tuple_of(arguments) + b"R"


def program(value):
    return b"\x80\x02" + value + b"."


def write_archive(path, pickle, storages=None, entries=None, compression=zipfile.ZIP_STORED):
    """storages: key -> bytes; entries: further names -> bytes."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickle)
        archive.writestr("archive/byteorder", b"little")
        for key, data in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", data)
        for name, data in (entries or {}).items():
            archive.writestr(name, data)
    return path


def write_state_dict(path, arrays, wrapper=None, bfloat16=()):
    """arrays: name -> NumPy array, each in a storage of its own; names in `bfloat16` are cut to that type."""
    items, storages = {}, {}
    for index, (name, array) in enumerate(arrays.items()):
        kind, data = STORAGE_TYPES[str(array.dtype)], array.tobytes()
        if name in bfloat16:
            kind, data = "BFloat16Storage", (array.view(np.uint32) >> 16).astype("<u2").tobytes()
        stride = [s // array.itemsize for s in np.ascontiguousarray(array).strides] if array.ndim else []
        items[name] = tensor(str(index), kind, array.size, array.shape, stride)
        storages[str(index)] = data
    value = dict_of(items)
    return write_archive(path, program(dict_of({wrapper: value, "epoch": integer(3)}) if wrapper else value), storages)
