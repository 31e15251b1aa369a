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
"""The mask decoder in two steps for many prompts of one image: tokens and IoU predictions first, masks of the few kept.

Source: the mask decoder of SAM (arXiv 2304.02643, appendix A), with the same weights and, but for rounding, the same
results as `PromptDecoder`. Three things make it fast. Most prompts of a grid predict no mask above the threshold, so
only the others are upscaled. The IoU needs one token, so the last attention, in which tokens do not meet each other,
reads the image for that one first and for the mask tokens of the few later. And a prompt has T = 7 tokens: heads * T is
less than the inner width of the attentions, so a projection is moved from the h*w image tokens to the T tokens wherever
a product of both follows:

    (x W_k) q = x (W_k q)        sum_i a_i (x_i W_v) = (sum_i a_i x_i) W_v        (a v) W_o = a (v W_o)

The biases of keys add the same number to all logits of a softmax and drop out. What surprises: large sums with a vector
go through BiasAdd, which takes a sixth of the time of Add with broadcast on a CPU.
"""
import numpy as np
from mindspore import Tensor, nn, ops


def can_decode_tokens_first(sam):
    """True if the attentions of `sam` are plain: this module reads their weights and would go past, say, quantizers."""
    transformer = sam.mask_decoder.transformer
    attentions = [transformer.final_attn_token_to_image]
    for layer in transformer.layers:
        attentions += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]
    return all(type(projection) is nn.Dense and type(attention.scores) is ops.BatchMatMul for attention in attentions
               for projection in (attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj))


