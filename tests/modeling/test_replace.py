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
"""Cells exchanged all over a network: what is asked about, under which name, and what runs afterwards."""
import numpy as np
from mindspore import Tensor, nn, ops

from src.modeling.replace import exchange


class Times(nn.Cell):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def construct(self, x):
        return x * self.factor


class Inner(nn.Cell):
    def __init__(self, shared):
        super().__init__()
        self.shared, self.relu = shared, ops.ReLU()

    def construct(self, x):
        return self.relu(self.shared(x))


class Outer(nn.Cell):
    """x -> relu(shared(twice(shared(x)))), one cell in two places and a primitive."""

    def __init__(self):
        super().__init__()
        self.shared = Times(3.0)
        self.parts = nn.SequentialCell(Times(2.0), Inner(self.shared))

    def construct(self, x):
        return self.parts(self.shared(x))


def test_every_place_is_asked_about_once_by_its_full_name(mode):
    asked, network = [], Outer()

    def minus(owner, child, name):
        asked.append((type(owner).__name__, type(child).__name__, name))
        return Times(-1.0) if isinstance(child, Times) else None

    assert float(network(Tensor([1.0]))[0]) == 18.0
    assert exchange(network, minus) is network
    assert asked == [("Outer", "Times", "shared"), ("Outer", "SequentialCell", "parts"),
                     ("SequentialCell", "Times", "parts.0"), ("SequentialCell", "Inner", "parts.1"),
                     ("Inner", "Times", "parts.1.shared"), ("Inner", "ReLU", "parts.1.relu")]
    np.testing.assert_array_equal(network(Tensor([-2.0, 2.0])).asnumpy(), [2.0, 0.0])  # relu(-x), in the sequence too
    assert isinstance(network.parts.cell_list[0], Times) and network.parts.cell_list[0].factor == -1.0


def test_a_cell_takes_the_place_of_a_primitive(mode):
    network = exchange(Outer(), lambda _, child, name: Times(10.0) if name == "parts.1.relu" else None)
    np.testing.assert_array_equal(network(Tensor([-1.0, 1.0])).asnumpy(), [-180.0, 180.0])
