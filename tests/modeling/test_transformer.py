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
"""Two-way transformer against slow NumPy versions, one head and one prompt at a time."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from src.modeling.transformer import Attention, TwoWayAttentionBlock, TwoWayTransformer

C, HEADS = 16, 2
BATCH, PROMPTS, TOKENS, CELLS = 2, 3, 5, 4  # a grid of 2 x 2 cells


@pytest.fixture(autouse=True)
def fixed_weights():
    np.random.seed(11)  # the framework's initializers draw from NumPy's global state


def draw(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def dense(layer, x):
    return x @ layer.weight.asnumpy().T.astype(np.float64) + layer.bias.asnumpy()


def reference_attention(cell, q, k, v, bias=None):
    """q [Lq, C], k and v [Lk, C], bias [Lk]: one prompt, head by head, query by query."""
    q, k, v = dense(cell.q_proj, q), dense(cell.k_proj, k), dense(cell.v_proj, v)
    width = q.shape[1] // cell.num_heads
    out = np.zeros_like(q)
    for head in range(cell.num_heads):
        part = slice(head * width, (head + 1) * width)
        for i in range(len(q)):
            logits = np.array([np.dot(q[i, part], key[part]) for key in k]) / np.sqrt(width)
            if bias is not None:
                logits = logits + bias
            weights = np.exp(logits - logits.max())
            out[i, part] = (weights / weights.sum()) @ v[:, part]
    return dense(cell.out_proj, out)


def reference_norm(layer, x):
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5)
    return x * layer.gamma.asnumpy() + layer.beta.asnumpy()


def reference_block(block, tokens, image, token_pe, image_pe, bias):
    """One prompt: tokens [T, C], image [h*w, C]."""
    if block.skip_first_layer_pe:
        tokens = reference_attention(block.self_attn, tokens, tokens, tokens, bias)
    else:
        placed = tokens + token_pe
        tokens = tokens + reference_attention(block.self_attn, placed, placed, tokens, bias)
    tokens = reference_norm(block.norm1, tokens)
    tokens = tokens + reference_attention(block.cross_attn_token_to_image, tokens + token_pe, image + image_pe, image)
    tokens = reference_norm(block.norm2, tokens)
    tokens = tokens + dense(block.mlp.lin2, np.maximum(dense(block.mlp.lin1, tokens), 0))
    tokens = reference_norm(block.norm3, tokens)
    to_image = reference_attention(block.cross_attn_image_to_token, image + image_pe, tokens + token_pe, tokens, bias)
    return tokens, reference_norm(block.norm4, image + to_image)


def randomise_norms(cell):
    for index, param in enumerate(cell.get_parameters()):
        if param.name.endswith((".gamma", ".beta")):
            param.set_data(Tensor(param.asnumpy() + 0.3 * draw(*param.shape, seed=index)))


def prompt_of(array, b, m):
    """The rows of prompt m of image b, also where all prompts share one."""
    return array[b, min(m, array.shape[1] - 1)]


@pytest.mark.parametrize("query_prompts, key_prompts, with_bias",
                         [(PROMPTS, PROMPTS, True), (PROMPTS, 1, False), (1, PROMPTS, True), (1, 1, False)])
def test_attention_equals_one_prompt_at_a_time(mode, query_prompts, key_prompts, with_bias):
    cell = Attention(C, HEADS, downsample_rate=2)
    q, k = draw(BATCH, query_prompts, CELLS, C), draw(BATCH, key_prompts, TOKENS, C)
    v = draw(BATCH, key_prompts, TOKENS, C, seed=1)
    bias = draw(BATCH * key_prompts, 1, 1, TOKENS) * 3 if with_bias else None
    out = cell(Tensor(q), Tensor(k), Tensor(v), Tensor(bias) if with_bias else None).asnumpy()
    prompts = max(query_prompts, key_prompts)
    assert out.shape == (BATCH, prompts, CELLS, C)
    for b in range(BATCH):
        for m in range(prompts):
            row = bias[b * key_prompts + m, 0, 0] if with_bias else None
            expected = reference_attention(cell, prompt_of(q, b, m), prompt_of(k, b, m), prompt_of(v, b, m), row)
            np.testing.assert_allclose(out[b, m], expected, atol=2e-6)


def test_a_large_negative_bias_hides_a_key_completely():
    # One of two keys is hidden: all weight falls on the other, so the output is out_proj(v_proj(v)) of that one alone.
    cell = Attention(C, HEADS)
    v = draw(1, 1, 2, C)
    v[0, 0, 1] = 1e6
    bias = np.array([0, -1e4], np.float32).reshape(1, 1, 1, 2)
    out = cell(Tensor(draw(1, 1, 3, C)), Tensor(draw(1, 1, 2, C)), Tensor(v), Tensor(bias)).asnumpy()
    expected = dense(cell.out_proj, dense(cell.v_proj, v[0, 0, 0]))
    np.testing.assert_allclose(out[0, 0], np.tile(expected, (3, 1)), atol=1e-6)


@pytest.mark.parametrize("skip_first_layer_pe, image_prompts", [(True, 1), (False, PROMPTS)])
def test_block_on_a_2x2_grid_equals_the_slow_version(mode, skip_first_layer_pe, image_prompts):
    block = TwoWayAttentionBlock(C, HEADS, mlp_dim=24, skip_first_layer_pe=skip_first_layer_pe)
    randomise_norms(block)
    tokens, image = draw(BATCH, PROMPTS, TOKENS, C), draw(BATCH, image_prompts, CELLS, C)
    token_pe, image_pe = draw(BATCH, PROMPTS, TOKENS, C, seed=2), draw(CELLS, C, seed=3)
    bias = draw(BATCH * PROMPTS, 1, 1, TOKENS)
    out_tokens, out_image = block(*(Tensor(x) for x in (tokens, image, token_pe, image_pe, bias)))
    assert out_image.shape == (BATCH, PROMPTS, CELLS, C)
    for b in range(BATCH):
        for m in range(PROMPTS):
            expected = reference_block(block, tokens[b, m], prompt_of(image, b, m), token_pe[b, m], image_pe,
                                       bias[b * PROMPTS + m, 0, 0])
            np.testing.assert_allclose(out_tokens.asnumpy()[b, m], expected[0], atol=1e-5)
            np.testing.assert_allclose(out_image.asnumpy()[b, m], expected[1], atol=1e-5)


def test_transformer_chains_blocks_and_final_attention():
    net = TwoWayTransformer(2, C, HEADS, mlp_dim=24)
    randomise_norms(net)
    assert [layer.skip_first_layer_pe for layer in net.layers] == [True, False]
    image, image_pe, tokens = draw(1, 1, CELLS, C), draw(CELLS, C, seed=3), draw(1, PROMPTS, TOKENS, C)
    out_tokens, out_image = net(Tensor(image), Tensor(image_pe), Tensor(tokens))
    for m in range(PROMPTS):
        t, i = tokens[0, m], image[0, 0]
        for layer in net.layers:
            t, i = reference_block(layer, t, i, tokens[0, m], image_pe, None)
        t = t + reference_attention(net.final_attn_token_to_image, t + tokens[0, m], i + image_pe, i)
        np.testing.assert_allclose(out_tokens.asnumpy()[0, m], reference_norm(net.norm_final_attn, t), atol=1e-5)
        np.testing.assert_allclose(out_image.asnumpy()[0, m], i, atol=1e-5)


class Objective(nn.Cell):
    """A scalar of both outputs with fixed random weights, so that every output element has its own gradient."""

    def __init__(self, net):
        super().__init__(auto_prefix=False)
        self.net = net
        self.token_weights = Tensor(draw(BATCH, PROMPTS, TOKENS, C, seed=5))
        self.image_weights = Tensor(draw(BATCH, PROMPTS, CELLS, C, seed=6))

    def construct(self, image, image_pe, tokens):
        out_tokens, out_image = self.net(image, image_pe, tokens)
        return (out_tokens * self.token_weights).sum() + (out_image * self.image_weights).sum()


def test_sharing_the_image_changes_neither_values_nor_gradients(mode):
    # The repeated call sees M equal copies, so the shared image's gradient is the sum of the copies' gradients.
    net = TwoWayTransformer(2, C, HEADS, mlp_dim=24)
    image, image_pe, tokens = draw(BATCH, 1, CELLS, C), draw(CELLS, C, seed=3), draw(BATCH, PROMPTS, TOKENS, C)
    objective = Objective(net)
    value_and_grad = ms.value_and_grad(objective, 0, list(objective.trainable_params()))
    shared, (shared_image, shared_params) = value_and_grad(Tensor(image), Tensor(image_pe), Tensor(tokens))
    repeated = np.repeat(image, PROMPTS, 1)
    single, (single_image, single_params) = value_and_grad(Tensor(repeated), Tensor(image_pe), Tensor(tokens))
    np.testing.assert_allclose(shared.asnumpy(), single.asnumpy(), rtol=1e-5)
    np.testing.assert_allclose(shared_image.asnumpy(), single_image.asnumpy().sum(1, keepdims=True), atol=2e-4)
    for param, one, other in zip(objective.trainable_params(), shared_params, single_params):
        np.testing.assert_allclose(one.asnumpy(), other.asnumpy(), atol=2e-4, err_msg=param.name)
        if not param.name.endswith("k_proj.bias"):  # softmax does not see what is added to all keys
            assert np.abs(one.asnumpy()).max() > 1e-4, param.name


def test_widths_that_do_not_divide_are_refused():
    with pytest.raises(ValueError) as error:
        Attention(36, 8, downsample_rate=2)
    assert str(error.value) == "embed_dim (36) must be divisible by downsample_rate * num_heads (2 * 8)"
