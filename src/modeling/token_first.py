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
results as `PromptDecoder`. Two things make it fast. Most prompts of a grid predict no mask above the threshold, so only
the others are upscaled. And a prompt has T = 7 tokens: heads * T is less than the inner width of the attentions, so a
projection is moved from the h*w image tokens to the T tokens wherever a product of both follows:

    (x W_k) q = x (W_k q)        sum_i a_i (x_i W_v) = (sum_i a_i x_i) W_v        (a v) W_o = a (v W_o)

The biases of keys add the same number to all logits of a softmax and drop out.
"""
import numpy as np
from mindspore import Tensor, nn, ops


def can_decode_tokens_first(sam):
    """True if the attentions of `sam` are plain: this module reads their weights and would go past, say, quantizers."""
    transformer = sam.mask_decoder.transformer
    attentions = [transformer.final_attn_token_to_image]
    for layer in transformer.layers:
        attentions += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]
    return all(type(projection) is nn.Dense for attention in attentions
               for projection in (attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj))


def _rows(image_tokens):
    """[1, P, h*w, C] -> [P, h*w, C]; an index would copy."""
    return image_tokens.reshape(image_tokens.shape[1:])


class TokenDecoder(nn.Cell):
    """First step: everything but the masks. Shares the parameters of `sam` under their own names.

    Args:
        sam: a `Sam` for which `can_decode_tokens_first` holds.
    """

    def __init__(self, sam):
        super().__init__(auto_prefix=False)
        self.prompt_encoder = sam.prompt_encoder
        self.mask_decoder = sam.mask_decoder
        self.matmul = ops.BatchMatMul()
        self.matmul_transposed = ops.BatchMatMul(transpose_b=True)
        self.softmax = ops.Softmax(-1)

    def construct(self, image_embeddings, point_coords, point_labels):
        """M prompts of one image.

        Args:
            image_embeddings: [1, C, h, w].
            point_coords: [1, M, K, 2], (x, y) pixels in the resized and padded frame.
            point_labels: [1, M, K] int, as in `PromptDecoder`, but empty slots (-2) are not hidden: a prompt has none,
                or it fills up the batch and its results mean nothing.

        Returns:
            iou_predictions [M, 4], output_tokens [M, 5, C], image_tokens [M, h*w, C] for `MasksOfTokens`.
        """
        decoder = self.mask_decoder
        transformer = decoder.transformer
        sparse, dense = self.prompt_encoder(point_coords, point_labels)
        image_pe = self.prompt_encoder.image_pe()
        tokens, _ = decoder.first_tokens(sparse, point_labels)  # [1, M, T, C]
        image_tokens = decoder.first_image_tokens(image_embeddings, dense)  # [1, 1, h*w, C]
        # Adding tensors of one shape takes half the time of adding with broadcast, so this is repeated once.
        repeated_pe = ops.broadcast_to(image_pe.reshape((1, 1) + image_pe.shape), tokens.shape[:2] + image_pe.shape)
        token_pe = tokens
        for index, layer in enumerate(transformer.layers):
            tokens = layer.attend_to_itself(tokens, token_pe)
            if index == 0:  # the image is still the same for all prompts: its side is projected once
                placed_image = image_tokens + image_pe
                read = layer.cross_attn_token_to_image(tokens + token_pe, placed_image, image_tokens)
            else:
                placed_image = image_tokens + repeated_pe
                read = self._read_image(layer.cross_attn_token_to_image, tokens + token_pe, placed_image, image_tokens)
            tokens = layer.norm2(tokens + read)
            tokens = layer.norm3(tokens + layer.mlp(tokens))
            written = self._write_image(layer.cross_attn_image_to_token, placed_image, tokens + token_pe, tokens)
            image_tokens = layer.norm4(image_tokens + written)
        read = self._read_image(transformer.final_attn_token_to_image, tokens + token_pe, image_tokens + repeated_pe,
                                image_tokens)
        tokens = transformer.norm_final_attn(tokens + read)
        output_tokens = tokens[0, :, :decoder.num_masks + 1, :]
        return decoder.iou_prediction_head(output_tokens[:, 0, :]), output_tokens, _rows(image_tokens)

    def _read_image(self, attention, tokens, placed_image, image_tokens):
        """Tokens [1, M, T, C] attend to image tokens [1, M, h*w, C] -> [1, M, T, C]."""
        _, prompts, count, width = tokens.shape
        heads, dim = attention.num_heads, attention.head_dim
        queries = attention.q_proj(tokens) * attention.scale
        queries = self._through_heads(queries, attention.k_proj.weight.reshape(heads, dim, width), heads)
        logits = self.matmul_transposed(queries, _rows(placed_image))  # [M, heads*T, h*w]
        read = self.matmul(self.softmax(logits), _rows(image_tokens))  # [M, heads*T, C]
        read = read.reshape(prompts, heads, count, width).transpose(1, 0, 2, 3).reshape(heads, prompts * count, width)
        values = self.matmul_transposed(read, attention.v_proj.weight.reshape(heads, dim, width))  # [heads, M*T, d]
        values = values.transpose(1, 0, 2).reshape(1, prompts, count, heads * dim) + attention.v_proj.bias
        return attention.out_proj(values)

    def _write_image(self, attention, placed_image, keys, values):
        """Image tokens [1, P, h*w, C], P = M or 1, attend to tokens [1, M, T, C] -> [1, M, h*w, C]."""
        _, prompts, count, width = keys.shape
        heads, pixels = attention.num_heads, placed_image.shape[2]
        keys = attention.k_proj(keys) * attention.scale
        logits = (self._shared_logits if placed_image.shape[1] == 1 else self._logits)(attention, placed_image, keys)
        weights = self.softmax(logits.reshape(prompts, pixels, heads, count))
        out_weight = attention.out_proj.weight.transpose(1, 0).reshape(heads, attention.head_dim, width)
        values = self._through_heads(attention.v_proj(values), out_weight, heads)  # [M, heads*T, C]
        # The weights of each head add up to 1, so its share of the output's bias may travel with the values.
        values = values + attention.out_proj.bias / heads
        return ops.expand_dims(self.matmul(weights.reshape(prompts, pixels, heads * count), values), 0)

    def _logits(self, attention, placed_image, keys):
        """Logits [M, h*w, heads*T] of image tokens [1, M, h*w, C] for keys [1, M, T, heads*d]."""
        _, prompts, count, _ = keys.shape
        heads, dim = attention.num_heads, attention.head_dim
        # The bias of the queries meets every key: one number for each head and token.
        bias = (keys * attention.q_proj.bias).reshape(prompts, count, heads, dim).sum(-1).transpose(0, 2, 1)
        keys = self._through_heads(keys, attention.q_proj.weight.reshape(heads, dim, -1), heads)
        return self.matmul_transposed(_rows(placed_image), keys) + bias.reshape(prompts, 1, heads * count)

    def _shared_logits(self, attention, placed_image, keys):
        """`_logits` where all prompts share their image tokens [1, 1, h*w, C]: these are projected, once."""
        _, prompts, count, inner = keys.shape
        heads = attention.num_heads
        queries = _rows(attention.q_proj(placed_image))  # [1, h*w, heads*d]
        queries = ops.broadcast_to(queries, (prompts,) + queries.shape[1:])
        # Column (head, t) holds the key of token t in the rows of that head and 0 in the others.
        own_head = np.arange(inner)[:, None] // attention.head_dim == np.arange(heads)
        own_head = Tensor(own_head.astype(np.float32).reshape(1, inner, heads, 1))
        columns = keys.reshape(prompts, count, inner).transpose(0, 2, 1).reshape(prompts, inner, 1, count) * own_head
        return self.matmul(queries, columns.reshape(prompts, inner, heads * count))

    def _through_heads(self, tokens, weight, heads):
        """Each head's part of tokens [1, M, T, heads*d] times its own weight [heads, d, C] -> [M, heads*T, C]."""
        _, prompts, count, inner = tokens.shape
        tokens = tokens.reshape(prompts * count, heads, inner // heads).transpose(1, 0, 2)
        out = self.matmul(tokens, weight)  # [heads, M*T, C]
        out = out.reshape(heads, prompts, count, -1).transpose(1, 0, 2, 3)
        return out.reshape(prompts, heads * count, -1)


class MasksOfTokens(nn.Cell):
    """Second step: the multimask outputs of chosen prompts. Shares the parameters of `sam` under their own names."""

    def __init__(self, sam):
        super().__init__(auto_prefix=False)
        self.mask_decoder = sam.mask_decoder
        self.grid_size = sam.grid_size

    def construct(self, image_tokens, output_tokens, chosen):
        """image_tokens [M, h*w, C] and output_tokens [M, 5, C] of `TokenDecoder`, chosen [N] int32 places among the M
        prompts -> low_res_masks [N, 3, 4h, 4w] logits."""
        side = self.grid_size
        pixels = ops.gather(image_tokens, chosen, 0)  # [N, h*w, C]
        upscaled = self.mask_decoder.output_upscaling(pixels.reshape(-1, pixels.shape[2]))
        masks = self.mask_decoder.mask_logits(upscaled, ops.gather(output_tokens, chosen, 0), side, side, first_mask=1)
        return masks.reshape(-1, 3, 4 * side, 4 * side)
