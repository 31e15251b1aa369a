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
"""A learned map from the student's image embeddings to those of a teacher of another width or of a finer grid (the
regressor of FitNets, arXiv 1412.6550, section 2.2). It learns with the student and is left behind with the run."""
import numpy as np
from mindspore import Parameter, Tensor, nn, ops


class EmbeddingAdapter(nn.Cell):
    """One linear map of every cell: from the student's channels to all channels of the factor x factor cells of the
    teacher that lie there.

    Args:
        student_dim, teacher_dim: channels of the embeddings.
        factor: cells of the teacher per cell of the student and side, 1 for equal grids.

    The map starts as 0, so it learns what the student has before it begins to pull at it: a student that comes with
    weights is not thrown off by a random map.
    """

    def __init__(self, student_dim: int, teacher_dim: int, factor: int = 1) -> None:
        super().__init__(auto_prefix=False)
        self.factor = factor
        channels = teacher_dim * factor * factor
        self.weight = Parameter(Tensor(np.zeros((channels, student_dim), np.float32)), name="embedding_adapter.weight")
        self.bias = Parameter(Tensor(np.zeros(channels, np.float32)), name="embedding_adapter.bias")
        self.product = ops.MatMul(transpose_b=True)

    def construct(self, embeddings: Tensor) -> Tensor:
        """Student's embeddings [B, C, h, w] -> [B, h * w, D], comparable with `cells_of` the teacher's."""
        batch, channels, height, width = embeddings.shape
        rows = embeddings.transpose(0, 2, 3, 1).reshape(-1, channels)
        return (self.product(rows, self.weight) + self.bias).reshape(batch, height * width, -1)

    def cells_of(self, embeddings: Tensor) -> Tensor:
        """Teacher's embeddings [B, C, h * factor, w * factor] -> [B, h * w, C * factor * factor]."""
        batch, channels, height, width = embeddings.shape
        k = self.factor
        cells = embeddings.reshape(batch, channels, height // k, k, width // k, k).transpose(0, 2, 4, 1, 3, 5)
        return cells.reshape(batch, (height // k) * (width // k), channels * k * k)
