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
"""Builds of the C++ program for its tests, and what its runs print.

Where something that a build needs is missing the tests are skipped and say what; in continuous integration (CI=true)
they fail instead.
"""
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SANITIZERS = {"ASAN_OPTIONS": "detect_leaks=1:allocator_may_return_null=1", "UBSAN_OPTIONS": "print_stacktrace=1"}


def give_up(reason):
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


def build(folder, *options, **environment):
    """Run ascend310_infer/build.sh; the folder with the programs."""
    if not shutil.which("cmake") or not shutil.which("g++"):
        give_up("needs cmake and g++: apt-get install cmake g++ libjpeg-dev libpng-dev")
    done = subprocess.run(["bash", "ascend310_infer/build.sh", *options], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, "PYTHON": sys.executable, "BUILD": str(folder), **environment})
    if "headers of libjpeg, libpng or nlohmann-json are missing" in done.stderr:
        give_up("needs apt-get install libjpeg-dev libpng-dev, and requirements-dev.txt")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return Path(folder)


def summary(done):
    """The JSON line that ends a successful run."""
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])
