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
"""Hard prompts: the next click of every mask, drawn from where the prediction is wrong (arXiv 2312.13789, "online hard
prompt sampling").

Every shape is static and the randomness comes in as one number per mask, so the function runs inside a graph-mode
`while` loop. It is meant for code without gradient: comparisons cut the gradient anyway.
"""
import mindspore as ms
from mindspore import ops

from src.prompts.labels import BACKGROUND, EMPTY, FOREGROUND

REGIONS = ("error", "missed")


def sample_hard_points(gt_masks, pred_masks, noise, region="error", scale=4):
    """Draw one pixel per mask, uniformly from its error region.

    Args:
        gt_masks: [N, h, w], the label; bool, or numbers where above 0.5 is foreground.
        pred_masks: [N, h, w], the prediction, likewise (logits: pass `logits > 0`).
        noise: [N] float32, uniform in [0, 1). The floor(noise * count)-th pixel of the region, in row order, is taken.
        region: "error" takes missed foreground and wrong foreground, "missed" the paper's M_gt - M_i only.
        scale: pixels of the S x S frame per pixel of the h x w grid.

    Returns:
        coords: [N, 2] float32, (x, y) in the S x S frame. Pixel c of the grid covers the frame's pixels
            c * scale .. c * scale + scale - 1, whose middle is (c + 0.5) * scale - 0.5 in pixel indices (the prompt
            encoder adds the half pixel of SAM). 0 where the region is empty.
        labels: [N] int32: 1 on missed foreground, 0 on wrong foreground, -2 where the region is empty.

    Raises:
        ValueError: region is neither "error" nor "missed".
    """
    if region not in REGIONS:
        raise ValueError(f"hard_region ({region!r}) must be one of {', '.join(REGIONS)}")
    num_masks, height, width = gt_masks.shape
    gt = _as_float(gt_masks)
    missed = gt * (1.0 - _as_float(pred_masks))
    candidates = missed if region == "missed" else ops.abs(gt - _as_float(pred_masks))

    # Two short cumulative sums (rows, then the chosen row) instead of one over all pixels. float32 is exact to 2^24.
    row_ends = ops.cumsum(candidates.sum(axis=2), 1)  # [N, h]
    count = row_ends[:, height - 1 :]  # [N, 1]
    rank = ops.minimum(ops.floor(noise.astype(ms.float32).reshape(num_masks, 1) * count), count - 1.0)
    row = _count_not_above(row_ends, rank, height)  # [N]
    first = ops.arange(num_masks) * height + row
    columns = candidates.reshape(num_masks * height, width)[first]  # [N, w]
    row_starts = (row_ends * (ops.arange(height).reshape(1, height) == row.reshape(num_masks, 1) - 1)).sum(
        axis=1, keepdims=True
    )
    column = _count_not_above(ops.cumsum(columns, 1), rank - row_starts, width)

    found = count.reshape(num_masks) > 0.5
    on_missed = missed.reshape(num_masks * height * width)[first * width + column] > 0.5
    labels = ops.where(found, ops.where(on_missed, FOREGROUND, BACKGROUND), EMPTY).astype(ms.int32)
    coords = (ops.stack((column, row), axis=1).astype(ms.float32) + 0.5) * scale - 0.5
    return coords * found.astype(ms.float32).reshape(num_masks, 1), labels


def _as_float(masks):
    """0.0 / 1.0 of a mask of any type; booleans cannot be compared with 0.5 on every device."""
    return (masks.astype(ms.float32) > 0.5).astype(ms.float32)


def _count_not_above(ends, rank, size):
    """Bin [N] that holds element `rank` [N, 1] when bin j ends before element ends[:, j]; at most size - 1."""
    passed = (ends <= rank).astype(ms.int32).sum(axis=1)
    return ops.minimum(passed, size - 1)
