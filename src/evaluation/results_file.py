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
"""Masks from elsewhere: a COCO results JSON, such as the C++ program writes, as the records that are scored.

What surprises: an entry may also hold the `annotation_id` of the label whose box asked for it; from these comes the
mean IoU. Images without entries count as images without masks.
"""
import math

from src.data.coco_json import load_results_json
from src.data.records import SegmentationError, decode_segmentation
from src.inference.mask_records import encode_masks


def read_results(path, dataset, image_ids, labels, skipped):
    """Read the masks of the images that count.

    Args:
        path: the JSON, [{image_id, category_id, segmentation, score}] with or without annotation_id.
        dataset: the CocoDataset, for the sizes of the images.
        image_ids: the images that count; entries of others are left out.
        labels: {image_id: [label]} of `read_labels`; an annotation_id that is not among them is dropped.
        skipped: SkipLog that counts entries that cannot be used.

    Returns:
        Records as `score_masks` takes them, one per image, in the order of image_ids.

    Raises:
        ValueError: not a results JSON, or no usable mask in it.
    """
    entries = load_results_json(path, "eval.results is", "masks")
    known = {image_id: {label["annotation_id"] for label in labels[image_id] if not label["iscrowd"]}
             for image_id in image_ids}
    masks = {image_id: [] for image_id in image_ids}
    for number, entry in enumerate(entries):
        try:
            image_id, category_id, score = entry["image_id"], int(entry["category_id"]), float(entry["score"])
            if image_id not in masks:
                skipped.add("masks of images that do not count", f"entry {number}: image {image_id!r}")
                continue
            predicted_iou = float(entry.get("predicted_iou", score))
            is_known = entry.get("annotation_id") in known[image_id]
            mask = decode_segmentation(entry["segmentation"], dataset.image_size(image_id))
        except SegmentationError as error:
            skipped.add("entries with a damaged mask", f"entry {number}: {error}")
            continue
        except (KeyError, TypeError, ValueError, OverflowError):
            skipped.add("entries that are no masks", f"entry {number}")
            continue
        if not (math.isfinite(score) and math.isfinite(predicted_iou)):
            skipped.add("masks whose score is no number", f"entry {number}")
            continue
        masks[image_id].append({
            "category_id": category_id, "score": score, "predicted_iou": predicted_iou,
            "annotation_id": entry["annotation_id"] if is_known else None,
            "segmentation": encode_masks(mask[None])[0]})
    if not any(masks.values()):
        raise ValueError(f"{path}: no usable mask among {len(entries)} entries; {skipped}")
    return [{"image_id": image_id, "masks": found, "seconds": None} for image_id, found in masks.items()]
