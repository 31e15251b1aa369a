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
// Exact GELU, x Phi(x), and its derivative, each in one pass over memory: a kernel for MindSpore's ops.Custom ("aot"),
// compiled and used by src/modeling/native_gelu.py. Phi(x) is the Sigmoid of an odd polynomial, as in
// src/modeling/common.py, whose coefficients these are. Arguments as MindSpore passes them: inputs, then outputs.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

namespace {

constexpr std::int64_t kLeastPerThread = 1 << 17;  // below, starting a thread costs more than it saves
constexpr float kLargest = 87.0f;                  // exp(87) is finite, and 1 / exp(87) is a normal number

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

// run(begin, end) over [0, count), cut up among TINYSAM_KERNEL_THREADS threads where that pays.
template <typename Run>
void InParts(std::int64_t count, const Run &run) {
  const char *wanted = std::getenv("TINYSAM_KERNEL_THREADS");
  const std::int64_t limit = wanted == nullptr ? 1 : std::atoi(wanted);
  const std::int64_t parts = std::max<std::int64_t>(1, std::min(limit, count / kLeastPerThread));
  std::vector<std::thread> threads;
  for (std::int64_t i = 1; i < parts; ++i) {
    threads.emplace_back(run, count * i / parts, count * (i + 1) / parts);
  }
  run(0, count / parts);
  for (auto &thread : threads) thread.join();
}

std::int64_t CountOf(int dimensions, const std::int64_t *shape) {
  std::int64_t count = 1;
  for (int i = 0; i < dimensions; ++i) count *= shape[i];
  return count;
}

bool AllFloat32(int count, const char **types) {
  return std::all_of(types, types + count, [](const char *type) { return std::strcmp(type, "float32") == 0; });
}

}  // namespace

// x -> x Phi(x)
extern "C" int TinysamGelu(int count, void **values, int *dimensions, std::int64_t **shapes, const char **types,
                           void * /*stream*/, void * /*extra*/) {
  if (count != 2 || !AllFloat32(count, types)) return 1;
  const float *x = static_cast<const float *>(values[0]);
  float *y = static_cast<float *>(values[1]);
  InParts(CountOf(dimensions[0], shapes[0]), [x, y](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) y[i] = x[i] * Phi(x[i]);
  });
  return 0;
}

// x, the gradient behind the GELU -> the gradient in front of it
extern "C" int TinysamGeluGradient(int count, void **values, int *dimensions, std::int64_t **shapes, const char **types,
                                   void * /*stream*/, void * /*extra*/) {
  if (count != 3 || !AllFloat32(count, types)) return 1;
  const float *x = static_cast<const float *>(values[0]);
  const float *after = static_cast<const float *>(values[1]);
  float *before = static_cast<float *>(values[2]);
  InParts(CountOf(dimensions[0], shapes[0]), [x, after, before](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) before[i] = after[i] * Derivative(x[i]);
  });
  return 0;
}
