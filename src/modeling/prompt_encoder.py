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
"""Prompt encoder of SAM (arXiv 2304.02643, section 3 and appendix A): points, boxes and masks to embeddings.

Names follow the released checkpoints, so weights load by name. A box is two points with labels 2 and 3, so points and
boxes share one static format of K slots; label -2, which the release does not know, marks a slot that is not there.
"""
import math

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import Normal, initializer

from src.modeling.common import GELU, LayerNorm2d, conv2d

EMPTY_SLOT = -2  # labels: -2 empty, -1 not a point, 0 background, 1 foreground, 2 and 3 corners of a box
NUM_POINT_EMBEDDINGS = 4


def _embedding_rows(count, embed_dim):
    """`count` learned rows [count, embed_dim], drawn from N(0, 1) as the release does."""
    return nn.Embedding(count, embed_dim, embedding_table=Normal(1.0))


class PositionEmbeddingRandom(nn.Cell):
    """Random Fourier features of a position p: [sin(2 pi p G), cos(2 pi p G)], G [2, embed_dim / 2] from N(0, 1)."""

    def __init__(self, embed_dim):
        super().__init__()
        if embed_dim % 2:
            raise ValueError(f"embed_dim ({embed_dim}) must be even: one half is sines, the other cosines")
        # A buffer in the release: stored and loaded with the weights, never trained.
        self.positional_encoding_gaussian_matrix = Parameter(
            initializer(Normal(1.0), (2, embed_dim // 2)), requires_grad=False)
        self.matmul = ops.MatMul()
        self.concat = ops.Concat(-1)

    def construct(self, positions):
        """positions [L, 2], (x, y) as shares of the image in [0, 1] -> [L, embed_dim]."""
        phases = self.matmul(positions * 2.0 - 1.0, self.positional_encoding_gaussian_matrix) * (2.0 * math.pi)
        return self.concat((ops.sin(phases), ops.cos(phases)))


class PromptEncoder(nn.Cell):
    """Embeds point slots and mask inputs.

    Args:
        embed_dim: width C of the embeddings.
        grid_size: side of the image embedding, in cells; a mask input has 4 * grid_size pixels a side.
        image_size: side of the square input in pixels, the frame of the point coordinates.
        mask_in_chans: width inside the mask branch (SAM: 16).
    """

    def __init__(self, embed_dim, grid_size, image_size, mask_in_chans=16):
        super().__init__()
        self.image_size = image_size
        self.pe_layer = PositionEmbeddingRandom(embed_dim)
        self.point_embeddings = nn.CellList([_embedding_rows(1, embed_dim) for _ in range(NUM_POINT_EMBEDDINGS)])
        self.not_a_point_embed = _embedding_rows(1, embed_dim)
        self.mask_downscaling = nn.SequentialCell(
            conv2d(1, mask_in_chans // 4, 2, stride=2, has_bias=True),
            LayerNorm2d(mask_in_chans // 4),
            GELU(),
            conv2d(mask_in_chans // 4, mask_in_chans, 2, stride=2, has_bias=True),
            LayerNorm2d(mask_in_chans),
            GELU(),
            conv2d(mask_in_chans, embed_dim, 1, has_bias=True),
        )
        self.no_mask_embed = _embedding_rows(1, embed_dim)
        self.embed_dim = embed_dim
        centres = (np.arange(grid_size, dtype=np.float32) + 0.5) / grid_size
        grid_y, grid_x = np.meshgrid(centres, centres, indexing="ij")
        self.grid_positions = Tensor(np.stack([grid_x, grid_y], -1).reshape(-1, 2))
        self.empty_row = Tensor(np.zeros((embed_dim,), np.float32))
        self.stack_rows = ops.Stack(0)

    def construct(self, point_coords, point_labels, mask_input=None):
        """Embed M prompts of each of B images.

        Args:
            point_coords: [B, M, K, 2] float, (x, y) pixels in the resized and padded frame of `image_size`.
            point_labels: [B, M, K] int, -2..3 as in docs/design.md; coordinates of labels -1 and -2 are not read.
            mask_input: [B, M, 1, 4h, 4w] logits of an earlier pass, or None.

        Returns:
            sparse_prompt_embeddings [B, M, K, C] (zero in empty slots) and dense_prompt_embeddings, [B, M, C, h, w], or
            [1, 1, C, 1, 1] without a mask input.
        """
        sparse_prompt_embeddings = self._embed_slots(point_coords, point_labels)
        if mask_input is None:
            return sparse_prompt_embeddings, self.no_mask_embed.embedding_table.reshape(1, 1, -1, 1, 1)
        batch, prompts, _, height, width = mask_input.shape
        dense = self.mask_downscaling(mask_input.reshape(batch * prompts, 1, height, width))
        return sparse_prompt_embeddings, dense.reshape(batch, prompts, self.embed_dim, height // 4, width // 4)

    def image_pe(self):
        """Positional encoding of the centres of the image embedding's cells, row by row: [h*w, C]."""
        return self.pe_layer(self.grid_positions)

    def _embed_slots(self, point_coords, point_labels):
        """Positional encoding of real points plus the learned row of their label: [B, M, K, C]."""
        batch, prompts, slots = point_labels.shape
        labels = point_labels.reshape(-1).astype(ms.int32)
        is_point = ops.expand_dims(labels >= 0, -1)  # [B*M*K, 1]
        # + 0.5: a coordinate names a pixel, the encoding wants its centre. Selecting before encoding keeps garbage out.
        positions = (point_coords.reshape(-1, 2) + 0.5) / self.image_size
        positions = ops.select(ops.broadcast_to(is_point, positions.shape), positions, ops.zeros_like(positions))
        # Reshaped, because parameters that are concatenated as they are make a step with a loop compile for minutes:
        # each such place multiplies the time that the framework takes to order reads and writes.
        label_rows = self.stack_rows((
            self.empty_row, self.not_a_point_embed.embedding_table.reshape(-1),
            self.point_embeddings[0].embedding_table.reshape(-1), self.point_embeddings[1].embedding_table.reshape(-1),
            self.point_embeddings[2].embedding_table.reshape(-1), self.point_embeddings[3].embedding_table.reshape(-1),
        ))  # row = label + 2
        encodings = self.pe_layer(positions) * is_point.astype(ms.float32)
        embeddings = encodings + ops.gather(label_rows, labels - EMPTY_SLOT, 0)
        return embeddings.reshape(batch, prompts, slots, self.embed_dim)
