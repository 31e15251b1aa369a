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
#include "upscaler.h"

#include <algorithm>
#include <cmath>

namespace tinysam {

Upscaler::Upscaler(int side, int image_size, const Size &input_size, const Size &original_size)
    : side_(side),
      input_size_(input_size),
      original_size_(original_size),
      frame_rows_(BilinearAxis(side, image_size, input_size.height)),
      frame_columns_(BilinearAxis(side, image_size, input_size.width)),
      rows_(BilinearAxis(input_size.height, original_size.height, original_size.height)),
      columns_(BilinearAxis(input_size.width, original_size.width, original_size.width)) {}

// Places in double precision, shares in float32, as OpenCV has them. `used` outputs of the axis are wanted.
Upscaler::Axis Upscaler::BilinearAxis(int inputs, int outputs, int used) {
  const double scale = 1.0 / (static_cast<double>(outputs) / inputs);
  Axis axis;
  for (int i = 0; i < used; ++i) {
    const auto place = static_cast<float>((i + 0.5) * scale - 0.5);
    int low = static_cast<int>(std::floor(place));
    float share = place - static_cast<float>(low);
    if (low < 0 || low >= inputs - 1) {
      low = std::clamp(low, 0, inputs - 1);
      share = 0.0f;
    }
    axis.low.push_back(low);
    axis.high.push_back(std::min(low + 1, inputs - 1));
    axis.share.push_back(share);
  }
  return axis;
}

void Upscaler::Blend(const float *low, const float *high, float share, std::vector<float> *row) {
  const float rest = 1.0f - share;
  for (size_t x = 0; x < row->size(); ++x) (*row)[x] = low[x] * rest + high[x] * share;
}

void Upscaler::Start(const float *low_res_mask) {
  const auto stretch = [](const float *from, const Axis &axis, float *to) {
    for (size_t x = 0; x < axis.low.size(); ++x) {
      to[x] = from[axis.low[x]] * (1.0f - axis.share[x]) + from[axis.high[x]] * axis.share[x];
    }
  };
  const size_t input_width = static_cast<size_t>(input_size_.width), width = static_cast<size_t>(original_size_.width);
  widened_.resize(static_cast<size_t>(side_) * input_width);
  for (int y = 0; y < side_; ++y) stretch(low_res_mask + y * side_, frame_columns_, widened_.data() + y * input_width);
  frame_.resize(static_cast<size_t>(input_size_.height) * width);
  row_.resize(input_width);
  for (int y = 0; y < input_size_.height; ++y) {
    Blend(widened_.data() + frame_rows_.low[y] * input_width, widened_.data() + frame_rows_.high[y] * input_width,
          frame_rows_.share[y], &row_);
    stretch(row_.data(), columns_, frame_.data() + y * width);
  }
  row_.resize(width);
}

const float *Upscaler::Row(int y) {
  const size_t width = static_cast<size_t>(original_size_.width);
  Blend(frame_.data() + rows_.low[y] * width, frame_.data() + rows_.high[y] * width, rows_.share[y], &row_);
  return row_.data();
}

}  // namespace tinysam
