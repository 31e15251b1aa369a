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
#include "segment.h"

#include <algorithm>
#include <cctype>
#include <chrono>
#include <filesystem>
#include <iostream>

#include "detections.h"
#include "image_files.h"
#include "json_text.h"
#include "overlay.h"

namespace tinysam {
namespace {

namespace fs = std::filesystem;

// One kept mask of a picture.
struct Found {
  Rle rle;
  float predicted_iou = 0;
};

Json RleJson(const Rle &rle) { return {{"size", {rle.size.height, rle.size.width}}, {"counts", CountsText(rle)}}; }

Json XywhJson(const PixelBox &box) { return {box.x0, box.y0, box.x1 - box.x0, box.y1 - box.y0}; }

bool IsPicture(const fs::path &path) {
  std::string suffix = path.extension().string();
  std::transform(suffix.begin(), suffix.end(), suffix.begin(), [](unsigned char c) { return std::tolower(c); });
  return suffix == ".jpg" || suffix == ".jpeg" || suffix == ".png";
}

class Session {
 public:
  explicit Session(const Options &options) : options_(options), manifest_(ReadManifest(options.model)) {
    CheckMindir(manifest_.image_encoder);
    for (const GraphSpec &decoder : manifest_.mask_decoders) CheckMindir(decoder);
    std::error_code error;
    fs::create_directories(options.output, error);
    if (error || !fs::is_directory(options.output)) {
      throw InputError(Text(options.output, ": cannot be made (", error.message(), "); choose another --output"));
    }
    pictures_ = ListPictures();
    const Stopwatch watch(&timings_.load);
    engine_ = MakeEngine(manifest_, options.engine);
    predictor_ = std::make_unique<Predictor>(manifest_, engine_.get(), &timings_);
  }

