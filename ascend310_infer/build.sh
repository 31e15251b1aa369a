#!/usr/bin/env bash
# Copyright 2026 TinySAM on MindSpore contributors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
# ============================================================================
# Build the C++ program into build/ascend310 (BUILD chooses another folder). Further arguments go to cmake.
# Usage: LITE_HOME=/path/to/mindspore-lite-VERSION-linux-ARCH bash ascend310_infer/build.sh [-DSANITIZE=ON]
#        On a CPU: LITE_HOME="$(bash ascend310_infer/fetch_lite_cpu.sh)" bash ascend310_infer/build.sh
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
. "$here/../scripts/common.sh"
[[ -n "${LITE_HOME:-}" || "$*" == *-DTOY=ON* ]] ||
    refuse "LITE_HOME is not set: the folder of MindSpore Lite, or the one that fetch_lite_cpu.sh makes on a CPU"
command -v cmake > /dev/null || refuse "no cmake: apt-get install cmake g++, or dnf install cmake gcc-c++"
# nlohmann-json of ascend310_infer/requirements.txt, where Python has it; else cmake looks for the system's.
headers="$("$(find_python)" -c 'import importlib.util as u; s = u.find_spec("nlohmann_json")
print(s.submodule_search_locations[0] + "/include" if s else "")' 2> /dev/null || true)"
build="${BUILD:-$ROOT/build/ascend310}"
cmake -S "$here" -B "$build" -DLITE_HOME="${LITE_HOME:-}" -DNLOHMANN_JSON_DIR="$headers" "$@"
cmake --build "$build" --parallel "${JOBS:-$(nproc)}"
