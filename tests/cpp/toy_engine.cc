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
// A network made of plain arithmetic in place of the real one, so that the whole program is tested without MindSpore
// Lite; tests/cpp/toy_network.py is its twin, number for number.
//
// Embeddings are the red plane of the input at every fourth pixel. Mask k of a prompt is the region whose value lies
// within 0.2, 0.5 or 1.0 of the value at the prompt's place: its first foreground point, else the centre of its box;
// near the values of background points it is put out.
#include <algorithm>
#include <cmath>

#include "engine.h"

namespace tinysam {
namespace {

class ToyEngine : public Engine {
 public:
  explicit ToyEngine(const Manifest &manifest) : manifest_(manifest) {}

  std::vector<float> Encode(const std::vector<float> &images) override {
    const int side = manifest_.mask_side(), size = manifest_.image_size;
    std::vector<float> embeddings;
    for (int y = 0; y < side; ++y) {
      for (int x = 0; x < side; ++x) embeddings.push_back(images[static_cast<size_t>(4 * y + 1) * size + 4 * x + 2]);
    }
    return embeddings;
  }

  Decoded Decode(size_t index, const std::vector<float> &embeddings, const std::vector<float> &coords,
                 const std::vector<int32_t> &labels) override {
    const GraphSpec &graph = manifest_.mask_decoders[index];
    Decoded decoded;
    for (int i = 0; i < graph.prompts; ++i) {
      DecodePrompt(embeddings, coords.data() + 2 * i * graph.slots, labels.data() + i * graph.slots, graph.slots,
                   &decoded);
    }
    return decoded;
  }

  void Prepare(size_t) override {}
  std::string device() const override { return "toy"; }

 private:
  int Place(float coord) const { return std::clamp(static_cast<int>(coord / 4), 0, manifest_.mask_side() - 1); }

  void DecodePrompt(const std::vector<float> &embeddings, const float *coords, const int32_t *labels, int slots,
                    Decoded *decoded) const {
    const int side = manifest_.mask_side();
    const auto at = [&](float x, float y) { return embeddings[static_cast<size_t>(Place(y) * side + Place(x))]; };
    float x = 0, y = 0, corner_x = 0, corner_y = 0;
    bool by_point = false;
    std::vector<float> unwanted;
    for (int k = slots - 1; k >= 0; --k) {  // the first foreground point wins
      const float px = coords[2 * k], py = coords[2 * k + 1];
      if (labels[k] == kBackground) unwanted.push_back(at(px, py));
      if (labels[k] == kBoxBottomRight) corner_x = px, corner_y = py;
      if (labels[k] == kBoxTopLeft && !by_point) x = (px + corner_x) / 2, y = (py + corner_y) / 2;
      if (labels[k] == kForeground) x = px, y = py, by_point = true;
    }
    const float value = at(x, y), reaches[4] = {0.2f, 0.2f, 0.5f, 1.0f};
    for (int mask = 0; mask < 4; ++mask) {
      for (const float pixel : embeddings) {
        float logit = (reaches[mask] - std::abs(pixel - value)) * 40.0f;
        for (const float other : unwanted) {
          if (std::abs(pixel - other) < 0.125f) logit -= 20.0f;
        }
        decoded->low_res_masks.push_back(logit);
      }
      decoded->iou_predictions.push_back(0.75f +
                                         static_cast<float>((7 * Place(x) + 13 * Place(y) + 5 * mask) % 16) / 64.0f);
    }
  }

  const Manifest &manifest_;
};

}  // namespace

std::unique_ptr<Engine> MakeEngine(const Manifest &manifest, const EngineSettings &) {
  return std::make_unique<ToyEngine>(manifest);
}

}  // namespace tinysam
