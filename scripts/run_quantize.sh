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
# Quantize a checkpoint with pictures of a COCO-format JSON. Further arguments go to quantize.py (`python quantize.py --help`).
# Usage: bash scripts/run_quantize.sh CHECKPOINT ANNOTATIONS [--config configs/quantize_w6a6.yaml ...]
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[[ $# -ge 2 && -f $1 && -f $2 ]] ||
    refuse "usage: bash scripts/run_quantize.sh CHECKPOINT ANNOTATIONS [--section.key=value ...]; both must exist"
arguments=("--quantize.checkpoint=$(realpath "$1")" --data.format=coco "--data.paths=[$(realpath "$2")]")
shift 2
cd "$ROOT"
exec "$(find_python)" quantize.py "${arguments[@]}" "$@"
