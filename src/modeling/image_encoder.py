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
"""SAM's ViT image encoder, the teacher (arXiv 2304.02643, appendix A; ViTDet, arXiv 2203.16527).

Window attention with a few global blocks and decomposed relative positions (MViTv2, arXiv 2112.01526). Names follow the
released checkpoint, so weights load by name. Inside the blocks an image is a list of tokens [B, L, C] in raster order.
"""
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import initializer

from src.modeling.common import (
    SAM_NORM_EPS,
    MLPBlock,
    check_encoder_sizes,
    layer_norm,
    linear,
    sam_neck,
    to_image,
    to_tokens,
)
from src.modeling.windows import WindowHeads


class PatchEmbed(nn.Cell):
    """One convolution per patch: [B, 3, S, S] -> tokens [B, (S/patch)^2, embed_dim]."""

    def __init__(self, patch_size, embed_dim):
        super().__init__()
        self.proj = nn.Conv2d(3, embed_dim, patch_size, stride=patch_size, pad_mode="valid", has_bias=True)

    def construct(self, x):
        return to_tokens(self.proj(x))


class Attention(nn.Cell):
    """Attention inside windows of a side x side grid (window = side: global): tokens [B, L, dim] -> [B, L, dim].

    The grid is padded with zeros behind the block's norm, so a padding token's key and value are the projection's bias,
    and it is attended to. The position term is q . rel_pos_h[qy - ky] + q . rel_pos_w[qx - kx], with q not scaled. It
    goes into the product of queries and keys: behind its channels a query carries its scores with all rows and columns,
    a key its own row and column as one-hot vectors. Added as a term of its own it would cost a ViT-B at 1024 pixels
    6 GB for every global block, and twice the time.
    """

    def __init__(self, dim, num_heads, side, window):
        super().__init__()
        head_dim = dim // num_heads
        self.window = window
        self.scale = head_dim**-0.5
        self.qkv = linear(dim, 3 * dim)
        self.proj = linear(dim, dim)
        self.rel_pos_h = Parameter(initializer("zeros", (2 * window - 1, head_dim)))
        self.rel_pos_w = Parameter(initializer("zeros", (2 * window - 1, head_dim)))
        self.heads = WindowHeads(side, window, num_heads, head_dim, head_major=False)
        distance = np.arange(window)[:, None] - np.arange(window) + window - 1
        self.rel_index = Tensor(distance.reshape(-1).astype(np.int32))
        places = np.eye(window, dtype=np.float32)
        places = np.concatenate((np.repeat(places, window, 0), np.tile(places, (window, 1))), 1)
        self.key_places = Tensor(places[None, None])  # [1, 1, N, 2w]: one-hot row, one-hot column of each key
        self.zero_row = Tensor(np.zeros((1, 1, dim), np.float32))
        self.gather = ops.Gather()
        self.scores = ops.BatchMatMul(transpose_b=True)
        self.mix = ops.BatchMatMul()
        self.softmax = ops.Softmax(-1)

    def position_scores(self, query, rel_pos, axis):
        """Scores of each query with each row (axis 1) or column (axis 2) of keys.

        query [n, w, w, d], rel_pos [2w - 1, d] -> [n, w, w, w]: image, query row, query column, key row or column.
        """
        window = self.window
        table = self.gather(rel_pos, self.rel_index, 0).reshape((window, window, -1))  # [q, k, d]
        order = (1, 0, 2, 3) if axis == 1 else (2, 0, 1, 3)
        back = (1, 0, 2, 3) if axis == 1 else (1, 2, 0, 3)
        lines = ops.transpose(query, order).reshape((window, -1, query.shape[-1]))
        scores = self.scores(lines, table).reshape((window, -1, window, window))
        return ops.transpose(scores, back)

    def construct(self, x):
        window = self.window
        if self.heads.padded:
            x = ops.concat((x, ops.tile(self.zero_row, (x.shape[0], 1, 1))), 1)
        query, key, value = self.heads.split(self.qkv(x))  # [B * windows, heads, N, d]
        windows, heads, area, _ = query.shape
        grid = query.reshape((windows * heads, window, window, -1))
        rows = self.position_scores(grid, self.rel_pos_h, 1).reshape((windows, heads, area, window))
        columns = self.position_scores(grid, self.rel_pos_w, 2).reshape((windows, heads, area, window))
        query = ops.concat((query * self.scale, rows, columns), 3)
        key = ops.concat((key, ops.tile(self.key_places, (windows, heads, 1, 1))), 3)
        weights = self.softmax(self.scores(query, key))
        return self.proj(self.heads.merge(self.mix(weights, value)))


class Block(nn.Cell):
    """Pre-norm transformer block: tokens [B, L, dim] -> [B, L, dim]."""

    def __init__(self, dim, num_heads, side, window, mlp_ratio):
        super().__init__()
        self.norm1 = layer_norm(dim, SAM_NORM_EPS)
        self.attn = Attention(dim, num_heads, side, window)
        self.norm2 = layer_norm(dim, SAM_NORM_EPS)
        self.mlp = MLPBlock(dim, int(dim * mlp_ratio))

    def construct(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ImageEncoderViT(nn.Cell):
    """Images [B, 3, S, S], normalised RGB -> image_embeddings [B, out_chans, S/patch_size, S/patch_size].

    Blocks listed in `global_attn_indexes` attend to the whole image, the others within windows of `window_size` tokens.
    `image_size` S in pixels, a multiple of 64. Raises ValueError when the sizes do not fit together.
    """

    def __init__(self, image_size, patch_size, embed_dim, depth, num_heads, window_size, global_attn_indexes, out_chans,
                 mlp_ratio=4.0):
        super().__init__()
        check_encoder_sizes(image_size, embed_dim, num_heads)
        side = image_size // patch_size
        self.image_size, self.side = image_size, side
        self.patch_embed = PatchEmbed(patch_size, embed_dim)
        self.pos_embed = Parameter(initializer("zeros", (1, side, side, embed_dim)))
        self.blocks = nn.CellList([
            Block(embed_dim, num_heads, side, side if i in global_attn_indexes else window_size, mlp_ratio)
            for i in range(depth)
        ])
        self.neck = sam_neck(embed_dim, out_chans)

    def construct(self, images):
        x = self.patch_embed(images)
        x = x + self.pos_embed.reshape((1, self.side * self.side, -1))
        for block in self.blocks:
            x = block(x)
        return self.neck(to_image(x, self.side))
