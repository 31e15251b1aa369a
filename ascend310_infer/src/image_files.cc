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
#include "image_files.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

namespace tinysam {
namespace {

struct FileCloser {
  void operator()(FILE *file) const { fclose(file); }
};
using File = std::unique_ptr<FILE, FileCloser>;

bool StartsWith(const std::vector<uint8_t> &bytes, const std::vector<uint8_t> &start) {
  return bytes.size() >= start.size() && std::equal(start.begin(), start.end(), bytes.begin());
}

// Number of a TIFF block, in its byte order; 0 outside the block.
uint32_t TiffNumber(const uint8_t *tiff, size_t size, size_t place, int bytes) {
  if (place > size || size - place < static_cast<size_t>(bytes)) return 0;
  uint32_t value = 0;
  for (int i = 0; i < bytes; ++i) {
    value = value << 8 | tiff[place + (tiff[0] == 'I' ? bytes - 1 - i : i)];
  }
  return value;
}

int TiffOrientation(const uint8_t *tiff, size_t size) {
  constexpr uint32_t kOrientationTag = 0x0112;
  if (size < 8 || tiff[0] != tiff[1] || (tiff[0] != 'I' && tiff[0] != 'M')) return 1;
  const size_t directory = TiffNumber(tiff, size, 4, 4);
  const uint32_t entries = TiffNumber(tiff, size, directory, 2);
  for (uint32_t i = 0; i < entries; ++i) {
    const size_t entry = directory + 2 + 12 * static_cast<size_t>(i);
    if (entry + 12 > size) break;
    if (TiffNumber(tiff, size, entry, 2) != kOrientationTag) continue;
    const uint32_t value = TiffNumber(tiff, size, entry + 8, 2);
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

int JpegOrientation(const std::vector<uint8_t> &bytes) {
  size_t place = 2;
  while (place + 4 <= bytes.size() && bytes[place] == 0xFF) {
    const uint8_t marker = bytes[place + 1];
    if (marker == 0xFF) {  // fill byte
      ++place;
      continue;
    }
    const size_t length = static_cast<size_t>(bytes[place + 2]) << 8 | bytes[place + 3];
    if (marker == 0xDA || length < 2 || place + 2 + length > bytes.size()) break;  // the picture begins, or nonsense
    const uint8_t *content = bytes.data() + place + 4;
    if (marker == 0xE1 && length >= 8 && std::memcmp(content, "Exif\0\0", 6) == 0) {
      return TiffOrientation(content + 6, length - 8);
    }
    place += 2 + length;
  }
  return 1;
}

int PngOrientation(const std::vector<uint8_t> &bytes) {
  size_t place = 8;
  while (place + 12 <= bytes.size()) {
    const uint8_t *chunk = bytes.data() + place;
    const size_t length = static_cast<size_t>(chunk[0]) << 24 | chunk[1] << 16 | chunk[2] << 8 | chunk[3];
    if (length > bytes.size() - place - 12) break;
    if (std::memcmp(chunk + 4, "eXIf", 4) == 0) return TiffOrientation(chunk + 8, length);
    place += 12 + length;
  }
  return 1;
}

const std::vector<uint8_t> kJpegStart = {0xFF, 0xD8, 0xFF};
const std::vector<uint8_t> kPngStart = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};

[[noreturn]] void FailWriting(const std::string &path, int reason) {
  throw InputError(
      Text(path, ": cannot be written (", std::strerror(reason), "); free space or choose another --output"));
}

}  // namespace

std::vector<uint8_t> ReadFile(const std::string &path, const std::string &kind) {
  struct stat status;
  if (stat(path.c_str(), &status) != 0) {
    throw InputError(Text(path, ": no such ", kind, " file"));
  }
  if (S_ISDIR(status.st_mode)) {
    throw InputError(Text(path, ": a folder, not an ", kind, " file"));
  }
  File file(fopen(path.c_str(), "rb"));
  std::vector<uint8_t> bytes;
  if (file) {
    std::vector<uint8_t> block(1 << 20);
    while (const size_t count = fread(block.data(), 1, block.size(), file.get())) {
      bytes.insert(bytes.end(), block.begin(), block.begin() + static_cast<int64_t>(count));
    }
  }
  if (!file || ferror(file.get())) {
    throw InputError(Text(path, ": cannot be read (", std::strerror(errno), ")"));
  }
  return bytes;
}

Image ReadImage(const std::string &path, bool upright) {
  const std::vector<uint8_t> bytes = ReadFile(path, "image");
  Image image;
  if (StartsWith(bytes, kJpegStart)) {
    image = DecodeJpeg(bytes, path);
  } else if (StartsWith(bytes, kPngStart)) {
    image = DecodePng(bytes, path);
  } else {
    throw InputError(Text(path, ": neither a JPEG nor a PNG (", bytes.size(), " bytes); convert it to one of these"));
  }
  return upright ? Turned(image, Orientation(bytes)) : image;
}

int Orientation(const std::vector<uint8_t> &bytes) {
  if (StartsWith(bytes, kJpegStart)) return JpegOrientation(bytes);
  return StartsWith(bytes, kPngStart) ? PngOrientation(bytes) : 1;
}

Image Turned(const Image &image, int orientation) {
  if (orientation <= 1 || orientation > 8) return image;
  const int h = image.size.height, w = image.size.width;
  const bool swapped = orientation >= 5;
  const bool from_right = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool from_bottom = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  Image turned;
  turned.size = swapped ? Size{w, h} : image.size;
  turned.rgb.resize(image.rgb.size());
  uint8_t *to = turned.rgb.data();
  for (int y = 0; y < turned.size.height; ++y) {
    for (int x = 0; x < turned.size.width; ++x, to += 3) {
      const int row = swapped ? x : y, column = swapped ? y : x;
      const int64_t place =
          static_cast<int64_t>(from_bottom ? h - 1 - row : row) * w + (from_right ? w - 1 - column : column);
      std::memcpy(to, image.rgb.data() + 3 * place, 3);
    }
  }
  return turned;
}

void WriteFile(const std::string &path, const void *data, size_t bytes) {
  struct stat status;
  const bool direct = stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode);
  const std::string part = direct ? path : Text(path, ".", getpid(), ".part");
  FILE *file = fopen(part.c_str(), "wb");
  if (!file) FailWriting(path, errno);
  errno = 0;
  bool whole = fwrite(data, 1, bytes, file) == bytes && fflush(file) == 0 && (direct || fsync(fileno(file)) == 0);
  int reason = errno;
  if (fclose(file) != 0 && whole) {
    whole = false;
    reason = errno;
  }
  if (whole && !direct && std::rename(part.c_str(), path.c_str()) != 0) {
    whole = false;
    reason = errno;
  }
  if (!whole) {
    if (!direct) std::remove(part.c_str());
    FailWriting(path, reason);
  }
}

}  // namespace tinysam
