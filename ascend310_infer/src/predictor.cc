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
#include "predictor.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "preprocess.h"

namespace tinysam {
namespace {

double Now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace

Stopwatch::Stopwatch(double *seconds) : seconds_(seconds), start_(Now()) {}
Stopwatch::~Stopwatch() { *seconds_ += Now() - start_; }

int SlotsOf(const Prompt &prompt) { return static_cast<int>(prompt.points.size()) + (prompt.box ? 2 : 1); }

void CheckPrompt(const Prompt &prompt, const Size &size) {
  if (prompt.points.empty() && !prompt.box) throw InputError("a prompt without point and box: give at least one");
  for (const Point &point : prompt.points) {
    if (point.label != kForeground && point.label != kBackground) {
      throw InputError(Text("point label ", point.label, " is unknown; 1 is foreground, 0 background"));
    }
    if (!(point.x >= 0 && point.y >= 0 && point.x <= size.width && point.y <= size.height)) {
      throw InputError(Text("point (", point.x, ", ", point.y, ") lies outside the image of ", size.width, " x ",
                            size.height, " pixels"));
    }
  }
  if (!prompt.box) return;
  const Box &box = *prompt.box;
  const std::string name = Text("box (", box.x0, ", ", box.y0, ", ", box.x1, ", ", box.y1, ")");
  if (!(box.x0 < box.x1 && box.y0 < box.y1)) throw InputError(name + " is inside out; give x0 < x1 and y0 < y1");
  if (!(box.x0 >= 0 && box.y0 >= 0 && box.x1 <= size.width && box.y1 <= size.height)) {
    throw InputError(Text(name, " reaches outside the image of ", size.width, " x ", size.height, " pixels; clip it"));
  }
}

Predictor::Predictor(const Manifest &manifest, Engine *engine, Timings *timings)
    : manifest_(manifest), engine_(engine), timings_(timings) {}

void Predictor::SetImage(const Image &image) {
  std::vector<float> input;
  {
    const Stopwatch watch(&timings_->preprocess);
    original_size_ = image.size;
    input_size_ = LongestSideSize(image.size, manifest_.image_size);
    input = NormalisedAndPadded(Resized(image, input_size_), manifest_.image_size, manifest_.pixel_mean,
                                manifest_.pixel_std);
  }
  const Stopwatch watch(&timings_->encode);
  image_embeddings_ = engine_->Encode(input);
}

void Predictor::FillSlots(const Prompt &prompt, int slots, float *coords, int32_t *labels) const {
  const double ratio_x = static_cast<double>(input_size_.width) / original_size_.width;
  const double ratio_y = static_cast<double>(input_size_.height) / original_size_.height;
  int used = 0;
  const auto add = [&](double x, double y, int label) {
    coords[2 * used] = static_cast<float>(x * ratio_x);
    coords[2 * used + 1] = static_cast<float>(y * ratio_y);
    labels[used++] = label;
  };
  for (const Point &point : prompt.points) add(point.x, point.y, point.label);
  if (prompt.box) {
    add(prompt.box->x0, prompt.box->y0, kBoxTopLeft);
    add(prompt.box->x1, prompt.box->y1, kBoxBottomRight);
  } else {
    add(0, 0, kNotAPoint);
  }
  std::fill(labels + used, labels + slots, kEmpty);
}

void Predictor::Decode(const std::vector<Prompt> &prompts, const Answer &answer) {
  int used = 2;
  for (const Prompt &prompt : prompts) {
    CheckPrompt(prompt, original_size_);
    used = std::max(used, SlotsOf(prompt));
  }
  size_t first = 0;
  while (first < prompts.size()) {
    const size_t index = ChooseDecoder(manifest_, static_cast<int>(prompts.size() - first), used);
    const GraphSpec &decoder = manifest_.mask_decoders[index];
    const size_t count = std::min<size_t>(prompts.size() - first, static_cast<size_t>(decoder.prompts));
    const size_t all_slots = static_cast<size_t>(decoder.prompts) * static_cast<size_t>(decoder.slots);
    std::vector<float> coords(2 * all_slots, 0.0f);
    std::vector<int32_t> labels(all_slots, kEmpty);
    for (size_t i = 0; i < count; ++i) {
      const size_t slot = i * static_cast<size_t>(decoder.slots);
      FillSlots(prompts[first + i], decoder.slots, coords.data() + 2 * slot, labels.data() + slot);
    }
    {
      const Stopwatch watch(&timings_->load);
      engine_->Prepare(index);
    }
    Decoded decoded;
    {
      const Stopwatch watch(&timings_->decode);
      decoded = engine_->Decode(index, image_embeddings_, coords, labels);
    }
    const size_t pixels = 4 * static_cast<size_t>(manifest_.mask_side()) * static_cast<size_t>(manifest_.mask_side());
    for (size_t i = 0; i < count; ++i) {
      answer(first + i, decoded.low_res_masks.data() + i * pixels, decoded.iou_predictions.data() + 4 * i);
    }
    first += count;
  }
}

Upscaler Predictor::MakeUpscaler() const {
  return Upscaler(manifest_.mask_side(), manifest_.image_size, input_size_, original_size_);
}

int Predictor::BestMask(const float *iou_predictions) {
  return static_cast<int>(std::max_element(iou_predictions + 1, iou_predictions + 4) - iou_predictions);
}

}  // namespace tinysam
