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
"""How far a quantized model is from the float one: KL(masks) + KL(IoUs) (arXiv 2312.13789, section 3.3).

The paper does not say of which distributions: here every mask pixel and every predicted IoU is one probability of two
outcomes. At equal models the gradient of this is zero, so it says nothing about the float model: it is taken at the
quantized one.
"""
from mindspore import ops

IOU_MARGIN = 0.02  # predicted IoUs are not bounded; as probabilities they are kept this far from 0 and 1


def bernoulli_kl(p_logits, q_logits):
    """KL(P || Q) of probabilities given as logits, any shape: p (log p - log q) + (1 - p)(log(1 - p) - log(1 - q)).

    log p - log q is softplus(-q_logit) - softplus(-p_logit), finite at any logit.
    """
    p = ops.sigmoid(p_logits)
    return (p * (_softplus(-q_logits) - _softplus(-p_logits))
            + (1.0 - p) * (_softplus(q_logits) - _softplus(p_logits)))


def model_distance(float_masks, float_ious, masks, ious, valid):
    """Scalar: mean KL of the pixels of all masks of valid prompts, plus mean KL of their predicted IoUs.

    Args:
        float_masks, masks: [1, M, 4, h, w] logits.
        float_ious, ious: [1, M, 4].
        valid: [1, M] float 1/0.
    """
    count = ops.maximum(ops.sum(valid), ops.ones((), valid.dtype))
    of_masks = ops.sum(ops.mean(bernoulli_kl(float_masks, masks), (2, 3, 4)) * valid) / count
    of_ious = ops.sum(ops.mean(bernoulli_kl(_iou_logits(float_ious), _iou_logits(ious)), 2) * valid) / count
    return of_masks + of_ious


def _iou_logits(ious):
    """Predicted IoUs, clipped to [IOU_MARGIN, 1 - IOU_MARGIN], as logits."""
    inside = ops.clip_by_value(ious, IOU_MARGIN, 1.0 - IOU_MARGIN)
    return ops.log(inside) - ops.log(1.0 - inside)


def _softplus(x):
    """log(1 + exp(x)) without overflow."""
    return ops.relu(x) + ops.log1p(ops.exp(-ops.abs(x)))