  void Run() {
    const auto start = std::chrono::steady_clock::now();
    const bool single = !fs::is_directory(options_.image);
    for (Picture &picture : pictures_) {
      try {
        SegmentPicture(&picture);
        ++images_;
      } catch (const InputError &error) {
        if (single) throw;
        std::cerr << "skipped " << error.what() << std::endl;
        ++skipped_["images"];
      }
    }
    if (images_ == 0)
      throw InputError(Text(options_.image, ": none of ", pictures_.size(), " pictures could be segmented"));
    const std::string path = options_.output + "/results.json";
    {
      const Stopwatch watch(&timings_.write);
      WriteJson(path, results_);
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    PrintSummary(path, seconds.count() + timings_.load);
  }

 private:
  // The pictures that are asked for, with their boxes if these come from files.
  std::vector<Picture> ListPictures() {
    std::vector<Picture> pictures;
    if (!options_.detections.empty() || !options_.annotations.empty()) {
      if (!fs::is_directory(options_.image)) {
        throw InputError(Text("--image=", options_.image, ": boxes of a file need the folder that holds the pictures"));
      }
      Detections found = ReadDetections(options_.detections, options_.annotations, options_.max_detections);
      skipped_ = found.skipped;
      pictures = std::move(found.pictures);
    } else if (fs::is_directory(options_.image)) {
      if (!options_.everything) {
        throw InputError(Text("--image=", options_.image, ": points and boxes belong to one picture; give a file"));
      }
      for (const auto &entry : fs::directory_iterator(options_.image)) {
        if (IsPicture(entry.path())) pictures.push_back({0, entry.path().filename().string(), std::nullopt, {}});
      }
      std::sort(pictures.begin(), pictures.end(),
                [](const auto &a, const auto &b) { return a.file_name < b.file_name; });
      for (size_t i = 0; i < pictures.size(); ++i) pictures[i].image_id = static_cast<int64_t>(i + 1);
      if (pictures.empty())
        throw InputError(Text(options_.image, ": no picture in this folder; it may hold .jpg, .jpeg, .png"));
    } else {
      pictures.push_back({1, fs::path(options_.image).filename().string(), std::nullopt, {}});
    }
    if (options_.limit && pictures.size() > static_cast<size_t>(options_.limit)) {
      pictures.resize(static_cast<size_t>(options_.limit));
    }
    return pictures;
  }

  std::string PathOf(const Picture &picture) const {
    return fs::is_directory(options_.image) ? options_.image + "/" + picture.file_name : options_.image;
  }

  // OUTPUT/STEM_what; pictures of one stem (a.jpg beside a.png) keep their suffix in the name.
  std::string TargetOf(const Picture &picture, const std::string &what) {
    std::string stem = fs::path(picture.file_name).stem().string();
    const auto owner = stems_.emplace(stem, picture.file_name).first->second;
    if (owner != picture.file_name) {
      stem = picture.file_name;
      std::replace(stem.begin(), stem.end(), '.', '_');
      std::replace(stem.begin(), stem.end(), '/', '_');
    }
    return options_.output + "/" + stem + "_" + what;
  }

  void SegmentPicture(Picture *picture) {
    const bool listed = !options_.detections.empty() || !options_.annotations.empty();
    const std::string path = PathOf(*picture);
    Image image;
    {
      const Stopwatch watch(&timings_.preprocess);
      image = ReadImage(path, !listed);
    }
    if (listed && picture->size && !(*picture->size == image.size)) {
      throw InputError(Text(path, ": ", image.size.height, " x ", image.size.width, " pixels, its JSON says ",
                            picture->size->height, " x ", picture->size->width));
    }
    if (options_.everything) {
      SegmentAll(*picture, image);
    } else if (listed) {
      if (!picture->size) ClipBoxes(image.size, picture, &skipped_);
      SegmentBoxes(*picture, image);
    } else {
      SegmentPrompts(*picture, image);
    }
  }

  // The best mask of each prompt.
  std::vector<Found> Segment(const Image &image, const std::vector<Prompt> &prompts) {
    for (const Prompt &prompt : prompts) CheckPrompt(prompt, image.size);  // before the encoder works for nothing
    predictor_->SetImage(image);
    Upscaler upscaler = predictor_->MakeUpscaler();
    std::vector<Found> found;
    std::vector<uint8_t> mask(static_cast<size_t>(Pixels(image.size)));
    const size_t pixels = static_cast<size_t>(manifest_.mask_side()) * static_cast<size_t>(manifest_.mask_side());
    predictor_->Decode(prompts, [&](size_t, const float *low_res_masks, const float *ious) {
      const Stopwatch watch(&timings_.postprocess);
      const int best = Predictor::BestMask(ious);
      upscaler.Start(low_res_masks + static_cast<size_t>(best) * pixels);
      for (int y = 0; y < image.size.height; ++y) {
        const float *logits = upscaler.Row(y);
        uint8_t *to = mask.data() + static_cast<int64_t>(y) * image.size.width;
        for (int x = 0; x < image.size.width; ++x) to[x] = logits[x] > manifest_.mask_threshold;
      }
      found.push_back({EncodeMask(image.size, mask.data()), ious[best]});
    });
    return found;
  }

  void SegmentPrompts(const Picture &picture, const Image &image) {
    std::vector<Prompt> prompts;
    for (const Box &box : options_.boxes) prompts.push_back({{}, box});
    if (prompts.empty()) prompts.emplace_back();
    prompts[0].points = options_.points;
    const std::vector<Found> found = Segment(image, prompts);
    for (size_t i = 0; i < found.size(); ++i) {
      const PixelBox box = BoxAround(found[i].rle);
      AddResult(picture, 1, found[i].rle, found[i].predicted_iou, {{"predicted_iou", found[i].predicted_iou}});
      std::cout << "object " << i + 1 << ": predicted IoU " << found[i].predicted_iou << ", area " << Area(found[i].rle)
                << " px, box " << box.x0 << "," << box.y0 << "," << box.x1 << "," << box.y1 << std::endl;
    }
    Draw(picture, image, found, prompts);
  }

  void SegmentBoxes(const Picture &picture, const Image &image) {
    std::vector<Prompt> prompts;
    for (const BoxPrompt &box : picture.boxes) prompts.push_back({{}, box.box});
    const std::vector<Found> found = prompts.empty() ? std::vector<Found>() : Segment(image, prompts);
    for (size_t i = 0; i < found.size(); ++i) {
      const BoxPrompt &box = picture.boxes[i];
      Json more = {{"predicted_iou", found[i].predicted_iou}};
      if (box.annotation_id) more["annotation_id"] = *box.annotation_id;
      AddResult(picture, box.category_id, found[i].rle, box.score ? *box.score : found[i].predicted_iou, more);
    }
    Draw(picture, image, found, prompts);
  }

  void SegmentAll(const Picture &picture, const Image &image) {
    const Everything everything = SegmentEverything(predictor_.get(), options_.plan, image);
    points_ += everything.points;
    Json annotations = Json::array();
    std::vector<Found> found;
    for (const Candidate &mask : everything.masks) {
      annotations.push_back({{"id", annotations.size()},
                             {"segmentation", RleJson(mask.rle)},
                             {"area", Area(mask.rle)},
                             {"bbox", XywhJson(mask.box)},
                             {"predicted_iou", mask.predicted_iou},
                             {"point_coords", Json::array({{mask.point_x, mask.point_y}})},
                             {"stability_score", mask.stability_score},
                             {"crop_box", XywhJson(mask.crop_box)}});
      AddResult(picture, 1, mask.rle, mask.predicted_iou,
                {{"predicted_iou", mask.predicted_iou}, {"stability_score", mask.stability_score}});
      found.push_back({mask.rle, mask.predicted_iou});
    }
    std::cout << picture.file_name << ": " << found.size() << " masks, " << everything.points << " points" << std::endl;
    {
      const Stopwatch watch(&timings_.write);
      WriteJson(TargetOf(picture, "everything.json"), {{"image",
                                                        {{"image_id", picture.image_id},
                                                         {"width", image.size.width},
                                                         {"height", image.size.height},
                                                         {"file_name", picture.file_name}}},
                                                       {"annotations", annotations}});
    }
    Draw(picture, image, found, {});
  }

  void AddResult(const Picture &picture, int64_t category_id, const Rle &rle, double score, const Json &more) {
    Json result = {
        {"image_id", picture.image_id}, {"category_id", category_id}, {"segmentation", RleJson(rle)}, {"score", score}};
    result.update(more);
    results_.push_back(std::move(result));
  }

  void Draw(const Picture &picture, const Image &image, const std::vector<Found> &found,
            const std::vector<Prompt> &prompts) {
    const Stopwatch watch(&timings_.write);
    if (options_.overlays) {
      std::vector<Rle> masks;
      for (const Found &mask : found) masks.push_back(mask.rle);
      const Image overlay = DrawOverlay(image, masks, prompts);
      WritePng(TargetOf(picture, "overlay.png"), overlay.size, 3, overlay.rgb.data());
    }
    for (size_t i = 0; options_.masks && i < found.size(); ++i) {
      std::vector<uint8_t> mask = DecodeMask(found[i].rle);
      for (uint8_t &pixel : mask) pixel = pixel ? 255 : 0;
      WritePng(TargetOf(picture, Text("mask_", i + 1, ".png")), image.size, 1, mask.data());
    }
  }

  static void WritePng(const std::string &path, const Size &size, int channels, const uint8_t *pixels) {
    const std::vector<uint8_t> png = EncodePng(size, channels, pixels);
    WriteFile(path, png.data(), png.size());
  }

  void PrintSummary(const std::string &path, double total) const {
    Json summary = {{"images", images_}, {"masks", results_.size()}};
    if (options_.everything) summary["points"] = points_;
    summary["skipped"] = skipped_;
    summary["device"] = engine_->device();
    summary["results"] = path;
    summary["seconds"] = {{"load", timings_.load},
                          {"preprocess", timings_.preprocess},
                          {"encode", timings_.encode},
                          {"decode", timings_.decode},
                          {"postprocess", timings_.postprocess},
                          {"write", timings_.write},
                          {"total", total}};
    std::cout << summary.dump(-1, ' ', false, Json::error_handler_t::replace) << std::endl;
  }

  const Options &options_;
  Manifest manifest_;
  std::map<std::string, int> skipped_;
  std::vector<Picture> pictures_;
  Timings timings_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Predictor> predictor_;
  std::map<std::string, std::string> stems_;
  Json results_ = Json::array();
  int64_t images_ = 0, points_ = 0;
};

}  // namespace

void Run(const Options &options) { Session(options).Run(); }

}  // namespace tinysam
