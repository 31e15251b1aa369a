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
#include "everything.h"

#include <algorithm>
#include <cmath>

#include "grids.h"
#include "mask_filters.h"
#include "preprocess.h"

namespace tinysam {
namespace {

// Last column and row instead of the edges; for an empty mask twice the corner (x, y), which in a crop is its own: SAM
// moves an empty mask's zeros with the crop's other boxes.
PixelBox LastPixelBox(const Rle &rle, int x = 0, int y = 0) {
  const PixelBox box = BoxAround(rle);
  if (box.x1 == box.x0) return {x, y, x, y};
  return {box.x0, box.y0, box.x1 - 1, box.y1 - 1};
}

// Candidates by falling score without those whose box overlaps a better one's.
std::vector<Candidate> WithoutDuplicates(std::vector<Candidate> candidates, const std::vector<float> &scores,
                                         double threshold) {
  std::vector<PixelBox> boxes;
  for (const Candidate &candidate : candidates) boxes.push_back(candidate.box);
  std::vector<Candidate> kept;
  for (const int index : BoxNms(boxes, scores, threshold))
    kept.push_back(std::move(candidates[static_cast<size_t>(index)]));
  return kept;
}

// Masks of one crop: scores them, turns the stable ones into run lengths of the image, marks points that need no round.
class CropScorer {
 public:
  CropScorer(const EverythingSettings &settings, const Predictor &predictor, const PixelBox &crop,
             const Size &image_size, const std::vector<Prompt> &points)
      : settings_(settings),
        predictor_(predictor),
        upscaler_(predictor.MakeUpscaler()),
        crop_(crop),
        image_size_(image_size),
        points_(points),
        points_of_rows_(static_cast<size_t>(crop.y1 - crop.y0)),
        mask_(static_cast<size_t>(Pixels(image_size)), 0) {
    confident.assign(points.size(), 0);
    for (size_t i = 0; i < points.size(); ++i) {  // a point lies in the pixel of its whole part
      points_of_rows_[static_cast<size_t>(points[i].points[0].y)].push_back(i);
    }
  }

  // A mask of point `index`; stable and whole within the crop: it is kept.
  void Score(size_t index, const float *low_res_mask, float predicted_iou, bool mark_confident) {
    int64_t inside = 0, union_pixels = 0;
    std::vector<size_t> sure;
    Paint(low_res_mask, mark_confident, &inside, &union_pixels, &sure);
    const float stability = StabilityScore(inside, union_pixels);
    const auto threshold = static_cast<float>(settings_.stability_score_thresh);
    if (settings_.stability_score_thresh > 0 && !(stability >= threshold)) return;
    Candidate candidate;
    candidate.rle = EncodeMask(image_size_, mask_.data());
    candidate.box = LastPixelBox(candidate.rle, crop_.x0, crop_.y0);
    if (NearCropEdge(candidate.box, crop_, image_size_)) return;
    candidate.predicted_iou = predicted_iou;
    candidate.stability_score = stability;
    candidate.point_x = points_[index].points[0].x + crop_.x0;
    candidate.point_y = points_[index].points[0].y + crop_.y0;
    candidate.crop_box = crop_;
    kept.push_back(std::move(candidate));
    for (const size_t point : sure) confident[point] = 1;
  }

  std::vector<Candidate> kept;
  std::vector<char> confident;  // points inside a kept mask with a logit above high_score_thresh

 private:
  // The mask into the crop's part of mask_, whose rest stays background; its pixels at both cuts; points that are sure.
  void Paint(const float *low_res_mask, bool mark_confident, int64_t *inside, int64_t *union_pixels,
             std::vector<size_t> *sure) {
    const auto offset = static_cast<float>(settings_.stability_score_offset);
    const auto high = static_cast<float>(settings_.high_score_thresh);
    const float threshold = predictor_.manifest().mask_threshold;
    const int width = crop_.x1 - crop_.x0;
    upscaler_.Start(low_res_mask);
    for (int y = 0; y < crop_.y1 - crop_.y0; ++y) {
      const float *logits = upscaler_.Row(y);
      uint8_t *to = mask_.data() + static_cast<int64_t>(crop_.y0 + y) * image_size_.width + crop_.x0;
      int64_t above = 0, below = 0;
      for (int x = 0; x < width; ++x) {
        to[x] = logits[x] > threshold;
        above += logits[x] > offset;
        below += logits[x] > -offset;
      }
      *inside += above;
      *union_pixels += below;
      if (!mark_confident) continue;
      for (const size_t point : points_of_rows_[static_cast<size_t>(y)]) {
        if (logits[static_cast<int>(points_[point].points[0].x)] > high) sure->push_back(point);
      }
    }
  }

