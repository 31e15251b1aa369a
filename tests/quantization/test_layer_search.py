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
"""From samples to the scales of one product: every improvement alone, and what no cell computes exactly."""
import math
from types import SimpleNamespace

import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from src.quantization.layer_search import LayerSearch
from src.quantization.observe import Statistics
from src.quantization.products import Product, reduction_of
from src.quantization.search import distance
from src.quantization.settings import QuantizeSettings

RNG = [np.random.default_rng(5)]


@pytest.fixture(autouse=True)
def the_same_numbers_whatever_ran_before():
    RNG[0] = np.random.default_rng(5)


def normal(*shape):
    return RNG[0].standard_normal(shape).astype(np.float32)


def linear(name, weight, bias=None, owner=None):
    """The Product of an `nn.Dense`; weight [out, in]."""
    dense = nn.Dense(weight.shape[1], weight.shape[0], has_bias=bias is not None)
    dense.weight.set_data(Tensor(weight))
    if bias is not None:
        dense.bias.set_data(Tensor(bias))
    return Product(name, "linear", owner, name.rpartition(".")[2], dense)


def search_of(samples, gradients=None, **settings):
    """A LayerSearch by differences alone, or weighted. samples: [(product, its operands as they are sampled)];
    gradients: {name: as they are sampled}."""
    arrays, statistics, reductions = dict(gradients or {}), {}, {}
    for product, operands in samples:
        statistics[product.name] = Statistics()
        for place, operand in enumerate(operands):
            arrays[f"{product.name}@{place}"] = operand
            statistics[product.name].add(place, operand, product.kind == "linear")
        reductions[product.name] = reduction_of(product, operands[0].shape)
    observer = SimpleNamespace(products=[product for product, _ in samples], statistics=statistics,
                               reductions=reductions)
    work = SimpleNamespace(open=lambda step: arrays)
    metric = "hessian" if gradients else "mse"
    return LayerSearch(observer, QuantizeSettings(metric=metric, candidates=20, **settings), work, 1)


def test_what_no_cell_computes_exactly_is_not_written():
    """5000 products of codes near 100 by codes up to 127: each half passes 2^24."""
    product = linear("mlp.fc2", np.ones((1, 5000), np.float32))
    with pytest.raises(ValueError, match="mlp.fc2: sums of 5000 products of 8 by 8 bits pass 2.24, where they "):
        search_of([(product, [np.abs(normal(1, 4, 5000))])]).layer(product)
    six = search_of([(product, [np.abs(normal(1, 4, 5000))])], weight_bits=4, activation_bits=6).layer(product)
    assert six.activation_bits == 6 and (six.weight_codes != 0).all()


def test_gradients_that_are_not_finite_are_refused():
    product, a, gradients = linear("mlp.fc2", normal(2, 3)), normal(1, 4, 3), normal(1, 4, 2)
    weighted = search_of([(product, [a])], {"mlp.fc2": gradients}).layer(product)
    assert 0 < weighted.error < 1e-3
    for value in (np.nan, np.inf):
        gradients[0, 1, 1] = value
        with pytest.raises(ValueError, match="^mlp.fc2 has gradients that are not finite; look at the checkpoint and"):
            search_of([(product, [a])], {"mlp.fc2": gradients}).layer(product)


def gelu(x):
    return (x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))).astype(np.float32)


def softmax(x):
    return (np.exp(x) / np.exp(x).sum(-1, keepdims=True)).astype(np.float32)


def product_of(layer, a):
    """What the quantized layer computes of a [1, n, K], before its bias: [n, O]."""
    return layer.inputs[0].dequantized(a)[0] @ (layer.weight_codes * layer.weight_scales[:, None]).T


def same_weights(a, b):
    return np.array_equal(a.weight_codes, b.weight_codes) and np.array_equal(a.weight_scales, b.weight_scales)


@pytest.fixture
def fc2():
    """(Product behind GELU with a bias, its samples [1, 300, 24]): correlated, so GPTQ has something to pass on."""
    return linear("mlp.fc2", normal(8, 24), normal(8)), [gelu(normal(1, 300, 4) @ normal(4, 24))]


SIX = {"weight_bits": 6, "activation_bits": 6}


