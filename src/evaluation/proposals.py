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
"""Scores of masks that were proposed without a prompt from the labels: best IoU of each label, and average recall.

Both are numbers of a label, so that they can be averaged over labels, images or annotators later. Average recall is
COCO's, without categories (cocodataset.org, detection evaluation): masks take labels one to one, best score first, at
IoU thresholds .50:.05:.95; a label's recall is the share of thresholds at which it was taken.
"""
import numpy as np
from pycocotools import mask as coco_mask

THRESHOLDS = np.linspace(0.5, 0.95, 10)


def label_scores(segmentations, scores, labels, limits):
    """Best IoU and recall of each label of one image.

    Args:
        segmentations: D proposed masks, compressed RLE.
        scores: their D scores; they decide who takes a label first, and who is beyond a limit.
        labels: L labels, compressed RLE of the same size.
        limits: rising numbers of masks, such as (100, 1000).

    Returns:
        best_iou [L] of all masks, and recall [len(limits), L] of the best-scored masks up to each limit, in 0..1.
    """
    if not labels or not segmentations:
        return np.zeros(len(labels)), np.zeros((len(limits), len(labels)))
    order = np.argsort(-np.asarray(scores, float), kind="mergesort")  # equal scores keep their order, as in COCOeval
    ious = np.asarray(coco_mask.iou(segmentations, labels, [0] * len(labels)))  # [D, L]
    return ious.max(axis=0), recalls(ious[order], limits)


def recalls(ious, limits):
    """Recall [len(limits), L] of the labels from IoUs [D, L] of masks by falling score; see `label_scores`."""
    thresholds = np.minimum(THRESHOLDS, 1 - 1e-10)[:, None]
    taken = np.zeros((len(THRESHOLDS), ious.shape[1]), bool)
    rows = np.arange(len(THRESHOLDS))
    shares, done = [], 0
    for limit in limits:
        for row in ious[done:limit]:
            if row.max() >= THRESHOLDS[0]:
                free = np.where(taken | (row < thresholds), -1.0, row)  # [thresholds, L]
                best = ious.shape[1] - 1 - free[:, ::-1].argmax(axis=1)  # of equal IoUs the last label, as in COCOeval
                taken[rows, best] |= free[rows, best] >= 0
        done = limit
        shares.append(taken.mean(axis=0))
    return np.stack(shares)
