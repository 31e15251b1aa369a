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
"""Parts of a network that do not learn, by name: for fine-tuning on little data.

Frozen means bit-equal: weights take no gradient and no decay, and BatchNorm uses its moving statistics, which stay.
"""
import difflib
from typing import List, Sequence

from mindspore import nn


def _parts(network: nn.Cell) -> List[str]:
    """Every dotted beginning of a parameter's name, in order: image_encoder, image_encoder.neck, ..."""
    parts = {}
    for parameter in network.get_parameters():
        words = parameter.name.split(".")
        parts.update({".".join(words[:count]): None for count in range(1, len(words) + 1)})
    return list(parts)


def _inside(name: str, part: str) -> bool:
    return name == part or name.startswith(part + ".")


def freeze_parts(network: nn.Cell, parts: Sequence[str]) -> int:
    """Freeze everything whose name lies in one of `parts`.

    Args:
        network: the student.
        parts: beginnings of parameter names up to a dot: "image_encoder.layers.1" is not "image_encoder.layers.10".

    Returns:
        Number of parameters that no longer learn.

    Raises:
        ValueError: the network has no such part; the message names the nearest one.
    """
    known = _parts(network)
    for part in parts:
        if part not in known:
            near = difflib.get_close_matches(part, known, n=1, cutoff=0.0)
            raise ValueError(f"model.freeze: the network has no part '{part}'; did you mean '{near[0]}'?")
    frozen = 0
    for parameter in network.get_parameters():
        if parameter.requires_grad and any(_inside(parameter.name, part) for part in parts):
            parameter.requires_grad = False
            frozen += 1
    for name, cell in network.cells_and_names():
        if isinstance(cell, (nn.BatchNorm2d, nn.SyncBatchNorm)) and any(_inside(name, part) for part in parts):
            cell.use_batch_statistics = False  # holds whatever set_train says
    return frozen
