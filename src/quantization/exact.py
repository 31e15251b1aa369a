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
"""Where sums of integer codes stay exact in float32, which counts up to 2^24: the one check of search and cells."""
import numpy as np

from src.quantization.products import SOFTMAX_FIRST
from src.quantization.spec import EXACT, largest_code, largest_sum

WAY_OUT = "give it fewer bits, or float: quantize.wider=[{}] with quantize.wide_bits=32"


def halves(layer, groups=1):
    """Where a layer's sum is cut so that each part stays exact: 0 for nowhere, else an index of the weight's axis 1.

    layer: LayerScales of a linear or conv; groups: of the convolution.

    Raises:
        ValueError: even halves could pass 2^24, or a convolution in groups would have to be cut.
    """
    quantizer, = layer.inputs
    if quantizer.kind == "log2":
        return 0
    size = largest_code(quantizer)
    weight = np.abs(layer.weight_codes.astype(np.int64))
    if (weight.reshape(len(weight), -1).sum(1) * size).max() < EXACT:
        return 0
    if groups > 1:
        raise ValueError(f"{layer.name}: sums of {weight[0].size} products pass 2^24, where they stop being exact, and "
                         f"a convolution in {groups} groups cannot be cut in halves; {WAY_OUT.format(layer.name)}")
    half = weight.shape[1] // 2
    for part in (weight[:, :half], weight[:, half:]):
        if half == 0 or (part.reshape(len(part), -1).sum(1) * size).max() >= EXACT:
            raise ValueError(f"{layer.name}: sums of {weight[0].size} products of {layer.weight_bits} by "
                             f"{layer.activation_bits} bits pass 2^24, where they stop being exact; "
                             f"{WAY_OUT.format(layer.name)}")
    return half


def check_exact(layer, groups=1):
    """Raises ValueError where a LayerScales has sums that no cell computes exactly; arguments as `halves`."""
    if layer.kind != "matmul":
        halves(layer, groups)
        return
    first, second = layer.inputs
    after_softmax = layer.name.rpartition(".")[2] in SOFTMAX_FIRST
    if largest_sum(first, layer.reduction, after_softmax) * largest_code(second) > EXACT:
        raise ValueError(f"{layer.name}: sums of {layer.reduction} products pass 2^24, where they stop being exact; "
                         f"{WAY_OUT.format(layer.name)}")
