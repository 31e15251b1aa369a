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
#include "preprocess.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace tinysam {
namespace {

constexpr int kWeightBits = 22;

// Weights of one axis: output i is the weighted sum of inputs first[i] .. first[i] + count[i] - 1.
struct Axis {
  std::vector<int> first, count;
  std::vector<int32_t> weights;  // [outputs, longest], fixed point
  int longest = 0;
};

// A triangle around the place of each output; when reducing it is as wide as the reduction, so it averages.
Axis TriangleAxis(int inputs, int outputs) {
  const double scale = static_cast<double>(inputs) / outputs;
  const double reach = std::max(scale, 1.0);
  Axis axis;
  axis.longest = static_cast<int>(std::ceil(reach)) * 2 + 1;
  axis.weights.assign(static_cast<size_t>(outputs) * static_cast<size_t>(axis.longest), 0);
  std::vector<double> shares(static_cast<size_t>(axis.longest));
  for (int i = 0; i < outputs; ++i) {
    const double centre = (i + 0.5) * scale;
    const int first = std::max(0, static_cast<int>(centre - reach + 0.5));
    const int count = std::min(inputs, static_cast<int>(centre + reach + 0.5)) - first;
    double sum = 0;
    for (int k = 0; k < count; ++k) {
      const double distance = std::abs((k + first - centre + 0.5) * (1.0 / reach));
      shares[static_cast<size_t>(k)] = distance < 1.0 ? 1.0 - distance : 0.0;
      sum += shares[static_cast<size_t>(k)];
    }
    for (int k = 0; k < count; ++k) {
      double share = shares[static_cast<size_t>(k)];
      if (sum != 0.0) share /= sum;
      axis.weights[static_cast<size_t>(i) * static_cast<size_t>(axis.longest) + static_cast<size_t>(k)] =
          static_cast<int32_t>(0.5 + share * (1 << kWeightBits));
    }
    axis.first.push_back(first);
    axis.count.push_back(count);
  }
  return axis;
}

uint8_t Rounded(int32_t sum) { return static_cast<uint8_t>(std::clamp(sum >> kWeightBits, 0, 255)); }

Image ResizedRows(const Image &image, int width) {
  const Axis axis = TriangleAxis(image.size.width, width);
  Image result{{image.size.height, width}, {}};
  result.rgb.resize(static_cast<size_t>(3 * Pixels(result.size)));
  uint8_t *to = result.rgb.data();
  for (int y = 0; y < image.size.height; ++y) {
    const uint8_t *row = image.rgb.data() + 3 * static_cast<int64_t>(y) * image.size.width;
    for (int x = 0; x < width; ++x, to += 3) {
      const int32_t *weights = axis.weights.data() + static_cast<int64_t>(x) * axis.longest;
      const uint8_t *from = row + 3 * axis.first[static_cast<size_t>(x)];
      int32_t sum[3] = {1 << (kWeightBits - 1), 1 << (kWeightBits - 1), 1 << (kWeightBits - 1)};
      for (int k = 0; k < axis.count[static_cast<size_t>(x)]; ++k, from += 3) {
        for (int c = 0; c < 3; ++c) sum[c] += from[c] * weights[k];
      }
      for (int c = 0; c < 3; ++c) to[c] = Rounded(sum[c]);
    }
  }
  return result;
}

Image ResizedColumns(const Image &image, int height) {
  const Axis axis = TriangleAxis(image.size.height, height);
  Image result{{height, image.size.width}, {}};
  const size_t stride = 3 * static_cast<size_t>(image.size.width);
  result.rgb.resize(stride * static_cast<size_t>(height));
  std::vector<int32_t> sums(stride);
  for (int y = 0; y < height; ++y) {
    std::fill(sums.begin(), sums.end(), 1 << (kWeightBits - 1));
    for (int k = 0; k < axis.count[static_cast<size_t>(y)]; ++k) {
      const int32_t weight =
          axis.weights[static_cast<size_t>(y) * static_cast<size_t>(axis.longest) + static_cast<size_t>(k)];
      const uint8_t *from = image.rgb.data() + stride * static_cast<size_t>(axis.first[static_cast<size_t>(y)] + k);
      for (size_t i = 0; i < stride; ++i) sums[i] += from[i] * weight;
    }
    uint8_t *to = result.rgb.data() + stride * static_cast<size_t>(y);
    for (size_t i = 0; i < stride; ++i) to[i] = Rounded(sums[i]);
  }
  return result;
}

}  // namespace

Size LongestSideSize(const Size &size, int image_size) {
  const double scale = static_cast<double>(image_size) / std::max(size.height, size.width);
  return {std::max(1, static_cast<int>(size.height * scale + 0.5)),
          std::max(1, static_cast<int>(size.width * scale + 0.5))};
}

Image Resized(const Image &image, const Size &size) {
  if (image.size.width == size.width) {
    return image.size.height == size.height ? image : ResizedColumns(image, size.height);
  }
  const Image rows = ResizedRows(image, size.width);
  return image.size.height == size.height ? rows : ResizedColumns(rows, size.height);
}

std::vector<float> NormalisedAndPadded(const Image &image, int image_size, const float mean[3], const float std[3]) {
  const auto side = static_cast<size_t>(image_size);
  std::vector<float> padded(3 * side * side, 0.0f);
  for (size_t c = 0; c < 3; ++c) {
    const uint8_t *from = image.rgb.data() + c;
    for (size_t y = 0; y < static_cast<size_t>(image.size.height); ++y) {
      float *to = padded.data() + (c * side + y) * side;
      for (int x = 0; x < image.size.width; ++x, from += 3) to[x] = (static_cast<float>(*from) - mean[c]) / std[c];
    }
  }
  return padded;
}

Image Cropped(const Image &image, const PixelBox &box) {
  Image part{{box.y1 - box.y0, box.x1 - box.x0}, {}};
  if (part.size == image.size) return image;
  const size_t stride = 3 * static_cast<size_t>(part.size.width);
  part.rgb.resize(stride * static_cast<size_t>(part.size.height));
  for (int y = 0; y < part.size.height; ++y) {
    const int64_t place = static_cast<int64_t>(box.y0 + y) * image.size.width + box.x0;
    std::memcpy(part.rgb.data() + stride * static_cast<size_t>(y), image.rgb.data() + 3 * place, stride);
  }
  return part;
}

}  // namespace tinysam
