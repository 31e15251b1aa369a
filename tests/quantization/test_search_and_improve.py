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
"""The search against brute force, and each improvement's mathematics."""
import numpy as np
import pytest

from src.quantization import improve
from src.quantization.exact import check_exact
from src.quantization.search import (
    Grid,
    _coarse,
    _fine,
    activation_candidates,
    distance,
    exact_candidates,
    search_pair,
    search_weighted,
)
from src.quantization.spec import GELU_MINIMUM, LayerScales, largest_code, largest_sum, weight_codes

RNG = np.random.default_rng(1)
SMALL = Grid(count=7, rounds=3)  # few enough that every candidate is tried


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def test_candidates_of_the_paper():
    """Shares 0.01, 0.605, 1.2 of max / 2^(b-1) = 2 / 8."""
    quantizers = activation_candidates("signed", 4, -2.0, 1.5, Grid(count=3))
    assert [q.ranges[0].scale for q in quantizers] == pytest.approx([0.0025, 0.15125, 0.3])
    assert all(q.ranges[0][1:] == (-8, 7) for q in quantizers)
    assert len(activation_candidates("signed", 8, -1, 1, Grid())) == 100


def test_of_100_candidates_a_third_is_tried():
    """0, 4, .. 96 and 99 are 26; the best, 40, has three neighbours on either side; at an end there are three."""
    coarse = list(_coarse(100, None))
    assert coarse == [*range(0, 100, 4), 99]
    for best, around in ((40, [37, 38, 39, 41, 42, 43]), (0, [1, 2, 3])):
        assert _fine(100, {index: abs(index - best) for index in coarse}) == around


def test_candidates_of_each_style_reach_what_they_must():
    unsigned, = activation_candidates("unsigned", 4, 0.0, 3.0, Grid(1, 1, 1))
    assert unsigned.ranges[0] == pytest.approx((0.2, 0, 15))
    offset, = activation_candidates("offset", 4, -0.25, 3.5, Grid(1, 1, 1))  # 3.75 / 15 = 0.25, so zero is code 1
    assert offset.ranges[0] == (0.25, -1, 14)
    silent = activation_candidates("offset", 8, 0.0, 0.0, Grid())  # never anything but 0: as if it had been up to 1
    assert silent == activation_candidates("offset", 8, 0.0, 1.0, Grid()) and len(silent) == 100
    gelu, = activation_candidates("twin_gelu", 4, -0.17, 3.5, Grid(1, 1, 1))
    assert gelu.ranges[0].scale * -8 == pytest.approx(GELU_MINIMUM) and gelu.ranges[1] == pytest.approx((0.5, 0, 7))
    soft = activation_candidates("twin_softmax", 4, 0, 1, Grid())
    assert soft[1].split == 0.25 and soft[1].ranges[0].scale == pytest.approx(0.25 / 7)
    assert soft[1].ranges[1].scale == pytest.approx(1 / 7)
    with pytest.raises(ValueError, match="style .'other'. must be one of signed, unsigned, offset"):
        activation_candidates("other", 4, 0, 1, Grid())


@pytest.mark.parametrize("groups", [1, 3])
def test_search_of_a_weighted_product_is_the_best_of_the_last_round(groups):
    a, weight = normal(groups, 40, 6), normal(groups, 6, 4)
    importance = normal(groups, 40, 4) ** 2
    quantizers = activation_candidates("signed", 4, float(a.min()), float(a.max()), SMALL)
    quantizer, scales, error = search_weighted(a, weight, importance, quantizers, 3, SMALL)
    target = a @ weight
    flat = weight.transpose(0, 2, 1).reshape(groups * 4, 6)

    def product(q, s):
        rounded = (weight_codes(flat, s, 3) * s[:, None]).reshape(groups, 4, 6).transpose(0, 2, 1)
        return q.dequantized(a) @ rounded

    best = distance(product(quantizer, scales), target, importance)
    assert error == pytest.approx(best / distance(0 * target, target, importance), rel=1e-4)
    # No other quantizer, and no other scale of any single channel, is better.
    assert best <= min(distance(product(q, scales), target, importance) for q in quantizers) * (1 + 1e-6)
    for channel in range(groups * 4):
        for share in SMALL.shares():
            other = scales.copy()
            other[channel] = share * np.abs(flat[channel]).max() / 4
            assert best <= distance(product(quantizer, other), target, importance) * (1 + 1e-6)


