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
# Fetch MindSpore Lite 2.0.0 for CPUs (x86-64), whose wheel holds headers and libraries of the C++ interface, check its
# SHA-256 and unpack it. Prints the folder to use as LITE_HOME. It reads MindIR up to version 1: docs/ascend310.md.
# Usage: bash ascend310_infer/fetch_lite_cpu.sh [FOLDER]     default: build/mindspore_lite
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
. "$here/../scripts/common.sh"
folder="$(realpath -m "${1:-$ROOT/build/mindspore_lite}")"
if [[ ! -f "$folder/mindspore_lite/include/api/model.h" ]]; then
    part="$folder.part.$$"
    trap 'rm -rf "$part"' EXIT
    wheel=(--no-deps --only-binary=:all: --python-version 3.7 --implementation cp --abi cp37m
           --platform manylinux1_x86_64)
    "$(find_python)" -m pip download --quiet --disable-pip-version-check "${wheel[@]}" --require-hashes \
        -r "$here/lite_cpu.txt" -d "$part" >&2
    "$(find_python)" -m zipfile -e "$part"/mindspore_lite-*.whl "$part"
    rm "$part"/*.whl
    mv -T "$part" "$folder"
fi
echo "$folder/mindspore_lite"
