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
"""Teacher image embeddings stored once and read by memory map (paper, section 4.1: "computed once and stored").

A cache is a folder: `meta.json` says whose embeddings these are (teacher, hash of its checkpoint, image size,
transform, dtype); `shard-RRRRR-NNNNN.bin` holds records of one size back to back; `index-RRRRR.jsonl` has one line a
record with its place and its CRC-32. Each of several ranks (RRRRR) writes shards and an index of its own, so writers
never meet; `skipped-RRRRR.json` names the pictures it could not read. A record is C x h x w float16, or, as int8, C
float32 scales followed by C x h x w codes (value = code * scale of its channel). What surprises: an index line is
written only after its record is on disk, so whatever a killed writer leaves behind, each line names a whole record; the
next start cuts what no line names and goes on. Ids alone do not tell two data sets apart, so a line also holds a coarse
print of the picture, and a picture that does not look like it is refused.
"""
import fcntl
import hashlib
import json
import os
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Dict, Iterable, List, Optional, Set, Tuple

import cv2
import numpy as np

META_NAME = "meta.json"
TRANSFORM = "longest side to image_size (antialiased bilinear), mean/std, zero padding bottom right"
DTYPES = ("float16", "int8")
PRINT_SIDE = 4  # a picture's print: grey means of a grid of 4 x 4 cells
PRINT_TOLERANCE = 4  # grey levels; decoders and resizers of other versions differ by about one

Key = Tuple[int, bool]  # (image id, flipped)


class CacheError(ValueError):
    """A cache that is missing, damaged or made by another teacher; the message names what differs."""


@dataclass(frozen=True)
class CacheMeta:
    """Whose embeddings a cache holds. Two caches with equal metas hold equal embeddings of equal images.

    Attributes:
        teacher: variant name. checkpoint_sha256: hash of its weights file. image_size: S in pixels.
        embed_dim, grid_size: C and h = w of an embedding. dtype: "float16" or "int8" with one scale a channel.
        flips: each image is stored twice, as it is and flipped left to right. transform: how pixels became input.
    """
    teacher: str
    checkpoint_sha256: str
    image_size: int
    embed_dim: int
    grid_size: int
    dtype: str
    flips: bool
    transform: str = TRANSFORM

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise CacheError(f"embedding dtype is {self.dtype!r}; it must be one of {', '.join(DTYPES)}")

    @property
    def shape(self) -> Tuple[int, int, int]:
        return self.embed_dim, self.grid_size, self.grid_size

    @property
    def record_bytes(self) -> int:
        values = self.embed_dim * self.grid_size * self.grid_size
        return 2 * values if self.dtype == "float16" else 4 * self.embed_dim + values

    def total_bytes(self, images: int) -> int:
        """Bytes of the shards of `images` images (float16 at 1024 px: 2.10 MB an image)."""
        return images * (2 if self.flips else 1) * self.record_bytes


def meta_of(teacher: Any, checkpoint: Path, dtype: str = "float16", flips: bool = False) -> CacheMeta:
    """Meta of what a teacher writes.

    Args:
        teacher: a network with `variant`, `image_size`, `embed_dim` and `grid_size`.
        checkpoint: the file its weights came from; it is hashed.
        dtype, flips: see `CacheMeta`.
    """
    digest = hashlib.sha256()
    with open(checkpoint, "rb") as file:
        for block in iter(lambda: file.read(1 << 22), b""):
            digest.update(block)
    return CacheMeta(teacher.variant, digest.hexdigest(), teacher.image_size, teacher.embed_dim, teacher.grid_size,
                     dtype, flips)


