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
"""Window attention's data movement for both encoders (TinyViT, arXiv 2207.10666; ViTDet, arXiv 2203.16527).

Tokens of a side x side grid, in raster order, are dealt to windows of window x window; the grid is padded at the bottom
and right to whole windows, and padding tokens take part in the attention as the references have it. All padding tokens
are equal, so one shared row stands for them. Partition, head split and the way back are each one gather of
head_dim-long rows with an index made once, which is several times faster on a CPU than pad, reshape and transpose.
"""
import numpy as np
from mindspore import Tensor, nn, ops


def window_tokens(side, window):
    """Tokens of each window: int32 [num_windows, window * window]; side * side stands for padding."""
    windows_per_side = -(-side // window)
    padded = windows_per_side * window
    tokens = np.full((padded, padded), side * side, np.int32)
    tokens[:side, :side] = np.arange(side * side, dtype=np.int32).reshape(side, side)
    tokens = tokens.reshape(windows_per_side, window, windows_per_side, window)
    return tokens.transpose(0, 2, 1, 3).reshape(windows_per_side**2, window * window)


class WindowHeads(nn.Cell):
    """Deals projected tokens to windows and heads, and back.

    With L = side * side tokens and N = window * window:
    `split` takes [B, R, 3 * num_heads * head_dim], R = L, or L + 1 with the padding row last where `padded` is true,
    and gives queries, keys and values, each [B * num_windows, num_heads, N, head_dim];
    `merge` takes [B * num_windows, num_heads, N, head_dim] and gives [B, L, num_heads * head_dim].
    `head_major`: the projection's channels are [num_heads, 3, head_dim] (TinyViT), else [3, num_heads, head_dim] (ViT).
    """

    def __init__(self, side, window, num_heads, head_dim, head_major):
        super().__init__()
        tokens = window_tokens(side, window)
        num_windows, area = tokens.shape
        self.padded = num_windows * area > side * side
        self.num_heads, self.head_dim, self.area, self.num_windows = num_heads, head_dim, area, num_windows
        self.num_tokens = side * side
        part = np.arange(3).reshape(3, 1, 1, 1)
        head = np.arange(num_heads).reshape(1, 1, num_heads, 1)
        offset = head * 3 + part if head_major else part * num_heads + head
        rows = tokens[None, :, None, :] * (3 * num_heads) + offset  # [3, num_windows, num_heads, N]
        self.split_rows = Tensor(rows.reshape(-1).astype(np.int32))
        self.merge_rows = Tensor(self._merge_rows(tokens))
        self.gather = ops.Gather()
        self.split_parts = ops.Split(1, 3)

    def _merge_rows(self, tokens):
        num_windows, area = tokens.shape
        position = np.empty(self.num_tokens + 1, np.int64)  # the last entry collects the padding and is dropped
        position[tokens.reshape(-1)] = np.arange(num_windows * area)
        position = position[:-1, None]
        head = np.arange(self.num_heads)[None, :]
        rows = (position // area * self.num_heads + head) * area + position % area  # [L, num_heads]
        return rows.reshape(-1).astype(np.int32)

    def split(self, qkv):
        batch = qkv.shape[0]
        rows = self.gather(qkv.reshape((batch, -1, self.head_dim)), self.split_rows, 1)
        query, key, value = self.split_parts(rows)
        shape = (batch * self.num_windows, self.num_heads, self.area, self.head_dim)
        return query.reshape(shape), key.reshape(shape), value.reshape(shape)

    def merge(self, x):
        rows = x.reshape((-1, self.num_windows * self.num_heads * self.area, self.head_dim))
        rows = self.gather(rows, self.merge_rows, 1)
        return rows.reshape((-1, self.num_tokens, self.num_heads * self.head_dim))
