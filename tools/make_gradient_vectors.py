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
"""Reference gradients for tests/parity: MobileSAM's TinyViT and SAM's decoder (arXiv 2304.02643), from PyTorch.

    python tools/make_gradient_vectors.py --output tests/parity

Needs torch and the package mobilesam-mirror; what the tests import from here needs NumPy only. Weights and images are
those of make_parity_vectors.py, BatchNorm normalises by the batch as in training, two boxes and a click prompt every
image. One .npz: the objective, and of every parameter's gradient its norm and a few values.
"""
import argparse
import os
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.make_parity_vectors import (  # noqa: E402
    CASES,
    build_reference,
    encode_reference,
    input_image,
    noise,
    sample_positions,
)

CASE = "tinyvit_5m_320"
FILE = "gradients_tinyvit_5m_320.npz"
BOXES = ((40, 60, 200, 250), (10, 20, 90, 70))  # (x0, y0, x1, y1) pixels
CLICK = (100, 120)  # (x, y) pixels, foreground
SAMPLED_VALUES = 3  # of every gradient


def objective_weights(batch, grid):
    """Weights of the objective: of the mask probabilities [B, 3, 4, 4g, 4g] and of the IoU predictions [B, 3, 4]."""
    return (noise("gradients.masks", (batch, 3, 4, 4 * grid, 4 * grid)).astype(np.float32),
            noise("gradients.ious", (batch, 3, 4)).astype(np.float32))


def values_of(name, gradient):
    """What is stored of one gradient: its norm, then SAMPLED_VALUES of its values; float32, all have as many."""
    flat = gradient.reshape(-1)
    places = sample_positions(name, flat.size, SAMPLED_VALUES)
    return np.concatenate([[np.linalg.norm(flat.astype(np.float64))], flat[places]]).astype(np.float32)


def reference_gradients():
    """The objective, the names of the release's parameters and `values_of` their gradients, ready for the .npz file.

    The objective is the sum over prompts and masks of the mean of probability times weight, times 10, and of the IoU
    predictions times theirs.
    """
    import torch

    case = CASES[CASE]
    grid = case.image_size // 16
    with torch.no_grad():
        encoder, prompt_encoder, mask_decoder = (part.train() for part in build_reference(case))
    encoder.double()
    mask_decoder.double()  # the prompt encoder casts to float32 itself
    embeddings = encode_reference(case, encoder, torch.from_numpy(input_image(case.batch, case.image_size)).double())
    mask_weights, iou_weights = (torch.from_numpy(array).double() for array in objective_weights(case.batch, grid))
    prompts = [{"boxes": torch.tensor([box], dtype=torch.float32), "points": None} for box in BOXES]
    prompts.append({"boxes": None, "points": (torch.tensor([[CLICK]], dtype=torch.float32), torch.tensor([[1]]))})
    objective = 0
    for image in range(case.batch):
        for index, prompt in enumerate(prompts):
            sparse, dense = prompt_encoder(masks=None, **prompt)
            masks, ious = mask_decoder.predict_masks(
                image_embeddings=embeddings[image:image + 1], image_pe=prompt_encoder.get_dense_pe().double(),
                sparse_prompt_embeddings=sparse.double(), dense_prompt_embeddings=dense.double())
            objective = objective + 10 * (masks[0].sigmoid() * mask_weights[image, index]).mean((-2, -1)).sum()
            objective = objective + (ious[0] * iou_weights[image, index]).sum()
    objective.backward()
    parts = (("image_encoder", encoder), ("prompt_encoder", prompt_encoder), ("mask_decoder", mask_decoder))
    gradients = {f"{prefix}.{name}": parameter.grad.numpy() for prefix, part in parts
                 for name, parameter in part.named_parameters() if parameter.grad is not None}
    return {"objective": np.float32(objective.item()), "names": np.array(list(gradients)),
            "values": np.stack([values_of(name, gradient) for name, gradient in gradients.items()])}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True, type=Path, help="folder of the .npz file")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    vectors = reference_gradients()
    unfinished, target = arguments.output / f"{FILE}.part.npz", arguments.output / FILE
    np.savez_compressed(unfinished, **vectors)
    os.replace(unfinished, target)
    print(f"{target}: {target.stat().st_size} bytes, {len(vectors['names'])} gradients")


if __name__ == "__main__":
    main()