def picture_print(picture: np.ndarray) -> str:
    """Grey means of 4 x 4 cells of a picture [h, w, 3] uint8, as 32 hexadecimal digits."""
    cells = cv2.resize(picture, (PRINT_SIDE, PRINT_SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    return np.rint(cells.mean(axis=2)).astype(np.uint8).tobytes().hex()


def _same_picture(first: str, second: str) -> bool:
    values = [np.frombuffer(bytes.fromhex(text), np.uint8).astype(int) for text in (first, second)]
    return bool(np.abs(values[0] - values[1]).max() <= PRINT_TOLERANCE)


def encode_record(embedding: np.ndarray, dtype: str) -> bytes:
    """Bytes of one embedding [C, h, w]; int8 codes are round(x / scale), scale = max |x| of the channel / 127."""
    if not np.isfinite(embedding).all():
        raise CacheError("a teacher embedding is not finite; check the teacher's checkpoint and the image")
    if dtype == "float16":
        if np.abs(embedding).max() > np.finfo(np.float16).max:
            raise CacheError("a teacher embedding overflows float16; store int8 instead")
        return np.ascontiguousarray(embedding, np.float16).tobytes()
    scales = np.abs(embedding).max(axis=(1, 2)).astype(np.float32) / 127.0
    scales = np.where(scales > 0, scales, np.float32(1))
    codes = np.rint(embedding / scales[:, None, None]).astype(np.int8)
    return scales.astype(np.float32).tobytes() + codes.tobytes()


def decode_record(record: bytes, meta: CacheMeta) -> np.ndarray:
    """Embedding [C, h, w] of the bytes of one record: float16 as stored, float32 from int8."""
    if meta.dtype == "float16":
        return np.frombuffer(record, np.float16).reshape(meta.shape)
    scales = np.frombuffer(record, np.float32, meta.embed_dim)
    codes = np.frombuffer(record, np.int8, offset=4 * meta.embed_dim).reshape(meta.shape)
    return codes.astype(np.float32) * scales[:, None, None]


def read_meta(folder: Path) -> CacheMeta:
    """Meta of the cache in `folder`; a folder without one, or with another format's, raises CacheError."""
    path = Path(folder) / META_NAME
    try:
        return CacheMeta(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise CacheError(f"{folder}: holds no embedding cache ({META_NAME} is missing); "
                         "make one with scripts/run_teacher_embeddings.sh") from None
    except (TypeError, ValueError) as error:
        raise CacheError(f"{path}: is not the meta of an embedding cache ({error})") from error


def _check_same(folder: Path, found: CacheMeta, wanted: CacheMeta, ignore: Tuple[str, ...] = ()) -> None:
    differing = [(name, value, asdict(wanted)[name]) for name, value in asdict(found).items()
                 if name not in ignore and value != asdict(wanted)[name]]
    if differing:
        name, value, want = differing[0]
        raise CacheError(f"{folder}: cache was made with {name} {value!r}, this run has {want!r}; "
                         "use another folder, or make the cache anew")


def _read_index(path: Path) -> List[dict]:
    """Whole lines of an index; a last line cut short by a kill is left out."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    entries = []
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            entries.append({"image_id": int(entry["image_id"]), "flip": bool(entry["flip"]),
                            "shard": str(entry["shard"]), "offset": int(entry["offset"]), "crc32": int(entry["crc32"]),
                            "picture": bytes.fromhex(entry["picture"]).hex()})
        except (ValueError, KeyError, TypeError):
            raise CacheError(f"{path}:{number}: is not a line of an embedding index; make the cache anew") from None
    return entries


def _indexes(folder: Path) -> List[Path]:
    return sorted(Path(folder).glob("index-*.jsonl"))


def done_keys(folder: Path) -> Set[Key]:
    """(image id, flip) of every record that any rank has finished, whatever the number of ranks was."""
    return {(entry["image_id"], entry["flip"]) for path in _indexes(folder) for entry in _read_index(path)}


def _read_skipped(folder: Path) -> Dict[int, str]:
    """Image id -> reason of the pictures that writers could not read."""
    found: Dict[int, str] = {}
    for path in sorted(Path(folder).glob("skipped-*.json")):
        try:
            found.update({int(image_id): str(why) for image_id, why in json.loads(path.read_bytes()).items()})
        except (ValueError, AttributeError):
            raise CacheError(f"{path}: is not a list of skipped images; make the cache anew") from None
    return found


def _replace_text(path: Path, text: str, rank: int) -> None:
    beside = path.with_name(f"{path.name}.{rank}.tmp")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


class EmbeddingWriter:
    """Writes one rank's part of a cache, going on where an earlier run of the same rank was stopped.

    Args:
        folder: of the cache; made when absent.
        meta: what the cache holds; a cache of another meta in the folder raises CacheError.
        rank: of this writer; shard_records: records in a shard file.

    Raises:
        CacheError: also when another process writes this rank's part.
    """

    def __init__(self, folder: Path, meta: CacheMeta, rank: int = 0, shard_records: int = 512) -> None:
        self.folder, self.meta, self.rank, self.shard_records = Path(folder), meta, rank, shard_records
        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / META_NAME).exists():
            _check_same(self.folder, read_meta(self.folder), meta)
        else:
            _replace_text(self.folder / META_NAME, json.dumps(asdict(meta), indent=1), rank)
        self.index_path = self.folder / f"index-{rank:05d}.jsonl"
        self._index = open(self.index_path, "ab")  # noqa: SIM115 - closed by close()
        self._lock()
        entries = _read_index(self.index_path)
        ends = self._cut_unindexed(entries)
        self._shard: Optional[IO[bytes]] = None
        # Shards are filled in the order of their numbers: the last one is where an earlier run stopped.
        self._number = int(max(ends)[len("shard-RRRRR-"):-len(".bin")]) if ends else 0
        self._place = max(ends.items())[1] // meta.record_bytes if ends else 0

    def _lock(self) -> None:
        try:
            fcntl.flock(self._index, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._index.close()
            raise CacheError(f"{self.index_path}: another process is writing it; give every process a rank of its own, "
                             "or wait for the other one") from None
        except OSError:  # a file system without locks
            pass

    def _cut_unindexed(self, entries: List[dict]) -> Dict[str, int]:
        """Drop the bytes of a record, or of an index line, that a killed writer did not finish -> bytes by shard."""
        whole = self.index_path.read_bytes().rfind(b"\n") + 1
        os.truncate(self.index_path, whole)
        ends: Dict[str, int] = {}
        for entry in entries:
            ends[entry["shard"]] = max(ends.get(entry["shard"], 0), entry["offset"] + self.meta.record_bytes)
        for path in self.folder.glob(f"shard-{self.rank:05d}-*.bin"):
            if path.stat().st_size < ends.get(path.name, 0):
                raise CacheError(f"{path}: is shorter than its index says; delete the folder and make the cache anew")
            os.truncate(path, ends.get(path.name, 0))
        return ends

    def write(self, image_id: int, flip: bool, embedding: np.ndarray, picture: np.ndarray) -> None:
        """Append one embedding; the index line follows once the record is on disk.

        Args:
            image_id, flip: its key.
            embedding: [C, h, w] float.
            picture: [h, w, 3] uint8, what the teacher saw before normalising and padding, flipped where `flip`.
        """
        if embedding.shape != self.meta.shape:
            raise CacheError(f"embedding of image {image_id} has shape {embedding.shape}, not {self.meta.shape}")
        record = encode_record(embedding, self.meta.dtype)
        if self._place >= self.shard_records:
            self._close_shard()
            self._number, self._place = self._number + 1, 0
        name = f"shard-{self.rank:05d}-{self._number:05d}.bin"
        if self._shard is None:
            self._shard = open(self.folder / name, "ab")  # noqa: SIM115 - closed by _close_shard()
        self._shard.write(record)
        self._shard.flush()
        os.fsync(self._shard.fileno())
        line = {"image_id": int(image_id), "flip": bool(flip), "shard": name,
                "offset": self._place * self.meta.record_bytes, "crc32": zlib.crc32(record),
                "picture": picture_print(picture)}
        self._index.write(json.dumps(line).encode() + b"\n")
        self._index.flush()
        self._place += 1

    def write_skipped(self, reasons: Dict[int, str]) -> None:
        """Name the images that could not be read, so that training does without them instead of missing them."""
        _replace_text(self.folder / f"skipped-{self.rank:05d}.json",
                      json.dumps({str(image_id): why for image_id, why in reasons.items()}, indent=1), self.rank)

    def _close_shard(self) -> None:
        if self._shard is not None:
            self._shard.close()
            self._shard = None

    def close(self) -> None:
        """Close the files; the index is on disk then."""
        self._close_shard()
        self._index.flush()
        os.fsync(self._index.fileno())
        self._index.close()


class EmbeddingCache:
    """Reads a cache of any number of ranks by memory map; every record read is checked against its CRC-32.

    Args:
        folder: of the cache.
        expected: what this run's teacher would write; dtype and flips may differ, anything else raises CacheError.
    """

    def __init__(self, folder: Path, expected: CacheMeta) -> None:
        self.folder = Path(folder)
        self.meta = read_meta(self.folder)
        _check_same(self.folder, self.meta, expected, ignore=("dtype", "flips"))
        self._places: Dict[Key, Tuple[str, int, int, str]] = {}
        for path in _indexes(self.folder):
            for entry in _read_index(path):
                self._places[entry["image_id"], entry["flip"]] = (
                    entry["shard"], entry["offset"], entry["crc32"], entry["picture"])
        self.skipped = _read_skipped(self.folder)
        self._maps: Dict[str, np.ndarray] = {}
        self._check_sizes()

    def __getstate__(self) -> Dict[str, Any]:
        return {**self.__dict__, "_maps": {}}  # a memory map would travel to another process as its whole contents

    def _check_sizes(self) -> None:
        ends: Dict[str, int] = {}
        for shard, offset, _, _ in self._places.values():
            ends[shard] = max(ends.get(shard, 0), offset + self.meta.record_bytes)
        for shard, needed in sorted(ends.items()):
            path = self.folder / shard
            size = path.stat().st_size if path.exists() else 0
            if size < needed:
                raise CacheError(f"{path}: has {size} of {needed} bytes; make the cache anew "
                                 "(scripts/run_teacher_embeddings.sh with an empty folder)")

    def __len__(self) -> int:
        return len(self._places)

    def lacks(self, image_id: int) -> bool:
        """Whether the writer could not read this image, so that training has to do without it."""
        return int(image_id) in self.skipped and (int(image_id), False) not in self._places

    def require(self, image_ids: Iterable[int], flips: bool) -> None:
        """Raise CacheError unless every readable image (and its flip, where `flips`) is here."""
        if flips and not self.meta.flips:
            raise CacheError(f"{self.folder}: holds no flipped embeddings; set data.flip_probability=0, "
                             "or make the cache with embeddings.flips")
        wanted = {int(image_id): None for image_id in image_ids if not self.lacks(image_id)}
        missing = [i for i in wanted if (i, False) not in self._places or (flips and (i, True) not in self._places)]
        if missing:
            raise CacheError(f"{self.folder}: lacks {len(missing)} of {len(wanted)} images, first: id {missing[0]}; "
                             "run scripts/run_teacher_embeddings.sh again, it goes on where it stopped")

    def read(self, image_id: int, flip: bool = False, picture: Optional[np.ndarray] = None) -> np.ndarray:
        """Embedding [C, h, w] of an image, checked: float16 as stored, float32 from int8.

        Args:
            image_id, flip: its key.
            picture: [h, w, 3] uint8 as given to `EmbeddingWriter.write`; None: not compared.
        """
        try:
            shard, offset, crc32, seen = self._places[int(image_id), bool(flip)]
        except KeyError:
            raise CacheError(f"{self.folder}: has no embedding of image id {image_id}"
                             f"{' flipped' if flip else ''}") from None
        if picture is not None and not _same_picture(seen, picture_print(picture)):
            raise CacheError(f"{self.folder}: image id {image_id} is another picture there than in this data set; "
                             "make a cache of this data set")
        if shard not in self._maps:
            self._maps[shard] = np.memmap(self.folder / shard, np.uint8, "r")
        record = self._maps[shard][offset:offset + self.meta.record_bytes].tobytes()
        if zlib.crc32(record) != crc32:
            raise CacheError(f"{self.folder / shard}: record of image id {image_id} is damaged (checksum differs); "
                             "make the cache anew")
        return decode_record(record, self.meta)
