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
"""Losses of the distillation (arXiv 2312.13789, section 3.2, over arXiv 2304.02643, appendix A), one function of
tensors each.

Nothing here knows a weight or a name: both are applied once, in `distiller.py`. Every loss that is read per mask
returns one number per mask, already 0 where `valid` is 0; `mean_over_valid` turns them into the scalar that is logged.
Logits, never probabilities, come in. The focal factor is applied to every pixel's cross entropy before the mean over
pixels is taken.
"""
from typing import Optional

from mindspore import Tensor, ops

FOCAL_ALPHA = 0.25  # weight of foreground pixels, 1 - alpha of background pixels
DICE_SMOOTH = 1.0   # pixels added to both sides of the fraction, so that an empty label has a loss
IOU_EPS = 1e-6      # eps of the paper's H_i, whose value it does not give


def l1_distance(student: Tensor, teacher: Tensor, kept_dims: int) -> Tensor:
    """Mean absolute difference over all but the first `kept_dims` dimensions.

    Args:
        student: tensor of any shape.
        teacher: tensor of the same shape; no gradient flows into it.
        kept_dims: leading dimensions kept, at least one fewer than the tensor has.

    Returns:
        Tensor of shape `student.shape[:kept_dims]`.
    """
    difference = ops.abs(student - ops.stop_gradient(teacher))
    return ops.mean(difference.reshape(student.shape[:kept_dims] + (-1,)), -1)


def focal_loss(logits: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """Focal loss with alpha 0.25 and gamma 2, averaged over the pixels of each mask.

    A pixel of label t in {0, 1} costs alpha_t (1 - p_t)^2 * -log(p_t). With z = logit for t = 1 and -logit for t = 0,
    p_t is sigmoid(z), so the pixel costs alpha_t sigmoid(-z)^2 softplus(-z): finite at any logit.

    Args:
        logits: [..., h, w] float.
        targets: [..., h, w] float 0/1, broadcastable to `logits`.
        valid: [...] float 1/0, broadcastable to the leading dimensions of `logits`.

    Returns:
        [...] one number per mask.
    """
    against = logits * (1.0 - 2.0 * targets)  # -z
    alpha = (1.0 - FOCAL_ALPHA) + (2.0 * FOCAL_ALPHA - 1.0) * targets
    pixels = alpha * ops.square(ops.sigmoid(against)) * _softplus(against)
    return ops.mean(pixels, (-2, -1)) * valid


def dice_loss(logits: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """Dice loss of each mask: 1 - (2 sum(p t) + 1) / (sum(p) + sum(t) + 1) with p = sigmoid(logits).

    Args and result as `focal_loss`.
    """
    probabilities = ops.sigmoid(logits)
    overlap = ops.sum(probabilities * targets, (-2, -1))
    total = ops.sum(probabilities, (-2, -1)) + ops.sum(targets, (-2, -1))
    return (1.0 - (2.0 * overlap + DICE_SMOOTH) / (total + DICE_SMOOTH)) * valid


def mask_iou(masks: Tensor, targets: Tensor) -> Tensor:
    """Intersection over union of binary masks, without gradient; 0 where both are empty.

    Args:
        masks: [..., h, w] float 0/1 or bool.
        targets: [..., h, w] float 0/1, broadcastable to `masks`.

    Returns:
        [...] float32 in 0..1.
    """
    masks = ops.stop_gradient(masks).astype(targets.dtype)
    intersection = ops.sum(masks * targets, (-2, -1))
    union = ops.sum(masks, (-2, -1)) + ops.sum(targets, (-2, -1)) - intersection
    return intersection / ops.maximum(union, ops.ones_like(union))


def hard_mask_weights(teacher_iou: Tensor, student_iou: Tensor) -> Tensor:
    """H_i = sigmoid(IoU(teacher, label) / (IoU(student, label) + eps) - 1), without gradient: 0.5 where both are
    equally good, towards 1 where only the teacher is, down to sigmoid(-1) = 0.269 where only the student is, or where
    the teacher's IoU is 0."""
    ratio = ops.stop_gradient(teacher_iou) / (ops.stop_gradient(student_iou) + IOU_EPS)
    return ops.sigmoid(ratio - 1.0)


def mean_over_valid(values: Tensor, valid: Tensor, weights: Optional[Tensor] = None,
                    count: Optional[Tensor] = None) -> Tensor:
    """Sum of the values at valid places divided by their number; 0 when none is valid.

    Args:
        values: [...] one number per prompt.
        valid: [...] float 1/0.
        weights: [...] factor per prompt that does not enter the number, or None.
        count: float scalar to divide by instead of this batch's own number of valid places, or None.
    """
    if weights is not None:
        values = values * weights
    if count is None:
        count = ops.sum(valid)
    return ops.sum(values * valid) / ops.maximum(count, ops.ones((), valid.dtype))


def _softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)) without overflow."""
    return ops.relu(x) + ops.log1p(ops.exp(-ops.abs(x)))
