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
// Masks as COCO's run lengths: down the columns, background first; as text in the compressed form of COCO's JSON.
#ifndef TINYSAM_RLE_H_
#define TINYSAM_RLE_H_

#include <string>
#include <vector>

#include "basics.h"

namespace tinysam {

struct Rle {
  Size size;
  std::vector<uint32_t> counts;
};

// Of a mask [H, W] in rows, 0 or not.
Rle EncodeMask(const Size &size, const uint8_t *mask);

// [H, W] in rows, 0 or 1.
std::vector<uint8_t> DecodeMask(const Rle &rle);

// COCO's compressed counts.
std::string CountsText(const Rle &rle);

int64_t Area(const Rle &rle);

// Around the mask, x1 and y1 exclusive; zeros for an empty mask.
PixelBox BoxAround(const Rle &rle);

}  // namespace tinysam

#endif  // TINYSAM_RLE_H_
