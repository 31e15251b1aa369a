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
"""Masks as records: run lengths, areas, boxes and the JSON of SAM (arXiv 2304.02643) and COCO.

Every mask that leaves the program leaves it through here: the demo's JSON, the results of an evaluation, the masks of
the everything mode. Run lengths are COCO's compressed RLE with `counts` as text, so that they fit into JSON.
"""
import json

import numpy as np
from pycocotools import mask as coco_mask

from src.checkpoint.atomic import write_atomically


def encode_masks(masks):
    """Compressed RLE of each mask.

    Args:
        masks: [N, H, W] bool or 0/1.

    Returns:
        N dicts {"size": [H, W], "counts": text}.
    """
    return encode_transposed_masks(np.ascontiguousarray(np.asarray(masks, dtype=np.uint8).transpose(0, 2, 1)))


def encode_transposed_masks(masks):
    """`encode_masks` of [N, W, H] contiguous uint8 0/1: run lengths go down columns, so nothing is copied."""
    return [{"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}
            for rle in coco_mask.encode(masks.transpose(2, 1, 0))]


def decode_mask(rle):
    """[H, W] bool of a compressed RLE."""
    return coco_mask.decode(rle).astype(bool)


def uncompressed_rle(rle):
    """{"size": [H, W], "counts": list} of a compressed RLE: lengths of runs down the columns, background first."""
    pixels = coco_mask.decode(rle).ravel(order="F")
    borders = np.flatnonzero(np.diff(pixels, prepend=np.uint8(0)))
    return {"size": list(rle["size"]), "counts": np.diff(borders, prepend=0, append=len(pixels)).tolist()}


def rle_boxes(rles):
    """Boxes of compressed RLEs: [N, 4] int64 (x0, y0, x1, y1) in pixel edges, as `mask_box`."""
    boxes = np.asarray(coco_mask.toBbox(rles), np.int64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def rle_areas(rles):
    """Pixels of each compressed RLE: list of int."""
    return [int(area) for area in coco_mask.area(rles)]


def mask_box(mask):
    """Box around a mask [H, W]: (x0, y0, x1, y1) in pixel edges (x1, y1 exclusive), zeros for an empty mask."""
    columns = np.flatnonzero(mask.any(axis=0))
    rows = np.flatnonzero(mask.any(axis=1))
    if columns.size == 0:
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def mask_record(mask, predicted_iou, point_coords=None, point_labels=None, box=None):
    """One mask in the JSON of SAM's automatic generator.

    Args:
        mask: [H, W] bool at the image's own size.
        predicted_iou: the network's estimate of the mask's IoU.
        point_coords, point_labels: [K, 2] (x, y) pixels and [K] labels of the prompt, or None.
        box: the prompt's box (x0, y0, x1, y1) in pixels, or None.

    Returns:
        dict: segmentation (RLE), area (pixels), bbox (x, y, width, height around the mask), predicted_iou, the prompt.
    """
    x0, y0, x1, y1 = mask_box(mask)
    record = {"segmentation": encode_masks(mask[None])[0], "area": int(mask.sum()),
              "bbox": [x0, y0, x1 - x0, y1 - y0], "predicted_iou": float(predicted_iou)}
    if point_coords is not None:
        record["point_coords"] = np.asarray(point_coords, dtype=float).tolist()
        record["point_labels"] = np.asarray(point_labels, dtype=int).tolist()
    if box is not None:
        record["box"] = np.asarray(box, dtype=float).tolist()
    return record


def prompt_records(masks, ious, boxes=None, points=None, labels=None, every_candidate=False):
    """Records of the masks that several objects' prompts gave.

    Args:
        masks, ious: [N, 3, H, W] bool and [N, 3], as `SamPredictor.predict_batch` returns them.
        boxes, points, labels: the prompts it was given.
        every_candidate: all three of each object, not the one of the highest predicted IoU alone.

    Returns:
        list of `mask_record` with `object`, `candidate` (from 0) and `best`.
    """
    records = []
    for index, best in enumerate(ious.argmax(axis=1).tolist()):
        for candidate in range(masks.shape[1]) if every_candidate else [best]:
            record = mask_record(masks[index, candidate], ious[index, candidate],
                                 None if points is None else points[0], None if points is None else labels[0],
                                 None if boxes is None else boxes[index])
            records.append({**record, "object": index, "candidate": candidate, "best": candidate == best})
    return records


def coco_result(image_id, category_id, segmentation, score):
    """One entry of a COCO results JSON; `segmentation` is a compressed RLE."""
    return {"image_id": int(image_id), "category_id": int(category_id), "segmentation": segmentation,
            "score": float(score)}


def write_json(path, content):
    """Write JSON so that a reader never sees half a file."""
    text = json.dumps(content, indent=1) + "\n"
    write_atomically(path, ".json", lambda part: part.write_text(text, encoding="utf-8"))
