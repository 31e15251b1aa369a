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
"""Tokens first, masks later: equal to the mask decoder that does all at once."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from src.modeling.build_sam import build_sam_around
from src.modeling.image_encoder import ImageEncoderViT
from src.modeling.sam import PromptDecoder
from src.modeling.token_first import MasksOfTokens, TokenDecoder, can_decode_tokens_first

SIDE, WIDTH, PROMPTS = 64, 32, 5


@pytest.fixture(scope="module")
def sam():
    """Biases and norms away from 0 and 1, and attention sharp, so that each of them matters."""
    def encoder(image_size):
        return ImageEncoderViT(image_size, 16, 32, 1, 2, 2, (0,), WIDTH)

    sam = build_sam_around(encoder, WIDTH, 48, SIDE, "tiny", seed=2).set_train(False)
    rng = np.random.default_rng(0)
    for parameter in sam.mask_decoder.get_parameters():
        values = parameter.asnumpy()
        if parameter.name.endswith(("bias", "beta", "gamma")):
            values = values + rng.normal(0, 0.4, values.shape)
        if parameter.name.endswith(("q_proj.weight", "k_proj.weight")):
            values = values * 4
        parameter.set_data(ms.Tensor(values.astype(np.float32)))
    return sam


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(1)
    coords = rng.uniform(0, SIDE, (1, PROMPTS, 2, 2)).astype(np.float32)
    labels = np.array([[[1, -1], [0, -1], [2, 3], [1, 0], [1, -1]]], np.int32)
    embeddings = rng.normal(size=(1, WIDTH, SIDE // 16, SIDE // 16)).astype(np.float32)
    return tuple(ms.Tensor(value) for value in (embeddings, coords, labels))


def test_both_steps_equal_the_decoder(mode, sam, inputs):
    expected_masks, expected_ious = (value.asnumpy()[0] for value in PromptDecoder(sam)(*inputs)[:2])
    ious, tokens, image_tokens = TokenDecoder(sam)(*inputs)
    np.testing.assert_allclose(ious.asnumpy(), expected_ious, atol=2e-5)
    chosen = [3, 0, 3]
    masks = MasksOfTokens(sam)(image_tokens, tokens, ms.Tensor(chosen, ms.int32)).asnumpy()
    assert masks.shape == (3, 3, SIDE // 4, SIDE // 4)
    np.testing.assert_allclose(masks, expected_masks[chosen, 1:], atol=2e-5)
    # The prompts and the masks of one prompt do differ, far more than the tolerance.
    assert np.abs(np.diff(expected_masks, axis=0)).max() > 0.01 and np.abs(np.diff(expected_masks, axis=1)).max() > 0.01
    assert np.abs(np.diff(expected_ious, axis=0)).max() > 0.01


def test_parameters_keep_their_names(sam):
    names = [parameter.name for parameter in sam.get_parameters()]
    for cell in (TokenDecoder(sam), MasksOfTokens(sam)):
        assert {parameter.name for parameter in cell.get_parameters()} <= set(names)
    assert [parameter.name for parameter in sam.get_parameters()] == names


def test_a_network_with_replaced_projections_is_told_apart(sam):
    assert can_decode_tokens_first(sam)

    class Quantized(nn.Dense):
        pass

    attention = sam.mask_decoder.transformer.layers[1].cross_attn_image_to_token
    original = attention.k_proj
    attention.k_proj = Quantized(WIDTH, WIDTH // 2)
    try:
        assert not can_decode_tokens_first(sam)
    finally:
        attention.k_proj = original
    assert can_decode_tokens_first(sam)
