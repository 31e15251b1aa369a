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
"""Mask decoder of SAM (arXiv 2304.02643, appendix A): image and prompt embeddings to masks, IoU predictions and tokens.

Names follow the released checkpoints, so weights load by name. All four masks are always computed, and the output
tokens are returned next to them. A 2 x 2 transposed convolution of stride 2 reads one pixel and writes four, so both
upscalings, the norm and the GELU run on rows of channels; only the four finished logit maps are put into image order.
"""
import math

import mindspore as ms
from mindspore import Parameter, nn, ops
from mindspore.common.initializer import Normal, Uniform, initializer

from src.modeling.common import GELU, SAM_NORM_EPS, layer_norm
from src.modeling.prompt_encoder import EMPTY_SLOT

# exp(-1e4 - x) is 0 in float32 and float16 for every logit these networks make, and -1e4 is inside float16's range.
UNSEEN = -1.0e4


class MLP(nn.Cell):
    """`num_layers` fully connected layers with ReLU between them: [N, input_dim] -> [N, output_dim]."""

    def __init__(self, input_dim, hidden_dim, output_dim, num_layers):
        super().__init__()
        widths = [input_dim] + [hidden_dim] * (num_layers - 1) + [output_dim]
        self.layers = nn.CellList([nn.Dense(n, k) for n, k in zip(widths[:-1], widths[1:])])
        self.relu = nn.ReLU()

    def construct(self, x):
        for index, layer in enumerate(self.layers):  # a slice of a CellList would rename its parameters
            x = layer(x) if index == 0 else layer(self.relu(x))
        return x


class UpscaleRows(nn.Cell):
    """Transposed convolution, kernel and stride 2, on rows of channels: [L, in] -> [L*4, out].

    Row l becomes rows 4l .. 4l+3: its upper left, upper right, lower left and lower right pixel.
    """

    def __init__(self, in_channels, out_channels):
        super().__init__()
        bound = 1.0 / math.sqrt(out_channels * 4)
        self.weight = Parameter(initializer(Uniform(bound), (in_channels, out_channels, 2, 2)))
        self.bias = Parameter(initializer(Uniform(bound), (out_channels,)))
        self.out_channels = out_channels
        self.matmul = ops.MatMul()
        self.add_bias = ops.BiasAdd()  # on a CPU a sixth of the time of Add with broadcast

    def construct(self, x):
        weight = self.weight.transpose(0, 2, 3, 1).reshape(-1, 4 * self.out_channels)
        return self.add_bias(self.matmul(x, weight).reshape(-1, self.out_channels), self.bias)


