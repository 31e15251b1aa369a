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
// Boxes of many pictures: a COCO results JSON of a detector, or the labels of a COCO instances JSON. The same boxes are
// left out as in src/evaluation/box_sources.py, so that results compare.
#ifndef TINYSAM_DETECTIONS_H_
#define TINYSAM_DETECTIONS_H_

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "basics.h"

namespace tinysam {

struct BoxPrompt {
  Box box;  // inside its image
  int64_t category_id = 0;
  std::optional<double> score;           // a detector's
  std::optional<int64_t> annotation_id;  // of the label whose box it is
};

struct Picture {
  int64_t image_id = 0;
  std::string file_name;
  std::optional<Size> size;  // as the annotations state it
  std::vector<BoxPrompt> boxes;
};

struct Detections {
  std::vector<Picture> pictures;       // in the order of the annotations, or of first mention
  std::map<std::string, int> skipped;  // what was left out, by reason
};

// Read the boxes.
//   detections: a results JSON, [{image_id, category_id, bbox [x, y, width, height], score}]; empty: labels are taken.
//   annotations: a COCO instances JSON that names the pictures; empty: the picture of id 139 is 000000000139.jpg.
//   max_detections: kept of a picture, those of the highest score; labels are all kept.
// Throws InputError: neither file, not of these formats, or no usable box.
Detections ReadDetections(const std::string &detections, const std::string &annotations, int max_detections);

// The boxes' parts inside a picture of this size; others are counted and left out.
void ClipBoxes(const Size &size, Picture *picture, std::map<std::string, int> *skipped);

}  // namespace tinysam

#endif  // TINYSAM_DETECTIONS_H_
