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
#include "options.h"

#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <map>

namespace tinysam {

const char kUsage[] = R"(Segment pictures with an exported TinySAM (docs/ascend310.md).

    tinysam --model=FOLDER --image=photo.jpg --point=320,240 --point=50,60,0    one object: on it, beside it (label 0)
    tinysam --model=FOLDER --image=photo.jpg --box=40,30,300,420 --box=...      objects by their boxes
    tinysam --model=FOLDER --image=FILE|FOLDER --everything                     all objects, hierarchical points
    tinysam --model=FOLDER --image=FOLDER --detections=boxes.json [--annotations=instances.json]
    tinysam --model=FOLDER --image=FOLDER --annotations=instances.json          boxes of the labels

  --output=FOLDER         default output/ascend310: NAME_overlay.png, results.json (COCO), NAME_everything.json
  --masks                 also NAME_mask_N.png, white on black        --no-overlays  no pictures
  --device=auto|cpu|ascend, --device-id=N, --precision=MODE (precision_mode), --lite-config=FILE, --threads=N (CPU)
  --max-detections=N      boxes of a picture, by score; default 100   --limit=N      first N pictures; default 0: all
  --full-grid             with --everything: all points of the grid
  --everything.KEY=VALUE  a setting of the section everything of default_config.yaml

Coordinates are pixels of the picture, upright as its EXIF flag says; with --detections or
--annotations as it is stored.
The last line on stdout is a JSON object with counts and the seconds of each part. Exit code 2: a mistake in the input.
)";

