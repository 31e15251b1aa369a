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
"""A root script in the process of a test, as a shell would start it."""
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def run(monkeypatch, capsys, script, *arguments):
    """(exit code, stdout, stderr) of `python SCRIPT ARGUMENTS...`, in this process."""
    monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
    code = 0
    try:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    except SystemExit as end:
        code = end.code
    return (code, *capsys.readouterr())
