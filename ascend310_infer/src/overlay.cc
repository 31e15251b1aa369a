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
#include "overlay.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

namespace tinysam {
namespace {

using Color = std::array<double, 3>;

constexpr double kOpacity = 0.45;
const Color kWhite = {255, 255, 255}, kGreen = {34, 197, 94}, kRed = {239, 68, 68};

// Hues step by the golden ratio, so neighbours in the list differ however many there are.
Color MaskColor(size_t index) {
  const double hue = std::fmod(0.58 + static_cast<double>(index) * 0.618033988749895, 1.0) * 6;
  Color color;
  for (size_t c = 0; c < 3; ++c) {
    const double distance = std::abs(std::fmod(hue + (c == 0 ? 0.0 : c == 1 ? 4.0 : 2.0), 6.0) - 3.0);
    color[c] = 255 * (0.18 + 0.82 * std::clamp(distance - 1.0, 0.0, 1.0));
  }
  return color;
}

void Paint(Image *image, int x, int y, const Color &color, double opacity) {
  if (x < 0 || y < 0 || x >= image->size.width || y >= image->size.height) return;
  uint8_t *pixel = image->rgb.data() + 3 * (static_cast<int64_t>(y) * image->size.width + x);
  for (size_t c = 0; c < 3; ++c) pixel[c] = static_cast<uint8_t>(pixel[c] * (1 - opacity) + color[c] * opacity + 0.5);
}

// Inside translucent, and the pixels within `rim` of the outside in full colour.
void DrawMask(Image *image, const Rle &rle, const Color &color, int rim) {
  const PixelBox box = BoxAround(rle);
  const std::vector<uint8_t> mask = DecodeMask(rle);
  const int width = rle.size.width, height = rle.size.height;
  const auto inside = [&](int x, int y) {
    return x >= 0 && y >= 0 && x < width && y < height && mask[static_cast<size_t>(y) * width + x];
  };
  for (int y = box.y0; y < box.y1; ++y) {
    for (int x = box.x0; x < box.x1; ++x) {
      if (!inside(x, y)) continue;
      const bool edge = !(inside(x - rim, y) && inside(x + rim, y) && inside(x, y - rim) && inside(x, y + rim));
      Paint(image, x, y, color, edge ? 1.0 : kOpacity);
    }
  }
}

void DrawDisc(Image *image, double x, double y, double radius, const Color &color) {
  for (int py = static_cast<int>(y - radius); py <= y + radius; ++py) {
    for (int px = static_cast<int>(x - radius); px <= x + radius; ++px) {
      if (std::hypot(px - x, py - y) <= radius) Paint(image, px, py, color, 1.0);
    }
  }
}

void DrawBox(Image *image, const Box &box, int thickness, const Color &color) {
  const int x0 = static_cast<int>(box.x0), y0 = static_cast<int>(box.y0);
  const int x1 = static_cast<int>(std::ceil(box.x1)), y1 = static_cast<int>(std::ceil(box.y1));
  for (int i = 0; i < thickness; ++i) {
    for (int x = x0; x < x1; ++x) {
      Paint(image, x, y0 + i, color, 1.0);
      Paint(image, x, y1 - 1 - i, color, 1.0);
    }
    for (int y = y0; y < y1; ++y) {
      Paint(image, x0 + i, y, color, 1.0);
      Paint(image, x1 - 1 - i, y, color, 1.0);
    }
  }
}

}  // namespace

Image DrawOverlay(const Image &image, const std::vector<Rle> &masks, const std::vector<Prompt> &prompts) {
  Image canvas = image;
  const double unit = std::max(image.size.height, image.size.width) / 1000.0;
  const int line = std::max(1, static_cast<int>(std::lround(2.6 * unit)));
  std::vector<size_t> order(masks.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return Area(masks[a]) > Area(masks[b]); });
  for (const size_t index : order) DrawMask(&canvas, masks[index], MaskColor(index), line);
  for (size_t i = 0; i < prompts.size(); ++i) {
    if (prompts[i].box) DrawBox(&canvas, *prompts[i].box, line, MaskColor(i));
    for (const Point &point : prompts[i].points) {
      DrawDisc(&canvas, point.x, point.y, std::max(2.0, 14 * unit), kWhite);
      DrawDisc(&canvas, point.x, point.y, std::max(1.0, 10 * unit), point.label == kForeground ? kGreen : kRed);
    }
  }
  return canvas;
}

}  // namespace tinysam
