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
// Low-res logits to the size of the image, a row at a time, as SAM does it and `SamPredictor.upscale`: bilinear to the
// padded S x S frame, padding cut off, bilinear to the image. Rows, because a mask of a large picture as float32 is
// half a gigabyte.
#ifndef TINYSAM_UPSCALER_H_
#define TINYSAM_UPSCALER_H_

#include <vector>

#include "basics.h"

namespace tinysam {

class Upscaler {
 public:
  // side: of low-res masks; image_size: S; input_size: the resized picture in the S x S frame; original_size: the
  // image.
  Upscaler(int side, int image_size, const Size &input_size, const Size &original_size);

  // Starts a mask: logits [side, side], which are not needed afterwards.
  void Start(const float *low_res_mask);

  // Logits [W] of row y of the image, valid until the next call.
  const float *Row(int y);

  const Size &original_size() const { return original_size_; }

 private:
  // Output i lies between inputs low[i] and high[i], `share` of the way.
  struct Axis {
    std::vector<int> low, high;
    std::vector<float> share;
  };
  static Axis BilinearAxis(int inputs, int outputs, int used);
  static void Blend(const float *low, const float *high, float share, std::vector<float> *row);

  int side_;
  Size input_size_, original_size_;
  Axis frame_rows_, frame_columns_, rows_, columns_;
  std::vector<float> widened_;  // [side, input width]
  std::vector<float> frame_;    // [input height, image width]
  std::vector<float> row_;
};

}  // namespace tinysam

#endif  // TINYSAM_UPSCALER_H_
