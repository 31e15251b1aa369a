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
"""COCO's JSONs: opening them with one clear line for what they are not, and the values of their records."""
import json
import math
from pathlib import Path


def read_json(path, missing):
    """What a JSON file holds. Raises ValueError, one line; `missing` is its text where there is no such file."""
    try:
        return json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{path}: {missing}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a JSON file ({error})") from None


def load_results_json(path, key, what):
    """The list of a COCO results JSON; `key` is the setting and "is" or what else it may be, for the error of a
    missing file; `what` names what the list is of. Raises ValueError, one line."""
    entries = read_json(path, f"no such file; {key} a COCO results JSON")
    if not isinstance(entries, list):
        raise ValueError(f"{path}: holds a {type(entries).__name__}, not a COCO results list of {what}")
    return entries


def load_coco_json(path):
    """The JSON's dict, checked for the lists `images`, `annotations` and, empty where absent, `categories`. Raises
    ValueError, one line."""
    try:
        content = read_json(path, "no such annotation file")
    except IsADirectoryError:
        raise ValueError(f"{path}: a folder, not a COCO-format JSON") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}, not an object with images and annotations")
    for key in ("images", "annotations"):
        if not isinstance(content.get(key), list) or not all(isinstance(item, dict) for item in content[key]):
            raise ValueError(f"{path}: no list of records under '{key}'; is it in COCO instances format?")
        if not content[key]:
            raise ValueError(f"{path}: '{key}' is empty")
    categories = content.setdefault("categories", [])
    if not isinstance(categories, list) or not all(
            isinstance(item, dict) and type(item.get("id")) is int for item in categories):
        raise ValueError(f"{path}: 'categories' is no list of records with an integer id; leave it out if there are "
                         "none")
    return content


def area_of(record):
    """A record's area in pixels; None where it states none, or something else than a finite number from 0 on."""
    area = record.get("area")
    return area if type(area) in (int, float) and 0 <= area < math.inf else None


def category_of(record):
    """A record's category id, 0 where it states none; None where that is no integer of 64 bits, as scores need it."""
    category_id = record.get("category_id", 0)
    if type(category_id) is float and category_id.is_integer():
        category_id = int(category_id)
    return category_id if type(category_id) is int and -(1 << 63) <= category_id < 1 << 63 else None


def xyxy(bbox):
    """(x0, y0, x1, y1) of COCO's [x, y, width, height]; None where it is not four finite numbers."""
    try:
        x, y, width, height = (float(value) for value in bbox)
    except (TypeError, ValueError, OverflowError):
        return None
    box = x, y, x + width, y + height
    return box if all(map(math.isfinite, box)) else None
