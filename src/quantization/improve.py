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
"""What is done better than the paper, each a function of arrays that can be checked by hand.

Moving scales of a norm's channels into the next weights (RepQ-ViT, arXiv 2212.08254), flipping signs of keys whose two
modes then meet (PTQ4SAM, arXiv 2405.03144), correcting the mean of a product (arXiv 1906.04721), and rounding that
passes its error on (GPTQ, arXiv 2210.17323). The first two change the float network without changing what it computes.
"""
import numpy as np

from src.quantization.spec import codes_of, signed_limits

MOST_CHANNEL_FACTOR = 16.0  # of one channel against the mean: beyond it weights would suffer more than inputs gain
NARROWER = 0.75  # flipped keys must span less than this share of what they spanned
DAMPING = 0.01  # GPTQ: share of the mean diagonal that is added to it


def channel_factors(channel_max):
    """Factors [C] that inputs are divided by, and weights multiplied with, so that all channels span the same.

    channel_max: [C] largest absolute value of each channel. Mean factor about 1, each within MOST_CHANNEL_FACTOR.
    """
    mean = float(channel_max.mean())
    if mean == 0:
        return np.ones_like(channel_max)
    return np.clip(channel_max / mean, 1.0 / MOST_CHANNEL_FACTOR, MOST_CHANNEL_FACTOR).astype(np.float32)


def key_signs(keys):
    """Signs [h, d] (1 or -1) that bring keys [b, h, d, M] of two modes to one side, or None where they hardly narrow.

    A product of queries and keys does not change when both flip the same channels.
    """
    means = keys.mean((0, 3))
    signs = np.where(means < 0, -1.0, 1.0).astype(np.float32)
    flipped = keys * signs[None, :, :, None]
    return signs if np.ptp(flipped) < NARROWER * np.ptp(keys) else None


def bias_correction(target, product):
    """What a bias lacks: mean over the rows of (target - product), [G, n, O] each -> [G * O] float32."""
    return (target - product).mean(1, dtype=np.float64).reshape(-1).astype(np.float32)


def passed_on_rounding(weight, a, scales, bits):
    """Integer codes of a weight by GPTQ: each input's rounding error is made up for by the inputs that follow.

    Args:
        weight: [G, K, O]; a: [G, n, K], the inputs as the product will see them; scales: [G * O]; bits: of the codes.

    Returns:
        codes [G, K, O] float32.
    """
    groups, inner, outs = weight.shape
    shaped = scales.reshape(groups, 1, outs).astype(np.float64)
    left = weight.astype(np.float64)
    codes = np.empty((groups, inner, outs))
    second = np.matmul(a.transpose(0, 2, 1).astype(np.float64), a)  # [G, K, K]
    diagonal = np.einsum("gkk->gk", second)
    diagonal += DAMPING * diagonal.mean(1, keepdims=True) + 1e-12
    # The upper factor U of H^-1 = U^T U holds in row k how a change of weight k is best made up for by those behind it.
    factor = np.linalg.cholesky(np.linalg.inv(second)).transpose(0, 2, 1)
    for k in range(inner):
        codes[:, k] = codes_of(left[:, k], shaped[:, 0], *signed_limits(bits))
        error = (left[:, k] - codes[:, k] * shaped[:, 0]) / factor[:, k, k, None]
        left[:, k + 1:] -= factor[:, k, k + 1:, None] * error[:, None, :]
    return codes.astype(np.float32)
