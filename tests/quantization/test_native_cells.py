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
"""The C++ kernels around integer products beside the operators that they replace: the same bits."""
import os
import shutil
import sys

import mindspore as ms
import numpy as np
import pytest

from src.modeling.native_kernels import build_library
from src.quantization.cells import Codes, WeightedSum
from src.quantization.native_cells import NativeCodes, NativeWeightedSum, use_native_cells
from src.quantization.spec import CodeRange, Quantizer
from tests.quantization.test_cells import OFFSET, SIGNED, TWIN_GELU, Chain, chain_layers

pytestmark = pytest.mark.skipif(sys.platform != "linux" or not (os.environ.get("CXX") or shutil.which("c++")),
                                reason="needs Linux and a C++ compiler")


@pytest.fixture(autouse=True, params=[1, 3])
def threads(request, monkeypatch):
    monkeypatch.setenv("TINYSAM_KERNEL_THREADS", str(request.param))


def test_codes_by_hand(mode):
    """Scale 0.5, ends -4 and 3: halves go to the even code, what is too large to the end, -0 and 0 to code 0."""
    codes = NativeCodes(build_library(), Codes(Quantizer("uniform", 3, (CodeRange(0.5, -4, 3),))))
    x = np.array([0.25, 0.75, -0.25, -0.75, 1.3, 9e9, -9e9, 0.0, -0.0], np.float32)
    assert codes(ms.Tensor(x))[0].asnumpy().tolist() == [0, 2, 0, -2, 3, 3, -4, 0, 0]
    assert np.isnan(codes(ms.Tensor(np.full(20, np.nan, np.float32)))[0].asnumpy()).all()


@pytest.mark.parametrize("quantizer", [SIGNED, OFFSET, TWIN_GELU], ids=["signed", "offset", "twin"])
def test_codes_equal_the_operators(mode, quantizer):
    """Values at borders between codes and one step beside them, in all; more than a thread takes alone."""
    rng = np.random.default_rng(3)
    scale = np.float32(quantizer.ranges[0].scale)
    borders = (np.arange(-300, 300, dtype=np.float32) + np.float32(0.5)) * scale
    x = np.concatenate([borders, np.nextafter(borders, np.float32(9)), np.nextafter(borders, np.float32(-9)),
                        rng.standard_normal(400_000).astype(np.float32) * 3])
    operators = Codes(quantizer)
    for wanted, found in zip(operators(ms.Tensor(x)), NativeCodes(build_library(), operators)(ms.Tensor(x)),
                             strict=True):
        assert np.array_equal(wanted.asnumpy(), found.asnumpy()) and len(np.unique(found.asnumpy())) > 30


@pytest.mark.parametrize("shape", [(1, 3), (70, 5000), (2, 3, 1, 1), (2, 24, 90, 70)])
@pytest.mark.parametrize("ranges", [1, 2])
def test_sums_are_rounded_as_often_as_by_the_operators(mode, shape, ranges):
    """A fused multiply and add, rounded once, gives other bits for a third of such values."""
    rng = np.random.default_rng(5)
    channels = (1, shape[1], *(1,) * (len(shape) - 2))
    factors = [rng.uniform(1e-4, 1e-2, channels).astype(np.float32) for _ in range(ranges)]
    sums = [rng.integers(-2**22, 2**22, shape).astype(np.float32) for _ in range(ranges)]
    bias = rng.standard_normal(channels).astype(np.float32)
    expected = sums[0] * factors[0]
    for part, factor in zip(sums[1:], factors[1:]):
        expected = expected + part * factor
    expected = expected + bias
    operators = WeightedSum([ms.Tensor(factor) for factor in factors])
    for cell in (operators, NativeWeightedSum(build_library(), operators)):
        found = cell(tuple(ms.Tensor(part) for part in sums), ms.Tensor(bias)).asnumpy()
        assert np.array_equal(found, expected)
    if ranges == 1 and expected.size > 1000:
        fused = (sums[0].astype(np.float64) * factors[0] + bias).astype(np.float32)
        assert np.mean(fused != expected) > 0.05  # so the case would notice


def test_a_network_keeps_its_bits_and_its_parameters(mode, monkeypatch):
    x = ms.Tensor(np.random.default_rng(1).standard_normal((1, 4, 6, 6)).astype(np.float32))
    layers = chain_layers()
    chain = Chain(layers).set_train(False)
    wanted, names = chain(x).asnumpy(), [parameter.name for parameter in chain.get_parameters()]
    with monkeypatch.context() as patch:
        patch.setenv("TINYSAM_KERNEL_THREADS", "0")
        assert not natives(use_native_cells(Chain(layers)))
    changed = use_native_cells(Chain(layers).set_train(False))
    assert natives(changed) == ["NativeCodes", "NativeWeightedSum"] * 2 + ["NativeCodes"]  # softmax keeps its selection
    assert [parameter.name for parameter in changed.get_parameters()] == names
    assert np.array_equal(changed(x).asnumpy(), wanted) and wanted.std() > 0


def natives(network):
    return [type(cell).__name__ for _, cell in network.cells_and_names() if type(cell).__name__.startswith("Native")]
