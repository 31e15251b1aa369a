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
# Train a small network on a CPU in stages: pictures of 64 px, of 128 px, then those of CONFIG, with ellipses for masks at first.
# Each starts from the weights of the one before it; started again, it goes on where it was stopped. The student is in
# OUTPUT/last/student.ckpt.
# Usage: bash scripts/run_progressive_train.sh CONFIG OUTPUT [--section.key=value ...]
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[[ $# -ge 2 && $1 != -* && $2 != -* ]] || refuse "usage: bash scripts/run_progressive_train.sh CONFIG OUTPUT [--section.key=value ...]"
[[ -f $1 ]] || refuse "no config file '$1'; configs/ holds them"
config="$(realpath "$1")" output="$(realpath -m "$2")"
shift 2
cd "$ROOT"
start=()
for stage in 64px 128px ellipses last; do
    grow=()
    [[ $stage == last ]] || grow=(--config "configs/stage_$stage.yaml")
    "$(find_python)" train.py --config "$config" "${grow[@]}" "$@" "${start[@]}" --train.output_dir="$output/$stage" --resume auto
    start=(--model.student_checkpoint="$output/$stage/student.ckpt")
done
