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
"""MindSpore's .ckpt container: written through mindspore.save_checkpoint, read record by record.

The file is a row of protobuf records (name, dimensions, type, bytes) and, in files of this module, a CRC-32 over all
of them. It is read here and not by mindspore.load_checkpoint, which parses a file cut between two records without
complaint and keeps a second copy of all weights, and so that the metadata does not cost a full read.
"""
import binascii
import json
from pathlib import Path

import mindspore as ms
import numpy as np
from google.protobuf.message import DecodeError
from mindspore.train.checkpoint_pb2 import Checkpoint

from src.checkpoint.atomic import write_atomically

METADATA_KEY = "metadata"  # a record that holds a JSON object; plain record types would round floats to float32
_LARGEST_METADATA = 1 << 20  # bytes of the record; larger records are skipped when only the metadata is asked for
_CRC_MARK = b"crc_num"  # followed by the CRC-32 in ten bytes, big-endian
_DTYPES = {
    "Float16": np.float16, "Float32": np.float32, "Float64": np.float64, "Bool": np.bool_,
    "Int8": np.int8, "Int16": np.int16, "Int32": np.int32, "Int64": np.int64,
    "UInt8": np.uint8, "UInt16": np.uint16, "UInt32": np.uint32, "UInt64": np.uint64,
}


def write_ckpt(path, tensors, metadata):
    """Write named tensors and a metadata dict (str, int, float values) to `path`, whole or not at all.

    tensors: dict of name -> mindspore.Tensor or Parameter. Raises ValueError for metadata that does not fit a record.
    """
    text = metadata_text(metadata)
    if 4 * len(text) > _LARGEST_METADATA // 2:  # MindSpore stores four bytes per character
        raise ValueError(f"{path}: metadata of {len(text)} characters; at most {_LARGEST_METADATA // 8} are kept")
    records = [{"name": name, "data": tensor} for name, tensor in tensors.items()]
    write_atomically(path, ".ckpt", lambda part: ms.save_checkpoint(
        records, str(part), append_dict={METADATA_KEY: text}, crc_check=True))


def metadata_text(metadata):
    """JSON text of a metadata dict; ValueError names the first entry that is not str -> str, int or float."""
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, (str, int, float)):
            raise ValueError(f"metadata entry {key!r} is {type(value).__name__}; str, int and float can be stored")
    return json.dumps(metadata, sort_keys=True)


def parse_metadata(text, source):
    """Inverse of `metadata_text`; ValueError when the text is no JSON object."""
    try:
        metadata = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{source}: its metadata is not JSON ({error})") from None
    if not isinstance(metadata, dict):
        raise ValueError(f"{source}: its metadata is a {type(metadata).__name__}, not a JSON object")
    return metadata


def read_ckpt(path, need_checksum=False):
    """All records of a .ckpt file -> (dict of name -> NumPy array, metadata dict).

    Checks the checksum when the file has one, and insists on one with `need_checksum`. bfloat16 becomes float32.
    Raises ValueError for a file that is truncated, changed or no MindSpore checkpoint.
    """
    pieces, order = {}, {}
    for tag, tensor in _records(Path(path), need_checksum=need_checksum):
        pieces.setdefault(tag, []).append(tensor.tensor_content)  # a large parameter spans several records
        order[tag] = (tensor.tensor_type, tuple(tensor.dims))
    arrays, metadata = {}, {}
    for tag, (type_name, dims) in order.items():
        content = b"".join(pieces.pop(tag))
        if type_name == "str":
            if tag == METADATA_KEY:
                metadata = parse_metadata(_text(content, path), path)
            continue
        arrays[tag] = _array(content, type_name, dims, f"{path}: {tag}")
    return arrays, metadata


def read_ckpt_metadata(path):
    """Metadata dict of a .ckpt file ({} where there is none), without its weights and without the checksum."""
    for tag, tensor in _records(Path(path), largest=_LARGEST_METADATA):
        if tag == METADATA_KEY and tensor.tensor_type == "str":
            return parse_metadata(_text(tensor.tensor_content, path), path)
    return {}


def _records(path, largest=None, need_checksum=False):
    """Yield (name, TensorProto) of every record; with `largest`, skip longer ones and leave the checksum alone."""
    size = path.stat().st_size
    if not size:
        raise ValueError(f"{path}: the file is empty")
    checksum, count = 0, 0
    with path.open("rb") as stream:
        while True:
            mark = stream.read(1)
            if mark == b"" and not need_checksum:
                return
            if mark == b"":
                raise ValueError(f"{path}: no checksum after {count} records; truncated, or of another program")
            if mark == _CRC_MARK[:1]:
                stored = mark + stream.read(len(_CRC_MARK) + 10)
                expected = _CRC_MARK + checksum.to_bytes(10, "big")
                if stored != expected and (largest is None or not stored.startswith(_CRC_MARK)):
                    raise ValueError(f"{path}: checksum differs after {count} records; the file is damaged")
                return
            header, length = _length(stream, mark)
            if mark != b"\n":  # field 1, length-delimited: the only one a checkpoint has
                raise ValueError(f"{path}: no MindSpore checkpoint, or damaged (after {count} records)")
            if length is None or length > size - stream.tell():
                raise ValueError(f"{path}: truncated after {count} records")
            count += 1
            if largest is not None and length > largest:
                stream.seek(length, 1)
                continue
            body = stream.read(length)
            checksum = binascii.crc32(body, binascii.crc32(header, checksum))
            yield _record(body, path, count)


def _length(stream, mark):
    """Protobuf varint after `mark` -> (bytes read so far, value); None as value when it does not end."""
    header, value = mark, 0
    for shift in range(0, 63, 7):
        byte = stream.read(1)
        if not byte:
            break
        header += byte
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return header, value
    return header, None


def _record(body, path, count):
    try:
        value = Checkpoint.Value.FromString(body)
        tag, _ = value.tag, value.tensor.tensor_type  # text is decoded when it is asked for
    except (DecodeError, UnicodeDecodeError):
        raise ValueError(f"{path}: record {count} is damaged") from None
    if not value.HasField("tensor"):
        raise ValueError(f"{path}: record {count} ({tag[:80]!r}) is not a tensor")
    return tag, value.tensor


def _text(content, path):
    try:
        return content.decode("utf-32-le")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: its metadata is damaged") from None


def _array(content, type_name, dims, what):
    is_bfloat16 = type_name == "BFloat16"
    if not is_bfloat16 and type_name not in _DTYPES:
        raise ValueError(f"{what} has type {type_name!r}, which is not read")
    array = np.frombuffer(content, np.uint16 if is_bfloat16 else _DTYPES[type_name]) if _fits(
        content, 2 if is_bfloat16 else np.dtype(_DTYPES[type_name]).itemsize) else None
    if dims == (0,) and array is not None and array.size == 1:
        dims = ()  # how older versions wrote a scalar
    if array is None or min(dims, default=0) < 0 or int(np.prod(dims, dtype=object)) != array.size:
        raise ValueError(f"{what} declares shape {list(dims)} of {type_name} but holds {len(content)} bytes")
    return (from_bfloat16(array) if is_bfloat16 else array).reshape(dims)


def _fits(content, item_size):
    return len(content) % item_size == 0


def from_bfloat16(bits):
    """float32 array with the values of bfloat16 bits (uint16 array); exact, as bfloat16 is float32's upper half."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
