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
#include "rle.h"

#include <algorithm>

namespace tinysam {

Rle EncodeMask(const Size &size, const uint8_t *mask) {
  constexpr int kColumns = 64;  // turned together: rows of large masks are far apart in memory
  Rle rle{size, {}};
  const size_t height = static_cast<size_t>(size.height), width = static_cast<size_t>(size.width);
  std::vector<uint8_t> columns(kColumns * height);
  uint8_t value = 0;
  uint32_t run = 0;
  for (size_t x0 = 0; x0 < width; x0 += kColumns) {
    const size_t count = std::min<size_t>(kColumns, width - x0);
    for (size_t y = 0; y < height; ++y) {
      for (size_t x = 0; x < count; ++x) columns[x * height + y] = mask[y * width + x0 + x] != 0;
    }
    for (size_t i = 0; i < count * height; ++i) {
      if (columns[i] != value) {
        rle.counts.push_back(run);
        run = 0;
        value = columns[i];
      }
      ++run;
    }
  }
  rle.counts.push_back(run);
  return rle;
}

std::vector<uint8_t> DecodeMask(const Rle &rle) {
  std::vector<uint8_t> mask(static_cast<size_t>(Pixels(rle.size)), 0);
  size_t place = 0;
  for (size_t i = 0; i < rle.counts.size(); ++i) {
    if (i % 2 == 1) {
      for (size_t k = place; k < place + rle.counts[i]; ++k) {
        mask[k % rle.size.height * rle.size.width + k / rle.size.height] = 1;
      }
    }
    place += rle.counts[i];
  }
  return mask;
}

std::string CountsText(const Rle &rle) {
  std::string text;
  for (size_t i = 0; i < rle.counts.size(); ++i) {
    // From the third run of a kind on, the difference to the one before it; five bits a letter, lowest first.
    int64_t value = rle.counts[i];
    if (i > 2) value -= rle.counts[i - 2];
    bool more = true;
    while (more) {
      int64_t bits = value & 31;
      value >>= 5;  // keeps the sign
      more = bits & 16 ? value != -1 : value != 0;
      if (more) bits |= 32;
      text.push_back(static_cast<char>(bits + 48));
    }
  }
  return text;
}

int64_t Area(const Rle &rle) {
  int64_t area = 0;
  for (size_t i = 1; i < rle.counts.size(); i += 2) area += rle.counts[i];
  return area;
}

PixelBox BoxAround(const Rle &rle) {
  const int64_t height = rle.size.height;
  PixelBox box{rle.size.width, rle.size.height, 0, 0};
  int64_t place = 0;
  for (size_t i = 0; i < rle.counts.size(); ++i) {
    const int64_t end = place + rle.counts[i];
    if (i % 2 == 1 && end > place) {
      const int64_t first = place / height, last = (end - 1) / height;
      box.x0 = std::min<int>(box.x0, static_cast<int>(first));
      box.x1 = std::max<int>(box.x1, static_cast<int>(last + 1));
      const bool one_column = first == last;  // else the run reaches a column's end and the next one's start
      box.y0 = std::min<int>(box.y0, one_column ? static_cast<int>(place % height) : 0);
      box.y1 = std::max<int>(box.y1, one_column ? static_cast<int>((end - 1) % height + 1) : static_cast<int>(height));
    }
    place = end;
  }
  return box.x1 == 0 ? PixelBox{} : box;
}

}  // namespace tinysam