class MaskDecoder(nn.Cell):
    """Predicts masks from an image embedding and prompts.

    Args:
        transformer: a `TwoWayTransformer` of width `transformer_dim`.
        transformer_dim: width C of embeddings and tokens; a multiple of 8.
        num_multimask_outputs: masks beside the single one (SAM: 3).
        iou_head_depth, iou_head_hidden_dim: layers and width of the IoU head (SAM: 3, 256).
    """

    def __init__(self, transformer, transformer_dim, num_multimask_outputs=3, iou_head_depth=3,
                 iou_head_hidden_dim=256):
        super().__init__()
        if transformer_dim % 8:
            raise ValueError(f"transformer_dim ({transformer_dim}) must be divisible by 8")
        self.transformer = transformer
        self.transformer_dim = transformer_dim
        self.num_masks = num_multimask_outputs + 1
        self.iou_token = nn.Embedding(1, transformer_dim, embedding_table=Normal(1.0))
        self.mask_tokens = nn.Embedding(self.num_masks, transformer_dim, embedding_table=Normal(1.0))
        self.output_upscaling = nn.SequentialCell(
            UpscaleRows(transformer_dim, transformer_dim // 4),
            layer_norm(transformer_dim // 4, SAM_NORM_EPS),
            GELU(),
            UpscaleRows(transformer_dim // 4, transformer_dim // 8),
            GELU(),
        )
        self.output_hypernetworks_mlps = nn.CellList([
            MLP(transformer_dim, transformer_dim, transformer_dim // 8, 3) for _ in range(self.num_masks)])
        self.iou_prediction_head = MLP(transformer_dim, iou_head_hidden_dim, self.num_masks, iou_head_depth)
        self.concat_tokens = ops.Concat(2)
        self.stack_masks = ops.Stack(1)
        self.mask_product = ops.BatchMatMul(transpose_b=True)

    def construct(self, image_embeddings, image_pe, sparse_prompt_embeddings, dense_prompt_embeddings, point_labels):
        """Decode M prompts of each of B images.

        Args:
            image_embeddings: [B, C, h, w].
            image_pe: [h*w, C], positional encoding of the grid's cells, row by row.
            sparse_prompt_embeddings: [B, M, K, C].
            dense_prompt_embeddings: [B, M, C, h, w], or [1, 1, C, 1, 1] where all prompts share it.
            point_labels: [B, M, K] int; tokens of empty slots (-2) are hidden from every attention.

        Returns:
            low_res_masks [B, M, 4, 4h, 4w] (logits; mask 0 is the single-mask output), iou_predictions [B, M, 4],
            output_tokens [B, M, 5, C] (the IoU token, then the mask tokens).
        """
        batch, prompts, _, _ = sparse_prompt_embeddings.shape
        height, width = image_embeddings.shape[2:]
        output_tokens, upscaled = self._tokens_and_pixels(image_embeddings, image_pe, sparse_prompt_embeddings,
                                                          dense_prompt_embeddings, point_labels)
        low_res_masks = self.mask_logits(upscaled, output_tokens, height, width)
        iou_predictions = self.iou_prediction_head(output_tokens[:, 0, :])
        return (low_res_masks.reshape(batch, prompts, self.num_masks, 4 * height, 4 * width),
                iou_predictions.reshape(batch, prompts, self.num_masks),
                output_tokens.reshape(batch, prompts, self.num_masks + 1, self.transformer_dim))

    def best_multimask(self, image_embeddings, image_pe, sparse_prompt_embeddings, dense_prompt_embeddings,
                       point_labels):
        """Of masks 1..3 the one of the highest predicted IoU (the first of equals): [B, M, 4h, 4w] logits, without the
        work of the others. Arguments as in `construct`."""
        batch, prompts, _, _ = sparse_prompt_embeddings.shape
        height, width = image_embeddings.shape[2:]
        output_tokens, upscaled = self._tokens_and_pixels(image_embeddings, image_pe, sparse_prompt_embeddings,
                                                          dense_prompt_embeddings, point_labels)
        best = ops.argmax(self.iou_prediction_head(output_tokens[:, 0, :])[:, 1:], -1)  # [N]
        vectors = self._mask_vectors(output_tokens, 1)
        chosen = ops.one_hot(best, self.num_masks - 1).astype(vectors.dtype).expand_dims(-1)  # [N, 3, 1]
        vector = ops.sum(vectors * chosen, 1, keepdim=True)  # [N, 1, C/8]
        return self._pixel_logits(vector, upscaled, height, width).reshape(batch, prompts, 4 * height, 4 * width)

    def _tokens_and_pixels(self, image_embeddings, image_pe, sparse_prompt_embeddings, dense_prompt_embeddings,
                           point_labels):
        """Up to what all masks share: (output_tokens [N, 5, C], upscaled pixels [N*h*w*16, C/8]), N = B*M."""
        num_outputs = self.num_masks + 1
        tokens, token_bias = self.first_tokens(sparse_prompt_embeddings, point_labels)
        image_tokens = self.first_image_tokens(image_embeddings, dense_prompt_embeddings)
        tokens, image_tokens = self.transformer(image_tokens, image_pe, tokens, token_bias)
        output_tokens = tokens[:, :, :num_outputs, :].reshape(-1, num_outputs, self.transformer_dim)
        return output_tokens, self.output_upscaling(image_tokens.reshape(-1, self.transformer_dim))

    def first_tokens(self, sparse_prompt_embeddings, point_labels):
        """Output tokens and prompt embeddings: (tokens [B, M, 5+K, C], their bias as keys [B*M, 1, 1, 5+K])."""
        batch, prompts, slots, _ = sparse_prompt_embeddings.shape
        rows = batch * prompts
        num_outputs = self.num_masks + 1
        tokens = self.concat_tokens((  # [B, M, 5+K, C]
            ops.broadcast_to(self.iou_token.embedding_table.reshape(1, 1, 1, -1),
                             (batch, prompts, 1, self.transformer_dim)),
            ops.broadcast_to(self.mask_tokens.embedding_table.reshape(1, 1, self.num_masks, -1),
                             (batch, prompts, self.num_masks, self.transformer_dim)),
            sparse_prompt_embeddings))
        slot_bias = (point_labels == EMPTY_SLOT).astype(ms.float32).reshape(rows, 1, 1, slots) * UNSEEN
        return tokens, ops.concat((ops.zeros((rows, 1, 1, num_outputs), ms.float32), slot_bias), -1)

    def first_image_tokens(self, image_embeddings, dense_prompt_embeddings):
        """The image with the dense prompt as rows of channels: [B, M or 1, h*w, C]."""
        batch, _, height, width = image_embeddings.shape
        image_tokens = ops.expand_dims(image_embeddings, 1) + dense_prompt_embeddings  # [B, M or 1, C, h, w]
        return image_tokens.reshape(batch, -1, self.transformer_dim, height * width).transpose(0, 1, 3, 2)

    def mask_logits(self, upscaled, output_tokens, height, width, first_mask=0):
        """Dot product of every upscaled pixel with the vector each mask token makes.

        Args:
            upscaled: [N*h*w*16, C/8] of `output_upscaling`, N = B*M prompts in all.
            output_tokens: [N, 5, C].
            height, width: h and w.
            first_mask: 0: all four masks; 1: the multimask outputs alone.

        Returns:
            [N * (4 - first_mask), 4h, 4w] logits.
        """
        return self._pixel_logits(self._mask_vectors(output_tokens, first_mask), upscaled, height, width)

    def _mask_vectors(self, output_tokens, first_mask):
        """What each mask token multiplies the pixels with: [N, 5, C] -> [N, 4 - first_mask, C/8]."""
        vectors = []
        for i in range(first_mask, self.num_masks):
            vectors.append(self.output_hypernetworks_mlps[i](output_tokens[:, i + 1, :]))
        return self.stack_masks(vectors)

    def _pixel_logits(self, vectors, upscaled, height, width):
        """vectors [N, masks, C/8], upscaled [N*h*w*16, C/8] -> [N*masks, 4h, 4w] in image order."""
        rows, num_masks, _ = vectors.shape
        upscaled = upscaled.reshape(rows, height * width * 16, -1)
        logits = self.mask_product(vectors, upscaled)  # [N, masks, 16*h*w]
        # A pixel's place is (cell y, cell x, y and x in the first doubling, y and x in the second).
        logits = logits.reshape(rows * num_masks, height, width, 2, 2, 2, 2).transpose(0, 1, 3, 5, 2, 4, 6)
        return logits.reshape(rows * num_masks, 4 * height, 4 * width)
