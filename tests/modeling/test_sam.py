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
"""The whole prompt side on a 4 x 4 grid: batches against single prompts, empty slots, mask inputs, gradients, names."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from src.modeling.build_sam import build_sam_around
from src.modeling.sam import PromptDecoder

C, SIZE, GRID = 32, 64, 4


class MeanColour(nn.Cell):
    """Image encoder made tiny: the mean of each 16-pixel cell, through one 1 x 1 convolution."""

    def __init__(self, image_size):
        super().__init__()
        self.pool = nn.AvgPool2d(16, 16)
        self.proj = nn.Conv2d(3, C, 1, pad_mode="valid", has_bias=True)

    def construct(self, images):
        return self.proj(self.pool(images))


@pytest.fixture(scope="module")
def sam():
    sam = build_sam_around(MeanColour, C, 64, SIZE, "tiny", seed=3)
    rng = np.random.default_rng(0)
    for param in sam.get_parameters():  # fresh biases and norms are too regular to show a mistake
        param.set_data(Tensor(param.asnumpy() + rng.normal(0, 0.1, param.shape).astype(np.float32)))
    return sam


@pytest.fixture(scope="module")
def decoder(sam):
    return PromptDecoder(sam)


@pytest.fixture(scope="module")
def embeddings():
    return np.random.default_rng(1).normal(size=(2, C, GRID, GRID)).astype(np.float32)


def make_prompts():
    """2 images of 3 prompts of 3 slots: a click, a box with a click, two clicks and an empty slot in the middle."""
    coords = np.random.default_rng(2).uniform(0, SIZE, (2, 3, 3, 2)).astype(np.float32)
    labels = np.array([[1, -1, -2], [2, 3, 0], [1, -2, 1]], np.int32)
    return coords, np.stack([labels, labels[::-1]])


def run(decoder, *arrays):
    return [out.asnumpy() for out in decoder(*(Tensor(np.ascontiguousarray(array)) for array in arrays))]


@pytest.mark.parametrize("mode, with_mask", [("graph", False), ("pynative", True)], indirect=["mode"])
def test_a_batch_equals_its_prompts_one_by_one(mode, decoder, embeddings, with_mask):
    coords, labels = make_prompts()
    masks = np.random.default_rng(4).normal(0, 4, (2, 3, 1, 4 * GRID, 4 * GRID)).astype(np.float32)
    extra = (masks,) if with_mask else ()
    batch = run(decoder, embeddings, coords, labels, *extra)
    assert [out.shape for out in batch] == [(2, 3, 4, 16, 16), (2, 3, 4), (2, 3, 5, C)]
    for b, m in np.ndindex(2, 3):
        one = (slice(b, b + 1), slice(m, m + 1))
        single = run(decoder, embeddings[b:b + 1], coords[one], labels[one], *(array[one] for array in extra))
        for whole, alone in zip(batch, single):
            np.testing.assert_allclose(whole[b, m], alone[0, 0], atol=1e-5)
    spread = batch[0].reshape(6, -1)
    assert np.abs(spread[0] - spread[1:]).max(1).min() > 1e-2  # the prompts do differ


def test_empty_slots_change_nothing(mode, decoder, embeddings):
    # Slot m of prompt m is empty and holds garbage; without it two slots remain.
    coords, labels = make_prompts()
    labels = np.abs(labels)
    kept_coords, kept_labels = np.zeros((2, 3, 2, 2), np.float32), np.zeros((2, 3, 2), np.int32)
    for m in range(3):
        kept_coords[:, m], kept_labels[:, m] = np.delete(coords[:, m], m, 1), np.delete(labels[:, m], m, 1)
        coords[:, m, m], labels[:, m, m] = np.nan, -2
    with_empty = run(decoder, embeddings, coords, labels)
    for padded, kept in zip(with_empty, run(decoder, embeddings, kept_coords, kept_labels)):
        np.testing.assert_allclose(padded, kept, atol=1e-5)


def test_a_slot_that_is_not_a_point_is_seen_and_an_empty_one_is_not(decoder, embeddings):
    coords, labels = make_prompts()
    empty, padding = labels.copy(), labels.copy()
    empty[0, 0], padding[0, 0] = (1, -2, -2), (1, -1, -2)
    without, given = run(decoder, embeddings, coords, empty)[0], run(decoder, embeddings, coords, padding)[0]
    assert np.abs(without[0, 0] - given[0, 0]).max() > 1e-2
    np.testing.assert_array_equal(without[1], given[1])


def test_the_mask_input_moves_only_its_own_prompt(decoder, embeddings):
    coords, labels = make_prompts()
    masks = np.zeros((2, 3, 1, 4 * GRID, 4 * GRID), np.float32)
    before = run(decoder, embeddings, coords, labels, masks)[0]
    masks[1, 2, 0, :8] = 5
    moved = np.abs(run(decoder, embeddings, coords, labels, masks)[0] - before).max((2, 3, 4))
    assert moved[1, 2] > 1e-2
    moved[1, 2] = 0
    assert moved.max() < 1e-5


@pytest.mark.parametrize("mode", ["pynative"], indirect=True)
def test_sam_is_its_encoder_and_its_prompt_decoder(mode, sam, decoder):
    coords, labels = make_prompts()
    images = np.random.default_rng(5).normal(size=(2, 3, SIZE, SIZE)).astype(np.float32)
    embedded = sam.image_encoder(Tensor(images)).asnumpy()
    for whole, parts in zip(run(sam, images, coords, labels), run(decoder, embedded, coords, labels)):
        np.testing.assert_allclose(whole, parts, atol=1e-5)


class Objective(nn.Cell):
    """A scalar that every output element reaches with its own weight."""

    def __init__(self, decoder, weights):
        super().__init__(auto_prefix=False)
        self.decoder = decoder
        self.mask_weights, self.iou_weights, self.token_weights = weights

    def construct(self, image_embeddings, coords, labels, mask_input):
        masks, ious, tokens = self.decoder(image_embeddings, coords, labels, mask_input)
        return ((masks * self.mask_weights).sum() + (ious * self.iou_weights).sum()
                + (tokens * self.token_weights).sum())


def gradients(objective, mode, *inputs):
    """value, gradient of the image embeddings, and a list of the parameters' gradients, as arrays."""
    ms.set_context(mode=mode)
    try:
        value_and_grad = ms.value_and_grad(objective, 0, list(objective.trainable_params()))
        value, (image_grad, param_grads) = value_and_grad(*inputs)
        return value.asnumpy(), image_grad.asnumpy(), [grad.asnumpy() for grad in param_grads]
    finally:
        ms.set_context(mode=ms.GRAPH_MODE)


