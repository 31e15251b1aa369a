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
// The tests' window into the program's parts: one JSON request on stdin, one JSON answer on stdout. Large arrays travel
// as files of raw numbers.
#include <cstring>
#include <functional>
#include <iostream>
#include <map>

#include "detections.h"
#include "grids.h"
#include "half.h"
#include "image_files.h"
#include "json_text.h"
#include "manifest.h"
#include "mask_filters.h"
#include "preprocess.h"
#include "rle.h"
#include "upscaler.h"

namespace {

using namespace tinysam;  // NOLINT: a test

template <typename T>
std::vector<T> ReadArray(const Json &request, const char *key) {
  const std::vector<uint8_t> bytes = ReadFile(request.at(key).get<std::string>(), "array");
  std::vector<T> values(bytes.size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

template <typename T>
void WriteArray(const Json &request, const std::vector<T> &values) {
  WriteFile(request.at("out").get<std::string>(), values.data(), values.size() * sizeof(T));
}

Size SizeOf(const Json &request, const char *key) {
  return {request.at(key).at(0).get<int>(), request.at(key).at(1).get<int>()};
}
Json JsonOf(const Size &size) { return {size.height, size.width}; }
PixelBox BoxOf(const Json &box) {
  return {box.at(0).get<int>(), box.at(1).get<int>(), box.at(2).get<int>(), box.at(3).get<int>()};
}
Json JsonOf(const PixelBox &box) { return {box.x0, box.y0, box.x1, box.y1}; }

Json ReadPicture(const Json &request) {
  const Image image = ReadImage(request.at("path").get<std::string>(), request.value("upright", false));
  WriteArray(request, image.rgb);
  return JsonOf(image.size);
}

Json Preprocess(const Json &request) {
  const Image image{SizeOf(request, "size"), ReadArray<uint8_t>(request, "in")};
  const int side = request.at("image_size").get<int>();
  const float mean[3] = {123.675f, 116.28f, 103.53f}, std[3] = {58.395f, 57.12f, 57.375f};
  const Image resized = Resized(image, LongestSideSize(image.size, side));
  WriteArray(request, NormalisedAndPadded(resized, side, mean, std));
  return JsonOf(resized.size);
}

Json ResizePicture(const Json &request) {
  WriteArray(request, Resized({SizeOf(request, "size"), ReadArray<uint8_t>(request, "in")}, SizeOf(request, "to")).rgb);
  return nullptr;
}

Json Upscale(const Json &request) {
  const std::vector<float> logits = ReadArray<float>(request, "in");
  const Size original = SizeOf(request, "original_size");
  Upscaler upscaler(request.at("side").get<int>(), request.at("image_size").get<int>(), SizeOf(request, "input_size"),
                    original);
  upscaler.Start(logits.data());
  std::vector<float> rows;
  for (int y = 0; y < original.height; ++y) {
    const float *row = upscaler.Row(y);
    rows.insert(rows.end(), row, row + original.width);
  }
  WriteArray(request, rows);
  return nullptr;
}

Json Encode(const Json &request) {
  const Size size = SizeOf(request, "size");
  const std::vector<uint8_t> mask = ReadArray<uint8_t>(request, "in");
  const Rle rle = EncodeMask(size, mask.data());
  bool same = true;
  const std::vector<uint8_t> decoded = DecodeMask(rle);
  for (size_t i = 0; i < mask.size(); ++i) same = same && decoded[i] == (mask[i] != 0);
  return {{"counts", CountsText(rle)}, {"area", Area(rle)}, {"box", JsonOf(BoxAround(rle))}, {"decodes", same}};
}

Json Nms(const Json &request) {
  std::vector<PixelBox> boxes;
  for (const Json &box : request.at("boxes")) boxes.push_back(BoxOf(box));
  return BoxNms(boxes, request.at("scores").get<std::vector<float>>(), request.at("iou_threshold").get<double>());
}

Json Edges(const Json &request) {
  Json answers = Json::array();
  for (const Json &box : request.at("boxes")) {
    answers.push_back(NearCropEdge(BoxOf(box), BoxOf(request.at("crop")), SizeOf(request, "image_size")));
  }
  return answers;
}

Json SmallRegions(const Json &request) {
  std::vector<uint8_t> mask = ReadArray<uint8_t>(request, "in");
  const bool changed = RemoveSmallRegions(SizeOf(request, "size"), request.at("min_area").get<int64_t>(), &mask);
  WriteArray(request, mask);
  return changed;
}

Json Grid(const Json &request) {
  const int side = request.at("points_per_side").get<int>();
  Json coarse = Json::array();
  for (const char wanted : CoarsePoints(side, request.at("coarse_ratio").get<double>())) coarse.push_back(wanted != 0);
  return {{"points", PointGrid(side)}, {"coarse", coarse}};
}

Json Crops(const Json &request) {
  Json crops = Json::array();
  for (const Crop &crop :
       CropBoxes(SizeOf(request, "size"), request.at("layers").get<int>(), request.at("overlap").get<double>())) {
    crops.push_back({JsonOf(crop.box), crop.layer});
  }
  return crops;
}

Json Halves(const Json &request) {
  std::vector<float> values;
  for (const float value : ReadArray<float>(request, "in")) values.push_back(FloatOfHalf(HalfOfFloat(value)));
  WriteArray(request, values);
  return nullptr;
}

Json Stability(const Json &request) {
  return StabilityScore(request.at("inside").get<int64_t>(), request.at("union").get<int64_t>());
}

Json Decoders(const Json &request) {
  Manifest manifest;
  for (const Json &shape : request.at("decoders")) {
    GraphSpec graph;
    graph.prompts = shape.at(0).get<int>();
    graph.slots = shape.at(1).get<int>();
    manifest.mask_decoders.push_back(graph);
  }
  Json chosen = Json::array();
  for (const Json &ask : request.at("asks")) {
    chosen.push_back(ChooseDecoder(manifest, ask.at(0).get<int>(), ask.at(1).get<int>()));
  }
  return chosen;
}

Json Boxes(const Json &request) {
  const Detections found = ReadDetections(request.value("detections", ""), request.value("annotations", ""),
                                          request.value("max_detections", 100));
  Json pictures = Json::array();
  for (const Picture &picture : found.pictures) {
    Json boxes = Json::array();
    for (const BoxPrompt &prompt : picture.boxes) {
      const Box &box = prompt.box;
      boxes.push_back({{box.x0, box.y0, box.x1, box.y1},
                       prompt.category_id,
                       prompt.score ? Json(*prompt.score) : Json(),
                       prompt.annotation_id ? Json(*prompt.annotation_id) : Json()});
    }
    pictures.push_back({picture.image_id, picture.file_name, boxes});
  }
  return {{"pictures", pictures}, {"skipped", found.skipped}};
}

const std::map<std::string, std::function<Json(const Json &)>> kCommands = {{"read", ReadPicture},
                                                                            {"preprocess", Preprocess},
                                                                            {"resize", ResizePicture},
                                                                            {"upscale", Upscale},
                                                                            {"encode", Encode},
                                                                            {"nms", Nms},
                                                                            {"edges", Edges},
                                                                            {"small_regions", SmallRegions},
                                                                            {"grid", Grid},
                                                                            {"crops", Crops},
                                                                            {"halves", Halves},
                                                                            {"stability", Stability},
                                                                            {"decoders", Decoders},
                                                                            {"boxes", Boxes}};

}  // namespace

int main() {
  try {
    const Json request = Json::parse(std::cin);
    std::cout << kCommands.at(request.at("command").get<std::string>())(request).dump() << std::endl;
    return 0;
  } catch (const InputError &error) {
    std::cerr << error.what() << std::endl;
    return 2;
  }
}
