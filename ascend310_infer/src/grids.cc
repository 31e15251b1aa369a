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
#include "grids.h"

#include <algorithm>
#include <cmath>

namespace tinysam {

std::vector<std::pair<double, double>> PointGrid(int points_per_side) {
  std::vector<std::pair<double, double>> points;
  for (int row = 0; row < points_per_side; ++row) {
    for (int column = 0; column < points_per_side; ++column) {
      points.emplace_back((column + 0.5) / points_per_side, (row + 0.5) / points_per_side);
    }
  }
  return points;
}

std::vector<char> CoarsePoints(int points_per_side, double coarse_ratio) {
  const int wanted = static_cast<int>(std::floor(points_per_side * coarse_ratio + 0.5));
  const int count = std::min(points_per_side, std::max(1, wanted));
  std::vector<char> side(static_cast<size_t>(points_per_side), 0);
  for (int i = 0; i < count; ++i) side[static_cast<size_t>((i + 0.5) * points_per_side / count)] = 1;
  std::vector<char> coarse;
  for (const char row : side) {
    for (const char column : side) coarse.push_back(row && column);
  }
  return coarse;
}

int PointsOfLayer(int points_per_side, int layer, int downscale_factor) {
  return static_cast<int>(points_per_side / std::pow(downscale_factor, layer));
}

std::vector<Crop> CropBoxes(const Size &size, int layers, double overlap_ratio) {
  std::vector<Crop> crops = {{{0, 0, size.width, size.height}, 0}};
  for (int layer = 1; layer <= layers; ++layer) {
    const int count = 1 << layer;
    const int overlap = static_cast<int>(overlap_ratio * std::min(size.height, size.width) * (2.0 / count));
    const auto length = [&](int side) {
      return static_cast<int>(std::ceil((overlap * (count - 1) + side) / double(count)));
    };
    const int width = length(size.width), height = length(size.height);
    for (int column = 0; column < count; ++column) {
      for (int row = 0; row < count; ++row) {
        const int x0 = (width - overlap) * column, y0 = (height - overlap) * row;
        const PixelBox box = {x0, y0, std::min(x0 + width, size.width), std::min(y0 + height, size.height)};
        if (box.x0 < box.x1 && box.y0 < box.y1) crops.push_back({box, layer});
      }
    }
  }
  return crops;
}

}  // namespace tinysam
