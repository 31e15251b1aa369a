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
"""What a teacher encodes in advance: every picture of a data set as training will show it, in chunks of fixed size.

A chunk is encoded as one batch whatever is already stored: the last bits of an embedding may depend on its place in a
batch, and so a run that was killed and started again writes the same bytes as one that was not.
"""
from dataclasses import dataclass
from typing import Any, Collection, List, Sequence, Tuple

from src.data.embedding_cache import Key
from src.data.images import ImageError, longest_side_size
from src.data.records import SegmentationError
from src.data.transforms import Geometry

Item = Tuple[int, int, bool]  # (index in the data set, image id, flipped)


@dataclass(frozen=True)
class TeacherPictures:
    """Reads pictures of a data set in the geometry of training without scale jitter. Lives in the worker processes."""

    dataset: Any
    image_size: int

    def chunk(self, items: Sequence[Item]) -> List[Any]:
        """For each item the picture [h, w, 3] uint8 whose longest side is image_size, flipped where asked, or the text
        why it cannot be read."""
        read = {}
        for index, _, _ in items:
            if index not in read:
                read[index] = self._read(index)
        return [self._place(read[index], flip) for index, _, flip in items]

    def _read(self, index: int) -> Any:
        try:
            return self.dataset.read(index).image
        except (ImageError, SegmentationError) as error:
            return str(error)

    def _place(self, image: Any, flip: bool) -> Any:
        if isinstance(image, str):
            return image
        size = image.shape[:2]
        return Geometry(self.image_size, size, longest_side_size(*size, self.image_size), (0, 0), flip).image(image)


def image_count(dataset: Any) -> int:
    """Pictures of a data set, each counted once however often it is listed."""
    return len({dataset.image_id(index) for index in range(len(dataset))})


def chunks_to_write(dataset: Any, flips: bool, chunk_size: int, rank: int, size: int,
                    done: Collection[Key]) -> List[List[Item]]:
    """Chunks of one rank that hold at least one embedding that is not stored yet, in order.

    Args:
        dataset: len(), `image_id(index)`.
        flips: each picture is wanted twice.
        chunk_size: items of a chunk; the last one of a rank may be shorter.
        rank, size: every size-th picture is this rank's, whatever is done: ranks that start at different moments agree.
        done: keys that are stored, by whatever rank.
    """
    first_index = {}
    for index in range(len(dataset)):
        first_index.setdefault(int(dataset.image_id(index)), index)
    share = list(first_index.items())[rank::size]
    items = [(index, image_id, flip) for image_id, index in share for flip in ((False, True) if flips else (False,))]
    chunks = [items[start:start + chunk_size] for start in range(0, len(items), chunk_size)]
    return [chunk for chunk in chunks if any((image_id, flip) not in done for _, image_id, flip in chunk)]
