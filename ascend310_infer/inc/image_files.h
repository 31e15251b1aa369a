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
// Pictures in and out: JPEG and PNG to RGB as Pillow gives them, PNG files, text files; everything whole or not at all.
#ifndef TINYSAM_IMAGE_FILES_H_
#define TINYSAM_IMAGE_FILES_H_

#include <string>
#include <vector>

#include "basics.h"

namespace tinysam {

// Pictures of more pixels are refused before memory is asked for; Pillow's limit.
constexpr int64_t kMostPixels = 178956970;

// The bytes of a file. `kind` names it in an error: "image", "manifest". Throws InputError: missing, a folder,
// unreadable.
std::vector<uint8_t> ReadFile(const std::string &path, const std::string &kind);

// Decode a JPEG or PNG, told apart by its first bytes. Grey, palette, alpha (dropped), CMYK and 16-bit pictures become
// 8-bit RGB. With `upright` the picture is turned as its EXIF flag says; data sets annotate stored pixels and leave it.
// Throws InputError: missing, another format, truncated, broken, or of more than kMostPixels.
Image ReadImage(const std::string &path, bool upright);

// The parts of ReadImage, for the bytes of a file; `name` is for errors.
Image DecodeJpeg(const std::vector<uint8_t> &bytes, const std::string &name);
Image DecodePng(const std::vector<uint8_t> &bytes, const std::string &name);
// EXIF's orientation 1..8 of a JPEG's or PNG's bytes; 1 where there is none, or none that can be read.
int Orientation(const std::vector<uint8_t> &bytes);
Image Turned(const Image &image, int orientation);

// Bytes of a PNG of [H, W, channels] 8-bit pixels; channels is 1 (grey) or 3 (RGB).
std::vector<uint8_t> EncodePng(const Size &size, int channels, const uint8_t *pixels);

// Write beside and rename, so that a reader never sees half a file; devices and pipes are written directly.
// Throws InputError: naming the path and the system's reason, such as a full disk.
void WriteFile(const std::string &path, const void *data, size_t bytes);

}  // namespace tinysam

#endif  // TINYSAM_IMAGE_FILES_H_
