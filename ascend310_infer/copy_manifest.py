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
"""Write the manifest of a converted export: the old one, with sizes and hashes of the new files.

    python ascend310_infer/copy_manifest.py EXPORT_FOLDER NEW_FOLDER
    python ascend310_infer/copy_manifest.py --list EXPORT_FOLDER fp16|fp32|quant      names of what is to be converted

Graphs that were not converted (`sam`) and other formats than MindIR are left out. Needs nothing but Python.
"""
import hashlib
import json
import os
import sys
from pathlib import Path


def read_manifest(source):
    """source/manifest.json with the graphs that are converted; ValueError: one of them was not written as MindIR."""
    manifest = json.loads(Path(source, "manifest.json").read_text(encoding="utf-8"))
    manifest["graphs"] = [graph for graph in manifest["graphs"] if graph["role"] in ("image_encoder", "mask_decoder")]
    for graph in manifest["graphs"]:
        if "mindir" not in graph["files"]:
            raise ValueError(f"{source}: its {graph['role']} was not written as mindir; export again with "
                             "--export.formats=[mindir]")
    return manifest


def list_graphs(source, profile):
    """Names, without ending, of the MindIR files that a profile converts.

    Raises:
        ValueError: as `read_manifest`, or a quantized export with another profile than fp32: quant would quantize it
        once more, and in float16 its sums of codes, which reach 2^24, overflow.
    """
    manifest = read_manifest(source)
    if "quantization" in manifest and profile != "fp32":
        bits = manifest["quantization"].split(",")[0]
        raise ValueError(f"{source}: is quantized ({bits}), which the profile {profile} would round once more; "
                         "take fp32, or the export of the float network")
    return [graph["files"]["mindir"]["name"].removesuffix(".mindir") for graph in manifest["graphs"]]


def copy_manifest(source, target):
    """Write target/manifest.json from source/manifest.json; ValueError: a graph has no file in `target`."""
    manifest = read_manifest(source)
    manifest.pop("folders", None)  # pictures for another converter, which stay where they are
    for graph in manifest["graphs"]:
        name = graph["files"]["mindir"]["name"]
        if not Path(target, name).is_file():
            raise ValueError(f"{Path(target, name)}: no such file; the converter should have written it")
        content = Path(target, name).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        graph["files"] = {"mindir": {"name": name, "sha256": digest, "bytes": len(content)}}
    part = Path(target, "manifest.json.part")
    part.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    os.replace(part, Path(target, "manifest.json"))


if __name__ == "__main__":
    try:
        if sys.argv[1] == "--list":
            print("\n".join(list_graphs(*sys.argv[2:4])))
        else:
            copy_manifest(*sys.argv[1:3])
    except (ValueError, OSError, KeyError, TypeError) as error:
        print(f"copy_manifest.py: {error}", file=sys.stderr)
        sys.exit(2)
