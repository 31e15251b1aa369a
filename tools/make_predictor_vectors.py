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
"""Reference masks of photographs for tests/parity: the PyTorch predictors of SAM and MobileSAM on made-up weights.

    python tools/make_predictor_vectors.py --output tests/parity [--case vit_b_1024]
    python tools/make_predictor_vectors.py --output tests/parity --weights mobile_sam.pt    # MobileSAM's, instead

The photographs are those of examples/. Needs torch and the packages segment-anything and mobilesam-mirror; what the
tests import from here needs NumPy only. Weights are those of make_parity_vectors.py. Each case becomes one .npz: of
every photograph and prompt the predicted IoUs, the low-resolution logits of all masks at some places, and the best
mask's COCO run lengths.
"""
import argparse
import os
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from src.checkpoint.torch_file import read_torch_file  # noqa: E402
from tools.make_parity_vectors import CASES, build_reference, import_reference  # noqa: E402

PACKAGES = {"tinyvit_5m_1024": "mobile_sam", "vit_b_1024": "segment_anything"}
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
PHOTOGRAPHS = ("cattle", "fruits_nuts", "stop_sign")
LOW_RES_STEP = 331  # every so many of the flattened low-resolution logits

# Prompts: name -> (points (x, y, label), box (x0, y0, x1, y1) or None, multimask_output), as shares of the sides.
PROMPTS = {
    "click": ([(0.52, 0.61, 1)], None, True),
    "box": ([], (0.1, 0.15, 0.83, 0.94), True),
    "box_and_negative": ([(0.3, 0.4, 0)], (0.0, 0.2, 0.55, 1.0), False),
}


def photograph_path(name):
    """The file of a photograph."""
    return EXAMPLES / f"{name}.jpg"


def prompt_in_pixels(prompt, height, width):
    """Arguments of SamPredictor.predict for a prompt of PROMPTS, in pixels of the image, rounded to 1/8."""
    points, box, multimask_output = prompt
    sides = np.array([width, height])

    def pixels(shares):
        return np.floor(np.array(shares) * sides * 8) / 8

    return {"point_coords": pixels([point[:2] for point in points]) if points else None,
            "point_labels": np.array([point[2] for point in points]) if points else None,
            "box": None if box is None else pixels(np.array(box).reshape(2, 2)).reshape(4),
            "multimask_output": multimask_output}


def reference_predictor(name, weights=None):
    """The package's SamPredictor around the reference network of a case, with the weights of a .pt file if one is
    given."""
    modeling = import_reference(PACKAGES[name])
    package = sys.modules[PACKAGES[name]]
    encoder, prompt_encoder, mask_decoder = build_reference(CASES[name])
    sam = modeling.Sam(encoder, prompt_encoder, mask_decoder)
    if weights:
        import torch
        sam.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in read_torch_file(weights).items()})
    sam.eval()
    return package.SamPredictor(sam)


def reference_masks(name, weights=None):
    """{"PHOTO.PROMPT.ious": [C] float32, "PHOTO.PROMPT.logits": every LOW_RES_STEP-th of [C, 256, 256] float32,
    "PHOTO.PROMPT.mask": run lengths of the best mask as uint8 text} of a case."""
    import torch
    from PIL import Image
    from pycocotools import mask as coco_mask

    vectors = {}
    with torch.no_grad():
        predictor = reference_predictor(name, weights)
        for photograph in PHOTOGRAPHS:
            with Image.open(photograph_path(photograph)) as file:
                image = np.array(file.convert("RGB"))
            predictor.set_image(image)
            for prompt_name, prompt in PROMPTS.items():
                masks, ious, logits = predictor.predict(**prompt_in_pixels(prompt, *image.shape[:2]))
                rle = coco_mask.encode(np.asfortranarray(masks[ious.argmax()].astype(np.uint8)))
                vectors[f"{photograph}.{prompt_name}.ious"] = ious.astype(np.float32)
                vectors[f"{photograph}.{prompt_name}.logits"] = logits.ravel()[::LOW_RES_STEP].astype(np.float32)
                vectors[f"{photograph}.{prompt_name}.mask"] = np.frombuffer(rle["counts"], np.uint8)
    return vectors


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", required=True, type=Path, help="folder of the .npz files")
    parser.add_argument("--case", nargs="+", choices=PACKAGES, default=list(PACKAGES), help="default: all")
    parser.add_argument("--weights", type=Path, help="MobileSAM's mobile_sam.pt: makes predictor_mobile_sam.npz alone")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    wanted = {"mobile_sam": "tinyvit_5m_1024"} if arguments.weights else {name: name for name in arguments.case}
    for name, case in wanted.items():
        unfinished = arguments.output / f"predictor_{name}.part.npz"
        np.savez_compressed(unfinished, **reference_masks(case, arguments.weights))
        target = arguments.output / f"predictor_{name}.npz"
        os.replace(unfinished, target)
        print(f"{target}: {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
