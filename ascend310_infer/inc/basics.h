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
// What every file of the program shares: sizes, boxes, points, prompts, errors, and text made of parts.
#ifndef TINYSAM_BASICS_H_
#define TINYSAM_BASICS_H_

#include <cstdint>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace tinysam {

// A mistake in what the program was given. The message is one line that names the thing, its value and the way out;
// main prints it and ends with exit code 2.
class InputError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct Size {
  int height = 0;
  int width = 0;
};

inline bool operator==(const Size &a, const Size &b) { return a.height == b.height && a.width == b.width; }

// Pixels; what x1 and y1 mean (edges, or the last column and row) stands where a box is made.
struct Box {
  double x0 = 0, y0 = 0, x1 = 0, y1 = 0;
};

// Whole pixels of an image, x1 and y1 exclusive.
struct PixelBox {
  int x0 = 0, y0 = 0, x1 = 0, y1 = 0;
};

// Labels of a prompt slot (docs/design.md, "Prompts").
constexpr int kEmpty = -2;
constexpr int kNotAPoint = -1;
constexpr int kBackground = 0;
constexpr int kForeground = 1;
constexpr int kBoxTopLeft = 2;
constexpr int kBoxBottomRight = 3;

// Pixels of the image; label 1 on the object, 0 beside it.
struct Point {
  double x = 0, y = 0;
  int label = kForeground;
};

// What one object is asked for with: points, a box, or both. Box edges in pixels of the image.
struct Prompt {
  std::vector<Point> points;
  std::optional<Box> box;
};

// [H, W, 3] RGB, rows one after the other.
struct Image {
  Size size;
  std::vector<uint8_t> rgb;
};

// The parts one after the other, numbers as %g writes them.
template <typename... Parts>
std::string Text(const Parts &...parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}

inline int64_t Pixels(const Size &size) { return static_cast<int64_t>(size.height) * size.width; }

}  // namespace tinysam

#endif  // TINYSAM_BASICS_H_
