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
// Kernels for MindSpore's ops.Custom ("aot") on a CPU, each in one pass over memory: exact GELU, layer normalisation,
// softmax and their derivatives, and the derivative of a bias. Compiled and used by src/modeling/native_kernels.py.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "native_kernels.h"

namespace {

using namespace tinysam;

constexpr float kLargest = 87.0f;                  // exp(87) is finite, and 1 / exp(87) is a normal number
constexpr int kLanes = 16;                         // partial sums, which compilers turn into vectors
constexpr std::int64_t kRowsTogether = 64;         // of which float32 sums are taken before they are added in float64

// exp(x) for |x| <= kLargest, to 2 ulp: 2^k times a polynomial on [-ln(2)/2, ln(2)/2] (the remainder's Taylor series,
// with the coefficients that even out its error). Without branches, so that compilers vectorise it.
inline float Exp(float x) {
  const std::int32_t biased = static_cast<std::int32_t>(x * 1.44269504f + 127.5f);
  const float k = static_cast<float>(biased - 127);
  const float r = (x - k * 0.693359375f) + k * 2.12194440e-4f;  // ln(2) in two parts
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const std::int32_t bits = biased << 23;
  float power;
  std::memcpy(&power, &bits, sizeof(power));
  return p * power;
}

// The normal distribution's cumulative function as the Sigmoid of an odd polynomial: coefficients and reason as in
// src/modeling/common.py.
inline float Phi(float x) {
  const float square = x * x;
  float q = 3.627848178838256e-09f;
  q = q * square - 2.675661150893825e-07f;
  q = q * square + 7.948136962551739e-06f;
  q = q * square - 1.1054674029585143e-04f;
  q = q * square - 6.605351277775705e-05f;
  q = q * square + 0.07266829838082549f;
  q = q * square + 1.5957685367706227f;
  const float u = -x * q;
  const float bounded = u > kLargest ? kLargest : u < -kLargest ? -kLargest : u;
  const float phi = 1.0f / (1.0f + Exp(bounded));
  return u > kLargest ? 0.0f : phi;
}

inline float Derivative(float x) {
  const float half = 0.5f * x * x;
  const float density = 0.398942280f * Exp(half > kLargest ? -kLargest : -half);
  return Phi(x) + (half > kLargest ? 0.0f : x * density);
}

template <typename Term>
inline float Sum(std::int64_t count, const Term &term) {
  if (count < kLanes) {
    float few = 0.0f;
    for (std::int64_t i = 0; i < count; ++i) few += term(i);
    return few;
  }
  float lanes[kLanes] = {0.0f};
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += term(i + lane);
  }
  for (; i < count; ++i) lanes[i % kLanes] += term(i);
  float total = 0.0f;
  for (const float lane : lanes) total += lane;
  return total;
}

inline float Largest(std::int64_t count, const float *row) {
  float largest = row[0];
  std::int64_t i = 0;
  if (count >= kLanes) {
    float lanes[kLanes];
    std::copy(row, row + kLanes, lanes);
    for (i = kLanes; i + kLanes <= count; i += kLanes) {
      for (int lane = 0; lane < kLanes; ++lane) lanes[lane] = row[i + lane] > lanes[lane] ? row[i + lane] : lanes[lane];
    }
    for (const float one : lanes) largest = one > largest ? one : largest;
  }
  for (; i < count; ++i) largest = row[i] > largest ? row[i] : largest;
  return largest;
}

struct Moments {
  float mean, scale;  // scale: 1 / sqrt(variance + epsilon)
};

inline Moments MomentsOf(const float *row, std::int64_t width, float epsilon) {
  const float mean = Sum(width, [row](std::int64_t i) { return row[i]; }) / static_cast<float>(width);
  const float variance = Sum(width, [row, mean](std::int64_t i) { return (row[i] - mean) * (row[i] - mean); }) /
                         static_cast<float>(width);
  return {mean, 1.0f / std::sqrt(variance + epsilon)};
}

// The derivative of a part of the rows; `sums` [2 * width] receives those with respect to gamma and beta.
class NormGradient {
 public:
  NormGradient(const float *gamma, float epsilon, std::int64_t width)
      : gamma_(gamma), epsilon_(epsilon), width_(width), normal_(width), weighted_(width), few_(2 * width) {}

  void Run(const float *x, const float *after, float *before, std::int64_t rows, double *sums) {
    for (std::int64_t first = 0; first < rows; first += kRowsTogether) {
      std::fill(few_.begin(), few_.end(), 0.0f);
      for (std::int64_t row = first; row < std::min(rows, first + kRowsTogether); ++row) {
        RunRow(x + row * width_, after + row * width_, before + row * width_);
      }
      for (std::int64_t i = 0; i < 2 * width_; ++i) sums[i] += few_[i];
    }
  }

