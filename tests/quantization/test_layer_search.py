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
from types import SimpleNamespace

import numpy as np
import pytest
from mindspore import Tensor, nn

from src.quantization.layer_search import LayerSearch
from src.quantization.observe import Statistics
from src.quantization.products import Product, reduction_of
from src.quantization.settings import QuantizeSettings

RNG = np.random.default_rng(5)


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def linear(name, weight, bias=None, owner=None):
    """The Product of an `nn.Dense`; weight [out, in]."""
    dense = nn.Dense(weight.shape[1], weight.shape[0], has_bias=bias is not None)
    dense.weight.set_data(Tensor(weight))
    if bias is not None:
        dense.bias.set_data(Tensor(bias))
    return Product(name, "linear", owner, name.rpartition(".")[2], dense)


def search_of(samples, **settings):
    """A LayerSearch by differences alone. samples: [(product, its operands as they are sampled)]."""
    arrays, statistics, reductions = {}, {}, {}
    for product, operands in samples:
        statistics[product.name] = Statistics()
        for place, operand in enumerate(operands):
            arrays[f"{product.name}@{place}"] = operand
            statistics[product.name].add(place, operand, product.kind == "linear")
        reductions[product.name] = reduction_of(product, operands[0].shape)
    observer = SimpleNamespace(products=[product for product, _ in samples], statistics=statistics,
                               reductions=reductions)
    work = SimpleNamespace(open=lambda step: arrays)
    return LayerSearch(observer, QuantizeSettings(metric="mse", candidates=20, **settings), work, 1)


def test_what_no_cell_computes_exactly_is_not_written():
    """5000 products of codes near 100 by codes up to 127: each half passes 2^24."""
    product = linear("mlp.fc2", np.ones((1, 5000), np.float32))
    with pytest.raises(ValueError, match="mlp.fc2: sums of 5000 products of 8 by 8 bits pass 2.24, where they "):
        search_of([(product, [np.abs(normal(1, 4, 5000))])]).layer(product)
    six = search_of([(product, [np.abs(normal(1, 4, 5000))])], weight_bits=4, activation_bits=6).layer(product)
    assert six.activation_bits == 6 and (six.weight_codes != 0).all()
