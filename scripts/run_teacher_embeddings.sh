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
# Store the teacher's image embeddings in advance: bash scripts/run_teacher_embeddings.sh CONFIG [--section.key=value ...]
# Alone on one device; on all devices of a node: python tools/launch.py tools/make_teacher_embeddings.py --config CONFIG
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[[ $# -ge 1 && $1 != -* ]] || refuse "usage: bash scripts/run_teacher_embeddings.sh CONFIG [--section.key=value ...]"
[[ -f $1 ]] || refuse "no config file '$1'; configs/ holds them"
config="$(realpath "$1")"
shift
cd "$ROOT"
exec "$(find_python)" tools/make_teacher_embeddings.py --config "$config" "$@"