def test_offset_gives_what_is_behind_gelu_a_zero_point_and_nothing_else(fc2):
    plain, offset = (search_of([fc2], gelu=style, **SIX).layer(fc2[0]) for style in ("signed", "offset"))
    (scale, low, high), = offset.inputs[0].ranges
    assert plain.inputs[0].ranges[0][1:] == (-32, 31) and high - low == 63 and -8 < low < 0
    assert -0.17 - scale < scale * low < -0.1  # the range ends at GELU's least value
    assert offset.error < 0.5 * plain.error
    assert np.array_equal(offset.bias, plain.bias) and search_of([fc2], gelu="offset").parameters == {}
    twin = search_of([fc2], **SIX).layer(fc2[0])  # the preset's own
    assert twin.inputs[0].kind == "twin"


def test_unsigned_codes_softmax_from_zero_and_leaves_the_values_as_they_are():
    product = Product("attn.weighted_sum", "matmul", None, "weighted_sum", ops.BatchMatMul())
    operands = [softmax(2 * normal(2, 2, 20, 30)), normal(2, 2, 30, 4)]
    layers = {style: search_of([(product, operands)], softmax=style, **SIX).layer(product)
              for style in ("signed", "unsigned", "twin", "log2")}
    assert layers["unsigned"].inputs[0].ranges[0][1:] == (0, 63)
    assert layers["signed"].inputs[0].ranges[0][1:] == (-32, 31)
    assert [layers[style].inputs[0].kind for style in ("twin", "log2")] == ["twin", "log2"]
    assert layers["unsigned"].error < 0.7 * layers["signed"].error
    assert {layer.inputs[1].ranges[0][1:] for layer in layers.values()} == {(-32, 31)}
    scores = Product("attn.scores", "matmul", None, "scores", ops.BatchMatMul())  # no softmax in front of it
    operands = [normal(2, 2, 20, 4), normal(2, 2, 4, 30)]
    found = [search_of([(scores, operands)], softmax=style, **SIX).layer(scores) for style in ("signed", "unsigned")]
    assert found[0] == found[1]


