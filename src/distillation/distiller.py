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
"""Hard-mining full-stage distillation (arXiv 2312.13789, section 3.2): a student, a frozen teacher or none -> named
losses.

The image is encoded once. A `while` over the drawn number of rounds runs inside the graph without gradient: decode
with the student, take one point from the error region of every prompt, write it into the prompt's next slot. Then both
networks decode the final prompts once. What the paper leaves open and what was chosen is in docs/deviations.md.
"""
from typing import Any, Optional, Tuple

import mindspore as ms
from mindspore import Tensor, nn, ops

from src.distillation.embedding_adapter import EmbeddingAdapter
from src.distillation.frozen_teacher import FrozenTeacher
from src.distillation.hard_point_loop import HardPointLoop
from src.distillation.losses import (
    dice_loss,
    focal_loss,
    hard_mask_weights,
    l1_distance,
    mask_iou,
    mean_over_valid,
)
from src.modeling.native_kernels import use_native_kernels
from src.modeling.sam import PromptDecoder

NAMES = ("total_loss", "embedding_loss", "token_loss", "output_loss", "focal_loss", "dice_loss", "iou_loss", "mean_iou")


class Distiller(nn.Cell):
    """Student and teacher -> the losses of one batch, in the order of `NAMES`.

    Args:
        student: a `Sam`; its parameter names stay as they are.
        teacher: a `Sam`, frozen and renamed here, or None: labels only. Its `grid_size` and `embed_dim` are the
            student's, or `settings.embedding_adapter` is set and its grid is a multiple of the student's.
        settings: the `distill:` section of the configuration. A loss of weight 0 is not computed and is logged as 0;
            with the embedding loss alone nothing is decoded, and the mean IoU is logged as 0 as well.
        stored_embeddings: the teacher's embeddings come with every batch; its image encoder is not kept.

    Raises:
        ValueError: teacher and student do not fit together, or no loss is left to train on.
    """

    def __init__(self, student: nn.Cell, teacher: Optional[nn.Cell], settings: Any,
                 stored_embeddings: bool = False) -> None:
        super().__init__(auto_prefix=False)
        _check_pair(student, teacher, settings.embedding_adapter)
        use_teacher = float(teacher is not None)
        self.embedding_weight = settings.embedding_weight * use_teacher
        self.token_weight = settings.token_weight * use_teacher
        self.output_weight = settings.output_weight * use_teacher
        self.hard_mask_weighting = settings.hard_mask_weighting
        self.focal_weight = settings.focal_weight
        self.dice_weight = settings.dice_weight
        self.iou_weight = settings.iou_weight
        self.teacher_encodes = self.embedding_weight + self.token_weight + self.output_weight > 0
        self.teacher_decodes = self.token_weight + self.output_weight > 0
        if not self.teacher_encodes and self.focal_weight + self.dice_weight + self.iou_weight == 0:
            why = "every weight of 'distill' is 0" if teacher is not None else \
                "without a teacher, focal_weight, dice_weight and iou_weight of 'distill' are all 0"
            raise ValueError(f"there is no loss to train on: {why}; give one of them a positive weight")
        self.decodes = self.teacher_decodes or self.focal_weight + self.dice_weight + self.iou_weight > 0
        self.student = student
        self.student_decoder = PromptDecoder(student)
        self.mine_hard_points = HardPointLoop(self.student_decoder, student.image_size, settings.max_rounds,
                                              settings.hard_region)
        self.adapter, self.teacher = None, None
        if self.teacher_encodes:
            factor = teacher.grid_size // student.grid_size
            if factor > 1 and not stored_embeddings:
                raise ValueError(f"the teacher reads pictures of {teacher.image_size} px and the student of "
                                 f"{student.image_size}: a step has the student's alone, so store the teacher's "
                                 "embeddings first and name them in data.embedding_cache")
            if self.embedding_weight > 0 and settings.embedding_adapter:
                self.adapter = EmbeddingAdapter(student.embed_dim, teacher.embed_dim, factor)
            if self.token_weight > 0 and teacher.embed_dim != student.embed_dim:
                raise ValueError(f"distill.token_weight is {settings.token_weight}, but tokens of teacher "
                                 f"{teacher.variant} have {teacher.embed_dim} channels and those of student "
                                 f"{student.variant} {student.embed_dim}; set it to 0")
            self.teacher = FrozenTeacher(teacher, not stored_embeddings, factor)
        use_native_kernels(self)  # of both networks, where runtime.native_kernels is set; no parameter changes

    def construct(self, images: Tensor, gt_masks: Tensor, point_coords: Tensor, point_labels: Tensor,
                  mask_valid: Tensor, noise: Tensor, rounds: Tensor,
                  teacher_embeddings: Optional[Tensor] = None,
                  prompt_count: Optional[Tensor] = None) -> Tuple[Tensor, ...]:
        """Losses of one batch.

        Args:
            images: [B, 3, S, S] float32, normalised and padded.
            gt_masks: [B, M, S/4, S/4] 0/1 in the padded frame.
            point_coords: [B, M, 2 + max_rounds, 2] float32, (x, y) pixels of the S x S frame.
            point_labels: [B, M, 2 + max_rounds] int32, first prompt in slots 0..1, the rest -2.
            mask_valid: [B, M] float32 1/0.
            noise: [B, M, max(1, max_rounds)] float32 in [0, 1): picks the hard point of each round.
            rounds: int32 scalar, hard rounds of this step, 0..max_rounds.
            teacher_embeddings: [B, C, h, w] of the teacher's grid, stored in advance, or None: the teacher encodes the
                images.
            prompt_count: float32 scalar, the number that sums over valid prompts are divided by, or None: this batch's
                own. A batch that is one part of a larger one passes the parts' mean number, so that the mean of the
                parts' losses is the loss of the whole.

        Returns:
            Scalars in the order of NAMES: the weighted total, each loss before its weight, and (without gradient) the
            mean IoU of the student's best mask by its own prediction.

        Raises:
            ValueError: no `teacher_embeddings` although the distiller was made for stored ones.
        """
        gt_masks = gt_masks.astype(ms.float32)
        image_embeddings = self.student.image_encoder(images)
        if not self.decodes:
            embedding_loss = self._embedding_loss(image_embeddings, self.embed_with_teacher(images, teacher_embeddings))
            zero = ops.zeros_like(embedding_loss)
            return (self.embedding_weight * embedding_loss, embedding_loss) + (zero,) * (len(NAMES) - 2)
        coords, labels = self.mine_hard_points(image_embeddings, gt_masks, point_coords, point_labels, noise, rounds)
        student_out = self.student_decoder(image_embeddings, coords, labels)
        low_res_masks, iou_predictions, _ = student_out
        real_ious = mask_iou(low_res_masks > 0, gt_masks.expand_dims(2))  # [B, M, 4]
        student_iou = _best_by_prediction(real_ious, iou_predictions)
        losses = self._teacher_losses(images, image_embeddings, student_out, student_iou, gt_masks, coords, labels,
                                      mask_valid, prompt_count, teacher_embeddings)
        losses += self._label_losses(low_res_masks, iou_predictions, real_ious, gt_masks, mask_valid,
                                     prompt_count)
        total = (self.embedding_weight * losses[0] + self.token_weight * losses[1] + self.output_weight * losses[2]
                 + self.focal_weight * losses[3] + self.dice_weight * losses[4] + self.iou_weight * losses[5])
        return (total,) + losses + (mean_over_valid(student_iou, mask_valid, count=prompt_count),)

    def embed_with_teacher(self, images: Tensor, teacher_embeddings: Optional[Tensor]) -> Tensor:
        """[B, C, h, w] of the teacher, without gradient: the stored ones, else of the images."""
        if teacher_embeddings is None:
            if self.teacher.image_encoder is None:
                raise ValueError("the distiller was made for stored teacher embeddings; pass teacher_embeddings")
            teacher_embeddings = self.teacher.image_encoder(images)
        return ops.stop_gradient(teacher_embeddings)

    def _embedding_loss(self, image_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
        """Mean L1 between the embeddings, of the student's through the adapter where there is one."""
        if self.adapter is not None:
            image_embeddings = self.adapter(image_embeddings)
            teacher_embeddings = self.adapter.cells_of(teacher_embeddings)
        return ops.mean(l1_distance(image_embeddings, teacher_embeddings, 1))

    def _teacher_losses(self, images: Tensor, image_embeddings: Tensor, student_out: Tuple[Tensor, ...],
                        student_iou: Tensor, gt_masks: Tensor, coords: Tensor, labels: Tensor, mask_valid: Tensor,
                        prompt_count: Optional[Tensor], teacher_embeddings: Optional[Tensor]) -> Tuple[Tensor, ...]:
        """(embedding, token, output) losses; zeros where switched off."""
        zero = ops.zeros((), ms.float32)
        embedding_loss, token_loss, output_loss = zero, zero, zero
        if not self.teacher_encodes:
            return embedding_loss, token_loss, output_loss
        teacher_embeddings = self.embed_with_teacher(images, teacher_embeddings)
        if self.embedding_weight > 0:
            embedding_loss = self._embedding_loss(image_embeddings, teacher_embeddings)
        if self.teacher_decodes:
            teacher_masks, teacher_predictions, teacher_tokens = self.teacher(teacher_embeddings, coords, labels)
            student_masks, _, student_tokens = student_out
            if self.token_weight > 0:
                token_loss = mean_over_valid(l1_distance(student_tokens, teacher_tokens, 2), mask_valid,
                                             count=prompt_count)
            if self.output_weight > 0:
                weights = None
                if self.hard_mask_weighting:
                    teacher_ious = mask_iou(teacher_masks > 0, gt_masks.expand_dims(2))
                    weights = hard_mask_weights(_best_by_prediction(teacher_ious, teacher_predictions), student_iou)
                output_loss = mean_over_valid(l1_distance(student_masks, teacher_masks, 2), mask_valid, weights,
                                              prompt_count)
        return embedding_loss, token_loss, output_loss

    def _label_losses(self, low_res_masks: Tensor, iou_predictions: Tensor, real_ious: Tensor, gt_masks: Tensor,
                      mask_valid: Tensor, prompt_count: Optional[Tensor]) -> Tuple[Tensor, ...]:
        """(focal, dice, IoU) losses; zeros where switched off.

        Of masks 1..3 only the one of lowest weighted focal + dice loss counts (SAM's rule for ambiguous prompts); the
        mean of it and of mask 0 is the prompt's loss. Every mask's IoU prediction is taught.
        """
        zero = ops.zeros((), ms.float32)
        focal, dice, iou_loss = zero, zero, zero
        targets = gt_masks.expand_dims(2)  # [B, M, 1, h, w]
        each = mask_valid.expand_dims(2)  # [B, M, 1]
        ranking = ops.zeros_like(real_ious)
        if self.focal_weight > 0:
            focal = focal_loss(low_res_masks, targets, each)  # [B, M, 4]
            ranking = ranking + self.focal_weight * focal
        if self.dice_weight > 0:
            dice = dice_loss(low_res_masks, targets, each)
            ranking = ranking + self.dice_weight * dice
        chosen = _one_hot_best(-ops.stop_gradient(ranking)[:, :, 1:])  # [B, M, 3]
        if self.focal_weight > 0:
            focal = mean_over_valid(_single_and_chosen(focal, chosen), mask_valid, count=prompt_count)
        if self.dice_weight > 0:
            dice = mean_over_valid(_single_and_chosen(dice, chosen), mask_valid, count=prompt_count)
        if self.iou_weight > 0:
            iou_loss = mean_over_valid(l1_distance(iou_predictions, real_ious, 2), mask_valid, count=prompt_count)
        return focal, dice, iou_loss


def start_decoder_from_teacher(student: nn.Cell, teacher: nn.Cell) -> int:
    """Give the student's prompt encoder and mask decoder the teacher's weights; both are `Sam`s, before a `Distiller`
    has renamed the teacher's parameters. Only the image encoder then starts from nothing (decoupled distillation,
    arXiv 2306.14289, section 3).

    Returns:
        Number of parameters that were set.

    Raises:
        ValueError: the decoders are not alike.
    """
    _check_pair(student, teacher)
    pairs = []
    for part in ("prompt_encoder", "mask_decoder"):
        theirs = dict(getattr(teacher, part).parameters_and_names())
        for name, ours in getattr(student, part).parameters_and_names():
            if name not in theirs or theirs[name].shape != ours.shape:
                raise ValueError(f"model.decoder_from_teacher: {part}.{name} of {student.variant} does not fit that of "
                                 f"teacher {teacher.variant}")
            pairs.append((ours, theirs[name]))
    for ours, value in pairs:
        ours.set_data(Tensor(value.asnumpy(), ours.dtype))
    return len(pairs)


def _one_hot_best(scores: Tensor) -> Tensor:
    """[..., n] scores -> [..., n] float 1 at the largest (the first of equals), 0 elsewhere."""
    return ops.one_hot(ops.argmax(scores, -1), scores.shape[-1]).astype(ms.float32)


def _best_by_prediction(real_ious: Tensor, iou_predictions: Tensor) -> Tensor:
    """[B, M] real IoU of the multimask output (masks 1..3) that the network itself holds best."""
    return ops.sum(real_ious[:, :, 1:] * _one_hot_best(ops.stop_gradient(iou_predictions)[:, :, 1:]), 2)


def _single_and_chosen(losses: Tensor, chosen: Tensor) -> Tensor:
    """[B, M] mean of mask 0's loss and the chosen multimask's; losses [B, M, 4], chosen [B, M, 3] one-hot."""
    return 0.5 * (losses[:, :, 0] + ops.sum(losses[:, :, 1:] * chosen, 2))


def _check_pair(student: nn.Cell, teacher: Optional[nn.Cell], adapted: bool = False) -> None:
    """ValueError unless the embeddings can be compared; `adapted`: through an `EmbeddingAdapter`."""
    if teacher is None:
        return
    for name, meaning in (("grid_size", "cells per side of the image embedding"), ("embed_dim", "embedding channels")):
        ours, theirs = getattr(student, name), getattr(teacher, name)
        if adapted and name == "grid_size" and theirs % ours:
            raise ValueError(f"teacher {teacher.variant} has {name} {theirs} and student {student.variant} has {ours} "
                             f"({meaning}); it must be a multiple: choose other image sizes")
        if not adapted and ours != theirs:
            raise ValueError(f"teacher {teacher.variant} has {name} {theirs} and student {student.variant} has {ours} "
                             f"({meaning}); they must be equal: choose a matching pair from src/modeling/build_sam.py, "
                             "or set distill.embedding_adapter")
