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
# Convert an export for an Ascend processor with converter_lite: both graphs, with the profiles of config/.
# Usage: LITE_HOME=/path/to/mindspore-lite-VERSION-linux-ARCH \
#            bash ascend310_infer/convert.sh EXPORT_FOLDER NEW_FOLDER 310|310P|910 fp16|fp32|quant
#        SOC=Ascend910B3 names another processor. A quantized export (docs/quantization.md) takes fp32 alone.
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
. "$here/../scripts/common.sh"
usage="usage: LITE_HOME=FOLDER bash ascend310_infer/convert.sh EXPORT_FOLDER NEW_FOLDER 310|310P|910 fp16|fp32|quant"
[[ $# -eq 4 && -f $1/manifest.json && "$4" =~ ^(fp16|fp32|quant)$ ]] || refuse "$usage; the first holds manifest.json"
case "$3" in 310) soc=Ascend310 ;; 310P) soc=Ascend310P3 ;; 910) soc=Ascend910 ;; *) refuse "$usage" ;; esac
converter="$(find "${LITE_HOME:-/nowhere}/tools/converter" -name converter_lite -type f 2> /dev/null | head -n 1 || true)"
[[ -n "$converter" ]] || refuse "no converter_lite below LITE_HOME=${LITE_HOME:-}; give the unpacked tarball"
export LD_LIBRARY_PATH="$LITE_HOME/tools/converter/lib:$LITE_HOME/runtime/lib:${LD_LIBRARY_PATH:-}"
[[ ! -e $2 ]] || refuse "$2 exists; choose a new folder"
graphs="$("$(find_python)" "$here/copy_manifest.py" --list "$1" "$4")"
mkdir -p "$2.part"
trap 'rm -rf "$2.part"' EXIT
for name in $graphs; do
    cp "$here/config/${name%%_p[0-9]*}_$4.ini" "$2.part/profile"
    printf '\n[acl_init_options]\nge.socVersion=%s\n' "${SOC:-$soc}" >> "$2.part/profile"
    "$converter" --fmk=MINDIR --saveType=MINDIR --optimize=ascend_oriented --modelFile="$1/$name.mindir" \
        --outputFile="$2.part/$name" --configFile="$2.part/profile" ||
        refuse "$1/$name.mindir: converter_lite failed; its message stands above"
done
rm "$2.part/profile"
"$(find_python)" "$here/copy_manifest.py" "$1" "$2.part"
mv -T "$2.part" "$2"
