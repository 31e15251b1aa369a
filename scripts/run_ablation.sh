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
# The ablation of the distillation (tables 3 and 4 of the paper) at the scale of a CPU: 6 rows x 3 seeds, box and point scores.
# START_CKPT is what every student begins with (configs/ablation_cpu.yaml tells how to make it). The teacher's embeddings are stored
# first. Started again, it goes on where it was stopped. The table is in OUTPUT/ablation.md.
# Usage: bash scripts/run_ablation.sh START_CKPT TEACHER_CKPT TRAIN_JSON EVAL_JSON OUTPUT [--seeds 1 2 3] [--section.key=value ...]
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[[ $# -ge 5 && -f $1 && -f $2 && -f $3 && -f $4 && $5 != -* ]] ||
    refuse "usage: bash scripts/run_ablation.sh START_CKPT TEACHER_CKPT TRAIN_JSON EVAL_JSON OUTPUT [--section.key=value ...]; the first four must exist"
start="$(realpath "$1")" teacher="$(realpath "$2")" train="$(realpath "$3")" val="$(realpath "$4")" output="$(realpath -m "$5")"
shift 5
cd "$ROOT"
shared=(--config configs/ablation_cpu.yaml "--model.teacher_checkpoint=$teacher" "--data.paths=[$train]")
settings=()
for option in "$@"; do [[ $option != --*.*=* ]] || settings+=("$option"); done
"$(find_python)" tools/make_teacher_embeddings.py "${shared[@]}" "--embeddings.output_dir=$output/embeddings" ${settings[@]+"${settings[@]}"}
exec "$(find_python)" tools/ablation.py --output "$output" "${shared[@]}" "--model.student_checkpoint=$start" \
    "--data.embedding_cache=$output/embeddings" "--eval.annotations=$val" "$@"
