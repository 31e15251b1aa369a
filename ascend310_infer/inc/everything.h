// Copyright 2026 TinySAM on MindSpore contributors
//
// Licensed under the Apache License, Version 2.0 (the "License");
// you may not use this file except in compliance with the License.
// You may obtain a copy of the License at
//
//     http://www.apache.org/licenses/LICENSE-2.0
//
// Unless required by applicable law or agreed to in writing, software
// distributed under the License is distributed on an "AS IS" BASIS,
// WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
// See the License for the specific language governing permissions and
// limitations under the License.
// ============================================================================
// Everything mode: masks of a whole image from a grid of points (SAM, arXiv 2304.02643, section 5 and appendix B) and
// TinySAM's hierarchical plan of two rounds (arXiv 2312.13789, section 3.3); plan, filters and order of
// src/inference/everything.py.
#ifndef TINYSAM_EVERYTHING_H_
#define TINYSAM_EVERYTHING_H_

#include <utility>
#include <vector>

#include "predictor.h"
#include "rle.h"

namespace tinysam {

// Names, meaning and defaults are those of the section `everything` of default_config.yaml.
struct EverythingSettings {
  int points_per_side = 32;
  double pred_iou_thresh = 0.88;
  double stability_score_thresh = 0.95;
  double stability_score_offset = 1.0;
  double box_nms_thresh = 0.7;
  int crop_n_layers = 0;
  double crop_nms_thresh = 0.7;
  double crop_overlap_ratio = 512.0 / 1500;
  int crop_n_points_downscale_factor = 1;
  int min_mask_region_area = 0;
  bool hierarchical = true;
  double coarse_ratio = 0.25;
  double high_score_thresh = 8.5;

  // Throws InputError: a value that cannot be used.
  void Check() const;
};

// A mask that passed the filters. box: pixels of the image, x1 and y1 the last column and row; point likewise.
struct Candidate {
  Rle rle;
  PixelBox box;
  float predicted_iou = 0;
  float stability_score = 0;
  double point_x = 0, point_y = 0;
  PixelBox crop_box;
};

struct Everything {
  std::vector<Candidate> masks;  // in SAM's order
  int64_t points = 0;            // decoded
};

// Segment everything on an image; the predictor's own image is replaced.
Everything SegmentEverything(Predictor *predictor, const EverythingSettings &settings, const Image &image);

}  // namespace tinysam

#endif  // TINYSAM_EVERYTHING_H_
