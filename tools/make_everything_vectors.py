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
"""Runs the reference packages' automatic mask generators on made-up weights and writes their records as JSON.

    python tests/parity/reference_everything.py OUTPUT.json     (needs torch, segment-anything and mobilesam-mirror)

tests/parity/test_everything_parity.py starts it where torch is at hand. Weights: make_parity_vectors.py, adjusted.
"""
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools.make_parity_vectors import CASES, build_reference, encode_reference, import_reference  # noqa: E402

# Made-up weights predict IoUs between -1 and 3 and slopes of logits of their own, hence the thresholds.
COMMON = {"points_per_side": 5, "points_per_batch": 8, "pred_iou_thresh": 0.4, "stability_score_thresh": 0.85,
          "stability_score_offset": 0.2}
SAM = ("vit_l_small", "segment_anything")
RUNS = {
    "grid": (*SAM, {}),
    "loose": (*SAM, {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "box_nms_thresh": 0.95,
                     "points_per_side": 4}),
    "crops": (*SAM, {"crop_n_layers": 1, "crop_n_points_downscale_factor": 2, "box_nms_thresh": 0.9,
                     "crop_nms_thresh": 0.8, "stability_score_thresh": 0.7}),
    "regions": (*SAM, {"min_mask_region_area": 300, "box_nms_thresh": 0.9}),
    "tinyvit": ("tinyvit_5m_320", "mobile_sam", {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.5}),
}


def adjust(name, values):
    """Weights of the parity vectors, changed so that masks are blobs around the point instead of noise.

    What is equal everywhere is taken away or made small, so that masks come from the attention of pixels to the point;
    the four pixels of an upscaled cell are alike. Works on NumPy arrays and torch tensors.
    """
    if name in ("image_encoder.neck.3.weight", "image_encoder.neck.3.bias", "prompt_encoder.no_mask_embed.weight"):
        return values * 0.1
    if name.endswith(("q_proj.weight", "k_proj.weight")):
        return values * 2
    if name.endswith(("norm4.bias", "image_to_token.v_proj.bias", "image_to_token.out_proj.bias",
                      "output_upscaling.1.bias", "output_upscaling.3.bias")):
        return values * 0
    if "output_hypernetworks_mlps" in name and name.endswith("bias"):
        return values * 0
    if name.endswith(("output_upscaling.0.weight", "output_upscaling.3.weight")):
        return values[:, :, :1, :1] + 0 * values
    if name == "mask_decoder.iou_prediction_head.layers.2.bias":
        return values + 2
    return values


def input_picture(height=150, width=220):
    """[H, W, 3] uint8: discs, a bar and noise on a gradient."""
    y, x = np.mgrid[:height, :width]
    picture = np.stack([x * 200 / width, y * 200 / height, 100 + 0 * x], axis=-1)
    picture[np.hypot(x - 50, y - 50) < 30] = 240, 40, 60
    picture[np.hypot(x - 160, y - 90) < 40] = 30, 200, 90
    picture[100:125, 15:115] = 20, 30, 220
    noise = np.random.RandomState(5).random_sample(picture.shape) * 30
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def greedy_nms(boxes, scores, threshold):
    """torchvision's nms, for installations without its compiled part: one pair of boxes at a time."""
    import torch

    kept = []
    for index in torch.sort(scores, descending=True, stable=True).indices.tolist():
        for other in kept:
            low = torch.maximum(boxes[index, :2], boxes[other, :2])
            high = torch.minimum(boxes[index, 2:], boxes[other, 2:])
            overlap = (high - low).clamp(min=0).prod()
            both = (boxes[index, 2:] - boxes[index, :2]).prod() + (boxes[other, 2:] - boxes[other, :2]).prod()
            if overlap / (both - overlap) > threshold:
                break
        else:
            kept.append(index)
    return torch.tensor(kept, dtype=torch.int64)


def reference_records(case_name, package, settings):
    """Records of the package's generator for one of RUNS, segmentation as coco_rle."""
    import torch

    modeling = import_reference(package)
    if hasattr(import_reference, "library"):
        sys.modules["torchvision.ops.boxes"].nms = greedy_nms
    case = CASES[case_name]
    encoder, prompt_encoder, mask_decoder = build_reference(case)

    parts = {"image_encoder": encoder, "prompt_encoder": prompt_encoder, "mask_decoder": mask_decoder}
    for prefix, part in parts.items():
        for name, tensor in part.state_dict().items():
            tensor.copy_(adjust(f"{prefix}.{name}", tensor.clone()))

    class AnySize(torch.nn.Module):
        img_size = case.image_size

        def forward(self, images):
            return encode_reference(case, encoder, images)

    sam = modeling.Sam(AnySize(), prompt_encoder, mask_decoder).eval()
    generator = sys.modules[package].SamAutomaticMaskGenerator(sam, output_mode="coco_rle", **{**COMMON, **settings})
    return generator.generate(input_picture())


def main():
    import torch

    with torch.no_grad():
        records = {name: reference_records(*run) for name, run in RUNS.items()}
    Path(sys.argv[1]).write_text(json.dumps(records), encoding="utf-8")


if __name__ == "__main__":
    main()
