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
"""Search of the scales of one product on its samples (arXiv 2312.13789, section 3.3), in NumPy.

The distance of a quantized product to the float one is the sum of (gradient * difference)^2; without gradients, of
difference^2. Scales of the two operands are searched in turn over a grid of shares of the largest value, all channels
of a weight in one pass, from the best of one with the other left float until a round changes nothing. The grid is
walked in two steps, every fourth candidate and the last, then up to three on either side of the best: a third of 100.
"""
from typing import NamedTuple

import numpy as np

from src.quantization.observe import channel_scales
from src.quantization.spec import (
    EXACT,
    GELU_MINIMUM,
    CodeRange,
    Quantizer,
    codes_of,
    largest_code,
    largest_sum,
    signed_limits,
    signed_range,
)

COARSE = 4
STYLES = ("signed", "unsigned", "offset", "twin_gelu", "twin_softmax", "log2")


class Grid(NamedTuple):
    """The paper's: `count` shares of the largest value from `low` to `high`; `rounds` over both operands."""

    low: float = 0.01
    high: float = 1.2
    count: int = 100
    rounds: int = 3

    def shares(self):
        return np.linspace(self.low, self.high, self.count)


def activation_candidates(style, bits, low, high, grid):
    """Quantizers to try for an operand seen between `low` and `high`.

    style: "signed": the paper's symmetric range. "unsigned": codes from 0. "offset": an unsigned range with a zero
        point that reaches down to `low`. "twin_gelu": negative values have a fixed scale of their own, the positive
        ones' is searched. "twin_softmax": values below a power of two have a scale of their own. "log2": one candidate.
    """
    half, levels = 2 ** (bits - 1), 2**bits - 1
    largest = max(abs(low), abs(high)) or 1.0
    if style == "log2":
        return [Quantizer("log2", bits, (CodeRange(1.0, 0, levels),))]
    if style == "twin_softmax":
        upper = CodeRange(_float32(1.0 / (half - 1)), 0, half - 1)
        splits = [2.0**-i for i in range(1, 20)]
        return [Quantizer("twin", bits, (CodeRange(_float32(split / (half - 1)), 0, half - 1), upper), split)
                for split in splits]
    quantizers = []
    for share in grid.shares():
        if style == "signed":
            quantizers.append(Quantizer("uniform", bits, (signed_range(share * largest / half, bits),)))
        elif style == "unsigned":
            quantizers.append(Quantizer("uniform", bits, (CodeRange(_float32(share * largest / levels), 0, levels),)))
        elif style == "offset":
            scale = _float32(share * ((high - min(low, 0.0)) or 1.0) / levels)
            zero = int(np.clip(np.rint(-min(low, 0.0) / scale), 0, levels))
            quantizers.append(Quantizer("uniform", bits, (CodeRange(scale, -zero, levels - zero),)))
        elif style == "twin_gelu":
            below = CodeRange(_float32(-GELU_MINIMUM / half), -half, 0)
            above = CodeRange(_float32(share * max(high, 1e-6) / (half - 1)), 0, half - 1)
            quantizers.append(Quantizer("twin", bits, (below, above), 0.0))
        else:
            raise ValueError(f"style ({style!r}) must be one of {', '.join(STYLES)}")
    return quantizers


def search_weighted(a, weight, importance, quantizers, bits, grid):
    """Scales of a linear or conv product.

    Args:
        a: [G, n, K] float32 inputs; weight: [G, K, O]; importance: [G, n, O] squared gradients, or None.
        quantizers: candidates for the inputs; bits: of the weights.
        grid: Grid.

    Returns:
        (Quantizer, scales [G * O] float32, error): error is the distance over that of a product that is all zero.
    """
    target = np.matmul(a, weight)
    groups, _, outs = weight.shape
    flat = weight.transpose(0, 2, 1).reshape(groups * outs, -1)  # [channels, K]
    widest = channel_scales(flat, bits)
    scales = widest.copy()
    chosen, _ = _search_quantizer(quantizers, target, importance, lambda q: np.matmul(q.dequantized(a), weight))
    for _ in range(grid.rounds):
        before = (chosen, scales.copy())
        scales = _search_channels(chosen.dequantized(a), weight, target, importance, widest, bits, grid)
        rounded = _dequantized_weight(weight, scales, bits)
        chosen, error = _search_quantizer(quantizers, target, importance,
                                          lambda q, rounded=rounded: np.matmul(q.dequantized(a), rounded))
        if chosen == before[0] and np.array_equal(scales, before[1]):
            break
    return chosen, scales, _share_of(error, target, importance)