@pytest.mark.parametrize("with_mask", [False, True])
def test_gradients_reach_every_parameter_and_are_right(decoder, embeddings, with_mask):
    rng = np.random.default_rng(6)
    shapes = ((2, 3, 4, 16, 16), (2, 3, 4), (2, 3, 5, C))
    objective = Objective(decoder, [Tensor(rng.normal(size=shape).astype(np.float32)) for shape in shapes])
    coords, labels = (Tensor(array) for array in make_prompts())
    prompts = (coords, labels, Tensor(rng.normal(0, 4, (2, 3, 1, 16, 16)).astype(np.float32)) if with_mask else None)
    graph = gradients(objective, ms.GRAPH_MODE, Tensor(embeddings), *prompts)
    eager = gradients(objective, ms.PYNATIVE_MODE, Tensor(embeddings), *prompts)

    unused = "mask_downscaling" if not with_mask else "no_mask_embed"
    for param, grad, other in zip(objective.trainable_params(), graph[2], eager[2]):
        np.testing.assert_allclose(grad, other, atol=1e-3, rtol=1e-3, err_msg=param.name)
        # Softmax does not see what is added to all keys: the true gradient of k_proj.bias is zero.
        if unused in param.name or param.name.endswith("k_proj.bias"):
            assert np.abs(grad).max() < 1e-3, param.name
        else:
            assert np.abs(grad).max() > 1e-4, param.name

    # A small step along the image gradient raises the value by what the gradient says.
    np.testing.assert_allclose(graph[1], eager[1], atol=1e-3, rtol=1e-3)
    norm = np.linalg.norm(graph[1])
    step = 0.1 * graph[1] / norm
    ahead, behind = (gradients(objective, ms.PYNATIVE_MODE, Tensor(moved), *prompts)[0]
                     for moved in (embeddings + step, embeddings - step))
    np.testing.assert_allclose((ahead - behind) / 0.2, norm, rtol=5e-3)


def expected_names():
    """The attribute paths of the released checkpoints, under the framework's own suffixes."""
    both = ("weight", "bias")
    names = {"prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"}
    for embedding in [f"prompt_encoder.point_embeddings.{i}" for i in range(4)] + [
            "prompt_encoder.not_a_point_embed", "prompt_encoder.no_mask_embed",
            "mask_decoder.iou_token", "mask_decoder.mask_tokens"]:
        names.add(f"{embedding}.embedding_table")
    dense = [f"prompt_encoder.mask_downscaling.{i}" for i in (0, 1, 3, 4, 6)]
    transformer = "mask_decoder.transformer"
    attentions = [f"{transformer}.layers.{i}.{name}" for i in (0, 1)
                  for name in ("self_attn", "cross_attn_token_to_image", "cross_attn_image_to_token")]
    for attention in [*attentions, f"{transformer}.final_attn_token_to_image"]:
        dense += [f"{attention}.{part}_proj" for part in ("q", "k", "v", "out")]
    dense += [f"{transformer}.layers.{i}.mlp.lin{j}" for i in (0, 1) for j in (1, 2)]
    dense += ["mask_decoder.output_upscaling.0", "mask_decoder.output_upscaling.3"]
    dense += [f"mask_decoder.output_hypernetworks_mlps.{i}.layers.{j}" for i in range(4) for j in range(3)]
    dense += [f"mask_decoder.iou_prediction_head.layers.{j}" for j in range(3)]
    norms = [f"{transformer}.layers.{i}.norm{j}" for i in (0, 1) for j in (1, 2, 3, 4)]
    norms += [f"{transformer}.norm_final_attn", "mask_decoder.output_upscaling.1"]
    names.update(f"{name}.{kind}" for name in dense for kind in both)
    names.update(f"{name}.{kind}" for name in norms for kind in ("gamma", "beta"))
    return names


def test_names_follow_the_released_checkpoints_in_sam_and_in_its_decoder(sam, decoder):
    assert {param.name for param in decoder.get_parameters()} == expected_names()
    encoder = {"image_encoder.proj.weight", "image_encoder.proj.bias"}
    assert {param.name for param in sam.get_parameters()} == expected_names() | encoder
    shared = {param.name: param for param in sam.get_parameters()}
    assert all(param is shared[param.name] for param in decoder.get_parameters())


def test_sam_knows_its_geometry(sam):
    assert (sam.image_size, sam.grid_size, sam.embed_dim, sam.variant) == (64, 4, 32, "tiny")
