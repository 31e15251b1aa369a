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
"""Prompt encoder: values worked by hand, and the mask branch against a slow NumPy version."""
from math import erf

import numpy as np
import pytest
from mindspore import Tensor

from src.modeling.prompt_encoder import PositionEmbeddingRandom, PromptEncoder

C = 8


@pytest.fixture
def encoder():
    np.random.seed(5)  # the framework's initializers draw from NumPy's global state
    return PromptEncoder(C, grid_size=2, image_size=32, mask_in_chans=16)


def table(embedding):
    return embedding.embedding_table.asnumpy()[0]


def encode(encoder, x, y):
    """Positional encoding of a share (x, y) of the image, from its definition."""
    matrix = encoder.pe_layer.positional_encoding_gaussian_matrix.asnumpy().astype(np.float64)
    phases = 2 * np.pi * ((2 * x - 1) * matrix[0] + (2 * y - 1) * matrix[1])
    return np.concatenate([np.sin(phases), np.cos(phases)])


def test_position_encoding_worked_by_hand():
    # embed_dim 4: G = [[1, 0], [0, 0.5]]. Position (0.25, 0.75) -> (-0.5, 0.5) in [-1, 1];
    # phases 2 pi (-0.5, 0.25) = (-pi, pi / 2): sines (0, 1), cosines (-1, 0).
    layer = PositionEmbeddingRandom(4)
    layer.positional_encoding_gaussian_matrix.set_data(Tensor(np.array([[1, 0], [0, 0.5]], np.float32)))
    out = layer(Tensor(np.array([[0.25, 0.75]], np.float32))).asnumpy()
    np.testing.assert_allclose(out, [[0, 1, -1, 0]], atol=1e-6)


def test_each_label_adds_its_own_row(mode, encoder):
    # image_size 32: pixel 7.5 has its centre at 8 -> 0.25 of the image, pixel 15.5 at 16 -> 0.5.
    labels = np.array([[[0, 1, 2, 3, -1, -2]]], np.int32)
    coords = np.tile(np.array([7.5, 15.5], np.float32), (1, 1, 6, 1))
    coords[0, 0, 4:] = np.nan  # never read
    sparse, _ = encoder(Tensor(coords), Tensor(labels))
    position = encode(encoder, 0.25, 0.5)
    expected = [position + table(encoder.point_embeddings[i]) for i in range(4)]
    expected += [table(encoder.not_a_point_embed), np.zeros(C)]
    np.testing.assert_allclose(sparse.asnumpy()[0, 0], expected, atol=2e-6)


def test_prompts_keep_their_places(encoder):
    coords = np.random.default_rng(0).uniform(0, 32, (2, 3, 2, 2)).astype(np.float32)
    labels = np.random.default_rng(1).integers(0, 4, (2, 3, 2)).astype(np.int32)
    sparse = encoder(Tensor(coords), Tensor(labels))[0].asnumpy()
    for index in np.ndindex(2, 3, 2):
        x, y = (coords[index].astype(np.float64) + 0.5) / 32
        expected = encode(encoder, x, y) + table(encoder.point_embeddings[int(labels[index])])
        np.testing.assert_allclose(sparse[index], expected, atol=5e-6)


def test_image_pe_runs_row_by_row_over_cell_centres(encoder):
    # A grid of 2 x 2: centres at 0.25 and 0.75; x runs fastest.
    expected = [encode(encoder, x, y) for x, y in ((0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75))]
    np.testing.assert_allclose(encoder.image_pe().asnumpy(), expected, atol=2e-6)


def test_without_a_mask_the_dense_embedding_is_one_learned_row(encoder):
    _, dense = encoder(Tensor(np.zeros((2, 3, 1, 2), np.float32)), Tensor(np.zeros((2, 3, 1), np.int32)))
    assert dense.shape == (1, 1, C, 1, 1)
    np.testing.assert_array_equal(dense.asnumpy().ravel(), table(encoder.no_mask_embed))


def patches(x):
    """2 x 2 patches of [n, H, W] -> [n, H/2, W/2, 2, 2]."""
    channels, height, width = x.shape
    return x.reshape(channels, height // 2, 2, width // 2, 2).transpose(0, 1, 3, 2, 4)


def norm_gelu(x, norm):
    x = x - x.mean(0)
    x = x / np.sqrt((x * x).mean(0) + 1e-6)
    x = x * norm.weight.asnumpy()[:, None, None] + norm.bias.asnumpy()[:, None, None]
    return 0.5 * x * (1 + np.vectorize(erf)(x / np.sqrt(2)))


def reference_mask_branch(layers, mask):
    """mask [4h, 4w] -> [C, h, w]."""
    x = mask[None].astype(np.float64)
    for conv, norm in ((layers[0], layers[1]), (layers[3], layers[4])):
        x = np.einsum("nhwij,onij->ohw", patches(x), conv.weight.asnumpy()) + conv.bias.asnumpy()[:, None, None]
        x = norm_gelu(x, norm)
    return np.einsum("nhw,on->ohw", x, layers[6].weight.asnumpy()[:, :, 0, 0]) + layers[6].bias.asnumpy()[:, None, None]


def test_mask_input_is_embedded_per_prompt(mode, encoder):
    for index in (1, 4):
        norm = encoder.mask_downscaling[index]
        norm.weight.set_data(Tensor(np.linspace(0.5, 1.5, norm.weight.size, dtype=np.float32)))
        norm.bias.set_data(Tensor(np.linspace(-1, 1, norm.weight.size, dtype=np.float32)))
    masks = np.random.default_rng(2).normal(0, 5, (2, 3, 1, 8, 8)).astype(np.float32)
    coords, labels = Tensor(np.zeros((2, 3, 1, 2), np.float32)), Tensor(np.zeros((2, 3, 1), np.int32))
    _, dense = encoder(coords, labels, Tensor(masks))
    assert dense.shape == (2, 3, C, 2, 2)
    for b, m in np.ndindex(2, 3):
        expected = reference_mask_branch(encoder.mask_downscaling, masks[b, m, 0])
        np.testing.assert_allclose(dense.asnumpy()[b, m], expected, atol=1e-5)


def test_names_follow_the_release_and_the_gaussian_matrix_is_frozen(encoder):
    names = [param.name for param in encoder.get_parameters()]
    layers = [f"mask_downscaling.{i}.{kind}" for i in (0, 1, 3, 4, 6) for kind in ("weight", "bias")]
    assert sorted(names) == sorted(
        ["pe_layer.positional_encoding_gaussian_matrix", "not_a_point_embed.embedding_table",
         "no_mask_embed.embedding_table"] + [f"point_embeddings.{i}.embedding_table" for i in range(4)] + layers)
    frozen = [param.name for param in encoder.get_parameters() if not param.requires_grad]
    assert frozen == ["pe_layer.positional_encoding_gaussian_matrix"]


def test_an_odd_width_is_refused():
    with pytest.raises(ValueError) as error:
        PositionEmbeddingRandom(7)
    assert str(error.value) == "embed_dim (7) must be even: one half is sines, the other cosines"
