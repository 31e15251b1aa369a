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
"""Windows and heads dealt by gather, against hand-worked cases and slow loops."""
import mindspore as ms
import numpy as np
import pytest

from src.modeling.windows import WindowHeads, window_tokens


def test_windows_of_a_padded_grid_by_hand():
    # 0 1 2 .     a 3 x 3 grid in windows of 2 x 2, padded with token 9 (.)
    # 3 4 5 .
    # 6 7 8 .
    # . . . .
    expected = [[0, 1, 3, 4], [2, 9, 5, 9], [6, 7, 9, 9], [8, 9, 9, 9]]
    np.testing.assert_array_equal(window_tokens(3, 2), expected)


def test_one_window_when_it_is_the_grid():
    np.testing.assert_array_equal(window_tokens(2, 2), [[0, 1, 2, 3]])


@pytest.mark.parametrize("head_major", [True, False])
@pytest.mark.parametrize("side, window", [(3, 2), (4, 2), (2, 5)])
def test_split_and_merge(side, window, head_major, mode):
    heads, dim, batch, tokens = 2, 3, 2, side * side
    layout = WindowHeads(side, window, heads, dim, head_major)
    rows = tokens + layout.padded
    qkv = np.arange(batch * rows * 3 * heads * dim, dtype=np.float32).reshape(batch, rows, -1)
    axes = (heads, 3, dim) if head_major else (3, heads, dim)
    named = qkv.reshape(batch, rows, *axes)
    parts = layout.split(ms.Tensor(qkv))
    dealt = window_tokens(side, window)
    for part, actual in enumerate(parts):
        channels = named[:, :, :, part] if head_major else named[:, :, part]  # [B, R, heads, d]
        expected = [channels[b, window_rows].transpose(1, 0, 2) for b in range(batch) for window_rows in dealt]
        np.testing.assert_array_equal(actual.asnumpy(), np.stack(expected))
    # merge undoes the deal: [B, L, heads * d] of the queries
    queries = named[:, :tokens, :, 0] if head_major else named[:, :tokens, 0]
    np.testing.assert_array_equal(layout.merge(parts[0]).asnumpy(), queries.reshape(batch, tokens, -1))
