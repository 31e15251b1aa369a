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
"""Settings of the everything mode, checked when they are made (SAM, arXiv 2304.02643; TinySAM, arXiv 2312.13789)."""
from dataclasses import dataclass

from src.prompts.grids import points_of_layer

NO_MASK_HINT = ("no mask passed the thresholds; lower --everything.pred_iou_thresh or "
                "--everything.stability_score_thresh, or with the weights that ship give "
                "--config configs/nano_everything.yaml")
OUTPUT_MODES = ("binary_mask", "uncompressed_rle", "coco_rle")


@dataclass(frozen=True)
class EverythingSettings:
    """Settings of the everything mode; names, meaning and defaults are SAM's where SAM has them.

    points_per_side, points_per_batch: points of the grid along one side; points decoded together.
    pred_iou_thresh: masks whose predicted IoU is not above it are dropped; 0: none are.
    stability_score_thresh, stability_score_offset: masks whose IoU between the cuts at +offset and -offset (logits) is
        below the threshold are dropped; 0: none are.
    box_nms_thresh: of two boxes with a larger IoU the one with the lower predicted IoU is dropped.
    crop_n_layers, crop_nms_thresh, crop_overlap_ratio, crop_n_points_downscale_factor: layer i > 0 runs again on
        2**i x 2**i crops with points_per_side / factor**i points; duplicates between crops go in favour of small crops.
    min_mask_region_area: pixels below which islands are dropped and holes filled; 0: off.
    hierarchical, coarse_ratio, high_score_thresh: TinySAM's two rounds, points per side of the first over those of the
        second, and tau, the logit above which a pixel of a kept mask needs no point of its own.
    fast: predict IoUs first and discard by bounds; same results but for rounding. False: decode and score everything.
    output_mode: form of `segmentation`: binary_mask ([H, W] bool), uncompressed_rle or coco_rle (counts as text).

    Raises:
        ValueError: a value that cannot be used.
    """

    points_per_side: int = 32
    points_per_batch: int = 64
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1.0
    box_nms_thresh: float = 0.7
    crop_n_layers: int = 0
    crop_nms_thresh: float = 0.7
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: int = 1
    min_mask_region_area: int = 0
    hierarchical: bool = False
    coarse_ratio: float = 0.25
    high_score_thresh: float = 8.5
    fast: bool = True
    output_mode: str = "binary_mask"

    def __post_init__(self):
        for name, least in (("points_per_side", 1), ("points_per_batch", 1), ("crop_n_layers", 0),
                            ("crop_n_points_downscale_factor", 1), ("min_mask_region_area", 0),
                            ("pred_iou_thresh", 0), ("stability_score_thresh", 0), ("stability_score_offset", 0)):
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} ({getattr(self, name)}) must be at least {least}")
        for name in ("box_nms_thresh", "crop_nms_thresh", "crop_overlap_ratio", "coarse_ratio"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} ({getattr(self, name)}) must be between 0 and 1")
        if self.output_mode not in OUTPUT_MODES:
            raise ValueError(f"output_mode ({self.output_mode}) must be one of {', '.join(OUTPUT_MODES)}")
        if points_of_layer(self.points_per_side, self.crop_n_layers, self.crop_n_points_downscale_factor) < 1:
            raise ValueError(f"points_per_side ({self.points_per_side}) leaves no point in crop layer "
                             f"{self.crop_n_layers}; lower crop_n_layers or crop_n_points_downscale_factor "
                             f"({self.crop_n_points_downscale_factor})")
