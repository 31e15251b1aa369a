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
"""Which pictures a rank encodes, in which chunks, and what the teacher sees of them."""
import json

import numpy as np
from PIL import Image

from src.data.coco import CocoDataset
from src.data.embedding_pictures import TeacherPictures, chunks_to_write, image_count
from src.data.images import ImageError
from src.data.records import Sample
from src.data.sa1b import Sa1bDataset
from src.data.synthetic import SyntheticDataset


class Listed:
    """Picture `index` has id ids[index] and grey value 10 * id, twice as wide as high; id 4 cannot be read."""

    def __init__(self, ids):
        self.ids, self.reads = ids, []

    def __len__(self):
        return len(self.ids)

    def image_id(self, index):
        return self.ids[index]

    def read(self, index):
        self.reads.append(index)
        if self.ids[index] == 4:
            raise ImageError("four.jpg: truncated")
        image = np.full((16, 32, 3), 10 * self.ids[index], np.uint8)
        image[:, 16:] += 100
        return Sample(self.ids[index], image, [])


def test_chunks_by_hand():
    dataset = Listed([5, 6, 5, 7, 8])  # 5 is listed twice and counts once
    assert image_count(dataset) == 4
    # Ranks take every second of 5, 6, 7, 8: rank 0 has 5 and 7 (indices 0 and 3), each as it is and flipped.
    assert chunks_to_write(dataset, True, 3, 0, 2, ()) == [[(0, 5, False), (0, 5, True), (3, 7, False)], [(3, 7, True)]]
    assert chunks_to_write(dataset, False, 2, 1, 2, ()) == [[(1, 6, False), (4, 8, False)]]


def test_a_chunk_stays_whole_until_all_of_it_is_stored():
    dataset = Listed([5, 6, 7])
    whole = chunks_to_write(dataset, False, 2, 0, 1, ())
    assert whole == [[(0, 5, False), (1, 6, False)], [(2, 7, False)]]
    assert chunks_to_write(dataset, False, 2, 0, 1, {(5, False)}) == whole
    assert chunks_to_write(dataset, False, 2, 0, 1, {(5, False), (6, False), (6, True)}) == whole[1:]


def test_ranks_share_the_same_way_whatever_is_done():
    dataset = Listed(list(range(10)))
    for done in ((), {(0, False), (3, False)}):
        shares = [[item for chunk in chunks_to_write(dataset, False, 1, rank, 3, done) for item in chunk]
                  for rank in range(3)]
        assert sorted(item[1] for share in shares for item in share) == sorted(
            set(range(10)) - {image_id for image_id, _ in done})
        assert all(image_id % 3 == rank for rank, share in enumerate(shares) for _, image_id, _ in share)


def test_pictures_are_resized_flipped_and_read_once():
    dataset = Listed([3, 4])
    plain, flipped, broken = TeacherPictures(dataset, 64).chunk([(0, 3, False), (0, 3, True), (1, 4, False)])
    assert plain.shape == (32, 64, 3)  # longest side 64
    assert (plain[:, :30] == 30).all() and (plain[:, 34:] == 130).all()
    np.testing.assert_array_equal(flipped, plain[:, ::-1])
    assert broken == "four.jpg: truncated"
    assert dataset.reads == [0, 1]


def test_every_data_set_tells_ids_without_reading(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "sa_7.jpg")
    (tmp_path / "sa_7.json").write_text("{}")
    assert Sa1bDataset([tmp_path]).image_id(0) == 7
    assert SyntheticDataset(3, 32, 1).image_id(2) == 2
    square = {"segmentation": [[0, 0, 4, 0, 4, 4]], "category_id": 1, "iscrowd": 0}
    content = {"images": [{"id": 9, "file_name": "a.jpg", "height": 8, "width": 8},
                          {"id": 2, "file_name": "b.jpg", "height": 8, "width": 8}],
               "annotations": [{"id": 1, "image_id": 9, **square}, {"id": 2, "image_id": 2, **square}]}
    for name in ("first.json", "second.json"):
        (tmp_path / name).write_text(json.dumps(content))
    twice = CocoDataset([tmp_path / "first.json", tmp_path / "second.json"], [tmp_path, tmp_path])
    assert [twice.image_id(index) for index in range(len(twice))] == [9, 2, 9, 2]
    assert image_count(twice) == 2
