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
# From a fresh clone to masks on a CPU: install, segment a photograph with the weights that ship, then distil them into a fresh
# nano student on drawn pictures, evaluate it before and after, draw its masks. Started again, it goes on where it was stopped.
# Usage: bash scripts/run_quick_start.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup_env.sh
python="${VENV:-.venv}/bin/python"
out=output/quick_start

echo "== 1/5 a photograph, with the weights that ship"
"$python" demo.py --image examples/cattle.jpg --box 106,250,283,385 --box 325,310,395,353 --output $out/photograph.png
echo "== 2/5 drawing 400 pictures to learn from and 40 to be judged on"
[ -f $out/data/val/instances.json ] || "$python" tools/make_synthetic_set.py --output $out/data --size 160
echo "== 3/5 a student with a fresh image encoder learns from them"
"$python" train.py --config configs/quick_start.yaml --resume auto
for weights in student_start student; do
    echo "== 4/5 masks from boxes, with $weights.ckpt"
    "$python" eval.py --config configs/quick_start.yaml --eval.checkpoint=$out/student/$weights.ckpt --eval.output_dir=$out/eval_$weights
done
echo "== 5/5 a drawn picture"
"$python" demo.py --image $out/data/val/images/000007.png --box 19,34,91,101 --box 84,35,136,79 --checkpoint $out/student/student.ckpt --output $out/drawn.png
