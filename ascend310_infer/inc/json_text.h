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
// JSON in and out. Values come from files of others, so every access says which file and which field is wrong.
#ifndef TINYSAM_JSON_TEXT_H_
#define TINYSAM_JSON_TEXT_H_

#include <nlohmann/json.hpp>
#include <string>

namespace tinysam {

using Json = nlohmann::ordered_json;

// The JSON of a file; `kind` names it in errors. Throws InputError: missing, or not JSON.
Json ReadJson(const std::string &path, const std::string &kind);

// Write JSON whole or not at all, one record of a list a line.
void WriteJson(const std::string &path, const Json &content);

}  // namespace tinysam

#endif  // TINYSAM_JSON_TEXT_H_
