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
// What runs the two halves of the network. The program knows this interface alone; src/lite_engine.cc is MindSpore Lite
// behind it, and the only file that knows of MindSpore.
#ifndef TINYSAM_ENGINE_H_
#define TINYSAM_ENGINE_H_

#include <memory>
#include <string>
#include <vector>

#include "manifest.h"

namespace tinysam {

struct EngineSettings {
  std::string device = "auto";  // auto | cpu | ascend
  int device_id = 0;
  int threads = 0;          // on a CPU; 0: the runtime's choice
  std::string precision;    // Ascend's precision_mode; empty: the runtime's choice
  std::string config_file;  // a Lite config file; empty: none
};

struct Decoded {
  std::vector<float> low_res_masks;    // [M, 4, S/4, S/4] logits
  std::vector<float> iou_predictions;  // [M, 4]
};

class Engine {
 public:
  virtual ~Engine() = default;

  // images [3, S, S] -> image_embeddings [C, S/16, S/16]
  virtual std::vector<float> Encode(const std::vector<float> &images) = 0;

  // Decoder `index` of the manifest: point_coords [M, K, 2], point_labels [M, K].
  virtual Decoded Decode(size_t index, const std::vector<float> &image_embeddings,
                         const std::vector<float> &point_coords, const std::vector<int32_t> &point_labels) = 0;

  // Load decoder `index` if it is not loaded yet.
  virtual void Prepare(size_t index) = 0;

  // cpu | ascend
  virtual std::string device() const = 0;
};

// The engine that this program is linked with, its image encoder loaded.
// Throws InputError: no such device, or a file that the runtime refuses.
std::unique_ptr<Engine> MakeEngine(const Manifest &manifest, const EngineSettings &settings);

}  // namespace tinysam

#endif  // TINYSAM_ENGINE_H_
