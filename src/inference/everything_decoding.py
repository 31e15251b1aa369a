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
"""Two ways from points of one image to the masks whose predicted IoU passes (SAM, arXiv 2304.02643, appendix B).

`PlainDecoding` asks the predictor, whatever stands behind it, for all masks and throws most away. `FastDecoding`
predicts the IoUs first and upscales only prompts with a mask that passes: the same but for rounding. Both answer
`decode(points, pred_iou_thresh)` with

    prompts [K] int (which point each mask is of), low_res_masks [K, S/4, S/4] logits, predicted_iou [K] float32,

ordered by point, then from SAM's first to its third multimask output. `warm_up()` runs every shape that a later
`decode` may take once, on the image that is set: graphs are compiled when their shape is first seen.
"""
import mindspore as ms
import numpy as np

from src.data.images import scale_points
from src.modeling.token_first import MasksOfTokens, TokenDecoder
from src.prompts.labels import EMPTY, FOREGROUND, NOT_A_POINT

MASKS_PER_CALL = 8  # prompts upscaled together: a fixed shape, and little work for nothing in the last call


def passing(iou_predictions, pred_iou_thresh):
    """(prompt [K], mask [K]) places in iou_predictions [N, 3] above the threshold; a threshold of 0 passes all."""
    return np.nonzero(iou_predictions > pred_iou_thresh if pred_iou_thresh > 0 else np.ones_like(iou_predictions))


class PlainDecoding:
    """Every mask of every point, by `predict_low_res` of any predictor.

    Args:
        predictor: a `SamPredictor`, its image set before each `decode`.
        points_per_batch: points decoded together at most.
    """

    def __init__(self, predictor, points_per_batch):
        self._predictor = predictor
        self._points_per_batch = points_per_batch

    def decode(self, points, pred_iou_thresh):
        """points [N, 2] (x, y) pixels of the predictor's image, N at most points_per_batch."""
        low_res_masks, iou_predictions = self._predictor.predict_low_res(
            point_coords=points[:, None], point_labels=np.ones((len(points), 1)), prompt_batch=self._points_per_batch)
        prompts, masks = passing(iou_predictions, pred_iou_thresh)
        return prompts, low_res_masks[prompts, masks], iou_predictions[prompts, masks]

    def warm_up(self):
        self._predictor.warm_up(self._points_per_batch, slots=2)


class FastDecoding:
    """Tokens and IoUs of every point, masks only of those that need them. Every call has one of two fixed shapes.

    Args: as `PlainDecoding`, for a predictor around a network that `can_decode_tokens_first`.
    """

    def __init__(self, predictor, points_per_batch):
        self._predictor = predictor
        self._batch = points_per_batch
        self._masks_per_call = min(MASKS_PER_CALL, points_per_batch)
        self._tokens = TokenDecoder(predictor.sam).set_train(False)
        self._masks = MasksOfTokens(predictor.sam).set_train(False)

    def decode(self, points, pred_iou_thresh):
        """points [N, 2] (x, y) pixels of the predictor's image, N at most points_per_batch."""
        predictor, count = self._predictor, len(points)
        # A small rest is filled up to a quarter of a batch only.
        size = self._batch if 4 * count > self._batch else -(-self._batch // 4)
        coords = np.zeros((1, size, 2, 2), np.float32)
        coords[0, :count, 0] = scale_points(points, predictor.original_size, predictor.input_size)
        labels = np.full((1, size, 2), EMPTY, np.int32)
        labels[0, :count] = FOREGROUND, NOT_A_POINT
        iou_predictions, tokens, image_tokens = self._tokens(
            predictor.image_embeddings, ms.Tensor(coords), ms.Tensor(labels))
        iou_predictions = iou_predictions.asnumpy()[:count, 1:]
        prompts, masks = passing(iou_predictions, pred_iou_thresh)
        low_res_masks = self._upscale(image_tokens, tokens, prompts, masks)
        return prompts, low_res_masks, iou_predictions[prompts, masks]

    def warm_up(self):
        for count in (self._batch, 1):  # a threshold of 0 passes all: both steps run, in both shapes
            self.decode(np.zeros((count, 2)), 0)

    def _upscale(self, image_tokens, tokens, prompts, masks):
        """Low-res masks [K, S/4, S/4] of the places (prompts, masks), prompts ascending."""
        side = self._predictor.image_size // 4
        low_res_masks = np.empty((len(prompts), side, side), np.float32)
        wanted = np.unique(prompts)
        for first in range(0, len(wanted), self._masks_per_call):
            part = wanted[first:first + self._masks_per_call]
            chosen = np.resize(part, self._masks_per_call).astype(np.int32)  # repeats fill the last call
            upscaled = self._masks(image_tokens, tokens, ms.Tensor(chosen)).asnumpy()
            here = np.isin(prompts, part)
            low_res_masks[here] = upscaled[np.searchsorted(part, prompts[here]), masks[here]]
        return low_res_masks