  const EverythingSettings &settings_;
  const Predictor &predictor_;
  Upscaler upscaler_;
  PixelBox crop_;
  Size image_size_;
  const std::vector<Prompt> &points_;
  std::vector<std::vector<size_t>> points_of_rows_;
  std::vector<uint8_t> mask_;
};

// All rounds of the plan of points on one crop.
std::vector<Candidate> SegmentCrop(Predictor *predictor, const EverythingSettings &settings, const Image &image,
                                   const Crop &crop, int points_per_side, int64_t *points_decoded) {
  const PixelBox &box = crop.box;
  predictor->SetImage(Cropped(image, box));
  std::vector<Prompt> points;
  for (const auto &[x, y] : PointGrid(points_per_side)) {
    points.push_back({{{x * (box.x1 - box.x0), y * (box.y1 - box.y0), kForeground}}, std::nullopt});
  }
  CropScorer scorer(settings, *predictor, box, image.size, points);
  std::vector<std::vector<char>> rounds;
  if (settings.hierarchical) rounds.push_back(CoarsePoints(points_per_side, settings.coarse_ratio));
  rounds.emplace_back(points.size(), 1);
  std::vector<char> asked(points.size(), 0);
  const auto iou_threshold = static_cast<float>(settings.pred_iou_thresh);
  for (size_t round = 0; round < rounds.size(); ++round) {
    std::vector<size_t> places;
    std::vector<Prompt> prompts;
    for (size_t i = 0; i < points.size(); ++i) {
      if (!rounds[round][i] || asked[i] || scorer.confident[i]) continue;
      asked[i] = 1;
      places.push_back(i);
      prompts.push_back(points[i]);
    }
    *points_decoded += static_cast<int64_t>(places.size());
    const size_t pixels = static_cast<size_t>(predictor->manifest().mask_side()) * predictor->manifest().mask_side();
    predictor->Decode(prompts, [&](size_t prompt, const float *low_res_masks, const float *ious) {
      const Stopwatch watch(&predictor->timings()->postprocess);
      for (size_t mask = 1; mask < 4; ++mask) {
        if (settings.pred_iou_thresh > 0 && !(ious[mask] > iou_threshold)) continue;
        scorer.Score(places[prompt], low_res_masks + mask * pixels, ious[mask], round + 1 < rounds.size());
      }
    });
  }
  std::vector<float> scores;
  for (const Candidate &candidate : scorer.kept) scores.push_back(candidate.predicted_iou);
  return WithoutDuplicates(std::move(scorer.kept), scores, settings.box_nms_thresh);
}

// Holes filled and islands dropped, one mask at a time; of new duplicates the untouched mask stays.
std::vector<Candidate> WithoutSmallRegions(std::vector<Candidate> kept, const EverythingSettings &settings) {
  std::vector<float> untouched;
  for (Candidate &candidate : kept) {
    std::vector<uint8_t> mask = DecodeMask(candidate.rle);
    const bool changed = RemoveSmallRegions(candidate.rle.size, settings.min_mask_region_area, &mask);
    if (changed) {
      candidate.rle = EncodeMask(candidate.rle.size, mask.data());
      candidate.box = LastPixelBox(candidate.rle);
    }
    untouched.push_back(changed ? 0.0f : 1.0f);
  }
  return WithoutDuplicates(std::move(kept), untouched, std::max(settings.box_nms_thresh, settings.crop_nms_thresh));
}

}  // namespace

void EverythingSettings::Check() const {
  const auto at_least = [](const char *name, double value, double least) {
    if (!(value >= least)) throw InputError(Text(name, " (", value, ") must be at least ", least));
  };
  at_least("points_per_side", points_per_side, 1);
  at_least("crop_n_layers", crop_n_layers, 0);
  at_least("crop_n_points_downscale_factor", crop_n_points_downscale_factor, 1);
  at_least("min_mask_region_area", min_mask_region_area, 0);
  at_least("pred_iou_thresh", pred_iou_thresh, 0);
  at_least("stability_score_thresh", stability_score_thresh, 0);
  at_least("stability_score_offset", stability_score_offset, 0);
  const auto share = [](const char *name, double value) {
    if (!(value >= 0 && value <= 1)) throw InputError(Text(name, " (", value, ") must be between 0 and 1"));
  };
  share("box_nms_thresh", box_nms_thresh);
  share("crop_nms_thresh", crop_nms_thresh);
  share("crop_overlap_ratio", crop_overlap_ratio);
  share("coarse_ratio", coarse_ratio);
  if (points_per_side > 1024) throw InputError(Text("points_per_side (", points_per_side, ") must be at most 1024"));
  if (crop_n_layers > 8) throw InputError(Text("crop_n_layers (", crop_n_layers, ") must be at most 8"));
  if (PointsOfLayer(points_per_side, crop_n_layers, crop_n_points_downscale_factor) < 1) {
    throw InputError(Text("points_per_side (", points_per_side, ") leaves no point in crop layer ", crop_n_layers,
                          "; lower crop_n_layers or crop_n_points_downscale_factor (", crop_n_points_downscale_factor,
                          ")"));
  }
}

Everything SegmentEverything(Predictor *predictor, const EverythingSettings &settings, const Image &image) {
  Everything found;
  const std::vector<Crop> crops = CropBoxes(image.size, settings.crop_n_layers, settings.crop_overlap_ratio);
  for (const Crop &crop : crops) {
    const int side = PointsOfLayer(settings.points_per_side, crop.layer, settings.crop_n_points_downscale_factor);
    for (Candidate &candidate : SegmentCrop(predictor, settings, image, crop, side, &found.points)) {
      found.masks.push_back(std::move(candidate));
    }
  }
  const Stopwatch watch(&predictor->timings()->postprocess);
  if (crops.size() > 1) {  // masks of small crops are finer
    std::vector<float> scores;
    for (const Candidate &candidate : found.masks) {
      const PixelBox &box = candidate.crop_box;
      scores.push_back(1.0f / static_cast<float>(static_cast<int64_t>(box.x1 - box.x0) * (box.y1 - box.y0)));
    }
    found.masks = WithoutDuplicates(std::move(found.masks), scores, settings.crop_nms_thresh);
  }
  if (settings.min_mask_region_area > 0) found.masks = WithoutSmallRegions(std::move(found.masks), settings);
  return found;
}

}  // namespace tinysam
