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
"""The network that is imitated and never learns."""
from typing import Any, Tuple

from mindspore import Tensor, nn, ops

from src.distillation.hard_point_loop import WithoutGradient
from src.modeling.sam import PromptDecoder


class FrozenTeacher(nn.Cell):
    """A network that never learns: no parameter wants a gradient, outputs carry none, and no `set_train` of a cell
    around it reaches its BatchNorm. Its parameters are renamed to `teacher.*` in place, so that they do not clash with
    the student's.

    Args:
        sam: a `Sam`.
        encodes: False keeps its decoder only; the encoder's memory is free once `sam` is dropped.
        factor: pixels of its input per pixel of the student's, an integer. Prompts come in the student's frame and
            masks go out in it, as means over factor x factor logits.
    """

    def __init__(self, sam: nn.Cell, encodes: bool = True, factor: int = 1) -> None:
        super().__init__(auto_prefix=False)
        sam.update_parameters_name("teacher.")
        for parameter in sam.get_parameters():
            parameter.requires_grad = False
        self.image_encoder = WithoutGradient(sam.image_encoder) if encodes else None
        self.decoder = PromptDecoder(sam)
        self.factor = factor
        self.set_train(False)

    def add_flags_recursive(self, **flags: Any) -> nn.Cell:
        if "training" in flags:  # set_train of an enclosing cell arrives here, not at set_train
            flags["training"] = False
        return super().add_flags_recursive(**flags)

    def construct(self, image_embeddings: Tensor, point_coords: Tensor, point_labels: Tensor) -> Tuple[Tensor, ...]:
        """Decode; as `PromptDecoder`, without gradient."""
        masks, iou_predictions, tokens = self.decoder(image_embeddings, point_coords * self.factor, point_labels)
        return self._shrink(masks), iou_predictions, tokens

    def best_multimask(self, image_embeddings: Tensor, point_coords: Tensor, point_labels: Tensor) -> Tensor:
        """Logits [B, M, h, w] of the multimask output that it holds best, in the student's frame."""
        return self._shrink(self.decoder.best_multimask(image_embeddings, point_coords * self.factor, point_labels))

    def _shrink(self, masks: Tensor) -> Tensor:
        """[..., h, w] -> [..., h / factor, w / factor]."""
        if self.factor == 1:
            return masks
        height, width = masks.shape[-2] // self.factor, masks.shape[-1] // self.factor
        return ops.mean(masks.reshape(masks.shape[:-2] + (height, self.factor, width, self.factor)), (-3, -1))

    def bprop(self, image_embeddings: Tensor, point_coords: Tensor, point_labels: Tensor, out: Tuple[Tensor, ...],
              dout: Tuple[Tensor, ...]) -> Tuple[Tensor, ...]:
        """No gradient; the decoder is not differentiated at all."""
        return ops.zeros_like(image_embeddings), ops.zeros_like(point_coords), ops.zeros_like(point_labels)
