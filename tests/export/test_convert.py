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
"""ascend310_infer/convert.sh with a stand-in for converter_lite: which graphs it converts, and what it refuses."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def convert(tmp_path):
    """Function of a profile: (exit code, last line of stderr); the export has a graph of both halves as well."""
    converter = tmp_path / "tools" / "converter" / "converter" / "converter_lite"
    converter.parent.mkdir(parents=True)
    converter.write_text('#!/usr/bin/env bash\nfor a in "$@"; do case $a in --modelFile=*) m=${a#*=};; '
                         '--outputFile=*) o=${a#*=};; esac; done\ncp "$m" "$o.mindir"; echo converted >> "$o.mindir"\n')
    converter.chmod(0o755)
    (tmp_path / "export").mkdir()
    graphs = []
    for name in ("image_encoder", "mask_decoder_p1_n3", "sam_p1_n3"):
        files = {kind: f"{name}.{suffix}" for kind, suffix in (("npu", "npu.mindir"), ("mindir", "mindir"))}
        for file in files.values():
            (tmp_path / "export" / file).write_text(f"{file}\n")
        graphs.append({"role": name.split("_p")[0],
                       "files": {kind: {"name": file, "sha256": "5a", "bytes": 1} for kind, file in files.items()}})

    def run(profile, **changes):
        content = {"format": "tinysam-export", "folders": ["calibration"], "graphs": graphs, **changes}
        (tmp_path / "export" / "manifest.json").write_text(json.dumps(content))
        command = ["bash", "ascend310_infer/convert.sh", tmp_path / "export", tmp_path / "new", "310", profile]
        done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, env={
            **os.environ, "PYTHON": sys.executable, "LITE_HOME": str(tmp_path)})
        return done.returncode, done.stderr.strip().rpartition("\n")[2]

    return run


@pytest.mark.parametrize("profile, changes", [
    ("quant", {}), ("fp16", {}), ("fp32", {"quantization": "w8a8 ascend, scales sha256 5a"})])
def test_the_mindir_of_both_halves_is_converted_and_no_other(convert, tmp_path, profile, changes):
    assert convert(profile, **changes) == (0, "")
    new = tmp_path / "new"
    assert sorted(path.name for path in new.iterdir()) == [
        "image_encoder.mindir", "manifest.json", "mask_decoder_p1_n3.mindir"]
    assert (new / "image_encoder.mindir").read_text() == "image_encoder.mindir\nconverted\n"
    manifest = json.loads((new / "manifest.json").read_text())
    assert [(graph["role"], *((kind, file["bytes"]) for kind, file in graph["files"].items()))
            for graph in manifest["graphs"]] == [("image_encoder", ("mindir", 31)), ("mask_decoder", ("mindir", 36))]
    assert "folders" not in manifest  # what it names was not copied
    assert manifest.get("quantization") == changes.get("quantization")


@pytest.mark.parametrize("profile", ["fp16", "quant"])
def test_a_quantized_export_is_not_rounded_again(convert, tmp_path, profile):
    assert convert(profile, quantization="w8a8 ascend, scales sha256 5a") == (
        2, f"copy_manifest.py: {tmp_path / 'export'}: is quantized (w8a8 ascend), which the profile {profile} would "
           "round once more; take fp32, or the export of the float network")
    assert not list(tmp_path.glob("new*"))


def test_an_export_without_mindir_is_refused(convert, tmp_path):
    graphs = [{"role": "image_encoder", "files": {"lite": {"name": "image_encoder.lite.onnx"}}}]
    assert convert("fp16", graphs=graphs) == (
        2, f"copy_manifest.py: {tmp_path / 'export'}: its image_encoder was not written as mindir; export again with "
           "--export.formats=[mindir]")
