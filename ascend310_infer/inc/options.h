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
// The command line.
#ifndef TINYSAM_OPTIONS_H_
#define TINYSAM_OPTIONS_H_

#include <string>
#include <vector>

#include "engine.h"
#include "everything.h"

namespace tinysam {

struct Options {
  bool help = false;
  std::string model, image, output = "output/ascend310";
  std::string detections, annotations;
  std::vector<Point> points;  // of one object
  std::vector<Box> boxes;     // each an object
  bool everything = false;
  bool overlays = true, masks = false;
  int max_detections = 100;
  int limit = 0;  // pictures of a folder; 0: all
  EverythingSettings plan;
  EngineSettings engine;
};

extern const char kUsage[];

// Throws InputError: an unknown option, a value that is not understood, or options that do not go together.
Options ParseOptions(const std::vector<std::string> &arguments);

}  // namespace tinysam

#endif  // TINYSAM_OPTIONS_H_
