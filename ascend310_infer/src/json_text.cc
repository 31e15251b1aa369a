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
#include "json_text.h"

#include "basics.h"
#include "image_files.h"

namespace tinysam {

Json ReadJson(const std::string &path, const std::string &kind) {
  const std::vector<uint8_t> bytes = ReadFile(path, kind);
  try {
    return Json::parse(bytes);
  } catch (const Json::exception &error) {
    const std::string reason = error.what();  // "[json.exception...] parse error at line 1, column 2: ..."
    const size_t start = reason.find("] ");
    throw InputError(
        Text(path, ": not a JSON file (", start == std::string::npos ? reason : reason.substr(start + 2), ")"));
  }
}

void WriteJson(const std::string &path, const Json &content) {
  // Names of files need not be UTF-8: what is not becomes U+FFFD.
  const auto dump = [](const Json &value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); };
  std::string text;
  if (content.is_array()) {
    for (const Json &record : content) text += (text.empty() ? "[\n" : ",\n") + dump(record);
    text += text.empty() ? "[]\n" : "\n]\n";
  } else {
    text = dump(content) + "\n";
  }
  WriteFile(path, text.data(), text.size());
}

}  // namespace tinysam
