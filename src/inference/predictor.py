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
"""SAM's predictor on MindSpore (arXiv 2304.02643, section 3): one image, any number of prompts.

`set_image` runs the image encoder once; `predict` and `predict_batch` answer prompts in pixels of the original image
with masks of its size. The number of prompts and points changes from call to call while a compiled graph has one shape,
so prompts are decoded in batches of a few fixed sizes and filled up with empty slots, which the decoder masks out.
"""
from pathlib import Path

import cv2
import mindspore as ms
import numpy as np

from src.checkpoint import load_network, read_metadata
from src.data.images import normalise_and_pad, resize_longest_side
from src.inference.prompt_slots import as_array, one_box, prompt_slots
from src.modeling.build_sam import build_sam
from src.modeling.sam import PromptDecoder
from src.prompts.labels import EMPTY

BATCH_SIZES = (64, 16, 4, 1)  # prompts decoded together; few sizes, because each costs a compilation in graph mode


def split_prompts(count, limit=BATCH_SIZES[0]):
    """Cut `count` prompts into batches: [(first, used, size)], `size` being one of BATCH_SIZES and at most `limit`.

    A batch is filled up with empty prompts only when at least three quarters of it are used, so at most a third of the
    decoder's work is wasted.
    """
    sizes = [size for size in BATCH_SIZES if size <= limit]
    if not sizes:
        raise ValueError(f"prompt_batch ({limit}) must be at least 1")
    batches, first = [], 0
    while first < count:
        left = count - first
        size = next(size for size in sizes if left >= 0.75 * size)
        batches.append((first, min(left, size), size))
        first += min(left, size)
    return batches


