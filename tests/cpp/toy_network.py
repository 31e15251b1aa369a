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
"""The twin of toy_engine.cc: a predictor whose network is plain float32 arithmetic, and exports that ask for it.

Embeddings are the red plane of the input at every fourth pixel. Mask k of a prompt is the region whose value lies
within 0.2, 0.5 or 1.0 of the value at the prompt's place: its first foreground point, else the centre of its box; near
the values of background points it is put out.
"""
import json
from pathlib import Path

import numpy as np

from src.inference.predictor import SamPredictor
from src.prompts.labels import BACKGROUND, BOX_BOTTOM_RIGHT, BOX_TOP_LEFT, FOREGROUND

REACHES = np.float32([0.2, 0.2, 0.5, 1.0])


class ToyPredictor(SamPredictor):
    """A SamPredictor without a network."""

    def __init__(self, image_size):
        self.variant, self.image_size, self.sam = "toy", image_size, None
        self._mask_side = image_size // 4
        self.reset_image()

    def wait(self):
        self._embeddings()

    def _encode(self, images):
        return images[0, 0, 1::4, 2::4]

    def _decode(self, point_coords, point_labels, mask_input):
        answers = [self._prompt(self._embeddings(), *prompt) for prompt in zip(point_coords[0], point_labels[0])]
        masks, ious = (np.stack(part)[None] for part in zip(*answers))
        return masks, ious

    def _prompt(self, embeddings, coords, labels):
        place = lambda xy: tuple(np.clip((xy / np.float32(4)).astype(int), 0, self._mask_side - 1))  # noqa: E731
        at = lambda xy: embeddings[place(xy)[::-1]]  # noqa: E731
        if (labels == FOREGROUND).any():
            seed = coords[labels == FOREGROUND][0]
        elif (labels == BOX_TOP_LEFT).any():
            seed = (coords[labels == BOX_TOP_LEFT][0] + coords[labels == BOX_BOTTOM_RIGHT][0]) / np.float32(2)
        else:
            seed = np.zeros(2, np.float32)
        masks = (REACHES[:, None, None] - np.abs(embeddings - at(seed))) * np.float32(40)
        for unwanted in coords[labels == BACKGROUND]:
            masks[:, np.abs(embeddings - at(unwanted)) < np.float32(0.125)] -= np.float32(20)
        x, y = place(seed)
        ious = 0.75 + (7 * x + 13 * y + 5 * np.arange(4)) % 16 / 64
        return masks.astype(np.float32), ious.astype(np.float32)


def write_toy_export(folder, image_size=64, decoders=((1, 4), (4, 4), (16, 2))):
    """An export (docs/export.md) whose MindIR files are protobufs of nothing but a version."""
    folder = Path(folder)
    folder.mkdir(parents=True)
    grid = image_size // 16
    embeddings = {"name": "image_embeddings", "shape": [1, 16, grid, grid], "dtype": "float32"}

    def graph(role, name, inputs, outputs, **more):
        (folder / f"{name}.mindir").write_bytes(b"\x0a\x05toy-1")  # field 1, five bytes of text
        return {"role": role, **more, "inputs": inputs, "outputs": outputs,
                "files": {"mindir": {"name": f"{name}.mindir", "sha256": "", "bytes": 7}}}

    def tensor(name, shape, dtype="float32"):
        return {"name": name, "shape": shape, "dtype": dtype}

    graphs = [graph("image_encoder", "image_encoder", [tensor("images", [1, 3, image_size, image_size])], [embeddings])]
    graphs += [graph("mask_decoder", f"mask_decoder_p{prompts}_n{slots}",
                     [embeddings, tensor("point_coords", [1, prompts, slots, 2]),
                      tensor("point_labels", [1, prompts, slots], "int32")],
                     [tensor("low_res_masks", [1, prompts, 4, 4 * grid, 4 * grid]),
                      tensor("iou_predictions", [1, prompts, 4])], prompts=prompts, slots=slots)
               for prompts, slots in decoders]
    (folder / "manifest.json").write_text(json.dumps({
        "format": "tinysam-export", "version": 1, "variant": "toy", "image_size": image_size, "embed_dim": 16,
        "dtype": "float32", "checkpoint": {"name": "toy", "sha256": ""},
        "preprocessing": {
            "channels": "RGB", "resize": {"rule": "longest_side", "rounding": "half_up", "filter": "pillow_bilinear"},
            "pixel_mean": [123.675, 116.28, 103.53], "pixel_std": [58.395, 57.12, 57.375],
            "padding": {"side": "bottom_right", "value": 0.0, "order": "after_normalising"}},
        "prompts": {"coordinates": "xy_of_resized_image", "labels": {}},
        "masks": {"threshold": 0.0, "interpolation": "bilinear_half_pixel", "single": [0], "multimask": [1, 2, 3]},
        "graphs": graphs}))
    return folder
