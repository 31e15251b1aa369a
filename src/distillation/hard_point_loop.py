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
"""Online hard prompts (arXiv 2312.13789, section 3.2): the loop of rounds in the graph, and cells that stay out of the
gradient.

The loop and the teacher need no gradient. Behind `stop_gradient` the framework would still differentiate them first and
drop the result afterwards, which is most of the time that a step takes to compile; a cell with a backward pass of its
own is not looked into.
"""
from typing import Tuple

import mindspore as ms
from mindspore import Tensor, nn, ops

from src.prompts.hard_points import sample_hard_points

FIRST_SLOTS = 2  # slots 0..1 hold the first prompt, slot FIRST_SLOTS + i the point of hard round i


class WithoutGradient(nn.Cell):
    """A cell of one tensor whose output is constant to the gradient."""

    def __init__(self, cell: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.cell = cell

    def construct(self, x: Tensor) -> Tensor:
        return self.cell(x)

    def bprop(self, x: Tensor, out: Tensor, dout: Tensor) -> Tuple[Tensor]:
        return (ops.zeros_like(x),)


class HardPointLoop(nn.Cell):
    """Adds one point from the error region to every prompt, round after round; constant to the gradient.

    Args:
        decoder: a `PromptDecoder`.
        image_size: S, side of the frame of the coordinates, in pixels.
        max_rounds: slots behind the first prompt.
        hard_region: as in `sample_hard_points`.
    """

    def __init__(self, decoder: nn.Cell, image_size: int, max_rounds: int, hard_region: str) -> None:
        super().__init__(auto_prefix=False)
        self.decoder = decoder
        self.image_size = image_size
        self.max_rounds = max_rounds
        self.hard_region = hard_region

    def construct(self, image_embeddings: Tensor, gt_masks: Tensor, point_coords: Tensor, point_labels: Tensor,
                  noise: Tensor, rounds: Tensor) -> Tuple[Tensor, Tensor]:
        """Shapes as in `Distiller` -> point_coords [B, M, K, 2] and point_labels [B, M, K] with `rounds` hard points
        at slots 2, 3, ...

        Raises:
            ValueError: the prompts have another number of slots.
        """
        batch, prompts, slots, _ = point_coords.shape
        if slots != FIRST_SLOTS + self.max_rounds:
            raise ValueError(f"prompts have {slots} slots; distill.max_rounds ({self.max_rounds}) asks for "
                             f"{FIRST_SLOTS + self.max_rounds}")
        if self.max_rounds == 0:
            return point_coords, point_labels
        grid = gt_masks.shape[-1]
        scale = float(self.image_size // grid)
        targets = gt_masks.reshape(batch * prompts, grid, grid)
        slot_index = ops.arange(slots)
        coords, labels = point_coords, point_labels
        i = ops.zeros((), ms.int32)
        while i < rounds:
            predicted = (self.decoder.best_multimask(image_embeddings, coords, labels) > 0).reshape(-1, grid, grid)
            column = ops.gather(noise, i, 2).reshape(batch * prompts)
            new_coords, new_labels = sample_hard_points(targets, predicted, column, self.hard_region, scale)
            here = slot_index == i + FIRST_SLOTS  # [K]
            coords = ops.where(here.reshape(1, 1, slots, 1), new_coords.reshape(batch, prompts, 1, 2), coords)
            labels = ops.where(here.reshape(1, 1, slots), new_labels.reshape(batch, prompts, 1), labels)
            i = i + 1
        return coords, labels

    def bprop(self, image_embeddings: Tensor, gt_masks: Tensor, point_coords: Tensor, point_labels: Tensor,
              noise: Tensor, rounds: Tensor, out: Tuple[Tensor, Tensor], dout: Tuple[Tensor, Tensor]) -> Tuple:
        return (ops.zeros_like(image_embeddings), ops.zeros_like(gt_masks), ops.zeros_like(point_coords),
                ops.zeros_like(point_labels), ops.zeros_like(noise), ops.zeros_like(rounds))
