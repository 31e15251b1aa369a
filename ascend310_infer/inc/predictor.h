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
// SAM's predictor (arXiv 2304.02643, section 3), as src/inference/predictor.py: one image, any number of prompts.
#ifndef TINYSAM_PREDICTOR_H_
#define TINYSAM_PREDICTOR_H_

#include <functional>
#include <memory>
#include <vector>

#include "engine.h"
#include "upscaler.h"

namespace tinysam {

// Seconds of each part of the work, added up.
struct Timings {
  double load = 0, preprocess = 0, encode = 0, decode = 0, postprocess = 0, write = 0;
};

// Adds the seconds of its life to one part.
class Stopwatch {
 public:
  explicit Stopwatch(double *seconds);
  ~Stopwatch();
  Stopwatch(const Stopwatch &) = delete;
  void operator=(const Stopwatch &) = delete;

 private:
  double *seconds_;
  double start_;
};

class Predictor {
 public:
  // `engine` and `timings` outlive the predictor.
  Predictor(const Manifest &manifest, Engine *engine, Timings *timings);

  // Encode an image for the prompts that follow.
  void SetImage(const Image &image);

  // One prompt's answer: which prompt, low_res_masks [4, S/4, S/4] logits, iou_predictions [4].
  using Answer = std::function<void(size_t prompt, const float *low_res_masks, const float *iou_predictions)>;

  // Decode prompts in pixels of the image, in order. Throws InputError: a prompt that is empty, does not fit the image,
  // or has more points than a decoder takes.
  void Decode(const std::vector<Prompt> &prompts, const Answer &answer);

  // For masks of the image that is set.
  Upscaler MakeUpscaler() const;

  // Place among 1..3 of the highest iou_predictions, the first of equal ones.
  static int BestMask(const float *iou_predictions);

  const Manifest &manifest() const { return manifest_; }
  Timings *timings() const { return timings_; }

 private:
  void FillSlots(const Prompt &prompt, int slots, float *coords, int32_t *labels) const;

  const Manifest &manifest_;
  Engine *engine_;
  Timings *timings_;
  std::vector<float> image_embeddings_;
  Size original_size_, input_size_;
};

// Slots that a prompt takes: one for each point, two for a box, one more where there is no box.
int SlotsOf(const Prompt &prompt);

// Throws InputError: a prompt without point and box, a point or box outside the image or not finite, an unknown label.
void CheckPrompt(const Prompt &prompt, const Size &size);

}  // namespace tinysam

#endif  // TINYSAM_PREDICTOR_H_
