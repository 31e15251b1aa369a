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
# From a fresh clone to a mask on a CPU: install, draw pictures, train a small teacher on labels, distil the nano student
# from it, evaluate before and after, draw a mask. Started again, it goes on where it was stopped.
# Usage: bash scripts/run_quick_start.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup_env.sh
python="${VENV:-.venv}/bin/python"
out=output/quick_start
train=("$python" train.py --config configs/quick_start.yaml --resume auto)

echo "== 1/5 drawing 400 pictures to learn from and 40 to be judged on"
[ -f $out/data/val/instances.json ] || "$python" tools/make_synthetic_set.py --output $out/data --size 160
echo "== 2/5 the teacher learns from labels"
"${train[@]}" --model.student=nano_teacher --model.teacher=none --train.output_dir=$out/teacher
echo "== 3/5 the student learns from the teacher"
"${train[@]}"
for weights in student_start student; do
    echo "== 4/5 masks from boxes, with $weights.ckpt"
    "$python" eval.py --config configs/quick_start.yaml --eval.checkpoint=$out/student/$weights.ckpt --eval.output_dir=$out/eval_$weights
done
echo "== 5/5 a picture"
"$python" demo.py --image $out/data/val/images/000007.png --box 19,34,91,101 --box 84,35,136,79 --checkpoint $out/student/student.ckpt --output $out/mask.png
