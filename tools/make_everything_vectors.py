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
"""Reference records for tests/parity: the automatic mask generators of SAM (arXiv 2304.02643) and MobileSAM in PyTorch.

    python tools/make_everything_vectors.py --output tests/parity/everything.npz

Needs torch, pycocotools and the packages segment-anything and mobilesam-mirror; what the tests import from here needs
NumPy only. Weights are those of make_parity_vectors.py, adjusted so that masks are blobs; the picture is drawn, so no
weight and no picture is stored. The .npz holds plain arrays: every field of every record of every run.
"""
import argparse
import os
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.make_parity_vectors import CASES, build_reference, encode_reference, import_reference  # noqa: E402

# Made-up weights predict IoUs between -1 and 3 and slopes of logits of their own, hence the thresholds.
COMMON = {"points_per_side": 5, "points_per_batch": 25, "pred_iou_thresh": 0.4, "stability_score_thresh": 0.85,
          "stability_score_offset": 0.2}
SAM = ("vit_l_small", "segment_anything")
FIELDS = ("area", "bbox", "predicted_iou", "point_coords", "stability_score", "crop_box")
RUNS = {
    "grid": (*SAM, {"points_per_side": 10, "points_per_batch": 16}),
    "loose": (*SAM, {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "box_nms_thresh": 0.95,
                     "points_per_side": 4}),
    "crops": (*SAM, {"crop_n_layers": 1, "crop_overlap_ratio": 0.6, "box_nms_thresh": 0.9, "crop_nms_thresh": 0.8,
                     "stability_score_thresh": 0.5}),
    "fewer_points_in_crops": (*SAM, {"points_per_side": 6, "points_per_batch": 36, "crop_n_layers": 1,
                                     "crop_n_points_downscale_factor": 2, "crop_overlap_ratio": 0.6,
                                     "pred_iou_thresh": 0.1, "stability_score_thresh": 0.5,
                                     "min_mask_region_area": 40}),
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


def to_arrays(records):
    """Fields of N records as arrays: counts (run lengths as uint8 text, one mask a line) and the others, [N, ...]."""
    texts = [record["segmentation"]["counts"] for record in records]
    arrays = {"counts": np.frombuffer("\n".join(texts).encode("ascii"), np.uint8),
              "size": np.array([record["segmentation"]["size"] for record in records], np.int32)}
    for field in FIELDS:
        arrays[field] = np.array([record[field] for record in records], np.float64)
    return arrays


def read_records(path):
    """{name of RUNS: records}, the segmentation as COCO's compressed run lengths."""
    records = {}
    with np.load(path) as file:
        for run in RUNS:
            texts = file[f"{run}.counts"].tobytes().decode("ascii").split("\n")
            rows = zip(texts, file[f"{run}.size"].tolist(), *(file[f"{run}.{field}"].tolist() for field in FIELDS))
            records[run] = [{"segmentation": {"size": size, "counts": counts}, **dict(zip(FIELDS, values))}
                            for counts, size, *values in rows]
    return records


def main():
    import torch

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", required=True, type=Path, help="the .npz file to write")
    target = parser.parse_args().output
    vectors = {}
    with torch.no_grad():
        for name, run in RUNS.items():
            records = reference_records(*run)
            vectors.update({f"{name}.{key}": values for key, values in to_arrays(records).items()})
            print(f"{name}: {len(records)} masks of {len({str(record['crop_box']) for record in records})} crops, "
                  f"{sum(record['area'] == 0 for record in records)} empty")
    unfinished = target.with_suffix(".part.npz")
    np.savez_compressed(unfinished, **vectors)
    os.replace(unfinished, target)
    print(f"{target}: {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