namespace {

[[noreturn]] void Misunderstood(const std::string &name, const std::string &value, const std::string &pattern) {
  throw InputError(Text("--", name, "=", value, " is not understood; write --", name, "=", pattern));
}

double ParseNumber(const std::string &name, const std::string &text, const std::string &value,
                   const std::string &pattern) {
  char *end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  if (text.empty() || *end || !std::isfinite(number)) Misunderstood(name, value, pattern);
  return number;
}

std::vector<double> ParseNumbers(const std::string &name, const std::string &value, size_t least, size_t most,
                                 const std::string &pattern) {
  std::vector<double> numbers;
  std::istringstream parts(value);
  for (std::string part; std::getline(parts, part, ',');) numbers.push_back(ParseNumber(name, part, value, pattern));
  if (numbers.size() < least || numbers.size() > most || value.back() == ',') Misunderstood(name, value, pattern);
  return numbers;
}

int ParseInteger(const std::string &name, const std::string &value, int least) {
  const double number = ParseNumber(name, value, value, "N");
  if (number != std::floor(number) || number < least || number > 1e9) {
    throw InputError(Text("--", name, "=", value, ": must be a whole number of at least ", least));
  }
  return static_cast<int>(number);
}

using Setter = std::function<void(const std::string &name, const std::string &value)>;
using Setters = std::map<std::string, Setter>;

Setter Into(std::string *target) {
  return [target](const std::string &name, const std::string &value) {
    if (value.empty()) throw InputError(Text("--", name, " is empty"));
    *target = value;
  };
}
Setter Into(int *target, int least) {
  return [=](const std::string &name, const std::string &value) { *target = ParseInteger(name, value, least); };
}
Setter Into(double *target) {
  return
      [=](const std::string &name, const std::string &value) { *target = ParseNumber(name, value, value, "NUMBER"); };
}
Setter Flag(bool *target, bool wanted) {
  return [=](const std::string &name, const std::string &value) {
    if (!value.empty()) throw InputError(Text("--", name, " takes no value, got ", value));
    *target = wanted;
  };
}

Setters MakeSetters(Options *options) {
  EverythingSettings *plan = &options->plan;
  Setters setters = {
      {"help", Flag(&options->help, true)},
      {"model", Into(&options->model)},
      {"image", Into(&options->image)},
      {"output", Into(&options->output)},
      {"detections", Into(&options->detections)},
      {"annotations", Into(&options->annotations)},
      {"everything", Flag(&options->everything, true)},
      {"full-grid", Flag(&plan->hierarchical, false)},
      {"masks", Flag(&options->masks, true)},
      {"no-overlays", Flag(&options->overlays, false)},
      {"max-detections", Into(&options->max_detections, 1)},
      {"limit", Into(&options->limit, 0)},
      {"device", Into(&options->engine.device)},
      {"device-id", Into(&options->engine.device_id, 0)},
      {"threads", Into(&options->engine.threads, 0)},
      {"precision", Into(&options->engine.precision)},
      {"lite-config", Into(&options->engine.config_file)},
      {"everything.points_per_side", Into(&plan->points_per_side, 1)},
      {"everything.pred_iou_thresh", Into(&plan->pred_iou_thresh)},
      {"everything.stability_score_thresh", Into(&plan->stability_score_thresh)},
      {"everything.stability_score_offset", Into(&plan->stability_score_offset)},
      {"everything.box_nms_thresh", Into(&plan->box_nms_thresh)},
      {"everything.crop_n_layers", Into(&plan->crop_n_layers, 0)},
      {"everything.crop_nms_thresh", Into(&plan->crop_nms_thresh)},
      {"everything.crop_overlap_ratio", Into(&plan->crop_overlap_ratio)},
      {"everything.crop_n_points_downscale_factor", Into(&plan->crop_n_points_downscale_factor, 1)},
      {"everything.min_mask_region_area", Into(&plan->min_mask_region_area, 0)},
      {"everything.coarse_ratio", Into(&plan->coarse_ratio)},
      {"everything.high_score_thresh", Into(&plan->high_score_thresh)},
  };
  setters["point"] = [options](const std::string &name, const std::string &value) {
    const std::vector<double> numbers = ParseNumbers(name, value, 2, 3, "X,Y or X,Y,LABEL");
    const double label = numbers.size() == 3 ? numbers[2] : kForeground;
    if (label != kForeground && label != kBackground) {
      throw InputError(Text("point label ", label, " is unknown; 1 is foreground, 0 background"));
    }
    options->points.push_back({numbers[0], numbers[1], static_cast<int>(label)});
  };
  setters["box"] = [options](const std::string &name, const std::string &value) {
    const std::vector<double> numbers = ParseNumbers(name, value, 4, 4, "X0,Y0,X1,Y1");
    options->boxes.push_back({numbers[0], numbers[1], numbers[2], numbers[3]});
  };
  return setters;
}

void CheckTogether(const Options &options) {
  if (options.model.empty()) throw InputError("--model is missing: give the folder that export.py wrote");
  if (options.image.empty()) throw InputError("--image is missing: give a picture, or a folder of pictures");
  const bool prompted = !options.points.empty() || !options.boxes.empty();
  const bool listed = !options.detections.empty() || !options.annotations.empty();
  if (prompted + listed + options.everything == 0) {
    throw InputError(
        "nothing to segment: give --point=X,Y or --box=X0,Y0,X1,Y1, --everything, --detections or --annotations");
  }
  if (prompted + listed + options.everything > 1) {
    throw InputError(
        "points and boxes, --everything, and --detections or --annotations exclude each other; give one of the three");
  }
  if (!options.points.empty() && options.boxes.size() > 1) {
    throw InputError(Text("points with ", options.boxes.size(), " boxes: whose are they? Give one box, or no points"));
  }
  const std::string &device = options.engine.device;
  if (device != "auto" && device != "cpu" && device != "ascend") {
    throw InputError(Text("--device=", device, " is unknown; it is auto, cpu or ascend"));
  }
  options.plan.Check();
}

}  // namespace

Options ParseOptions(const std::vector<std::string> &arguments) {
  Options options;
  const Setters setters = MakeSetters(&options);
  for (const std::string &argument : arguments) {
    const size_t equals = argument.find('=');
    const bool dashed = argument.compare(0, 2, "--") == 0;
    const std::string name = dashed ? argument.substr(2, equals == std::string::npos ? equals : equals - 2) : "";
    const auto setter = setters.find(name);
    if (setter == setters.end())
      throw InputError(Text("unknown argument ", argument, "; --help lists them, all written --name=value"));
    setter->second(name, equals == std::string::npos ? "" : argument.substr(equals + 1));
  }
  if (!options.help) CheckTogether(options);
  return options;
}

}  // namespace tinysam