def test_importance_decides():
    """Two rows of a pass: the small values matter, so a scale is chosen that clips the large one."""
    a, weight = np.array([[[10.0], [0.3], [0.2]]], np.float32), np.ones((1, 1, 1), np.float32)
    grid = Grid(count=40)
    quantizers = activation_candidates("signed", 3, 0.2, 10.0, grid)
    small = np.array([[[0.0], [1.0], [1.0]]], np.float32)
    narrow, _, _ = search_weighted(a, weight, small, quantizers, 8, grid)
    wide, _, _ = search_weighted(a, weight, None, quantizers, 8, grid)
    assert narrow.ranges[0].scale < 0.15 < 1.2 < wide.ranges[0].scale


def test_the_walk_in_two_steps_finds_what_all_candidates_have():
    a, weight = normal(1, 200, 16), normal(1, 16, 8)
    quantizers = activation_candidates("signed", 6, float(a.min()), float(a.max()), Grid())
    quantizer, scales, _ = search_weighted(a, weight, None, quantizers, 6, Grid())
    rounded = (weight_codes(weight[0].T, scales, 6) * scales[:, None]).T
    errors = [distance(q.dequantized(a) @ rounded, a @ weight, None) for q in quantizers]
    assert quantizer == quantizers[int(np.argmin(errors))]


def test_search_of_a_pair_and_its_bound():
    logits = normal(2, 2, 10, 30) * 3
    a = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    b = normal(2, 2, 30, 4)
    second = activation_candidates("signed", 8, -3, 3, SMALL)
    twin = search_pair(a, b, None, activation_candidates("twin_softmax", 6, 0, 1, SMALL), second, SMALL, 30, True)
    signed = search_pair(a, b, None, activation_candidates("signed", 6, 0, 1, SMALL), second, SMALL, 30, True)
    unsigned = search_pair(a, b, None, activation_candidates("unsigned", 6, 0, 1, SMALL), second, SMALL, 30, True)
    assert twin[2] < signed[2] and unsigned[2] < signed[2]  # each halves the step, the twin where most values are
    chosen, _, _ = search_pair(a, b, None, activation_candidates("twin_softmax", 8, 0, 1, SMALL), second, SMALL, 4096,
                               True)
    assert largest_sum(chosen, 4096, True) * 128 <= 2**24


def test_sums_of_a_pair_stay_exact_with_the_codes_that_the_second_has():
    """Codes of an offset reach 247 here, not 128. The best scale for the softmax would be the smallest, 0.004 / 255,
    whose sums of 2 * 255 / 0.004 codes pass 2^24 with 247 but not with 128."""
    logits = normal(1, 1, 6, 4096)
    a = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    b = np.abs(normal(1, 1, 4096, 4)) - 0.1
    second = activation_candidates("offset", 8, -0.1, 3.0, SMALL)
    first = activation_candidates("unsigned", 8, 0.0, 0.004, Grid(1.0, 1.2, 7))
    first, second, _ = search_pair(a, b, None, first, second, SMALL, 4096, True)
    layer = LayerScales("attn.mix", "matmul", 0, 8, (first, second), 4096)
    check_exact(layer)
    assert largest_code(second) > 240
    wide = layer.inputs[0]._replace(ranges=(first.ranges[0]._replace(scale=0.004 / 255),))
    with pytest.raises(ValueError, match="attn.mix: sums of 4096 products pass 2.24, .*quantize.wider=.attn.mix. with"):
        check_exact(LayerScales("attn.mix", "matmul", 0, 8, (wide, second), 4096))


@pytest.mark.parametrize("style", ["signed", "unsigned"])
def test_a_flat_softmax_over_many_keys_has_a_scale(style):
    """1 / 4096 at most: every share of it gives sums beyond 2^24. The smallest scale whose sums do not is 2^-16, of
    which 1 / 4096 is 16."""
    a = np.full((1, 1, 2, 4096), 1 / 4096, np.float32)
    second = activation_candidates("signed", 8, -3, 3, SMALL)
    first = activation_candidates(style, 8, 0.0, 1 / 4096, Grid())
    chosen, other, found = search_pair(a, normal(1, 1, 4096, 4), None, first, second, SMALL, 4096, True)
    assert chosen.ranges[0].scale == 2.0**-16 and chosen.ranges[0].high == first[0].ranges[0].high
    check_exact(LayerScales("attn.mix", "matmul", 0, 8, (chosen, other), 4096))
    assert found < 1e-3