class _ImageReader(nn.Cell):
    """What both steps share. Holds the parameters of `sam` under their own names."""

    def __init__(self, sam):
        super().__init__(auto_prefix=False)
        self.prompt_encoder = sam.prompt_encoder
        self.mask_decoder = sam.mask_decoder
        self.matmul = ops.BatchMatMul()
        self.matmul_transposed = ops.BatchMatMul(transpose_b=True)
        self.softmax = ops.Softmax(-1)

    def finish_tokens(self, tokens, token_pe, image_tokens, image_pe):
        """The last attention for some tokens [1, N, t, C] of N prompts, image_tokens [N, h*w, C] -> [1, N, t, C]."""
        transformer = self.mask_decoder.transformer
        read = self.read_image(transformer.final_attn_token_to_image, tokens + token_pe, image_tokens, image_tokens,
                               image_pe)
        return transformer.norm_final_attn(tokens + read)

    def read_image(self, attention, tokens, keys, values, key_pe=None):
        """Tokens [1, M, t, C] attend to keys and values [M, h*w, C], keys placed by key_pe [h*w, C] -> [1, M, t, C]."""
        _, prompts, count, width = tokens.shape
        heads, dim = attention.num_heads, attention.head_dim
        queries = attention.q_proj(tokens) * attention.scale
        queries = self.through_heads(queries, attention.k_proj.weight.reshape(heads, dim, width), heads)
        logits = self.matmul_transposed(queries, keys)  # [M, heads*t, h*w]
        if key_pe is not None:
            placed = ops.matmul(queries.reshape(-1, width), key_pe.transpose(1, 0))
            logits = logits + placed.reshape(logits.shape)
        read = self.matmul(self.softmax(logits), values)  # [M, heads*t, C]
        read = read.reshape(prompts, heads, count, width).transpose(1, 0, 2, 3).reshape(heads, prompts * count, width)
        values = self.matmul_transposed(read, attention.v_proj.weight.reshape(heads, dim, width))  # [heads, M*t, d]
        values = values.transpose(1, 0, 2).reshape(1, prompts, count, heads * dim) + attention.v_proj.bias
        return attention.out_proj(values)

    def through_heads(self, tokens, weight, heads):
        """Each head's part of tokens [1, M, t, heads*d] times its own weight [heads, d, C] -> [M, heads*t, C]."""
        _, prompts, count, inner = tokens.shape
        tokens = tokens.reshape(prompts * count, heads, inner // heads).transpose(1, 0, 2)
        out = self.matmul(tokens, weight)  # [heads, M*t, C]
        out = out.reshape(heads, prompts, count, -1).transpose(1, 0, 2, 3)
        return out.reshape(prompts, heads * count, -1)


class TokenDecoder(_ImageReader):
    """First step: everything but the masks.

    Args:
        sam: a `Sam` for which `can_decode_tokens_first` holds.
    """

    def __init__(self, sam):
        super().__init__(sam)
        self.matmul_of_columns = ops.BatchMatMul(transpose_a=True)
        self.rows_product = ops.MatMul(transpose_b=True)
        self.softmax_over_tokens = ops.Softmax(2)
        self.add_vector = ops.BiasAdd()

    def construct(self, image_embeddings, point_coords, point_labels):
        """M prompts of one image.

        Args:
            image_embeddings: [1, C, h, w].
            point_coords: [1, M, K, 2], (x, y) pixels in the resized and padded frame.
            point_labels: [1, M, K] int, as in `PromptDecoder`, but empty slots (-2) are not hidden: a prompt has none,
                or it fills up the batch and its results mean nothing.

        Returns:
            iou_predictions [M, 4], and for `MasksOfTokens` tokens [M, 5, C], before the last attention, and
            image_tokens [M, h*w, C].
        """
        decoder = self.mask_decoder
        layers = decoder.transformer.layers
        sparse, dense = self.prompt_encoder(point_coords, point_labels)
        image_pe = self.prompt_encoder.image_pe()
        tokens, _ = decoder.first_tokens(sparse, point_labels)  # [1, M, T, C]
        token_pe = tokens
        shared_image = decoder.first_image_tokens(image_embeddings, dense)  # [1, 1, h*w, C]
        image_tokens = shared_image
        for index, layer in enumerate(layers):
            tokens = layer.attend_to_itself(tokens, token_pe)
            if index == 0:  # the image is still the same for all prompts
                placed_image = shared_image + image_pe
                read = layer.cross_attn_token_to_image(tokens + token_pe, placed_image, shared_image)
            else:
                placed_image = self._add_to_each(image_tokens, image_pe)
                read = self.read_image(layer.cross_attn_token_to_image, tokens + token_pe, placed_image, image_tokens)
            tokens = layer.norm2(tokens + read)
            tokens = layer.norm3(tokens + layer.mlp(tokens))
            if index == 0:
                logits = self._logits_of_shared(layer.cross_attn_image_to_token, placed_image, tokens + token_pe)
                written = self._write(layer.cross_attn_image_to_token, logits, tokens)
                image_tokens = layer.norm4(self._add_to_each(written, shared_image))
            else:
                logits = self._logits(layer.cross_attn_image_to_token, placed_image, tokens + token_pe)
                written = self._write(layer.cross_attn_image_to_token, logits, tokens)
                image_tokens = layer.norm4(image_tokens + written)
        iou_token = self.finish_tokens(tokens[:, :, :1, :], token_pe[:, :, :1, :], image_tokens, image_pe)
        return (decoder.iou_prediction_head(iou_token[0, :, 0, :]), tokens[0, :, :decoder.num_masks + 1, :],
                image_tokens)

    def _add_to_each(self, image_tokens, shared):
        """image_tokens [M, h*w, C] + shared, h*w*C numbers in any shape."""
        shape = image_tokens.shape
        return self.add_vector(image_tokens.reshape(shape[0], -1), shared.reshape(-1)).reshape(shape)

    def _write(self, attention, logits, values):
        """Image tokens attend to tokens: logits [M*heads*T, h*w], values [1, M, T, C] -> [M, h*w, C]."""
        _, prompts, count, width = values.shape
        heads = attention.num_heads
        weights = self.softmax_over_tokens(logits.reshape(prompts, heads, count, -1))
        out_weight = attention.out_proj.weight.transpose(1, 0).reshape(heads, attention.head_dim, width)
        values = self.through_heads(attention.v_proj(values), out_weight, heads)  # [M, heads*T, C]
        # The weights of each head add up to 1, so its share of the output's bias may travel with the values.
        values = self.add_vector(values.reshape(-1, width), attention.out_proj.bias / heads)
        return self.matmul_of_columns(weights.reshape(prompts, heads * count, -1),
                                      values.reshape(prompts, heads * count, width))

    def _logits(self, attention, placed_image, keys):
        """Logits [M*heads*T, h*w] of image tokens [M, h*w, C] for keys [1, M, T, C]."""
        _, prompts, count, _ = keys.shape
        heads, dim = attention.num_heads, attention.head_dim
        keys = attention.k_proj(keys) * attention.scale
        # The bias of the queries meets every key: one number for each head and token.
        bias = (keys * attention.q_proj.bias).reshape(prompts, count, heads, dim).sum(-1).transpose(0, 2, 1)
        keys = self.through_heads(keys, attention.q_proj.weight.reshape(heads, dim, -1), heads)
        logits = self.matmul_transposed(keys, placed_image)  # [M, heads*T, h*w]
        rows = prompts * heads * count
        return self.add_vector(logits.reshape(1, rows, 1, -1), bias.reshape(-1)).reshape(rows, -1)

    def _logits_of_shared(self, attention, placed_image, keys):
        """`_logits` where all prompts share their image tokens [1, 1, h*w, C]: these are projected, once."""
        _, prompts, count, _ = keys.shape
        heads = attention.num_heads
        queries = attention.q_proj(placed_image).reshape(placed_image.shape[2], -1)  # [h*w, heads*d]
        keys = attention.k_proj(keys) * attention.scale
        inner = keys.shape[3]
        # Row (head, t) holds the key of token t in the columns of that head and 0 in the others.
        own_head = np.arange(heads)[:, None] == np.arange(inner) // attention.head_dim
        own_head = Tensor(own_head.astype(np.float32).reshape(1, heads, 1, inner))
        rows = keys.reshape(prompts, 1, count, inner) * own_head
        return self.rows_product(rows.reshape(-1, inner), queries)


class MasksOfTokens(_ImageReader):
    """Second step: the multimask outputs of chosen prompts."""

    def __init__(self, sam):
        super().__init__(sam)
        self.grid_size = sam.grid_size

    def construct(self, image_tokens, tokens, chosen):
        """image_tokens [M, h*w, C] and tokens [M, 5, C] of `TokenDecoder`, chosen [N] int32 places among the M
        prompts -> low_res_masks [N, 3, 4h, 4w] logits."""
        decoder, side = self.mask_decoder, self.grid_size
        pixels = ops.gather(image_tokens, chosen, 0)  # [N, h*w, C]
        tokens = ops.gather(tokens, chosen, 0).expand_dims(0)  # [1, N, 5, C]
        # Output tokens are their own positional encoding: equal in all prompts.
        token_pe = ops.concat((decoder.iou_token.embedding_table, decoder.mask_tokens.embedding_table), 0)
        tokens = self.finish_tokens(tokens, token_pe, pixels, self.prompt_encoder.image_pe())
        upscaled = decoder.output_upscaling(pixels.reshape(-1, pixels.shape[2]))
        masks = decoder.mask_logits(upscaled, tokens[0], side, side, first_mask=1)
        return masks.reshape(-1, 3, 4 * side, 4 * side)
