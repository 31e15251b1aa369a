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
# Store the teacher's image embeddings in advance, on one device or with --distribute on runtime.devices of each node.
# Usage: bash scripts/run_teacher_embeddings.sh [--distribute [--nodes N --node_rank R --master_addr A]] CONFIG
#            [--section.key=value ...]        the same command again goes on where it stopped
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
usage="usage: bash scripts/run_teacher_embeddings.sh [--distribute [--nodes N ...]] CONFIG [--section.key=value ...]"
launcher=()
if [[ ${1:-} == --distribute ]]; then
    launcher=(tools/launch.py) && shift
    while [[ $# -ge 2 && $1 == --* ]]; do launcher+=("$1" "$2") && shift 2; done
fi
[[ $# -ge 1 && -f $1 ]] || refuse "no config file '${1:-}'; $usage"
config="$(realpath "$1")"
shift
cd "$ROOT"
exec "$(find_python)" ${launcher[@]+"${launcher[@]}"} tools/make_teacher_embeddings.py --config "$config" "$@"
