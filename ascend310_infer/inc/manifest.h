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
// The manifest of an exported model: docs/export.md is its contract.
#ifndef TINYSAM_MANIFEST_H_
#define TINYSAM_MANIFEST_H_

#include <string>
#include <vector>

#include "basics.h"

namespace tinysam {

struct TensorSpec {
  std::string name;
  std::vector<int64_t> shape;
  std::string dtype;  // float32 | float16 | int32
};

// One MindIR file. prompts and slots are 0 for the image encoder.
struct GraphSpec {
  std::string path;
  int64_t bytes = 0;  // 0: the manifest does not say
  int prompts = 0, slots = 0;
  std::vector<TensorSpec> inputs, outputs;
};

struct Manifest {
  std::string variant;
  int image_size = 0;  // S
  float pixel_mean[3], pixel_std[3];
  float mask_threshold = 0;
  GraphSpec image_encoder;
  std::vector<GraphSpec> mask_decoders;

  int mask_side() const { return image_size / 4; }
};

// Read FOLDER/manifest.json. Throws InputError: missing, of another format or version, preprocessing that this program
// does not do, or a graph without a MindIR file.
Manifest ReadManifest(const std::string &folder);

// Check a MindIR before a runtime sees it: its size as the manifest states it, and the outermost fields of its protobuf
// fill the file exactly. Throws InputError: missing, truncated, or no MindIR.
void CheckMindir(const GraphSpec &graph);

// Which decoder answers the next of `count` prompts of at most `slots` slots: of those with enough slots the one of
// most prompts of which `count` fills at least three quarters, else of fewest prompts; among equal ones of fewest
// slots. Throws InputError: more slots than any has.
size_t ChooseDecoder(const Manifest &manifest, int count, int slots);

}  // namespace tinysam

#endif  // TINYSAM_MANIFEST_H_
