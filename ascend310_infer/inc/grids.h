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
// Points and crops of the everything mode (SAM, arXiv 2304.02643, section 5 and appendix B; TinySAM, arXiv 2312.13789),
// as src/prompts/grids.py: grids of n points a side at (k + 0.5) / n, the coarse grid a part of the full one.
#ifndef TINYSAM_GRIDS_H_
#define TINYSAM_GRIDS_H_

#include <utility>
#include <vector>

#include "basics.h"

namespace tinysam {

// [n * n] (x, y) as shares of the image, row by row.
std::vector<std::pair<double, double>> PointGrid(int points_per_side);

// [n * n] which points of a grid the first of two rounds asks for: of every coarse cell the one at its centre.
std::vector<char> CoarsePoints(int points_per_side, double coarse_ratio);

// Points per side in the crops of a layer: n over downscale_factor to the power of layer, cut.
int PointsOfLayer(int points_per_side, int layer, int downscale_factor);

struct Crop {
  PixelBox box;
  int layer = 0;
};

// The image and, in layer i = 1 .. layers, 2^i x 2^i overlapping crops of it; empty ones are left out.
std::vector<Crop> CropBoxes(const Size &size, int layers, double overlap_ratio);

}  // namespace tinysam

#endif  // TINYSAM_GRIDS_H_
