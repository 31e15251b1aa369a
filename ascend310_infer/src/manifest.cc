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
#include "manifest.h"

#include <algorithm>
#include <cmath>

#include "image_files.h"
#include "json_text.h"

namespace tinysam {
namespace {

void Expect(const std::string &path, const Json &found, const Json &wanted, const std::string &name) {
  if (found != wanted) {
    throw InputError(Text(path, ": ", name, " is ", found.dump(), ", this program knows ", wanted.dump(),
                          "; export again with the export.py beside it"));
  }
}

std::vector<TensorSpec> ReadTensors(const Json &records) {
  std::vector<TensorSpec> tensors;
  for (const Json &record : records) {
    tensors.push_back({record.at("name").get<std::string>(), record.at("shape").get<std::vector<int64_t>>(),
                       record.at("dtype").get<std::string>()});
  }
  return tensors;
}

GraphSpec ReadGraph(const std::string &folder, const Json &record) {
  const Json &files = record.at("files");
  if (!files.contains("mindir"))
    throw InputError(Text(folder, "/manifest.json: the ", record.at("role").get<std::string>(),
                          " was not written as MindIR; export with mindir among --export.formats"));
  const Json &file = files.at("mindir");
  const auto name = file.at("name").get<std::string>();
  if (name.find('/') != std::string::npos)
    throw InputError(Text(folder, "/manifest.json: file name '", name, "' holds a slash"));
  GraphSpec graph;
  graph.path = folder + "/" + name;
  graph.bytes = file.value("bytes", int64_t{0});
  graph.prompts = record.value("prompts", 0);
  graph.slots = record.value("slots", 0);
  graph.inputs = ReadTensors(record.at("inputs"));
  graph.outputs = ReadTensors(record.at("outputs"));
  return graph;
}

void ExpectShapes(const std::string &path, const GraphSpec &graph, const std::vector<std::vector<int64_t>> &inputs,
                  const std::vector<std::vector<int64_t>> &outputs) {
  const auto shapes = [](const std::vector<TensorSpec> &tensors) {
    std::vector<std::vector<int64_t>> result;
    for (const TensorSpec &tensor : tensors) result.push_back(tensor.shape);
    return result;
  };
  Expect(path, shapes(graph.inputs), inputs, Text("shapes of the inputs of ", graph.path));
  Expect(path, shapes(graph.outputs), outputs, Text("shapes of the outputs of ", graph.path));
}

void ReadPreprocessing(const std::string &path, const Json &content, Manifest *manifest) {
  const Json &preprocessing = content.at("preprocessing");
  const Json &padding = preprocessing.at("padding");
  Expect(path, preprocessing.at("channels"), "RGB", "preprocessing.channels");
  Expect(path, preprocessing.at("resize"),
         {{"rule", "longest_side"}, {"rounding", "half_up"}, {"filter", "pillow_bilinear"}}, "preprocessing.resize");
  Expect(path, padding.at("side"), "bottom_right", "preprocessing.padding.side");
  Expect(path, padding.at("value"), 0.0, "preprocessing.padding.value");
  Expect(path, padding.at("order"), "after_normalising", "preprocessing.padding.order");
  Expect(path, content.at("prompts").at("coordinates"), "xy_of_resized_image", "prompts.coordinates");
  Expect(path, content.at("masks").at("interpolation"), "bilinear_half_pixel", "masks.interpolation");
  Expect(path, content.at("masks").at("multimask"), {1, 2, 3}, "masks.multimask");
  for (size_t c = 0; c < 3; ++c) {
    manifest->pixel_mean[c] = preprocessing.at("pixel_mean").at(c).get<float>();
    manifest->pixel_std[c] = preprocessing.at("pixel_std").at(c).get<float>();
  }
  manifest->mask_threshold = content.at("masks").at("threshold").get<float>();
}

void ReadGraphs(const std::string &folder, const std::string &path, const Json &content, Manifest *manifest) {
  const int64_t size = manifest->image_size, grid = size / 16;
  const std::vector<int64_t> images = {1, 3, size, size};
  const std::vector<int64_t> embeddings = {1, content.at("embed_dim").get<int64_t>(), grid, grid};
  for (const Json &record : content.at("graphs")) {
    const auto role = record.at("role").get<std::string>();
    if (role != "image_encoder" && role != "mask_decoder") continue;
    GraphSpec graph = ReadGraph(folder, record);
    if (role == "image_encoder") {
      ExpectShapes(path, graph, {images}, {embeddings});
      manifest->image_encoder = graph;
    } else {
      const int64_t prompts = graph.prompts, slots = graph.slots;
      if (prompts < 1 || slots < 2)
        throw InputError(Text(path, ": decoder ", graph.path, " has ", prompts, " prompts of ", slots,
                              " slots; at least 1 of 2 are needed"));
      ExpectShapes(path, graph, {embeddings, {1, prompts, slots, 2}, {1, prompts, slots}},
                   {{1, prompts, 4, 4 * grid, 4 * grid}, {1, prompts, 4}});
      manifest->mask_decoders.push_back(graph);
    }
  }
  if (manifest->image_encoder.path.empty() || manifest->mask_decoders.empty()) {
    throw InputError(Text(path, ": lists no ", manifest->image_encoder.path.empty() ? "image_encoder" : "mask_decoder",
                          " as MindIR; export again with export.py"));
  }
}

// One number of a protobuf, 7 bits a byte; false where the file ends in it.
bool Varint(const std::vector<uint8_t> &bytes, size_t *place, uint64_t *value) {
  *value = 0;
  for (int shift = 0; shift < 64 && *place < bytes.size(); shift += 7) {
    const uint8_t byte = bytes[(*place)++];
    *value |= static_cast<uint64_t>(byte & 127) << shift;
    if (byte < 128) return true;
  }
  return false;
}

// Skip one outermost field of a protobuf; false where it does not fit into the file or is none.
bool SkipField(const std::vector<uint8_t> &bytes, size_t *place) {
  uint64_t key = 0, length = 0;
  if (!Varint(bytes, place, &key) || key >> 3 == 0) return false;
  switch (key & 7) {
    case 0:
      return Varint(bytes, place, &length);
    case 1:
      length = 8;
      break;
    case 2:
      if (!Varint(bytes, place, &length)) return false;
      break;
    case 5:
      length = 4;
      break;
    default:
      return false;
  }
  if (length > bytes.size() - *place) return false;
  *place += static_cast<size_t>(length);
  return true;
}

}  // namespace

Manifest ReadManifest(const std::string &folder) {
  const std::string path = folder + "/manifest.json";
  const Json content = ReadJson(path, "manifest (--model takes the folder that export.py wrote; it holds this)");
  try {
    Expect(path, content.at("format"), "tinysam-export", "format");
    Expect(path, content.at("version"), 1, "version");
    Manifest manifest;
    manifest.variant = content.value("variant", "");
    manifest.image_size = content.at("image_size").get<int>();
    if (manifest.image_size < 16 || manifest.image_size > 8192 || manifest.image_size % 16) {
      throw InputError(Text(path, ": image_size (", manifest.image_size, ") must be a multiple of 16, at most 8192"));
    }
    ReadPreprocessing(path, content, &manifest);
    ReadGraphs(folder, path, content, &manifest);
    return manifest;
  } catch (const Json::exception &error) {
    throw InputError(Text(path, ": not a manifest of export.py (", error.what(), ")"));
  }
}

void CheckMindir(const GraphSpec &graph) {
  const std::vector<uint8_t> bytes = ReadFile(graph.path, "MindIR");
  if (graph.bytes && static_cast<int64_t>(bytes.size()) != graph.bytes) {
    throw InputError(Text(graph.path, ": ", bytes.size(), " bytes, the manifest says ", graph.bytes,
                          "; the file is truncated or another one, copy or export it again"));
  }
  size_t place = 0;
  while (place < bytes.size() && SkipField(bytes, &place)) {
  }
  if (bytes.empty() || place < bytes.size()) {
    throw InputError(Text(graph.path, ": truncated, or no MindIR (broken at byte ", place, " of ", bytes.size(),
                          "); copy or export it again"));
  }
}

size_t ChooseDecoder(const Manifest &manifest, int count, int slots) {
  const std::vector<GraphSpec> &all = manifest.mask_decoders;
  size_t best = all.size();
  int most_slots = 0;
  const auto filled = [&](size_t i) {
    return 4 * static_cast<int64_t>(count) >= 3 * static_cast<int64_t>(all[i].prompts);
  };
  for (size_t i = 0; i < all.size(); ++i) {
    most_slots = std::max(most_slots, all[i].slots);
    if (all[i].slots < slots) continue;
    if (best == all.size()) {
      best = i;
      continue;
    }
    if (all[i].prompts == all[best].prompts) {
      if (all[i].slots < all[best].slots) best = i;
    } else if (filled(i) != filled(best) ? filled(i) : (all[i].prompts > all[best].prompts) == filled(i)) {
      best = i;
    }
  }
  if (best == all.size()) {
    throw InputError(Text(
        "a prompt of ", slots, " slots (a slot each point, two a box, one more where there is no box) does not fit; ",
        "the exported decoders have at most ", most_slots, ": give fewer points, or export one with more slots"));
  }
  return best;
}

}  // namespace tinysam
