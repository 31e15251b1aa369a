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
"""Which file of weights a script runs: the one that is named, else the one that ships."""
from pathlib import Path
from typing import NamedTuple, Optional

from src.checkpoint import read_metadata

SHIPPED_FOLDER = Path(__file__).resolve().parent.parent.parent / "checkpoints"


class ChosenCheckpoint(NamedTuple):
    """A file of weights and what is to be built for it; None: what the file itself, or else the variant, says."""

    path: str
    variant: Optional[str]
    image_size: Optional[int]


def choose_checkpoint(named, model):
    """The checkpoint that a script runs: the one it names, else the model section's, else the one that ships.

    Args:
        named: path, or empty.
        model: the `model` section. Its student is for files that do not say which variant they hold; an image_size
            above 0 wins over the file's.

    Raises:
        ValueError: none is named and none ships. FileNotFoundError: no such file.
    """
    path = str(named or model.student_checkpoint or shipped_checkpoint())
    if not Path(path).is_file():
        raise FileNotFoundError(f"checkpoint {path} does not exist; name a file of weights")
    return ChosenCheckpoint(path, read_metadata(path).get("variant") or model.student, model.image_size or None)


def shipped_checkpoint(folder=SHIPPED_FOLDER):
    """The one checkpoint of `folder`; a ValueError says what to do when there is none, or more than one."""
    folder = Path(folder)
    found = sorted(path for path in folder.glob("*") if path.suffix in (".ckpt", ".safetensors"))
    if not found:
        raise ValueError(f"no checkpoint in {folder.name}/: name one, or train one with "
                         "`python train.py --config configs/nano_labels_cpu.yaml` (README, Training)")
    if len(found) > 1:
        raise ValueError(f"{folder.name}/ holds {', '.join(path.name for path in found)}: name the one to use")
    return found[0]
