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
# Train on several devices of one node, or of several nodes (one call on each), with msrun.
# Usage: bash scripts/run_distribute_train.sh [--nodes N --node_rank R --master_addr A] [--rank_table FILE] CONFIG
#            [--resume auto] [--section.key=value ...]        devices of a node: runtime.devices of the configuration
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
usage="usage: bash scripts/run_distribute_train.sh [--nodes N --node_rank R --master_addr A] [--rank_table FILE] CONFIG [...]"
launcher=()
while [[ $# -ge 2 && $1 == --* ]]; do
    launcher+=("$1" "$2")
    shift 2
done
[[ $# -ge 1 && -f $1 ]] || refuse "no config file '${1:-}'; $usage"
config="$(realpath "$1")"
shift
cd "$ROOT"
exec "$(find_python)" tools/launch.py ${launcher[@]+"${launcher[@]}"} train.py --config "$config" "$@"
