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
"""Two-way transformer of SAM (arXiv 2304.02643, appendix A): tokens attend to the image and the image attends back.

Names follow the released checkpoints, so weights load by name. All prompts of all images run as one batch. What the
prompts of an image share is held once, with a prompt axis of length 1: without a mask input every prompt starts from
the same image tokens, so the first layer projects them once per image and they part where the image first attends to
a prompt.
"""
import math

from mindspore import nn, ops

from src.modeling.common import MLPBlock, layer_norm


class Attention(nn.Cell):
    """Multi-head attention with an inner width of embed_dim / downsample_rate.

    Either side may be shared by all prompts of an image: its prompt axis is then 1.

    Args:
        embed_dim: width C of queries, keys, values and output.
        num_heads: heads; the inner width must divide by it.
        downsample_rate: C over the inner width.

    Raises:
        ValueError: the inner width does not divide.
    """

    def __init__(self, embed_dim, num_heads, downsample_rate=1):
        super().__init__()
        if embed_dim % (downsample_rate * num_heads):
            raise ValueError(f"embed_dim ({embed_dim}) must be divisible by downsample_rate * num_heads "
                             f"({downsample_rate} * {num_heads})")
        inner_dim = embed_dim // downsample_rate
        self.num_heads = num_heads
        self.head_dim = inner_dim // num_heads
        self.scale = 1.0 / math.sqrt(self.head_dim)
        self.q_proj = nn.Dense(embed_dim, inner_dim)
        self.k_proj = nn.Dense(embed_dim, inner_dim)
        self.v_proj = nn.Dense(embed_dim, inner_dim)
        self.out_proj = nn.Dense(inner_dim, embed_dim)
        self.scores = ops.BatchMatMul(transpose_b=True)
        self.weighted_sum = ops.BatchMatMul()
        self.softmax = ops.Softmax(-1)

    def construct(self, q, k, v, key_bias=None):
        """q [B, P, Lq, C], k and v [B, R, Lk, C], P and R each M or 1 -> [B, M, Lq, C].

        key_bias [B*R, 1, 1, Lk] is added to the logits; it needs R = M.
        """
        batch, query_prompts, num_queries, _ = q.shape
        key_prompts, num_keys = k.shape[1:3]
        prompts = max(query_prompts, key_prompts)
        q, k = self.q_proj(q), self.k_proj(k)
        if num_queries * query_prompts < num_keys * key_prompts:  # the shorter side takes the scale
            q = q * self.scale
        else:
            k = k * self.scale
        if query_prompts > key_prompts:
            # Shared keys: the queries of all prompts are one long list, so keys are neither repeated nor read again.
            q = self._split_heads(q, batch, query_prompts * num_queries)
        else:
            q = self._split_heads(q, batch * query_prompts, num_queries)
        if query_prompts < key_prompts:
            width = self.num_heads * num_queries * self.head_dim
            q = ops.broadcast_to(q.reshape(batch, 1, width), (batch, prompts, width))
            q = q.reshape(batch * prompts, self.num_heads, num_queries, self.head_dim)
        k = self._split_heads(k, batch * key_prompts, num_keys)
        v = self._split_heads(self.v_proj(v), batch * key_prompts, num_keys)
        logits = self.scores(q, k)
        if key_bias is not None:
            logits = logits + key_bias
        out = self.weighted_sum(self.softmax(logits), v)
        out = out.transpose(0, 2, 1, 3).reshape(batch, prompts, num_queries, self.num_heads * self.head_dim)
        return self.out_proj(out)

    def _split_heads(self, x, rows, length):
        """[..., C'] of rows * length tokens -> [rows, heads, length, d]."""
        return x.reshape(rows, length, self.num_heads, self.head_dim).transpose(0, 2, 1, 3)


