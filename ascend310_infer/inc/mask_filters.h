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
// Filters of the everything mode (arXiv 2304.02643, appendix B), as src/inference/mask_filters.py. Boxes here hold the
// last column and row of their mask; scores and overlaps are float32 like the reference's.
#ifndef TINYSAM_MASK_FILTERS_H_
#define TINYSAM_MASK_FILTERS_H_

#include <vector>

#include "basics.h"

namespace tinysam {

// IoU of a stricter and a looser cut from their pixels; the strict one lies inside. 0 where both are empty.
float StabilityScore(int64_t inside, int64_t union_pixels);

// Greedy non-maximum suppression: indices of the kept boxes by falling score, of equal ones the earlier first. A box
// whose IoU with a kept one is above the threshold is dropped; boxes of no area drop none.
std::vector<int> BoxNms(const std::vector<PixelBox> &boxes, const std::vector<float> &scores, double iou_threshold);

// Whether a mask ends within 20 pixels of a border of its crop that is no border of the image.
bool NearCropEdge(const PixelBox &box, const PixelBox &crop, const Size &image_size);

// Fill holes, then drop islands, of fewer than min_area pixels (8-connected) in a mask [H, W] of 0 and 1, in place.
// Where every island is small the largest stays. True if the mask changed.
bool RemoveSmallRegions(const Size &size, int64_t min_area, std::vector<uint8_t> *mask);

}  // namespace tinysam

#endif  // TINYSAM_MASK_FILTERS_H_