 private:
  // before = scale * (g - mean(g) - n * mean(g n)) with the normalised row n and g = gamma * after.
  void RunRow(const float *x, const float *after, float *before) {
    const std::int64_t width = width_;
    const Moments moments = MomentsOf(x, width, epsilon_);
    const float *gamma = gamma_;
    float *n = normal_.data(), *g = weighted_.data(), *of_gamma = few_.data(), *of_beta = few_.data() + width;
    for (std::int64_t i = 0; i < width; ++i) {
      n[i] = (x[i] - moments.mean) * moments.scale;
      g[i] = after[i] * gamma[i];
      of_gamma[i] += after[i] * n[i];
      of_beta[i] += after[i];
    }
    const float mean = Sum(width, [g](std::int64_t i) { return g[i]; }) / static_cast<float>(width);
    const float slope = Sum(width, [g, n](std::int64_t i) { return g[i] * n[i]; }) / static_cast<float>(width);
    for (std::int64_t i = 0; i < width; ++i) before[i] = moments.scale * (g[i] - mean - n[i] * slope);
  }

  const float *gamma_;
  float epsilon_;
  std::int64_t width_;
  std::vector<float> normal_, weighted_, few_;
};

// The softmax of `rows` rows of `width` values. All of them are taken through Exp at once: rows may be short.
void Softmax(const float *x, float *y, std::int64_t rows, std::int64_t width) {
  for (std::int64_t row = 0; row < rows; ++row) {
    const float *in = x + row * width;
    const float largest = Largest(width, in);
    for (std::int64_t i = 0; i < width; ++i) y[row * width + i] = in[i] - largest;
  }
  for (std::int64_t i = 0; i < rows * width; ++i) {
    const float below = y[i];
    const float power = Exp(below < -kLargest ? -kLargest : below);
    y[i] = below < -kLargest ? 0.0f : power;
  }
  for (std::int64_t row = 0; row < rows; ++row) {
    float *out = y + row * width;
    const float scale = 1.0f / Sum(width, [out](std::int64_t i) { return out[i]; });
    for (std::int64_t i = 0; i < width; ++i) out[i] *= scale;
  }
}

}  // namespace

// x -> x Phi(x)
extern "C" int TinysamGelu(int count, void **values, int *dimensions, std::int64_t **shapes, const char **types,
                           void * /*stream*/, void * /*extra*/) try {
  if (count != 2 || !AllFloat32(count, types)) return kWrongArguments;
  const float *x = static_cast<const float *>(values[0]);
  float *y = static_cast<float *>(values[1]);
  const std::int64_t length = CountOf(dimensions[0], shapes[0]);
  return InParts(length, CountParts(length, 1), [x, y](std::int64_t begin, std::int64_t end, std::int64_t) {
    for (std::int64_t i = begin; i < end; ++i) y[i] = x[i] * Phi(x[i]);
  });
} catch (...) {
  return kFailed;
}

// x, the gradient behind the GELU -> the gradient in front of it
extern "C" int TinysamGeluGradient(int count, void **values, int *dimensions, std::int64_t **shapes, const char **types,
                                   void * /*stream*/, void * /*extra*/) try {
  if (count != 3 || !AllFloat32(count, types)) return kWrongArguments;
  const float *x = static_cast<const float *>(values[0]);
  const float *after = static_cast<const float *>(values[1]);
  float *before = static_cast<float *>(values[2]);
  const std::int64_t length = CountOf(dimensions[0], shapes[0]);
  return InParts(length, CountParts(length, 1), [x, after, before](std::int64_t begin, std::int64_t end, std::int64_t) {
    for (std::int64_t i = begin; i < end; ++i) before[i] = after[i] * Derivative(x[i]);
  });
} catch (...) {
  return kFailed;
}

// x [..., width], gamma [width], beta [width], epsilon [1] -> the rows of x normalised, times gamma, plus beta
extern "C" int TinysamLayerNorm(int count, void **values, int *dimensions, std::int64_t **shapes, const char **types,
                                void * /*stream*/, void * /*extra*/) try {
  if (count != 5 || !AllFloat32(count, types)) return kWrongArguments;
  const float *x = static_cast<const float *>(values[0]);
  const float *gamma = static_cast<const float *>(values[1]);
  const float *beta = static_cast<const float *>(values[2]);
  const float epsilon = *static_cast<const float *>(values[3]);
  float *y = static_cast<float *>(values[4]);
  const std::int64_t width = shapes[1][0], rows = CountOf(dimensions[0], shapes[0]) / width;
  return InParts(rows, CountParts(rows, width), [=](std::int64_t begin, std::int64_t end, std::int64_t) {
    for (std::int64_t row = begin; row < end; ++row) {
      const float *in = x + row * width;
      float *out = y + row * width;
      const Moments moments = MomentsOf(in, width, epsilon);
      for (std::int64_t i = 0; i < width; ++i) out[i] = (in[i] - moments.mean) * moments.scale * gamma[i] + beta[i];
    }
  });
} catch (...) {
  return kFailed;
}