def test_reparametrise_moves_a_norm_s_scales_into_the_weights_behind_it():
    """One channel is 20 times as wide as the others: what one scale for all cannot hold, two hold."""
    gamma, beta = np.array([20, 1, 1, 0.5, 1, 1], np.float32), normal(6)
    norm = nn.LayerNorm((6,))
    norm.gamma.set_data(Tensor(gamma))
    norm.beta.set_data(Tensor(beta))
    product = linear("blocks.0.mlp.fc1", normal(5, 6) / gamma, normal(5), SimpleNamespace(norm=norm))
    normalised = normal(1, 200, 6)
    a = [normalised * gamma + beta]
    moved, plain = (search_of([(product, a)], reparametrise=switch, **SIX) for switch in (True, False))
    assert plain.parameters == {} and sorted(moved.parameters) == ["blocks.0.mlp.norm.beta", "blocks.0.mlp.norm.gamma"]
    new_gamma, new_beta = (moved.parameters[f"blocks.0.mlp.norm.{key}"] for key in ("gamma", "beta"))
    factors = gamma / new_gamma
    np.testing.assert_allclose(beta / new_beta, factors, rtol=1e-5)
    # The float product is the same, and the rounded weights are those of the moved ones.
    weight, bias, _, prepared = moved._prepared(product, a[0])
    np.testing.assert_allclose(prepared, normalised * new_gamma + new_beta, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(prepared @ weight.T, a[0] @ product.weight.T, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(weight, product.weight * factors, rtol=1e-5)
    assert np.array_equal(bias, product.bias)
    layer, other = moved.layer(product), plain.layer(product)
    rounded = layer.weight_codes * layer.weight_scales[:, None]
    assert np.abs(rounded - product.weight * factors).max() < 0.1 * np.abs(product.weight * factors).max()
    wanted = a[0][0] @ product.weight.T
    assert (distance(product_of(layer, prepared), wanted, None)
            < 0.5 * distance(product_of(other, a[0]), wanted, None))
    others = linear("blocks.0.mlp.fc2", product.weight, product.bias, product.owner)
    assert search_of([(others, a)], reparametrise=True).parameters == {}  # no norm right in front of it


def attention(keys):
    """(q_proj, k_proj, scores with their samples) of one head of 4 channels; keys [1, 1, 4, n]."""
    tokens, queries = keys[0, 0].T[None], normal(1, 10, 4)
    q_proj, k_proj = (linear(f"attn.{name}", np.eye(4, dtype=np.float32), normal(4)) for name in ("q_proj", "k_proj"))
    scores = Product("attn.scores", "matmul", None, "scores", ops.BatchMatMul())
    return [(q_proj, [queries]), (k_proj, [tokens]), (scores, [queries[:, None], keys])]


def test_the_sign_trick_flips_keys_of_two_modes_and_the_queries_with_them():
    """Channels at 3 and at -3: flipped, all lie between 2 and 4, a third of the range that they had."""
    signs = np.array([1, -1, -1, 1], np.float32)
    samples = attention(0.2 * normal(1, 1, 4, 40) + 3 * signs.reshape(1, 1, 4, 1))
    flipping, plain = search_of(samples, sign_trick=True, **SIX), search_of(samples, **SIX)
    q_proj, k_proj, scores = (product for product, _ in samples)
    for product, operands in samples[:2]:
        weight, bias, _, a = flipping._prepared(product, operands[0])
        assert np.array_equal(weight, signs[:, None] * product.weight) and np.array_equal(bias, signs * product.bias)
        assert a is operands[0]
        layer, other = flipping.layer(product), plain.layer(product)
        rounded = [one.weight_codes * one.weight_scales[:, None] for one in (layer, other)]
        assert np.array_equal(np.sign(np.diag(rounded[0])), signs) and (np.diag(rounded[1]) > 0).all()
        assert np.array_equal(layer.bias, signs * other.bias)
    # Both flip, so scores are what they were: bit for bit, but for the order in which they are added up.
    queries, keys = (operand for operand in samples[2][1])
    flipped = (queries * signs) @ (keys * signs.reshape(4, 1))
    np.testing.assert_allclose(flipped, queries @ keys, rtol=1e-6, atol=1e-6)
    layer, other = flipping.layer(scores), plain.layer(scores)
    (scale, low, high), (wide, *_) = layer.inputs[1].ranges[0], other.inputs[1].ranges[0]
    assert (low, high) == (0, 63) and scale < 0.75 * wide and layer.error < other.error
    assert flipping.parameters == {}
    assert (flipping.attentions, flipping.flipped, plain.attentions, plain.flipped) == (1, 1, 0, 0)
    one_mode = attention(normal(1, 1, 4, 40))
    quiet = search_of(one_mode, sign_trick=True, **SIX)
    assert (quiet.attentions, quiet.flipped) == (1, 0)
    assert quiet.layer(one_mode[2][0]) == search_of(one_mode, **SIX).layer(one_mode[2][0])
    assert same_weights(quiet.layer(one_mode[1][0]), search_of(one_mode, **SIX).layer(one_mode[1][0]))


def test_bias_correction_changes_the_bias_alone_and_gives_the_mean_back(fc2):
    product, (a,) = fc2
    corrected, plain = (search_of([fc2], bias_correction=switch, weight_bits=4, activation_bits=4).layer(product)
                        for switch in (True, False))
    assert same_weights(corrected, plain) and corrected.inputs == plain.inputs
    assert np.array_equal(plain.bias, product.bias)
    wanted = a[0] @ product.weight.T + product.bias
    before, after = (np.abs((product_of(one, a) + one.bias - wanted).mean(0)).max() for one in (plain, corrected))
    assert after < 1e-4 < 0.01 < before
    bare = linear("mlp.fc2", product.weight)
    layer = search_of([(bare, [a])], bias_correction=True, weight_bits=4, activation_bits=4).layer(bare)
    np.testing.assert_allclose(layer.bias, corrected.bias - plain.bias, atol=1e-6)


def test_gptq_changes_codes_alone_and_comes_nearer_to_the_float_product(fc2):
    product, (a,) = fc2
    passed_on, plain = (search_of([fc2], rounding=rounding, weight_bits=4, activation_bits=8).layer(product)
                        for rounding in ("gptq", "nearest"))
    assert np.array_equal(passed_on.weight_scales, plain.weight_scales) and passed_on.inputs == plain.inputs
    assert np.array_equal(passed_on.bias, plain.bias)
    changed = passed_on.weight_codes != plain.weight_codes
    assert 0.05 < changed.mean() < 0.9 and passed_on.weight_codes.min() >= -8 and passed_on.weight_codes.max() <= 7
    wanted = a[0] @ product.weight.T
    assert distance(product_of(passed_on, a), wanted, None) < 0.9 * distance(product_of(plain, a), wanted, None)