class TwoWayAttentionBlock(nn.Cell):
    """Self-attention of the tokens, tokens to image, MLP on the tokens, image to tokens; a LayerNorm after each.

    Args:
        embed_dim, num_heads: width C and heads of every attention.
        mlp_dim: hidden width of the MLP, which uses ReLU.
        attention_downsample_rate: of both cross attentions.
        skip_first_layer_pe: True in the first layer, whose tokens still are their own positional encoding: its
            self-attention takes no positional encoding and has no residual.
    """

    def __init__(self, embed_dim, num_heads, mlp_dim, attention_downsample_rate=2, skip_first_layer_pe=False):
        super().__init__()
        self.self_attn = Attention(embed_dim, num_heads)
        self.norm1 = layer_norm(embed_dim)
        self.cross_attn_token_to_image = Attention(embed_dim, num_heads, attention_downsample_rate)
        self.norm2 = layer_norm(embed_dim)
        self.mlp = MLPBlock(embed_dim, mlp_dim, nn.ReLU())
        self.norm3 = layer_norm(embed_dim)
        self.cross_attn_image_to_token = Attention(embed_dim, num_heads, attention_downsample_rate)
        self.norm4 = layer_norm(embed_dim)
        self.skip_first_layer_pe = skip_first_layer_pe

    def construct(self, tokens, image_tokens, token_pe, image_pe, token_bias=None):
        """Shapes as in `TwoWayTransformer` -> (tokens [B, M, T, C], image_tokens [B, M, h*w, C])."""
        tokens = self.attend_to_itself(tokens, token_pe, token_bias)
        placed_image = image_tokens + image_pe
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(tokens + token_pe, placed_image, image_tokens))
        tokens = self.norm3(tokens + self.mlp(tokens))
        to_image = self.cross_attn_image_to_token(placed_image, tokens + token_pe, tokens, token_bias)
        return tokens, self.norm4(image_tokens + to_image)

    def attend_to_itself(self, tokens, token_pe, token_bias=None):
        """Self-attention of the tokens with residual and norm: [B, M, T, C] -> [B, M, T, C]."""
        if self.skip_first_layer_pe:
            return self.norm1(self.self_attn(tokens, tokens, tokens, token_bias))
        placed = tokens + token_pe
        return self.norm1(tokens + self.self_attn(placed, placed, tokens, token_bias))


class TwoWayTransformer(nn.Cell):
    """`depth` two-way blocks and a last attention of the tokens to the image.

    Args:
        depth: blocks (SAM: 2).
        embed_dim, num_heads, mlp_dim, attention_downsample_rate: as in `TwoWayAttentionBlock` (SAM: 256, 8, 2048, 2).
    """

    def __init__(self, depth, embed_dim, num_heads, mlp_dim, attention_downsample_rate=2):
        super().__init__()
        self.layers = nn.CellList([
            TwoWayAttentionBlock(embed_dim, num_heads, mlp_dim, attention_downsample_rate, skip_first_layer_pe=i == 0)
            for i in range(depth)])
        self.final_attn_token_to_image = Attention(embed_dim, num_heads, attention_downsample_rate)
        self.norm_final_attn = layer_norm(embed_dim)

    def construct(self, image_tokens, image_pe, tokens, token_bias=None):
        """One pass over all prompts.

        Args:
            image_tokens: [B, P, h*w, C], P = M, or 1 where all prompts of an image share them.
            image_pe: [h*w, C], positional encoding of the image tokens.
            tokens: [B, M, T, C], output tokens and sparse prompt embeddings; also their own positional encoding.
            token_bias: [B*M, 1, 1, T] or None, added to the logits where tokens are keys; large negative: unseen.

        Returns:
            (tokens [B, M, T, C], image_tokens [B, M, h*w, C])
        """
        token_pe = tokens
        for layer in self.layers:
            tokens, image_tokens = layer(tokens, image_tokens, token_pe, image_pe, token_bias)
        to_tokens = self.final_attn_token_to_image(tokens + token_pe, image_tokens + image_pe, image_tokens)
        return self.norm_final_attn(tokens + to_tokens), image_tokens
