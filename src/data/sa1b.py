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
"""SA-1B (arXiv 2304.02643, section 5): `sa_N.jpg` beside `sa_N.json` with run-length masks, in folders or in the tar
shards that are distributed. Shards stay packed: they are indexed once and members are read by their offset.
"""
import json
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from src.data.images import ImageError, read_image
from src.data.records import Annotation, Sample, SkipLog

MEMBER = re.compile(r"sa_(\d+)\.(jpg|json)$")


@dataclass(frozen=True)
class FilePart:
    """A file, or the part of a tar shard that holds one: `size` bytes from `offset` on (None: the whole file)."""

    path: Path
    offset: int = 0
    size: Optional[int] = None
    name: str = ""

    def __str__(self):
        return f"{self.path}: {self.name}" if self.name else str(self.path)

    def read(self):
        """The bytes. Raises OSError."""
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            return file.read() if self.size is None else file.read(self.size)


class Sa1bDataset:
    """Pictures and masks of SA-1B.

    Attributes:
        image_ids: the N of `sa_N`, ascending.
        skipped: SkipLog of what was left out when opening.

    Args:
        paths: folders (searched recursively) and uncompressed tar shards.
        keep_ids: collection of image ids to keep; None: all.

    Raises:
        ValueError: a path that does not exist or is no tar shard, or no picture with its JSON in all of them.
    """

    categories = ()

    def __init__(self, paths, keep_ids=None):
        if not paths:
            raise ValueError("data.paths is empty: give at least one SA-1B folder or tar shard")
        self.skipped = SkipLog()
        parts = {"jpg": {}, "json": {}}
        for path in map(Path, paths):
            if not path.exists():
                raise ValueError(f"{path}: no such folder or tar shard")
            for image_id, kind, part in _parts_of_folder(path) if path.is_dir() else _parts_of_tar(path):
                if keep_ids is None or image_id in keep_ids:
                    parts[kind].setdefault(image_id, part)
        self.image_ids = sorted(parts["jpg"].keys() & parts["json"].keys())
        for kind in parts:
            for image_id in sorted(parts[kind].keys() - set(self.image_ids)):
                self.skipped.add(f"{kind} files without their partner", parts[kind][image_id])
        if not self.image_ids:
            kept = "" if keep_ids is None else f" among the {len(keep_ids)} ids of data.image_ids"
            raise ValueError(f"{', '.join(map(str, paths))}: no sa_N.jpg with its sa_N.json{kept}; {self.skipped}")
        self._parts = [(parts["jpg"][image_id], parts["json"][image_id]) for image_id in self.image_ids]

    def __len__(self):
        return len(self._parts)

    def image_id(self, index):
        """Id of picture `index`, without reading it."""
        return self.image_ids[index]

    def read(self, index):
        """Sample of picture `index`, masks still encoded.

        Raises:
            ImageError: picture or JSON is missing, truncated or broken, or they do not belong together.
        """
        picture, annotations = self._parts[index]
        try:
            image = read_image(picture.read(), name=str(picture))
            content = json.loads(annotations.read())
            size = int(content["image"]["height"]), int(content["image"]["width"])
            masks = [_annotation(record, size) for record in content["annotations"]]
        except OSError as error:
            raise ImageError(f"{picture}: cannot be read ({error.strerror})") from None
        except ImageError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            raise ImageError(f"{annotations}: not an SA-1B annotation ({type(error).__name__}: {error})") from None
        if image.shape[:2] != size:
            height, width = image.shape[:2]
            raise ImageError(f"{picture}: {height} x {width} pixels, its JSON says {size[0]} x {size[1]}")
        return Sample(self.image_ids[index], image, masks)


def _annotation(record, size):
    x, y, width, height = record["bbox"]
    return Annotation(record["id"], 0, record["segmentation"], size, (x, y, x + width, y + height), record.get("area"))


def _parts_of_folder(folder):
    """(image id, "jpg" or "json", FilePart) of every SA-1B file below a folder, in a fixed order."""
    for path in sorted(folder.rglob("sa_*")):
        match = MEMBER.match(path.name)
        if match:
            yield int(match[1]), match[2], FilePart(path)


def _parts_of_tar(path):
    """Likewise of a tar shard; reads its headers only."""
    try:
        with tarfile.open(path, "r:") as shard:
            for member in shard:
                match = MEMBER.match(Path(member.name).name)
                if match and member.isfile():
                    yield int(match[1]), match[2], FilePart(path, member.offset_data, member.size, member.name)
    except tarfile.TarError as error:
        raise ValueError(f"{path}: not an uncompressed tar shard, or a truncated one ({error})") from None
