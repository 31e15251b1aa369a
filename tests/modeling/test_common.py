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
"""GELU against the error function in double precision, also where it saturates; tokens of an image by hand."""
import math

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from src.modeling.common import GELU, to_image, to_tokens


class SumOfGelu(nn.Cell):
    def __init__(self):
        super().__init__()
        self.gelu = GELU()

    def construct(self, x):
        return ops.sum(self.gelu(x))


@pytest.mark.parametrize("reach", [1.0, 12.0])
def test_gelu_and_its_gradient(mode, reach):
    x = np.linspace(-reach, reach, 4001).astype(np.float32)
    phi = np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in x.astype(np.float64)])
    density = np.exp(-0.5 * x.astype(np.float64) ** 2) / math.sqrt(2 * math.pi)
    np.testing.assert_allclose(GELU()(Tensor(x)).asnumpy(), x * phi, atol=1e-6)
    np.testing.assert_allclose(ms.grad(SumOfGelu())(Tensor(x)).asnumpy(), phi + x * density, atol=1e-6)


def test_gelu_far_out(mode):
    x = np.array([0.0, 1e4, -1e4, 1e18, -1e18, 3e38, -3e38], np.float32)
    np.testing.assert_array_equal(GELU()(Tensor(x)).asnumpy(), np.maximum(x, 0))
    np.testing.assert_array_equal(ms.grad(SumOfGelu())(Tensor(x)).asnumpy(), [0.5, 1, 0, 1, 0, 1, 0])


def test_tokens_are_pixels_in_raster_order():
    """Two channels of 2 x 2 pixels: 0 1 / 2 3 and 4 5 / 6 7."""
    image = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)
    tokens = to_tokens(Tensor(image))
    np.testing.assert_array_equal(tokens.asnumpy(), [[[0, 4], [1, 5], [2, 6], [3, 7]]])
    np.testing.assert_array_equal(to_image(tokens, 2).asnumpy(), image)
