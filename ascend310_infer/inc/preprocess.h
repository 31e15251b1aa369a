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
// SAM's preprocessing (arXiv 2304.02643), bit for bit that of src/data/images.py: docs/export.md, "manifest.json".
#ifndef TINYSAM_PREPROCESS_H_
#define TINYSAM_PREPROCESS_H_

#include <vector>

#include "basics.h"

namespace tinysam {

// Size of a picture whose longest side becomes image_size; at least one pixel each.
Size LongestSideSize(const Size &size, int image_size);

// Pillow's antialiased bilinear filter on 8-bit channels; the picture itself where it has the size.
Image Resized(const Image &image, const Size &size);

// [3, S, S] float32: (value - mean) / std, then 0 at the bottom and right. The picture fits into S x S.
std::vector<float> NormalisedAndPadded(const Image &image, int image_size, const float mean[3], const float std[3]);

// The part of a picture inside a box of whole pixels.
Image Cropped(const Image &image, const PixelBox &box);

}  // namespace tinysam

#endif  // TINYSAM_PREPROCESS_H_
