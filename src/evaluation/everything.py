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
"""Segment everything, scored against labels (arXiv 2312.13789, section 4: tables of the hierarchical strategy).

Every image goes through all modes one after the other, so that they are compared in one run on one machine: "full" asks
at every point of the grid, "hierarchical" in the paper's two rounds, "full_plain" is "full" without faster decoding.
The scores are the mean over labels of the best mask's IoU, and average recall at 100 and 1000 masks, ranked by the mean
of predicted IoU and stability as SAM ranks them (arXiv 2304.02643, section 7.3). The costs are points decoded, calls of
the decoder, masks and seconds. What round two was spared and how high logits reach tell how to set tau. The paper does
not say how it matches masks with labels; best IoU is our reading.
"""
import numpy as np

from src.evaluation.image_loop import evaluate_images, seconds_per_image
from src.evaluation.proposals import label_scores

LIMITS = (100, 1000)


def evaluate_everything(generators, dataset, image_ids, labels, log, skipped, annotators=None):
    """Segment everything on each image in each mode, and score the masks.

    Args:
        generators: {mode: EverythingGenerator with output_mode "coco_rle"}.
        dataset: a CocoDataset, for the pictures.
        image_ids: the images that count; those without a label count for masks and seconds only.
        labels: {image_id: [label]} of `read_labels`; crowds are left out.
        log: a ResultsLog; images that it holds are not segmented again.
        skipped: SkipLog.
        annotators: {annotation_id: annotator} where several people labelled the same images: each one's labels are
            matched apart and an image's annotators together weigh as much as its mean number of labels. None: all
            labels of an image are matched together.

    Returns:
        scores: dict of images, labels, and modes {mode: the dict of `score_mode`}.

    Raises:
        ValueError: no image could be read.
    """
    warm = []

    def evaluate_image(image_id, image):
        if not warm:  # the seconds of every mode and image are of work alone
            for generator in generators.values():
                generator.warm_up(image)
            warm.append(True)
        groups = labels_by_annotator(labels[image_id], annotators)
        return {"modes": {mode: _segment(generator, image, groups) for mode, generator in generators.items()}}

    records = evaluate_images(dataset, image_ids, log, skipped, evaluate_image, "everything")
    modes = {mode: score_mode([record["modes"][mode] for record in records]) for mode in generators}
    counted = [label for record in records for label in labels[record["image_id"]] if not label["iscrowd"]]
    return {"images": len(records), "labels": len(counted), "modes": modes}


def labels_by_annotator(labels, annotators=None):
    """Compressed RLEs of one image's labels in groups that are matched apart: one of all, or one for each annotator."""
    groups = {}
    for label in labels:
        if not label["iscrowd"]:
            annotator = annotators[label["annotation_id"]] if annotators else None
            groups.setdefault(annotator, []).append(label["segmentation"])
    return list(groups.values())


def _segment(generator, image, groups):
    """What the log keeps of one image and mode."""
    masks, counts = generator.run(image)
    segmentations = [mask["segmentation"] for mask in masks]
    scores = [(mask["predicted_iou"] + mask["stability_score"]) / 2 for mask in masks]
    matched = [label_scores(segmentations, scores, group, LIMITS) for group in groups]
    other = counts.seconds - counts.encoder_seconds - counts.decoder_seconds
    return {"masks": len(masks), "points": counts.points, "decoder_calls": counts.decoder_calls,
            "points_saved": 1 - counts.points / counts.grid_points, "largest_logit": counts.largest_logit,
            "groups": [{"best_iou": best_iou.tolist(), "recall": recall.tolist()} for best_iou, recall in matched],
            "seconds": {"encode": counts.encoder_seconds, "decode": counts.decoder_seconds, "other": other,
                        "total": counts.seconds}}


def score_mode(records):
    """Scores of one mode.

    Args:
        records: of the images: masks, points, decoder_calls, points_saved (share of the grid's points), largest_logit
            (median over the image's masks, or None), seconds {phase: seconds}, groups [{"best_iou" [L],
            "recall" [2, L]}], a group being the labels that were matched together.

    Returns:
        dict of miou, ar100, ar1000 (means over labels, each of weight 1 / groups of its image; None without a label),
        masks_per_image, points_per_image, decoder_calls_per_image, points_saved (means), largest_logit (median over
        the images with masks, or None), seconds_per_image {phase: {"mean", "median"}}.
    """
    groups = [(group, 1 / len(record["groups"])) for record in records for group in record["groups"]]
    scores = {"miou": None, **{f"ar{limit}": None for limit in LIMITS}}
    if groups:
        weights = np.concatenate([np.full(len(group["best_iou"]), weight) for group, weight in groups])
        scores["miou"] = float(np.average(np.concatenate([group["best_iou"] for group, _ in groups]), weights=weights))
        for index, limit in enumerate(LIMITS):
            recall = np.concatenate([group["recall"][index] for group, _ in groups])
            scores[f"ar{limit}"] = float(np.average(recall, weights=weights))
    means = {f"{name}_per_image": float(np.mean([record[name] for record in records]))
             for name in ("masks", "points", "decoder_calls")}
    logits = [record["largest_logit"] for record in records if record["largest_logit"] is not None]
    means["points_saved"] = float(np.mean([record["points_saved"] for record in records]))
    return {**scores, **means, "largest_logit": float(np.median(logits)) if logits else None,
            "seconds_per_image": seconds_per_image([record["seconds"] for record in records])}
