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
"""What documents and configurations name exists: files, keys that are read, configurations that load."""
import re
from pathlib import Path

import pytest

from src.config import _known_keys, load_config

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CODE = [*ROOT.glob("*.py"), *(ROOT / "src").rglob("*.py"), *(ROOT / "tools").glob("*.py")]
FOLDERS = "src|scripts|configs|tools|tests|docs|examples|checkpoints|ascend310_infer"
NAMED_FILE = re.compile(rf"(?<![\w/.-])((?:{FOLDERS})/[\w./-]*\w"
                        r"|(?:train|eval|export|quantize|demo)\.py|[\w-]+\.(?:yaml|toml|md))(?![\w*])")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_named_files_exist(path):
    named = set(NAMED_FILE.findall(path.read_text(encoding="utf-8")))
    missing = sorted(name for name in named if not (ROOT / name).exists() and not (path.parent / name).exists())
    assert missing == []


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_configs_load_and_say_how_to_run_them(path):
    load_config(["--config", str(path)])
    head = path.read_text(encoding="utf-8").split("\nruntime:")[0].split("\nmodel:")[0]
    assert ".py" in head or ".sh" in head, f"{path.name}: its first comment gives no command"


def test_commands_of_segment_everything_give_masks_with_the_weights_that_ship():
    """The default thresholds are SAM's, which no mask of these weights passes."""
    command = re.compile(r"python (?:demo|eval)\.py [^`\n]*(?:--everything(?![\w.])|--protocol everything)[^`\n]*")
    found = {path.name: command.findall(path.read_text(encoding="utf-8")) for path in [*DOCUMENTS, *ROOT.glob("*.py")]}
    assert all(found[name] for name in ("README.md", "demo.py", "eval.py", "everything.md", "evaluation.md"))
    for name, commands in found.items():
        shipped = [line for line in commands if "checkpoint" not in line and "pred_iou_thresh" not in line]
        assert all("--config configs/nano_everything.yaml" in line for line in shipped), (name, shipped)


def test_every_key_is_read_somewhere():
    code = "\n".join(p.read_text(encoding="utf-8") for p in CODE if p.name != "config.py")
    unread = [key for key in _known_keys() if not re.search(rf"\.{key.split('.')[1]}\b", code)]
    assert unread == []


def test_nothing_names_a_machine_or_a_host():
    for path in [*DOCUMENTS, *CODE, *(ROOT / "configs").glob("*.yaml"), *(ROOT / "scripts").glob("*.sh")]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"/(work|opt|root|home|tmp)/\w", text), path
