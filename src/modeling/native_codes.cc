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
// Kernels of quantized products (src/quantization/cells.py): what stands in front of an integer product and behind it, in
// one pass over memory each. They give the bits of the operators that they replace: every value is rounded once by each
// of the same operations in the same order. Compiled and used by src/modeling/native_kernels.py.
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "native_kernels.h"

namespace {

using namespace tinysam;

// Values are in memory, and a product is not joined with the sum behind it (a fused one is rounded once, not twice).
inline void StoreAll() { asm volatile("" ::: "memory"); }

}  // namespace

// x [...], range [3] = (scale, low, high) -> codes [...]: x / scale, to the nearest integer, half to even, within the ends.
extern "C" int TinysamCodes(int count, void **values, int *dimensions, std::int64_t **shapes, const char **types,
                            void * /*stream*/, void * /*extra*/) try {
  if (count != 3 || !AllFloat32(count, types)) return kWrongArguments;
  const float *x = static_cast<const float *>(values[0]);
  const float *range = static_cast<const float *>(values[1]);
  float *codes = static_cast<float *>(values[2]);
  const float scale = range[0], low = range[1], high = range[2];
  const std::int64_t length = CountOf(dimensions[0], shapes[0]);
  return InParts(length, CountParts(length, 1), [=](std::int64_t begin, std::int64_t end, std::int64_t) {
    for (std::int64_t i = begin; i < end; ++i) {
      const float code = std::nearbyint(x[i] / scale);
      codes[i] = std::min(std::max(code, low), high);
    }
  });
} catch (...) {
  return kFailed;
}

// Pairs of sums and factors, then bias -> sums_0 * factors_0 + sums_1 * factors_1 + ... + bias. Sums are [L, O] with
// factors and bias [1, O], or [B, O, H, W] with [1, O, 1, 1].
extern "C" int TinysamWeightedSum(int count, void **values, int *dimensions, std::int64_t **shapes, const char **types,
                                  void * /*stream*/, void * /*extra*/) try {
  if (count < 4 || count % 2 != 0 || !AllFloat32(count, types)) return kWrongArguments;
  const bool rows = dimensions[0] == 2;
  if (!rows && dimensions[0] != 4) return kWrongArguments;
  const std::int64_t channels = shapes[0][1], width = rows ? channels : shapes[0][2] * shapes[0][3];
  const std::int64_t lines = rows ? shapes[0][0] : shapes[0][0] * channels;
  const float *bias = static_cast<const float *>(values[count - 2]);
  float *out = static_cast<float *>(values[count - 1]);
  return InParts(lines, CountParts(lines, width), [=](std::int64_t begin, std::int64_t end, std::int64_t) {
    float more[kInCache];
    for (std::int64_t line = begin; line < end; ++line) {
      // Of rows, factors and bias change along a line; of planes they are one number each.
      const std::int64_t channel = rows ? 0 : line % channels;
      for (std::int64_t first = 0; first < width; first += kInCache) {
        const std::int64_t length = std::min(kInCache, width - first), at = rows ? first : channel;
        float *to = out + line * width + first;
        for (int pair = 0; pair + 2 < count; pair += 2) {
          const float *sums = static_cast<const float *>(values[pair]) + line * width + first;
          const float *factors = static_cast<const float *>(values[pair + 1]) + at;
          float *part = pair == 0 ? to : more;
          if (rows) {
            for (std::int64_t i = 0; i < length; ++i) part[i] = sums[i] * factors[i];
          } else {
            for (std::int64_t i = 0; i < length; ++i) part[i] = sums[i] * factors[0];
          }
          StoreAll();
          if (pair == 0) continue;
          for (std::int64_t i = 0; i < length; ++i) to[i] += more[i];
        }
        if (rows) {
          for (std::int64_t i = 0; i < length; ++i) to[i] += bias[at + i];
        } else {
          for (std::int64_t i = 0; i < length; ++i) to[i] += bias[at];
        }
      }
    }
  });
} catch (...) {
  return kFailed;
}
