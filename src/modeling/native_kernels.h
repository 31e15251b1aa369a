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
#pragma once

// What every kernel of MindSpore's ops.Custom ("aot") here shares: arguments, and parts of the work for threads.
// MindSpore passes inputs, then outputs; a result other than 0 is an error. No exception leaves a kernel or a thread: it
// would end the process.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

namespace tinysam {

constexpr std::int64_t kLeastPerThread = 1 << 17;  // values; below, starting a thread costs more than it saves
constexpr std::int64_t kInCache = 4096;            // values that are worked on several times in a row
constexpr int kWrongArguments = 1, kFailed = 2;    // results of a kernel

// How many parts `rows` of `width` values are worth, at most TINYSAM_KERNEL_THREADS.
inline std::int64_t CountParts(std::int64_t rows, std::int64_t width) {
  const char *wanted = std::getenv("TINYSAM_KERNEL_THREADS");
  const std::int64_t limit = wanted == nullptr ? 1 : std::atoi(wanted);
  return std::max<std::int64_t>(1, std::min({limit, rows, rows * width / kLeastPerThread}));
}

// run(begin, end, part) over [0, rows), each part in a thread of its own, or in this one where no more can be had.
// -> 0, or kFailed where a part was not finished.
template <typename Run>
int InParts(std::int64_t rows, std::int64_t parts, const Run &run) {
  std::atomic<int> result{0};
  const auto attempt = [rows, parts, &run, &result](std::int64_t part) {
    try {
      run(rows * part / parts, rows * (part + 1) / parts, part);
    } catch (...) {
      result = kFailed;
    }
  };
  std::vector<std::thread> threads;
  std::int64_t next = 1;
  try {
    threads.reserve(parts);
    for (; next < parts; ++next) threads.emplace_back(attempt, next);
  } catch (...) {  // part `next` has no thread, nor have those after it
  }
  attempt(0);
  for (; next < parts; ++next) attempt(next);
  for (auto &thread : threads) thread.join();
  return result;
}

inline std::int64_t CountOf(int dimensions, const std::int64_t *shape) {
  std::int64_t count = 1;
  for (int i = 0; i < dimensions; ++i) count *= shape[i];
  return count;
}

inline bool AllFloat32(int count, const char **types) {
  return std::all_of(types, types + count, [](const char *type) { return std::strcmp(type, "float32") == 0; });
}

}  // namespace tinysam
