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
// The program: docs/ascend310.md. Mistakes in the input end in one line on stderr and exit code 2.
#include <csignal>
#include <iostream>
#include <new>

#include "segment.h"

int main(int argc, char **argv) {
  std::signal(SIGXFSZ, SIG_IGN);  // a file size limit is an error of writing, not an end
  try {
    const tinysam::Options options = tinysam::ParseOptions({argv + 1, argv + argc});
    if (options.help) {
      std::cout << tinysam::kUsage;
    } else {
      tinysam::Run(options);
    }
    std::cout.flush();
    if (!std::cout) throw tinysam::InputError("stdout: cannot be written; free space or write elsewhere");
    return 0;
  } catch (const tinysam::InputError &error) {
    std::cerr << "tinysam: " << error.what() << std::endl;
  } catch (const std::bad_alloc &) {
    std::cerr << "tinysam: not enough memory; take smaller pictures or fewer points at a time" << std::endl;
  } catch (const std::exception &error) {
    std::cerr << "tinysam: " << error.what() << std::endl;
  }
  return 2;
}