def search_pair(a, b, importance, first, second, grid, reduction, after_softmax=False):
    """Quantizers of both operands of a [b, h, N, K] times b [b, h, K, M]: (Quantizer, Quantizer, error).

    Candidates whose sums of `reduction` terms could pass 2^24 are left out (`exact_candidates`).
    """
    target = np.matmul(a, b)
    first = exact_candidates(first, second, reduction, after_softmax)
    chosen = [None, _search_quantizer(second, target, importance, lambda q: np.matmul(a, q.dequantized(b)))[0]]
    for _ in range(grid.rounds):
        before = list(chosen)
        rounded = chosen[1].dequantized(b)
        chosen[0], _ = _search_quantizer(first, target, importance,
                                         lambda q, rounded=rounded: np.matmul(q.dequantized(a), rounded))
        rounded = chosen[0].dequantized(a)
        chosen[1], error = _search_quantizer(second, target, importance,
                                             lambda q, rounded=rounded: np.matmul(rounded, q.dequantized(b)))
        if chosen == before:
            break
    return chosen[0], chosen[1], _share_of(error, target, importance)


def exact_candidates(first, second, reduction, after_softmax):
    """Those of `first` whose sums with any of `second` stay within 2^24. Where some do not, the smallest scale that
    does behind a softmax comes first: of a flat one over many keys every other is too small. Without a softmax all
    stay where none does, and `check_exact` refuses what is found."""
    size = max(largest_code(q) for q in second)
    exact = [q for q in first if largest_sum(q, reduction, after_softmax) * size <= EXACT]
    if after_softmax and len(exact) < len(first) and first[-1].kind == "uniform":
        range_ = first[-1].ranges[0]._replace(scale=_float32(2 * size / EXACT))  # `largest_sum` is 2 / scale there
        exact.insert(0, first[-1]._replace(ranges=(range_,)))
    return exact or first


def distance(out, target, importance):
    """Sum of importance * (out - target)^2; importance None is 1."""
    difference = out - target
    difference *= difference
    if importance is not None:
        difference *= importance
    return float(difference.sum(dtype=np.float64))


def _search_quantizer(quantizers, target, importance, product):
    errors = {}
    for stage in (_coarse, _fine):
        for index in stage(len(quantizers), errors):
            errors[index] = distance(product(quantizers[index]), target, importance)
    best = min(errors, key=lambda index: (errors[index], index))
    return quantizers[best], errors[best]


def _search_channels(a, weight, target, importance, widest, bits, grid):
    """The best scale of each channel, all channels at once: [G * O]."""
    shares, best, least = grid.shares(), np.zeros(len(widest), int), np.full(len(widest), np.inf)
    steps = [np.full(len(widest), index) for index in _coarse(grid.count, None)]
    for stage in (steps, range(1 - COARSE, COARSE)):
        middle = best.copy()
        for step in stage:
            index = step if stage is steps else np.clip(middle + step, 0, grid.count - 1)
            scales = (shares[index] * widest).astype(np.float32)
            difference = np.matmul(a, _dequantized_weight(weight, scales, bits))
            difference -= target
            difference *= difference
            if importance is not None:
                difference *= importance
            errors = difference.sum(1, dtype=np.float64).reshape(-1)
            better = errors < least
            best, least = np.where(better, index, best), np.where(better, errors, least)
    return (shares[best] * widest).astype(np.float32)


def _coarse(count, errors):
    """Every COARSE-th of `count` candidates and the last, or all of a few."""
    return range(count) if count <= 2 * COARSE else sorted({*range(0, count, COARSE), count - 1})


def _fine(count, errors):
    """Candidates around the best so far that have not been tried."""
    best = min(errors, key=errors.get)
    return [index for index in range(max(0, best - COARSE + 1), min(count, best + COARSE)) if index not in errors]


def _dequantized_weight(weight, scales, bits):
    """weight [G, K, O], scales [G * O] -> its rounded values, same shape."""
    shaped = scales.reshape(weight.shape[0], 1, -1)
    rounded = codes_of(weight, shaped, *signed_limits(bits))
    rounded *= shaped
    return rounded


def _share_of(error, target, importance):
    whole = distance(np.zeros_like(target), target, importance)
    return error / whole if whole else 0.0


def _float32(value):
    return float(np.float32(value))
