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
// Pictures of masks: translucent colour, an outline, and the marks of the prompt.
#ifndef TINYSAM_OVERLAY_H_
#define TINYSAM_OVERLAY_H_

#include <vector>

#include "basics.h"
#include "rle.h"

namespace tinysam {

// An image with its masks, colours by their place in the list, small masks over large ones; then boxes and points
// (green: label 1, red: 0), all with a white rim.
Image DrawOverlay(const Image &image, const std::vector<Rle> &masks, const std::vector<Prompt> &prompts);

}  // namespace tinysam

#endif  // TINYSAM_OVERLAY_H_