// x, gamma, epsilon, the gradient behind the norm -> the gradients of x, gamma and beta
extern "C" int TinysamLayerNormGradient(int count, void **values, int *dimensions, std::int64_t **shapes,
                                        const char **types, void * /*stream*/, void * /*extra*/) try {
  if (count != 7 || !AllFloat32(count, types)) return kWrongArguments;
  const float *x = static_cast<const float *>(values[0]);
  const float *gamma = static_cast<const float *>(values[1]);
  const float epsilon = *static_cast<const float *>(values[2]);
  const float *after = static_cast<const float *>(values[3]);
  float *before = static_cast<float *>(values[4]);
  const std::int64_t width = shapes[1][0], rows = CountOf(dimensions[0], shapes[0]) / width;
  const std::int64_t parts = CountParts(rows, width);
  std::vector<double> sums(parts * 2 * width, 0.0);
  const int result = InParts(rows, parts, [=, &sums](std::int64_t begin, std::int64_t end, std::int64_t part) {
    NormGradient(gamma, epsilon, width)
        .Run(x + begin * width, after + begin * width, before + begin * width, end - begin, &sums[part * 2 * width]);
  });
  for (std::int64_t i = 0; i < 2 * width; ++i) {
    double total = 0.0;
    for (std::int64_t part = 0; part < parts; ++part) total += sums[part * 2 * width + i];
    static_cast<float *>(values[i < width ? 5 : 6])[i % width] = static_cast<float>(total);
  }
  return result;
} catch (...) {
  return kFailed;
}

// x [..., width] -> the softmax of its rows
extern "C" int TinysamSoftmax(int count, void **values, int *dimensions, std::int64_t **shapes, const char **types,
                              void * /*stream*/, void * /*extra*/) try {
  if (count != 2 || !AllFloat32(count, types) || dimensions[0] < 1) return kWrongArguments;
  const float *x = static_cast<const float *>(values[0]);
  float *y = static_cast<float *>(values[1]);
  const std::int64_t width = shapes[0][dimensions[0] - 1], rows = CountOf(dimensions[0] - 1, shapes[0]);
  if (width == 0) return 0;
  const std::int64_t together = std::max<std::int64_t>(1, kInCache / width);
  return InParts(rows, CountParts(rows, width), [=](std::int64_t begin, std::int64_t end, std::int64_t) {
    for (std::int64_t row = begin; row < end; row += together) {
      Softmax(x + row * width, y + row * width, std::min(together, end - row), width);
    }
  });
} catch (...) {
  return kFailed;
}

// The softmax y, the gradient behind it -> the gradient in front of it, y (after - sum(y after)) in every row
extern "C" int TinysamSoftmaxGradient(int count, void **values, int *dimensions, std::int64_t **shapes,
                                      const char **types, void * /*stream*/, void * /*extra*/) try {
  if (count != 3 || !AllFloat32(count, types) || dimensions[0] < 1) return kWrongArguments;
  const float *y = static_cast<const float *>(values[0]);
  const float *after = static_cast<const float *>(values[1]);
  float *before = static_cast<float *>(values[2]);
  const std::int64_t width = shapes[0][dimensions[0] - 1], rows = CountOf(dimensions[0] - 1, shapes[0]);
  return InParts(rows, CountParts(rows, width), [=](std::int64_t begin, std::int64_t end, std::int64_t) {
    for (std::int64_t first = begin * width; first < end * width; first += width) {
      const float *p = y + first, *g = after + first;
      const float mean = Sum(width, [p, g](std::int64_t i) { return p[i] * g[i]; });
      for (std::int64_t i = 0; i < width; ++i) before[first + i] = p[i] * (g[i] - mean);
    }
  });
} catch (...) {
  return kFailed;
}

// x [..., width] -> the sums of its columns [width]
extern "C" int TinysamColumnSums(int count, void **values, int *dimensions, std::int64_t **shapes, const char **types,
                                 void * /*stream*/, void * /*extra*/) try {
  if (count != 2 || !AllFloat32(count, types) || dimensions[0] < 1) return kWrongArguments;
  const float *x = static_cast<const float *>(values[0]);
  float *result = static_cast<float *>(values[1]);
  const std::int64_t width = shapes[0][dimensions[0] - 1], rows = CountOf(dimensions[0] - 1, shapes[0]);
  const std::int64_t parts = CountParts(rows, width);
  std::vector<double> sums(parts * width, 0.0);
  const int failed = InParts(rows, parts, [=, &sums](std::int64_t begin, std::int64_t end, std::int64_t part) {
    std::vector<float> few(width);
    for (std::int64_t first = begin; first < end; first += kRowsTogether) {
      std::fill(few.begin(), few.end(), 0.0f);
      for (std::int64_t row = first; row < std::min(end, first + kRowsTogether); ++row) {
        const float *in = x + row * width;
        float *out = few.data();
        for (std::int64_t i = 0; i < width; ++i) out[i] += in[i];
      }
      for (std::int64_t i = 0; i < width; ++i) sums[part * width + i] += few[i];
    }
  });
  for (std::int64_t i = 0; i < width; ++i) {
    double total = 0.0;
    for (std::int64_t part = 0; part < parts; ++part) total += sums[part * width + i];
    result[i] = static_cast<float>(total);
  }
  return failed;
} catch (...) {
  return kFailed;
}
