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
"""SAM as one cell (arXiv 2304.02643), and its prompt half alone, which runs once per round of prompts."""
from mindspore import nn


class Sam(nn.Cell):
    """Image encoder, prompt encoder and mask decoder under the attribute names of the released checkpoints.

    Args:
        image_encoder: cell [B, 3, S, S] -> image_embeddings [B, C, S/16, S/16].
        prompt_encoder: a `PromptEncoder` of width C.
        mask_decoder: a `MaskDecoder` of width C.
        image_size: side S of the square input in pixels.
        variant: name that messages and manifests show.
    """

    def __init__(self, image_encoder, prompt_encoder, mask_decoder, image_size, variant):
        super().__init__()
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
        self.image_size = image_size
        self.grid_size = image_size // 16
        self.embed_dim = prompt_encoder.embed_dim
        self.variant = variant

    def construct(self, images, point_coords, point_labels, mask_input=None):
        """images [B, 3, S, S] normalised; prompts and results as in `PromptDecoder`."""
        image_embeddings = self.image_encoder(images)
        sparse, dense = self.prompt_encoder(point_coords, point_labels, mask_input)
        return self.mask_decoder(image_embeddings, self.prompt_encoder.image_pe(), sparse, dense, point_labels)


class PromptDecoder(nn.Cell):
    """Prompt encoder and mask decoder of a `Sam`, sharing its parameters under their own names."""

    def __init__(self, sam):
        super().__init__(auto_prefix=False)
        self.prompt_encoder = sam.prompt_encoder
        self.mask_decoder = sam.mask_decoder

    def construct(self, image_embeddings, point_coords, point_labels, mask_input=None):
        """Decode M prompts of each of B images in one batch.

        Args:
            image_embeddings: [B, C, h, w] of the image encoder.
            point_coords: [B, M, K, 2], (x, y) pixels in the resized and padded frame.
            point_labels: [B, M, K] int: 1 foreground, 0 background, 2 and 3 box corners, -1 not a point, -2 empty slot.
            mask_input: [B, M, 1, 4h, 4w] logits of an earlier pass, or None.

        Returns:
            low_res_masks [B, M, 4, 4h, 4w] logits, iou_predictions [B, M, 4], output_tokens [B, M, 5, C].
        """
        sparse, dense = self.prompt_encoder(point_coords, point_labels, mask_input)
        return self.mask_decoder(image_embeddings, self.prompt_encoder.image_pe(), sparse, dense, point_labels)

    def best_multimask(self, image_embeddings, point_coords, point_labels):
        """The one of masks 1..3 of the highest predicted IoU, alone: [B, M, 4h, 4w] logits. Arguments as above."""
        sparse, dense = self.prompt_encoder(point_coords, point_labels)
        return self.mask_decoder.best_multimask(image_embeddings, self.prompt_encoder.image_pe(), sparse, dense,
                                                point_labels)