def test_candidates_that_fit_stay_as_they_are():
    first, second = activation_candidates("signed", 8, -1, 1, SMALL), activation_candidates("signed", 8, -1, 1, SMALL)
    assert exact_candidates(first, second, 1024, False) == first
    assert exact_candidates(first, second, 1025, False) == first  # refused by check_exact
    soft = activation_candidates("unsigned", 8, 0, 1, Grid())
    assert exact_candidates(soft, second, 4096, True) == soft
    soft = activation_candidates("unsigned", 8, 0, 0.1, Grid())  # from 0.001 / 255 on: some fit
    least, *others = exact_candidates(soft, second, 4096, True)
    assert least.ranges[0].scale == 2.0**-16 and 50 < len(others) < 100
    assert others == [q for q in soft if q.ranges[0].scale >= 2.0**-16]


def test_channel_factors_level_all_channels_and_keep_the_product():
    a, weight = normal(1, 50, 4) * np.array([1, 2, 4, 1], np.float32), normal(1, 4, 3)
    factors = improve.channel_factors(np.array([1.0, 2.0, 4.0, 1.0], np.float32))
    assert factors.tolist() == [0.5, 1, 2, 0.5]
    np.testing.assert_allclose((a / factors) @ (weight * factors[None, :, None]), a @ weight, rtol=1e-4, atol=1e-5)
    assert improve.channel_factors(np.array([0.0, 1.0, 1.0], np.float32)).min() == 1 / 16
    assert improve.channel_factors(np.zeros(3, np.float32)).tolist() == [1, 1, 1]


def test_key_signs_bring_two_modes_together_and_keep_the_product():
    keys = normal(2, 1, 4, 30) * 0.1 + np.array([3, -3, 3, -3], np.float32).reshape(1, 1, 4, 1)
    signs = improve.key_signs(keys)
    assert signs.tolist() == [[1, -1, 1, -1]]
    queries = normal(2, 1, 5, 4)
    np.testing.assert_allclose((queries * signs[None, :, None, :]) @ (keys * signs[None, :, :, None]), queries @ keys,
                               rtol=1e-4, atol=1e-4)
    assert improve.key_signs(normal(2, 1, 4, 30)) is None  # one mode: nothing to gain


def test_bias_correction_gives_the_mean_back():
    target = np.array([[[1.0, 2.0], [3.0, 4.0]]], np.float32)
    product = np.array([[[0.5, 2.0], [2.5, 5.0]]], np.float32)
    assert improve.bias_correction(target, product).tolist() == [0.5, -0.5]


def test_passed_on_rounding_makes_up_for_correlated_inputs():
    """Two equal inputs, weights 0.4 and 0.4, step 1: nearest gives 0 + 0, the error of the first is passed on to the
    second, which becomes 0.8 and is rounded to 1."""
    column = normal(1, 60, 1)
    a = np.concatenate([column, column], 2)
    codes = improve.passed_on_rounding(np.full((1, 2, 1), 0.4, np.float32), a, np.ones(1, np.float32), 4)
    assert codes[0, :, 0].tolist() == [0, 1]


@pytest.mark.parametrize("groups", [1, 5])
def test_passed_on_rounding_is_better_than_nearest_on_correlated_inputs(groups):
    a = normal(groups, 300, 12) @ normal(groups, 12, 12)
    weight = normal(groups, 12, 6)
    flat = weight.transpose(0, 2, 1).reshape(-1, 12)
    scales = (np.abs(flat).max(1) / 4).astype(np.float32)
    shaped = scales.reshape(groups, 1, 6)
    nearest = weight_codes(flat, scales, 3).reshape(groups, 6, 12).transpose(0, 2, 1)
    better = improve.passed_on_rounding(weight, a, scales, 3)
    assert better.min() >= -4 and better.max() <= 3 and np.array_equal(better, np.rint(better))
    assert distance(a @ (better * shaped), a @ weight, None) < 0.7 * distance(a @ (nearest * shaped), a @ weight, None)
