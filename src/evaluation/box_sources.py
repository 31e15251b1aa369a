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
"""Where an evaluation's boxes and labels come from: a COCO-format JSON, and a COCO results JSON of a detector.

Files from elsewhere hold boxes that are inside out, outside their image, or of images nobody knows. Those are left out
and counted in a SkipLog; only when nothing is left is the file refused.
"""
import math
from typing import NamedTuple, Optional, Tuple

from src.data.coco_json import area_of, category_of, load_coco_json, load_results_json
from src.data.records import SegmentationError, decode_segmentation
from src.inference.mask_records import encode_masks, mask_box


class BoxPrompt(NamedTuple):
    """A box (x0, y0, x1, y1) in pixels, inside its image; a detector's score, or the annotation whose box it is."""
    box: Tuple[float, float, float, float]
    category_id: int
    score: Optional[float] = None
    annotation_id: Optional[int] = None


def read_labels(path, dataset, image_ids, skipped):
    """Labels of a COCO-format JSON, decoded.

    Args:
        path: the JSON.
        dataset: the CocoDataset of the same JSON.
        image_ids: the images that count.
        skipped: SkipLog that counts labels with a damaged mask.

    Returns:
        {image_id: [label]}; a label is a dict of image_id, annotation_id, category_id, segmentation (compressed RLE),
        area (pixels), box (x0, y0, x1, y1), iscrowd. Crowds are included, because COCO AP leaves out masks on them.

    Raises:
        ValueError: not one label is left.
    """
    labels = {image_id: [] for image_id in image_ids}

    def add(image_id, annotation_id, category_id, decode, area, box, iscrowd):
        try:
            mask = decode()
        except SegmentationError as error:
            skipped.add("labels with a damaged mask", error)
            return
        labels[image_id].append({
            "image_id": image_id, "annotation_id": annotation_id, "category_id": category_id, "iscrowd": iscrowd,
            "segmentation": encode_masks(mask[None])[0], "area": int(mask.sum()) if area is None else area,
            "box": box or mask_box(mask)})

    for image_id in image_ids:
        for item in dataset.annotations_of(image_id):
            add(image_id, item.annotation_id, item.category_id, item.mask, item.area, item.box, 0)
    for record in load_coco_json(path)["annotations"]:
        image_id, category_id = record.get("image_id"), category_of(record)
        if record.get("iscrowd") and category_id is not None and type(image_id) is int and image_id in labels:
            size = dataset.image_size(image_id)
            add(image_id, record.get("id"), category_id,
                lambda record=record, size=size: decode_segmentation(record.get("segmentation"), size),
                area_of(record), None, 1)
    if not any(label["iscrowd"] == 0 for of_image in labels.values() for label in of_image):
        raise ValueError(f"{path}: no usable label on {len(labels)} images; {skipped}")
    return labels


def ground_truth_boxes(labels, dataset, skipped):
    """The labels' own boxes: {image_id: [BoxPrompt]}, crowds left out, boxes without area in the image counted."""
    prompts = {image_id: [] for image_id in labels}
    for image_id, of_image in labels.items():
        for label in of_image:
            if label["iscrowd"]:
                continue
            name = f"annotation {label['annotation_id']}"
            box = box_inside(label["box"], dataset.image_size(image_id), name, skipped)
            if box:
                prompts[image_id].append(BoxPrompt(box, label["category_id"], None, label["annotation_id"]))
    if not any(prompts.values()):
        raise ValueError(f"no usable box among the labels; {skipped}")
    return prompts


def detected_boxes(path, dataset, image_ids, max_detections, skipped):
    """Boxes of a COCO results JSON, [{image_id, category_id, bbox [x, y, width, height], score}].

    Args:
        path: the JSON.
        dataset: the CocoDataset; detections on images that it does not hold are counted in `skipped`.
        image_ids: the images that count.
        max_detections: kept per image, those of the highest score.

    Returns:
        {image_id: [BoxPrompt]} by falling score.

    Raises:
        ValueError: not a results JSON, or no usable box in it.
    """
    entries = load_results_json(path, "eval.boxes is 'ground_truth' or", "detections")
    known, prompts = set(dataset.image_ids), {image_id: [] for image_id in image_ids}
    for number, entry in enumerate(entries):
        label = f"entry {number}"
        try:
            image_id, category_id, score = entry["image_id"], int(entry["category_id"]), float(entry["score"])
            x, y, width, height = (float(value) for value in entry["bbox"])
            is_known = image_id in known
        except (KeyError, TypeError, ValueError, OverflowError):
            skipped.add("entries that are no detections", label)
            continue
        if not is_known:
            skipped.add("detections on unknown images", f"{label}: image {image_id!r}")
        elif image_id in prompts:
            box = box_inside((x, y, x + width, y + height), dataset.image_size(image_id), label, skipped)
            if box and math.isfinite(score):
                prompts[image_id].append(BoxPrompt(box, category_id, score))
            elif box:
                skipped.add("detections whose score is no number", label)
    if not any(prompts.values()):
        raise ValueError(f"{path}: no usable box among {len(entries)} detections; {skipped}")
    return {image_id: sorted(found, key=lambda prompt: -prompt.score)[:max_detections]
            for image_id, found in prompts.items()}


def box_inside(box, size, label, skipped):
    """The part of a box (x0, y0, x1, y1) inside an image of size (h, w); None, counted in `skipped`, without area."""
    x0, y0, x1, y1 = box
    if not (all(map(math.isfinite, box)) and x0 < x1 and y0 < y1):
        skipped.add("boxes inside out or without area", f"{label}: {_text(box)}")
        return None
    clipped = max(0.0, x0), max(0.0, y0), min(float(size[1]), x1), min(float(size[0]), y1)
    if not (clipped[0] < clipped[2] and clipped[1] < clipped[3]):
        skipped.add("boxes outside their image", f"{label}: {_text(box)}")
        return None
    return clipped


def _text(box):
    return "(" + ", ".join(f"{value:g}" for value in box) + ")"
