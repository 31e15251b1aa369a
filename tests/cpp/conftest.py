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
"""The C++ program built for the tests, once a session: with the toy network, under AddressSanitizer and UBSan."""
import json
import os
import subprocess

import numpy as np
import pytest
from cpp_programs import ROOT, SANITIZERS, build


@pytest.fixture(scope="session")
def programs():
    """Folder with tinysam_toy and tinysam_probe; kept in build/, so that a second run compiles what has changed."""
    return build(ROOT / "build" / "cpp_tests", "-DTOY=ON", "-DSANITIZE=ON", LITE_HOME="")


@pytest.fixture()
def probe(programs, tmp_path):
    """Ask a part of the program: probe("name", array, key=value) -> (answer, values of its result as dtype)."""
    def ask(command, array=None, dtype=np.float32, **request):
        if array is not None:
            np.ascontiguousarray(array).tofile(tmp_path / "probe.in")
        request = {"command": command, "in": str(tmp_path / "probe.in"), "out": str(tmp_path / "probe.out"), **request}
        done = subprocess.run([programs / "tinysam_probe"], input=json.dumps(request), capture_output=True, text=True,
                              env={**os.environ, **SANITIZERS})
        if done.returncode == 2:
            raise ValueError(done.stderr.strip())
        assert done.returncode == 0, done.stderr[-3000:]
        values = np.fromfile(tmp_path / "probe.out", dtype) if (tmp_path / "probe.out").exists() else None
        return json.loads(done.stdout), values
    return ask


@pytest.fixture()
def toy(programs):
    """Run the program with the toy network: toy("--model=...", ...) -> CompletedProcess."""
    def run(*arguments, **options):
        return subprocess.run([programs / "tinysam_toy", *arguments], text=True, **{
            "capture_output": True, "env": {**os.environ, **SANITIZERS}, **options})
    return run
