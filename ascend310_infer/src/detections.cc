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
#include "detections.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "json_text.h"

namespace tinysam {
namespace {

// (x0, y0, x1, y1) of COCO's [x, y, width, height]; nothing where it is not four finite numbers.
std::optional<Box> ReadBox(const Json &record) {
  const auto found = record.find("bbox");
  if (found == record.end() || !found->is_array() || found->size() != 4) return std::nullopt;
  double values[4];
  for (size_t i = 0; i < 4; ++i) {
    if (!(*found)[i].is_number()) return std::nullopt;
    values[i] = (*found)[i].get<double>();
    if (!std::isfinite(values[i])) return std::nullopt;
  }
  return Box{values[0], values[1], values[0] + values[2], values[1] + values[3]};
}

bool IsCrowd(const Json &record) {
  const auto found = record.find("iscrowd");
  return found != record.end() &&
         (found->is_boolean() ? found->get<bool>() : found->is_number() && found->get<double>() != 0);
}

std::vector<Picture> ReadPictures(const std::string &path, const Json &content) {
  std::vector<Picture> pictures;
  for (const Json &record : content.at("images")) {
    Picture picture;
    picture.image_id = record.at("id").get<int64_t>();
    picture.file_name = record.at("file_name").get<std::string>();
    picture.size = Size{record.at("height").get<int>(), record.at("width").get<int>()};
    if (picture.size->height <= 0 || picture.size->width <= 0) {
      throw InputError(Text(path, ": image ", picture.file_name, ": its size must be positive"));
    }
    pictures.push_back(picture);
  }
  return pictures;
}

void AddLabels(const Json &content, const std::map<int64_t, size_t> &places, Detections *found) {
  for (const Json &record : content.at("annotations")) {
    if (IsCrowd(record)) continue;
    const auto place = places.find(record.at("image_id").get<int64_t>());
    const std::optional<Box> box = ReadBox(record);
    if (place == places.end() || !box) {
      ++found->skipped[place == places.end() ? "labels of unknown images" : "labels without a box"];
      continue;
    }
    const int64_t category = record.value("category_id", int64_t{0});
    found->pictures[place->second].boxes.push_back({*box, category, std::nullopt, record.at("id").get<int64_t>()});
  }
}

void AddDetections(const Json &entries, bool known_pictures, std::map<int64_t, size_t> *places, Detections *found) {
  for (const Json &entry : entries) {
    const std::optional<Box> box = entry.is_object() ? ReadBox(entry) : std::nullopt;
    if (!box || !entry.contains("image_id") || !entry["image_id"].is_number_integer() ||
        !entry.contains("category_id") || !entry["category_id"].is_number() || !entry.contains("score") ||
        !entry["score"].is_number()) {
      ++found->skipped["entries that are no detections"];
      continue;
    }
    const auto image_id = entry["image_id"].get<int64_t>();
    if (!places->count(image_id)) {
      if (known_pictures) {
        ++found->skipped["detections on unknown images"];
        continue;
      }
      char name[40];
      std::snprintf(name, sizeof(name), "%012lld.jpg", static_cast<long long>(image_id));
      (*places)[image_id] = found->pictures.size();
      found->pictures.push_back({image_id, name, std::nullopt, {}});
    }
    found->pictures[(*places)[image_id]].boxes.push_back(
        {*box, entry["category_id"].get<int64_t>(), entry["score"].get<double>(), std::nullopt});
  }
}

}  // namespace

Detections ReadDetections(const std::string &detections, const std::string &annotations, int max_detections) {
  if (detections.empty() && annotations.empty()) {
    throw InputError("no boxes for a folder: give --detections=FILE, --annotations=FILE, or both");
  }
  Detections found;
  std::map<int64_t, size_t> places;
  Json content;
  std::string path = annotations;
  try {
    if (!annotations.empty()) {
      content = ReadJson(annotations, "annotation");
      found.pictures = ReadPictures(annotations, content);
      for (size_t i = 0; i < found.pictures.size(); ++i) {
        if (!places.emplace(found.pictures[i].image_id, i).second) {
          throw InputError(Text(annotations, ": image id ", found.pictures[i].image_id, " occurs twice"));
        }
      }
    }
    if (detections.empty()) {
      AddLabels(content, places, &found);
    } else {
      path = detections;
      const Json entries = ReadJson(detections, "detections");
      if (!entries.is_array()) throw InputError(Text(detections, ": not a COCO results list of detections"));
      AddDetections(entries, !annotations.empty(), &places, &found);
    }
  } catch (const Json::exception &error) {
    throw InputError(Text(path, ": not in COCO format (", error.what(), ")"));
  }
  size_t boxes = 0;
  for (Picture &picture : found.pictures) {
    if (picture.size) ClipBoxes(*picture.size, &picture, &found.skipped);
    if (!detections.empty()) {
      std::stable_sort(picture.boxes.begin(), picture.boxes.end(),
                       [](const BoxPrompt &a, const BoxPrompt &b) { return *a.score > *b.score; });
      picture.boxes.resize(std::min(picture.boxes.size(), static_cast<size_t>(max_detections)), BoxPrompt{});
    }
    boxes += picture.boxes.size();
  }
  if (boxes == 0) throw InputError(Text(path, ": no usable box in it"));
  return found;
}

void ClipBoxes(const Size &size, Picture *picture, std::map<std::string, int> *skipped) {
  std::vector<BoxPrompt> kept;
  for (BoxPrompt prompt : picture->boxes) {
    Box &box = prompt.box;
    if (!(box.x0 < box.x1 && box.y0 < box.y1)) {
      ++(*skipped)["boxes inside out or without area"];
      continue;
    }
    box = {std::max(0.0, box.x0), std::max(0.0, box.y0), std::min<double>(size.width, box.x1),
           std::min<double>(size.height, box.y1)};
    if (box.x0 < box.x1 && box.y0 < box.y1) {
      kept.push_back(prompt);
    } else {
      ++(*skipped)["boxes outside their image"];
    }
  }
  picture->boxes = std::move(kept);
}

}  // namespace tinysam
