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
"""What the networks of a `Distiller` answer to a batch, for people to look at: the same hard points and masks as in a
training step, with the student as it is used after training (BatchNorm's moving statistics, which stay as they are).
"""
from typing import Optional, Tuple

import mindspore as ms
from mindspore import Tensor, nn, ops

from src.distillation.distiller import Distiller


class Preview(nn.Cell):
    """Prompts after all hard rounds and both networks' best masks at them.

    Args:
        distiller: the one that is trained. Call `look`, which sees to the student's mode.
    """

    def __init__(self, distiller: Distiller) -> None:
        super().__init__(auto_prefix=False)
        self.distiller = distiller
        self.max_rounds = distiller.mine_hard_points.max_rounds
        self.has_teacher = distiller.teacher_decodes

    def construct(self, images: Tensor, gt_masks: Tensor, point_coords: Tensor, point_labels: Tensor, noise: Tensor,
                  rounds: Tensor, teacher_embeddings: Optional[Tensor] = None) -> Tuple[Tensor, ...]:
        """Arguments as of `Distiller`.

        Returns:
            point_coords [B, M, K, 2] and point_labels [B, M, K] with the hard points of all rounds; the student's
            logits [B, M, S/4, S/4] of the multimask output that it holds best; the teacher's, zeros without one.
        """
        distiller = self.distiller
        gt_masks = gt_masks.astype(ms.float32)
        image_embeddings = distiller.student.image_encoder(images)
        coords, labels = distiller.mine_hard_points(image_embeddings, gt_masks, point_coords, point_labels, noise,
                                                    rounds)
        student_best = distiller.student_decoder.best_multimask(image_embeddings, coords, labels)
        teacher_best = ops.zeros_like(gt_masks)
        if self.has_teacher:
            embeddings = distiller.embed_with_teacher(images, teacher_embeddings)
            teacher_best = distiller.teacher.best_multimask(embeddings, coords, labels)
        return coords, labels, student_best, teacher_best

    def look(self, *inputs: Tensor) -> Tuple[Tensor, ...]:
        """`construct` with the student in inference mode, whatever mode it is in before and after."""
        student = self.distiller.student
        training = student.training
        student.set_train(False)
        try:
            return self(*inputs)
        finally:
            student.set_train(training)
