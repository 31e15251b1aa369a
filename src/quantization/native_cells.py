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
"""What stands around the integer products of a quantized network, by C++ kernels: the same bits in less time.

On a CPU a quantizer is four operators and what follows a product three, each of which reads and writes all; the kernels
(src/modeling/native_codes.cc) take one pass. They round every value as often as the operators and in the same order, so
unlike those of GELU they may run where a network must equal its MindIR bit for bit.
"""
import numpy as np
from mindspore import Tensor, nn

from src.modeling.native_kernels import kernel, like_first, wanted_library
from src.modeling.replace import exchange
from src.quantization.cells import Codes, WeightedSum


class NativeCodes(nn.Cell):
    """`Codes` of a uniform quantizer, or of a twin one that is split at zero.

    Args:
        library: path of what `build_library` has made.
        codes: the Codes that it replaces.
    """

    def __init__(self, library, codes):
        super().__init__()
        self.ranges = [Tensor(np.array([end.asnumpy() for end in ends], np.float32))
                       for ends in zip(codes.scales, codes.lows, codes.highs)]
        self.kernel = kernel(library, "TinysamCodes", like_first)

    def construct(self, x):
        parts = ()
        for ends in self.ranges:
            parts += (self.kernel(x, ends),)
        return parts


class NativeWeightedSum(nn.Cell):
    """`WeightedSum` of one range or two.

    Args:
        library: path of what `build_library` has made.
        weighted_sum: the WeightedSum that it replaces.
    """

    def __init__(self, library, weighted_sum):
        super().__init__()
        self.factors = weighted_sum.factors
        self.kernel = kernel(library, "TinysamWeightedSum", like_first)

    def construct(self, sums, bias):
        if len(sums) == 1:
            return self.kernel(sums[0], self.factors[0], bias)
        return self.kernel(sums[0], self.factors[0], sums[1], self.factors[1], bias)


def use_native_cells(network):
    """Exchange what stands around integer products for the native ones, in place, where `wanted_library` has them. A
    network that will be exported is left alone by its caller.

    Returns:
        The network.
    """
    library = wanted_library()

    def native(owner, child, name):
        if type(child) is Codes and (child.kind == "uniform" or child.kind == "twin" and not child.selects):
            return NativeCodes(library, child)
        return NativeWeightedSum(library, child) if type(child) is WeightedSum else None

    return network if library is None else exchange(network, native)
