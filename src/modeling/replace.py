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
"""Cells put in the place of others in a finished network, under the names that its parameters have.

Assigned as attributes, cells would prefix the names of their parameters once more, so they go into the owner's tables.
"""
import mindspore as ms
import numpy as np
from mindspore import nn


def put_cell(owner, attribute, cell):
    """Put `cell` in the place of `owner`'s child or primitive `attribute`; its parameters keep their names."""
    if attribute in owner._primitives:
        del owner._primitives[attribute]
        if attribute in owner.__dict__:
            delattr(owner, attribute)
        owner.insert_child_to_cell(attribute, cell)
    else:
        owner._cells[attribute] = cell
    if isinstance(owner, nn.SequentialCell):
        owner.cell_list = list(owner._cells.values())


def exchange(network, replacement):
    """Exchange children and primitives all over a finished network, in place.

    Args:
        network: a cell; what it is itself stays.
        replacement: function of (owner, child or primitive, full name) that returns the cell to put in its place, or
            None to leave it. It is asked about what the network held before, children of exchanged cells included.

    Returns:
        The network.
    """
    for prefix, owner in list(network.cells_and_names()):
        for attribute, child in [*owner._cells.items(), *owner._primitives.items()]:
            cell = replacement(owner, child, f"{prefix}.{attribute}" if prefix else attribute)
            if cell is not None:
                put_cell(owner, attribute, cell)
    return network


def set_parameters(cell, name, values):
    """Give the parameters of a cell that is `name` in its network values and full names.

    Args:
        cell: with the parameters as attributes, such as an `nn.Dense`.
        name: of the cell: what is put in place by `put_cell` is not prefixed by its owners.
        values: {attribute: array}, each becomes float32.
    """
    for key, value in values.items():
        parameter = getattr(cell, key)
        parameter.set_data(ms.Tensor(np.ascontiguousarray(value, np.float32)))
        parameter.name = f"{name}.{key}"
