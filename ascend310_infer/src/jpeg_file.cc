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
// JPEG through libjpeg, with the settings of Pillow: accurate DCT and smooth upsampling of colours, both the defaults.
#include <csetjmp>
#include <cstddef>
#include <cstdio>

#include <jerror.h>  // both need the ones above
#include <jpeglib.h>

#include "image_files.h"

namespace tinysam {
namespace {

struct ErrorHandler {
  jpeg_error_mgr base;  // first: libjpeg knows only this part
  std::jmp_buf escape;
  char message[JMSG_LENGTH_MAX];
};

void Escape(j_common_ptr info) {
  auto *handler = reinterpret_cast<ErrorHandler *>(info->err);
  (*info->err->format_message)(info, handler->message);
  std::longjmp(handler->escape, 1);
}

// libjpeg fills up a picture whose data end before its header says with grey, and only warns: at the end of the file,
// or at a marker, as where the header lies about the height. Other warnings do not cost pixels.
void OnMessage(j_common_ptr info, int level) {
  const int code = info->err->msg_code;
  if (level < 0 && (code == JWRN_JPEG_EOF || code == JWRN_HIT_MARKER)) Escape(info);
}

// The two halves of decoding: no object with a destructor lives in them, because errors leave them by longjmp.
bool ReadHeader(jpeg_decompress_struct *info, ErrorHandler *handler, const uint8_t *data, size_t size) {
  if (setjmp(handler->escape)) return false;
  jpeg_create_decompress(info);
  jpeg_mem_src(info, const_cast<uint8_t *>(data), size);
  jpeg_read_header(info, TRUE);
  return true;
}

bool ReadRows(jpeg_decompress_struct *info, ErrorHandler *handler, uint8_t *pixels) {
  if (setjmp(handler->escape)) return false;
  jpeg_start_decompress(info);
  const size_t stride = static_cast<size_t>(info->output_width) * static_cast<size_t>(info->output_components);
  while (info->output_scanline < info->output_height) {
    uint8_t *row = pixels + stride * info->output_scanline;
    jpeg_read_scanlines(info, &row, 1);
  }
  jpeg_finish_decompress(info);
  return true;
}

int Product255(int a, int b) {
  const int product = a * b + 128;
  return ((product >> 8) + product) >> 8;
}

// [H * W, 4] CMYK, inverted as Adobe writes it, to RGB with Pillow's rounding.
void InvertedCmykToRgb(const std::vector<uint8_t> &cmyk, std::vector<uint8_t> *rgb) {
  for (size_t i = 0; 4 * i < cmyk.size(); ++i) {
    const int not_black = cmyk[4 * i + 3];
    for (size_t c = 0; c < 3; ++c) {
      (*rgb)[3 * i + c] = static_cast<uint8_t>(not_black - Product255(255 - cmyk[4 * i + c], not_black));
    }
  }
}

class Decompressor {
 public:
  Decompressor(const std::vector<uint8_t> &bytes, const std::string &name) : bytes_(bytes), name_(name) {
    info_.err = jpeg_std_error(&handler_.base);
    handler_.base.error_exit = Escape;
    handler_.base.emit_message = OnMessage;
    handler_.message[0] = 0;
  }
  ~Decompressor() { jpeg_destroy_decompress(&info_); }
  Decompressor(const Decompressor &) = delete;
  void operator=(const Decompressor &) = delete;

  Image Decode() {
    if (!ReadHeader(&info_, &handler_, bytes_.data(), bytes_.size())) Fail();
    Image image;
    image.size = {static_cast<int>(info_.image_height), static_cast<int>(info_.image_width)};
    if (Pixels(image.size) > kMostPixels) {
      throw InputError(Text(name_, ": ", info_.image_width, " x ", info_.image_height, " pixels are more than ",
                            kMostPixels, "; make it smaller"));
    }
    const bool four = info_.num_components == 4;
    info_.out_color_space = four ? JCS_CMYK : JCS_RGB;
    const auto pixels = static_cast<size_t>(Pixels(image.size));
    image.rgb.resize(3 * pixels);
    std::vector<uint8_t> cmyk(four ? 4 * pixels : 0);
    if (!ReadRows(&info_, &handler_, four ? cmyk.data() : image.rgb.data())) Fail();
    if (four) InvertedCmykToRgb(cmyk, &image.rgb);
    return image;
  }

 private:
  [[noreturn]] void Fail() {
    const std::string message = handler_.message;
    throw InputError(Text(name_, ": truncated or broken JPEG (", message, ")"));
  }

  const std::vector<uint8_t> &bytes_;
  std::string name_;
  ErrorHandler handler_;
  jpeg_decompress_struct info_ = {};
};

}  // namespace

Image DecodeJpeg(const std::vector<uint8_t> &bytes, const std::string &name) {
  return Decompressor(bytes, name).Decode();
}

}  // namespace tinysam
