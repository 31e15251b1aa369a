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
"""BatchNorm folded into convolutions: by hand, and the whole encoder's values."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from src.modeling.build_sam import build_sam
from src.modeling.fold import fold_batch_norm, folded_weights

pytestmark = pytest.mark.usefixtures("pynative")


def test_folded_weights_by_hand():
    """gamma / sqrt(var + eps) = 3 / sqrt(3 + 1) = 1.5: weight 2 -> 3, bias 0.5 - 4 * 1.5; and 1 / 2, in its channel."""
    weight, bias = folded_weights(np.array([[[[2.0]]], [[[5.0]]]]), np.array([3.0, 1.0]), np.array([0.5, 7.0]),
                                  np.array([4.0, 2.0]), np.array([3.0, 3.0]), 1.0)
    assert weight.ravel().tolist() == [3.0, 2.5] and bias.tolist() == [-5.5, 6.0]


def test_an_encoder_gives_the_same_without_its_norms():
    sam = build_sam("nano", image_size=64, seed=2).set_train(False)
    rng = np.random.default_rng(0)
    for parameter in sam.image_encoder.get_parameters():
        noise = rng.standard_normal(parameter.shape)
        if parameter.name.endswith("moving_variance"):
            parameter.set_data(ms.Tensor(np.exp(0.5 * noise).astype(np.float32)))
        elif parameter.ndim == 1:
            parameter.set_data(parameter + ms.Tensor(0.3 * noise.astype(np.float32)))
    names = {name for name, _ in sam.parameters_and_names()}
    images = ms.Tensor(rng.standard_normal((2, 3, 64, 64)).astype(np.float32))
    before = sam.image_encoder(images).asnumpy()
    folded = fold_batch_norm(sam)
    assert folded is sam and not any(isinstance(cell, nn.BatchNorm2d) for _, cell in sam.cells_and_names())
    np.testing.assert_allclose(sam.image_encoder(images).asnumpy(), before, atol=2e-5 * np.abs(before).max())
    kept = {name for name, _ in sam.parameters_and_names()}
    assert {"image_encoder.patch_embed.seq.0.weight", "image_encoder.patch_embed.seq.0.bias"} <= kept - names
    assert {name for name in names if ".bn." not in name and not name.endswith(".c.weight")} <= kept
    assert len({parameter.name for parameter in sam.get_parameters()}) == len(kept)
