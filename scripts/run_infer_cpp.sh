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
# Build the C++ program, segment a COCO-format set with it, score its results. Stops at the first failure.
# Usage: LITE_HOME=FOLDER bash scripts/run_infer_cpp.sh MODEL_FOLDER IMAGE_FOLDER ANNOTATIONS [BOXES_JSON] [OPTIONS]
#        MODEL_FOLDER: of export.py or convert.sh. OPTIONS: the program's, such as --device=cpu --limit=10.
#        OUTPUT=FOLDER: where results go, default output/infer_cpp.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[[ $# -ge 3 && -f $1/manifest.json && -d $2 && -f $3 ]] ||
    refuse "usage: run_infer_cpp.sh MODEL_FOLDER IMAGE_FOLDER ANNOTATIONS [BOXES_JSON] [OPTIONS]; all must exist"
output="$(realpath -m "${OUTPUT:-$ROOT/output/infer_cpp}")"
infer=("--model=$(realpath "$1")" "--image=$(realpath "$2")" "--annotations=$(realpath "$3")" "--output=$output")
score=("--eval.annotations=$(realpath "$3")" "--eval.image_root=$(realpath "$2")" "--eval.output_dir=$output/eval")
shift 3
if [[ $# -gt 0 && $1 != --* ]]; then
    infer+=("--detections=$(realpath "$1")")
    score+=("--eval.boxes=$(realpath "$1")")
    shift
fi
cd "$ROOT"
bash ascend310_infer/build.sh >&2
"${BUILD:-$ROOT/build/ascend310}/tinysam" "${infer[@]}" "$@"
rm -f "$output/eval/per_image.jsonl"
"$(find_python)" eval.py --eval.results="$output/results.json" --runtime.device=cpu "${score[@]}"
