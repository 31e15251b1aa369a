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
#include "mask_filters.h"

#include <algorithm>
#include <cstdlib>
#include <numeric>

namespace tinysam {
namespace {

constexpr int kCropEdgeTolerance = 20;  // pixels

// Regions of the pixels equal to `value`, 8-connected, named 1, 2, ... in row order; 0 elsewhere. areas[0] is unused.
std::vector<int32_t> Regions(const Size &size, const std::vector<uint8_t> &mask, uint8_t value,
                             std::vector<int64_t> *areas) {
  const int height = size.height, width = size.width;
  std::vector<int32_t> names(mask.size(), 0);
  std::vector<size_t> waiting;
  areas->assign(1, 0);
  for (size_t start = 0; start < mask.size(); ++start) {
    if (mask[start] != value || names[start]) continue;
    const auto name = static_cast<int32_t>(areas->size());
    areas->push_back(0);
    names[start] = name;
    waiting.push_back(start);
    while (!waiting.empty()) {
      const size_t place = waiting.back();
      waiting.pop_back();
      ++areas->back();
      const int y = static_cast<int>(place / width), x = static_cast<int>(place % width);
      for (int ny = std::max(0, y - 1); ny <= std::min(height - 1, y + 1); ++ny) {
        for (int nx = std::max(0, x - 1); nx <= std::min(width - 1, x + 1); ++nx) {
          const size_t neighbour = static_cast<size_t>(ny) * width + nx;
          if (mask[neighbour] == value && !names[neighbour]) {
            names[neighbour] = name;
            waiting.push_back(neighbour);
          }
        }
      }
    }
  }
  return names;
}

bool WithoutSmall(const Size &size, int64_t min_area, bool holes, std::vector<uint8_t> *mask) {
  std::vector<int64_t> areas;
  const std::vector<int32_t> names = Regions(size, *mask, holes ? 0 : 1, &areas);
  std::vector<char> small(areas.size(), 0);
  for (size_t i = 1; i < areas.size(); ++i) small[i] = areas[i] < min_area;
  const auto count = static_cast<size_t>(std::count(small.begin(), small.end(), 1));
  if (count == 0) return false;
  if (!holes && count + 1 == areas.size()) {
    small[static_cast<size_t>(std::max_element(areas.begin() + 1, areas.end()) - areas.begin())] = 0;
  }
  for (size_t i = 0; i < mask->size(); ++i) {
    if (small[static_cast<size_t>(names[i])]) (*mask)[i] = holes;
  }
  return true;
}

}  // namespace

float StabilityScore(int64_t inside, int64_t union_pixels) {
  return static_cast<float>(inside) / static_cast<float>(std::max<int64_t>(union_pixels, 1));
}

std::vector<int> BoxNms(const std::vector<PixelBox> &boxes, const std::vector<float> &scores, double iou_threshold) {
  std::vector<int> order(boxes.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return scores[a] > scores[b]; });
  const auto area = [](const PixelBox &box) {
    return static_cast<float>(box.x1 - box.x0) * static_cast<float>(box.y1 - box.y0);
  };
  std::vector<int> kept;
  for (const int candidate : order) {
    const PixelBox &box = boxes[candidate];
    const bool dropped = std::any_of(kept.begin(), kept.end(), [&](int better) {
      const PixelBox &other = boxes[better];
      const auto width = static_cast<float>(std::max(0, std::min(box.x1, other.x1) - std::max(box.x0, other.x0)));
      const auto height = static_cast<float>(std::max(0, std::min(box.y1, other.y1) - std::max(box.y0, other.y0)));
      const float overlap = width * height;
      const float iou = overlap / (area(other) + area(box) - overlap);
      return static_cast<double>(iou) > iou_threshold;
    });
    if (!dropped) kept.push_back(candidate);
  }
  return kept;
}

bool NearCropEdge(const PixelBox &box, const PixelBox &crop, const Size &image_size) {
  const auto cut = [](int side, int of_crop, int of_image) {
    return std::abs(side - of_crop) <= kCropEdgeTolerance && std::abs(side - of_image) > kCropEdgeTolerance;
  };
  return cut(box.x0, crop.x0, 0) || cut(box.y0, crop.y0, 0) || cut(box.x1, crop.x1, image_size.width) ||
         cut(box.y1, crop.y1, image_size.height);
}

bool RemoveSmallRegions(const Size &size, int64_t min_area, std::vector<uint8_t> *mask) {
  const bool filled = WithoutSmall(size, min_area, true, mask);
  const bool dropped = WithoutSmall(size, min_area, false, mask);
  return filled || dropped;
}

}  // namespace tinysam
