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
# scripts/run_infer_cpp.sh on an Ascend 310, 310P or 910: the model folder is one of ascend310_infer/convert.sh.
# Usage: LITE_HOME=FOLDER bash scripts/run_infer_310.sh MODEL_FOLDER IMAGE_FOLDER ANNOTATIONS [BOXES_JSON] [OPTIONS]
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
boxes=()
if [[ $# -gt 3 && $4 != --* ]]; then boxes=("$4"); fi
exec bash "$here/run_infer_cpp.sh" "${@:1:3}" "${boxes[@]}" --device=ascend "${@:$((4 + ${#boxes[@]}))}"
