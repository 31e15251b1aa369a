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
"""Networks made ready for quantization: BatchNorm folded into convolutions, upscalings as the linear layers they are.

Behind this every product with weights is an `nn.Dense` or an `nn.Conv2d`.
"""
import numpy as np
from mindspore import nn

from src.modeling.fold import fold_batch_norm
from src.modeling.mask_decoder import UpscaleRows
from src.modeling.replace import exchange, set_parameters


class UpscaleLinear(nn.Cell):
    """`UpscaleRows` as a linear layer `linear` of 4 * out channels: rows [L, in] -> [L*4, out]."""

    def __init__(self, linear, out_channels):
        super().__init__()
        self.linear = linear
        self.out_channels = out_channels

    def construct(self, x):
        return self.linear(x).reshape(-1, self.out_channels)


def fold_network(sam):
    """Fold a `Sam` in place, in evaluation mode; one that is folded already stays as it is. Returns it."""
    fold_batch_norm(sam)
    exchange(sam, lambda _, child, name: _linear_upscaling(child, name) if isinstance(child, UpscaleRows) else None)
    return sam.set_train(False)


def _linear_upscaling(child, name):
    weight, bias = child.weight.asnumpy(), child.bias.asnumpy()  # [in, out, 2, 2], [out]
    weight = weight.transpose(2, 3, 1, 0).reshape(-1, weight.shape[0])  # [4 * out, in]
    upscaling = UpscaleLinear(nn.Dense(weight.shape[1], weight.shape[0]), child.out_channels)
    set_parameters(upscaling.linear, f"{name}.linear", {"weight": weight, "bias": np.tile(bias, 4)})
    return upscaling
