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
"""COCO-format data sets (the JSON of cocodataset.org): one reader for training and for evaluation.

Training walks over pictures with `read`; evaluation asks for `annotations_of(image_id)`. Masks stay encoded until asked
for.
"""
from pathlib import Path

from src.data.coco_json import area_of, category_of, load_coco_json, xyxy
from src.data.images import MAX_PIXELS, ImageError, read_image
from src.data.records import Annotation, Sample, SkipLog

# Several JSONs may count their pictures from 0: an id that is taken by another picture moves up by a multiple of this.
ID_STRIDE = 1 << 40
MAX_ID = 1 << 62  # ids travel as 64 bit integers


class CocoDataset:
    """Pictures and masks of one or several COCO-format JSONs.

    Attributes:
        image_ids: ids of the pictures, in file order. With `only_usable`, those with at least one usable annotation.
            With several JSONs an id already taken by another file is moved up by ID_STRIDE times the JSON's number.
        categories: the JSON's category records, in file order (of several JSONs: the first record of each id).
        image_roots: the pictures' folders, one per JSON.
        skipped: SkipLog of what was left out when opening.

    Args:
        paths: annotation JSONs.
        image_roots: one folder per JSON; empty: "images" beside each.
        keep_ids: collection of image ids to keep; None: all.
        min_area: annotations with a stated area below this many pixels are left out.
        only_usable: leave out pictures without a usable annotation (training); off: keep all (evaluation).

    Raises:
        ValueError: no path, roots that do not match, a JSON that is missing, broken or not of this format, or nothing
            usable in all of them. One line each.
    """

    def __init__(self, paths, image_roots=(), keep_ids=None, min_area=0, only_usable=True):
        paths = [Path(path) for path in paths]
        if not paths:
            raise ValueError("data.paths is empty: give at least one COCO-format JSON")
        if image_roots and len(image_roots) != len(paths):
            raise ValueError(f"data.image_roots has {len(image_roots)} folders for {len(paths)} data.paths; "
                             "give one each or none")
        self.image_roots = [Path(root) for root in image_roots] or [path.parent / "images" for path in paths]
        self.image_ids, self.categories, self.skipped = [], [], SkipLog()
        self._keep_ids, self._min_area, self._only_usable = keep_ids, min_area, only_usable
        self._images, self._annotations = {}, {}  # by image id
        self._ids = {}  # by path and size, so that a picture listed in two JSONs keeps one id
        self._records = []  # (image id, annotations), one per picture and JSON
        for number, (path, root) in enumerate(zip(paths, self.image_roots)):
            self._add(number, path, root)
        if not self._records:
            raise ValueError(f"{', '.join(map(str, paths))}: nothing usable; {self.skipped}")

    def __len__(self):
        return len(self._records)

    def image_id(self, index):
        """Id of picture `index`, without reading it."""
        return self._records[index][0]

    def read(self, index):
        """Sample of picture `index`: the decoded picture and its usable annotations.

        Raises:
            ImageError: the file is missing, broken, or not of the size that the JSON states.
        """
        image_id, annotations = self._records[index]
        return Sample(image_id, self.read_image(image_id), annotations)

    def read_image(self, image_id):
        """[H, W, 3] uint8 RGB of a picture by id, stored orientation. Raises ImageError, KeyError on an unknown id."""
        path, (height, width) = self._images[image_id]
        image = read_image(path)
        if image.shape[:2] != (height, width):
            raise ImageError(f"{path}: {image.shape[0]} x {image.shape[1]} pixels, its JSON says {height} x {width}")
        return image

    def image_path(self, image_id):
        """Path of a picture by id."""
        return self._images[image_id][0]

    def image_size(self, image_id):
        """(h, w) of a picture by id, as the JSON states it."""
        return self._images[image_id][1]

    def annotations_of(self, image_id):
        """Usable annotations of a picture by id: no crowd, nothing below min_area. Raises KeyError on an unknown id."""
        return self._annotations[image_id]

    def _add(self, number, path, root):
        content = load_coco_json(path)
        known = {category["id"] for category in self.categories}
        self.categories += [category for category in content["categories"] if category["id"] not in known]
        images, file_ids, annotation_ids = {}, {}, set()
        for record in content["images"]:
            self._add_image(number, path, root, record, images, file_ids)
        for record in content["annotations"]:
            self._add_annotation(path, record, images, file_ids, annotation_ids)
        for image_id, annotations in images.items():
            if not annotations and self._only_usable:
                self.skipped.add("images without usable annotations", self._images[image_id][0].name)
                continue
            if image_id not in self._annotations:
                self.image_ids.append(image_id)
            self._annotations[image_id] = self._annotations.get(image_id, []) + annotations
            self._records.append((image_id, annotations))

    def _add_image(self, number, path, root, record, images, file_ids):
        try:
            file_id, name = record["id"], _file_name(record, root)
            place = root / name, (int(record["height"]), int(record["width"]))
        except (KeyError, TypeError, ValueError, OverflowError):
            raise ValueError(f"{path}: image lacks id, file_name, height or width: {str(record)[:70]}") from None
        if type(file_id) is not int or min(place[1]) <= 0:
            raise ValueError(f"{path}: image {name}: id ({file_id!r}) must be an integer and the size {place[1]} "
                             "positive")
        if not -MAX_ID <= file_id < MAX_ID or place[1][0] * place[1][1] > MAX_PIXELS:
            raise ValueError(f"{path}: image {name}: id ({str(file_id)[:30]}) or size {str(place[1])[:60]} is too "
                             f"large; at most 62 bits and {MAX_PIXELS} pixels")
        if file_id in file_ids:
            raise ValueError(f"{path}: image id {file_id} occurs twice")
        if self._keep_ids is not None and file_id not in self._keep_ids:
            file_ids[file_id] = None
            return
        taken = file_id in self._images
        image_id = self._ids.setdefault(place, file_id + number * ID_STRIDE if taken else file_id)
        self._images[image_id] = place
        file_ids[file_id] = image_id
        images.setdefault(image_id, [])

    def _add_annotation(self, path, record, images, file_ids, annotation_ids):
        label = f"annotation {record.get('id')} of {path.name}"
        annotation_id = record.get("id", -1 - len(annotation_ids))
        if type(annotation_id) is not int or annotation_id in annotation_ids:  # scores are kept by id
            raise ValueError(f"{path}: annotation id {str(annotation_id)[:40]!r} is no integer or occurs twice")
        annotation_ids.add(annotation_id)
        if type(record.get("image_id")) is not int or record["image_id"] not in file_ids:
            self.skipped.add("annotations of unknown images", f"{label}: image {record.get('image_id')!r}")
            return
        image_id = file_ids[record["image_id"]]
        if image_id is None:  # not in keep_ids
            return
        area, category_id = area_of(record), category_of(record)
        if category_id is None:
            self.skipped.add("annotations whose category is no integer", label)
        elif record.get("iscrowd"):
            self.skipped.add("crowd annotations")
        elif not record.get("segmentation"):
            self.skipped.add("annotations without a segmentation", label)
        elif area is not None and area < self._min_area:
            self.skipped.add(f"masks below {self._min_area} pixels")
        else:
            images[image_id].append(Annotation(
                annotation_id, category_id, record["segmentation"], self._images[image_id][1],
                xyxy(record.get("bbox")), area))


def _file_name(record, root):
    """A picture's file below `root`. LVIS states none, but an address that ends in split/name: split/name then, or name
    where `root` has no such folder."""
    if "file_name" in record or "coco_url" not in record:
        return record["file_name"]
    split, _, name = str(record["coco_url"]).rpartition("/")
    split = split.rpartition("/")[2]
    return f"{split}/{name}" if split and (root / split).is_dir() else name
