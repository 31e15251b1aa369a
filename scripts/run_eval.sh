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
# Evaluate a checkpoint on a COCO-format set. Further arguments go to eval.py (`python eval.py --help`).
# Usage: bash scripts/run_eval.sh CHECKPOINT ANNOTATIONS [BOXES_JSON] [--eval.limit=100 ...]
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[[ $# -ge 2 && -f $1 && -f $2 ]] ||
    refuse "usage: bash scripts/run_eval.sh CHECKPOINT ANNOTATIONS [BOXES_JSON] [--section.key=value ...]; both must exist"
arguments=("--eval.checkpoint=$(realpath "$1")" "--eval.annotations=$(realpath "$2")")
shift 2
if [[ $# -gt 0 && $1 != --* ]]; then
    arguments+=("--eval.boxes=$(realpath "$1")")
    shift
fi
cd "$ROOT"
exec "$(find_python)" eval.py "${arguments[@]}" "$@"
