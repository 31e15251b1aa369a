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
"""State of a training run in one file: weights, optimizer and where the run stands."""
import logging
from pathlib import Path

from src.checkpoint.ckpt_file import read_ckpt, read_ckpt_metadata, write_ckpt
from src.checkpoint.networks import WeightMismatch, assign, describe, mismatches
from src.checkpoint.weights import CONTENTS_KEY, STATE_NETWORK, TRAINING_STATE

_LOGGER = logging.getLogger(__name__)


def save_state(path, cells, metadata):
    """Write the parameters of several cells and a metadata dict to one .ckpt file, whole or not at all.

    cells: dict of a name -> Cell, such as {"student": network, "optimizer": optimizer}; parameters are stored as
    `student.<name>`, `optimizer.<name>`. A parameter that a cell shares with an earlier one (an optimizer holds its
    network's) is stored once. metadata: str -> str, int, float; `step` orders the files of a folder for newest_state.
    """
    if Path(path).suffix != ".ckpt":
        raise ValueError(f"{path}: a training state is written as .ckpt")
    about = describe(cells[STATE_NETWORK]) if STATE_NETWORK in cells else {}
    write_ckpt(path, _namespaced(cells), {**about, **metadata, CONTENTS_KEY: TRAINING_STATE})


def read_state(path):
    """A file of save_state -> (dict of `cell.name` -> NumPy array, metadata). Raises ValueError if it is not whole."""
    arrays, metadata = read_ckpt(path, need_checksum=True)
    if metadata.pop(CONTENTS_KEY, None) != TRAINING_STATE:
        raise ValueError(f"{path}: holds weights, not the state of a training run")
    return arrays, metadata


def load_state(path, cells):
    """Load a file of save_state into the same cells and return its metadata.

    Every name, shape and type must fit, or nothing is loaded and a ValueError says what differs.
    """
    arrays, metadata = read_state(path)
    parameters = _namespaced(cells)
    phrases, names = mismatches(parameters, arrays)
    if phrases:
        raise WeightMismatch(f"{path} does not continue this run: {phrases}", names)
    for name, parameter in parameters.items():
        assign(parameter, arrays[name])
    return metadata


def newest_state(folder):
    """Path of the newest whole training state in `folder`, or None.

    Newest is the highest `step` of its metadata, then the youngest file. Every candidate is read completely and its
    checksum compared; a broken one is named in a warning and passed over. Other files are no candidates.
    """
    candidates = []
    for path in Path(folder).glob("*.ckpt"):
        try:
            metadata = read_ckpt_metadata(path)
            if metadata and metadata.get(CONTENTS_KEY) != TRAINING_STATE:
                continue
            step = metadata.get("step", -1)
            candidates.append((step if isinstance(step, (int, float)) else -1, path.stat().st_mtime_ns, path))
        except (ValueError, OSError) as error:
            _LOGGER.warning("skipped a broken checkpoint: %s", error)
    for _, _, path in sorted(candidates, reverse=True):
        try:
            read_state(path)
            return path
        except (ValueError, OSError) as error:
            _LOGGER.warning("skipped a broken checkpoint: %s", error)
    return None


def _namespaced(cells):
    """Parameters of all cells as `cell.name`, each once, under the first cell that holds it."""
    parameters, seen = {}, set()
    for cell_name, cell in cells.items():
        for name, parameter in cell.parameters_and_names():
            if id(parameter) not in seen:
                seen.add(id(parameter))
                parameters[f"{cell_name}.{name}"] = parameter
    return parameters