class SamPredictor:
    """Masks for prompts on one image, with SAM's own interface.

    Attributes:
        variant, image_size: of the network.
        engine: what runs in the network's place, such as the format of an exported graph; None: the network itself.

    Args:
        sam: the network of `build_sam`, switched to evaluation.
    """

    engine = None

    def __init__(self, sam):
        sam.set_train(False)
        self.variant = sam.variant
        self.image_size = sam.image_size
        self.sam = sam
        self._image_encoder = sam.image_encoder
        self._decoder = PromptDecoder(sam)
        self._decoder.set_train(False)
        self._mask_side = 4 * sam.grid_size
        self.reset_image()

    def reset_image(self):
        """Forget the image."""
        self.image_embeddings = None
        self.original_size = None
        self.input_size = None

    def set_image(self, image, image_format="RGB"):
        """Encode an image for the prompts that follow.

        Args:
            image: [H, W, 3] uint8.
            image_format: "RGB" or "BGR".

        Raises:
            ValueError: another shape, type or format.
        """
        image = np.asarray(image)
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise ValueError(f"image must be [H, W, 3] uint8, got {list(image.shape)} {image.dtype}")
        if image_format not in ("RGB", "BGR"):
            raise ValueError(f"image_format must be RGB or BGR, got {image_format!r}")
        if image_format == "BGR":
            image = image[..., ::-1]
        self.reset_image()
        resized = resize_longest_side(np.ascontiguousarray(image), self.image_size)
        batch = normalise_and_pad(resized, self.image_size)[None]
        self.image_embeddings = self._encode(batch)
        self.original_size = image.shape[:2]
        self.input_size = resized.shape[:2]

    def wait(self):
        """Return when the image is encoded. Devices work while Python goes on: for those who take the time."""
        self._embeddings().asnumpy()

    def predict(self, point_coords=None, point_labels=None, box=None, mask_input=None, multimask_output=True,
                return_logits=False):
        """Masks for one prompt, in original pixels.

        Args:
            point_coords: [K, 2] (x, y), or None.
            point_labels: [K], 1 foreground, 0 background; required with point_coords.
            box: [4] or [1, 4] (x0, y0, x1, y1), or None.
            mask_input: [1, S/4, S/4] logits, usually low_res_masks of an earlier call, or None.
            multimask_output: True: three masks from coarse to fine reading of the prompt; False: one.
            return_logits: True: logits instead of bool masks.

        Returns:
            masks [C, H, W] at the original size, iou_predictions [C], low_res_masks [C, S/4, S/4] logits; C is 3 or 1.

        Raises:
            ValueError: no image, no prompt, or a prompt that does not fit the image.
        """
        masks, iou_predictions, low_res_masks = self.predict_batch(
            boxes=None if box is None else one_box(box),
            point_coords=None if point_coords is None else as_array("point_coords", point_coords, [None, 2])[None],
            point_labels=None if point_labels is None else as_array("point_labels", point_labels, [None])[None],
            mask_input=None if mask_input is None else np.asarray(mask_input)[None],
            multimask_output=multimask_output, return_logits=return_logits)
        return masks[0], iou_predictions[0], low_res_masks[0]

    def predict_batch(self, boxes=None, point_coords=None, point_labels=None, mask_input=None, multimask_output=True,
                      return_logits=False, prompt_batch=BATCH_SIZES[0]):
        """Masks for N prompts at once: boxes [N, 4], point_coords [N, K, 2] with point_labels [N, K], mask_input
        [N, 1, S/4, S/4], or any mix. A label of -2 marks a slot that a prompt with fewer points leaves empty.

        Returns:
            masks [N, C, H, W], iou_predictions [N, C], low_res_masks [N, C, S/4, S/4], as in `predict`.
        """
        low_res_masks, iou_predictions = self.predict_low_res(boxes, point_coords, point_labels, mask_input,
                                                              multimask_output, prompt_batch)
        return self.upscale(low_res_masks, return_logits), iou_predictions, low_res_masks

    def predict_low_res(self, boxes=None, point_coords=None, point_labels=None, mask_input=None, multimask_output=True,
                        prompt_batch=BATCH_SIZES[0]):
        """`predict_batch` without the upscaling: (low_res_masks [N, C, S/4, S/4] logits, iou_predictions [N, C]), for
        callers that keep only one mask of each prompt. At most `prompt_batch` prompts are decoded together."""
        self._embeddings()
        coords, labels, mask_input = prompt_slots(boxes, point_coords, point_labels, mask_input, self.original_size,
                                                  self.input_size, self._mask_side)
        count, filled = labels.shape
        wanted = slice(1, 4) if multimask_output else slice(0, 1)
        side, channels = self._mask_side, 3 if multimask_output else 1
        low_res_masks = np.empty((count, channels, side, side), np.float32)
        iou_predictions = np.empty((count, channels), np.float32)
        for first, used, size, slots in self._calls(count, filled, prompt_batch):
            batch_coords = np.zeros((1, size, slots, 2), np.float32)
            batch_labels = np.full((1, size, slots), EMPTY, np.int32)
            batch_coords[0, :used, :filled] = coords[first:first + used]
            batch_labels[0, :used, :filled] = labels[first:first + used]
            batch_masks = None
            if mask_input is not None:
                batch_masks = np.zeros((1, size, 1, side, side), np.float32)
                batch_masks[0, :used] = mask_input[first:first + used]
            masks, ious = self._decode(batch_coords, batch_labels, batch_masks)
            low_res_masks[first:first + used] = masks[0, :used, wanted]
            iou_predictions[first:first + used] = ious[0, :used, wanted]
        return low_res_masks, iou_predictions

    def warm_up(self, prompt_batch, slots):
        """Decode once in every shape that `predict_low_res` may take with `prompt_batch`, on the image that is set.

        Args:
            prompt_batch: of the calls that follow.
            slots: points of a prompt, with the padding point where there is no box; a box counts as two.
        """
        shapes = {(size, width) for count in range(1, prompt_batch + 1)
                  for _, _, size, width in self._calls(count, slots, prompt_batch)}
        for size, width in sorted(shapes):
            self._decode(np.zeros((1, size, width, 2), np.float32), np.full((1, size, width), EMPTY, np.int32), None)

    def _encode(self, images):
        """Image embeddings, in whatever form `_decode` takes them, of [1, 3, S, S] float32."""
        return self._image_encoder(ms.Tensor(images))

    def _calls(self, count, slots, limit):
        """Calls of the decoder for `count` prompts of at most `slots` slots: [(first, used, M, K)], M at most `limit`.
        K is the next power of two, at least 2: few shapes, as with M."""
        slots = max(2, 1 << (slots - 1).bit_length())
        return [(first, used, size, slots) for first, used, size in split_prompts(count, limit)]

    def _decode(self, point_coords, point_labels, mask_input):
        """Prompts [1, M, K, 2], [1, M, K] and [1, M, 1, S/4, S/4] or None on the image: arrays low_res_masks
        [1, M, 4, S/4, S/4] and iou_predictions [1, M, 4]."""
        prompt = [part for part in (point_coords, point_labels, mask_input) if part is not None]
        masks, ious, _ = self._decoder(self.image_embeddings, *map(ms.Tensor, prompt))
        return masks.asnumpy(), ious.asnumpy()

    def upscale(self, low_res_masks, return_logits=False):
        """Masks at the original size from low_res_masks [..., S/4, S/4]: bool [..., H, W] (logit > 0), or the logits.

        As SAM: bilinear to the padded S x S frame, padding cut off, bilinear to the original size. OpenCV's
        INTER_LINEAR on float32 is PyTorch's interpolate(align_corners=False).
        """
        self._embeddings()
        height, width = self.original_size
        flat = np.ascontiguousarray(low_res_masks, np.float32).reshape((-1,) + low_res_masks.shape[-2:])
        # The padding reads low-res pixels that nothing else reads: they are cut off first, but for two as a border.
        ratio = self.image_size // self._mask_side
        rows, columns = (min(self._mask_side, side // ratio + 2) for side in self.input_size)
        masks = np.empty((len(flat), height, width), np.float32 if return_logits else bool)
        for index, low_res_mask in enumerate(flat):
            padded = cv2.resize(np.ascontiguousarray(low_res_mask[:rows, :columns]), (columns * ratio, rows * ratio),
                                interpolation=cv2.INTER_LINEAR)
            cropped = np.ascontiguousarray(padded[:self.input_size[0], :self.input_size[1]])
            logits = cv2.resize(cropped, (width, height), interpolation=cv2.INTER_LINEAR)
            masks[index] = logits if return_logits else logits > 0
        return masks.reshape(low_res_masks.shape[:-2] + (height, width))

    def _embeddings(self):
        if self.image_embeddings is None:
            raise ValueError("no image is set: call set_image first")
        return self.image_embeddings


def load_predictor(checkpoint, variant=None, image_size=None):
    """A predictor with the weights of a checkpoint.

    Args:
        checkpoint: a file of this project, or a released one converted by tools/convert_checkpoint.py.
        variant, image_size: None: what the checkpoint's metadata says.

    Raises:
        ValueError: no variant known, or weights of another network. FileNotFoundError: no such file.
    """
    if not Path(checkpoint).is_file():
        raise FileNotFoundError(f"checkpoint {checkpoint} does not exist")
    metadata = read_metadata(checkpoint)
    variant = variant or metadata.get("variant")
    if not variant:
        raise ValueError(f"{checkpoint} does not say which variant it holds; convert it with "
                         "tools/convert_checkpoint.py --variant NAME")
    size = image_size or metadata.get("image_size")
    sam = build_sam(variant, image_size=int(size) if size else None, draw_weights=False)
    load_network(sam, checkpoint)
    return SamPredictor(sam)
