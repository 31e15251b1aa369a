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
// PNG through libpng.
#include <png.h>

#include <csetjmp>
#include <cstring>

#include "image_files.h"

namespace tinysam {
namespace {

struct Source {
  const std::vector<uint8_t> *bytes;
  size_t place = 0;
  char message[128] = "";
};

void OnReadError(png_structp png, png_const_charp message) {
  auto *source = static_cast<Source *>(png_get_error_ptr(png));
  std::strncpy(source->message, message, sizeof(source->message) - 1);
  png_longjmp(png, 1);
}

void OnWriteError(png_structp png, png_const_charp) { png_longjmp(png, 1); }

void OnWarning(png_structp, png_const_charp) {}

void ReadBytes(png_structp png, png_bytep to, png_size_t count) {
  auto *source = static_cast<Source *>(png_get_io_ptr(png));
  if (count > source->bytes->size() - source->place) png_error(png, "the file ends too early");
  std::memcpy(to, source->bytes->data() + source->place, count);
  source->place += count;
}

// Errors leave the next functions by longjmp: no object with a destructor lives in them.
bool ReadHeader(png_structp png, png_infop info, Source *source) {
  if (setjmp(png_jmpbuf(png))) return false;
  png_set_read_fn(png, source, ReadBytes);
  png_read_info(png, info);
  return true;
}

// Set up 8-bit RGB without alpha, whatever the file holds, 16 bits cut as Pillow cuts them.
bool PrepareRgb(png_structp png, png_infop info) {
  if (setjmp(png_jmpbuf(png))) return false;
  png_set_expand(png);
  png_set_strip_16(png);
  png_set_gray_to_rgb(png);
  png_set_strip_alpha(png);
  png_set_interlace_handling(png);
  png_read_update_info(png, info);
  return true;
}

bool ReadRows(png_structp png, png_bytepp rows) {
  if (setjmp(png_jmpbuf(png))) return false;
  png_read_image(png, rows);
  return true;
}

class Reader {
 public:
  Reader(const std::vector<uint8_t> &bytes, const std::string &name) : name_(name) {
    source_.bytes = &bytes;
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, &source_, OnReadError, OnWarning);
    info_ = png_ ? png_create_info_struct(png_) : nullptr;
    if (!info_) {
      png_destroy_read_struct(&png_, nullptr, nullptr);
      throw std::bad_alloc();
    }
  }
  ~Reader() { png_destroy_read_struct(&png_, &info_, nullptr); }
  Reader(const Reader &) = delete;
  void operator=(const Reader &) = delete;

  Image Decode() {
    if (!ReadHeader(png_, info_, &source_)) Fail();
    Image image;
    image.size = {static_cast<int>(png_get_image_height(png_, info_)),
                  static_cast<int>(png_get_image_width(png_, info_))};
    if (Pixels(image.size) > kMostPixels) {
      throw InputError(Text(name_, ": ", image.size.width, " x ", image.size.height, " pixels are more than ",
                            kMostPixels, "; make it smaller"));
    }
    if (!PrepareRgb(png_, info_)) Fail();
    const size_t stride = 3 * static_cast<size_t>(image.size.width);
    image.rgb.resize(stride * static_cast<size_t>(image.size.height));
    std::vector<png_bytep> rows(static_cast<size_t>(image.size.height));
    for (size_t y = 0; y < rows.size(); ++y) rows[y] = image.rgb.data() + y * stride;
    if (png_get_rowbytes(png_, info_) != stride || !ReadRows(png_, rows.data())) Fail();
    return image;
  }

 private:
  [[noreturn]] void Fail() {
    const std::string message = source_.message;
    throw InputError(Text(name_, ": truncated or broken PNG (", message, ")"));
  }

  std::string name_;
  Source source_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
};

void Append(png_structp png, png_bytep data, png_size_t count) {
  auto *bytes = static_cast<std::vector<uint8_t> *>(png_get_io_ptr(png));
  bytes->insert(bytes->end(), data, data + count);
}

void Flush(png_structp) {}

bool WriteRows(png_structp png, png_infop info, std::vector<uint8_t> *bytes, const Size &size, int channels,
               const uint8_t *pixels) {
  if (setjmp(png_jmpbuf(png))) return false;
  png_set_write_fn(png, bytes, Append, Flush);
  png_set_IHDR(png, info, static_cast<png_uint_32>(size.width), static_cast<png_uint_32>(size.height), 8,
               channels == 1 ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  png_set_compression_level(png, 3);
  png_write_info(png, info);
  for (int y = 0; y < size.height; ++y) {
    png_write_row(png, pixels + static_cast<int64_t>(y) * size.width * channels);
  }
  png_write_end(png, nullptr);
  return true;
}

}  // namespace

Image DecodePng(const std::vector<uint8_t> &bytes, const std::string &name) { return Reader(bytes, name).Decode(); }

std::vector<uint8_t> EncodePng(const Size &size, int channels, const uint8_t *pixels) {
  std::vector<uint8_t> bytes;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, OnWriteError, OnWarning);
  png_infop info = png ? png_create_info_struct(png) : nullptr;
  const bool written = info && WriteRows(png, info, &bytes, size, channels, pixels);
  png_destroy_write_struct(&png, &info);
  if (!written) throw std::bad_alloc();
  return bytes;
}

}  // namespace tinysam
