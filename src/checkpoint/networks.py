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
"""Strict loading and atomic saving of a network's weights."""
from pathlib import Path

import mindspore as ms
import numpy as np

from src.checkpoint.ckpt_file import write_ckpt
from src.checkpoint.names import is_known_extra, torch_name
from src.checkpoint.weights import read_metadata, read_weights, write_safetensors


class WeightMismatch(ValueError):
    """Weights that do not fit. The message is one line; `names` lists every name with what is wrong with it."""

    def __init__(self, message, names):
        super().__init__(" ".join(message.split()))  # names come from a file and may hold anything
        self.names = names


def load_network(network, path_or_weights, source=None, metadata=None):
    """Load weights into `network`; every name and shape must fit, or nothing is loaded.

    network: a Cell; its `variant` and `image_size`, where it has them, are held against the file's metadata.
    path_or_weights: a file that read_weights reads, or its result; metadata: what read_metadata gave beside it.
    source: what messages call the weights (default: the path).
    Returns the file's metadata ({} where there is none). Raises WeightMismatch, in one line, with the counts and the
    first of the missing, unexpected and misshapen names. What released files are known to hold beside the weights
    (src/checkpoint/names.py) is passed over.
    """
    if isinstance(path_or_weights, dict):
        weights, metadata, source = path_or_weights, metadata or {}, source or "the dict of weights"
    else:
        source = source or str(path_or_weights)
        metadata = read_metadata(path_or_weights)
        weights = read_weights(path_or_weights)
    parameters = _parameters(network)
    phrases, names = mismatches(parameters, weights)
    if phrases or _other_variant(network, metadata):
        verdict = f"{source} {_verdict(network, metadata, weights)}"
        raise WeightMismatch(f"{verdict}: {phrases}" if phrases else verdict, names)
    for name, parameter in parameters.items():
        assign(parameter, weights[name])
    return metadata


def save_network(path, network, metadata=None):
    """Write a network's weights, whole or not at all.

    path: ends in .ckpt (MindSpore names) or .safetensors (torch names). metadata: dict of str -> str, int, float;
    `variant` and `image_size` of the network are added.
    """
    path = Path(path)
    metadata = {**describe(network), **(metadata or {})}
    parameters = {name: parameter for name, parameter in network.parameters_and_names()}
    if path.suffix == ".ckpt":
        write_ckpt(path, parameters, metadata)
    elif path.suffix == ".safetensors":
        arrays = {torch_name(name): np.require(parameter.asnumpy(), requirements="C")
                  for name, parameter in parameters.items()}
        write_safetensors(path, arrays, metadata)
    else:
        raise ValueError(f"{path}: weights are written as .ckpt or .safetensors; the name must end in one of them")


def describe(network):
    """Metadata that a network gives about itself: `variant` and `image_size`, where it has them."""
    return {key: getattr(network, key) for key in ("variant", "image_size") if hasattr(network, key)}


def mismatches(parameters, arrays):
    """What keeps `arrays` (name -> array) from filling `parameters` (name -> Parameter).

    Returns a summary in one line, empty when everything fits, and a list that says of each name what is wrong with it.
    """
    common = [name for name in parameters if name in arrays]
    problems = {
        f"of {len(parameters)} parameters missing": [name for name in parameters if name not in arrays],
        "unexpected": [name for name in arrays if name not in parameters and not is_known_extra(name)],
        "of another shape": [f"{name} {list(arrays[name].shape)} instead of {list(parameters[name].shape)}"
                             for name in common if tuple(parameters[name].shape) != arrays[name].shape],
        "of another type": [f"{name} {arrays[name].dtype} instead of {_numpy_type(parameters[name])}"
                            for name in common if not _converts(arrays[name].dtype, parameters[name])],
    }
    summary = "; ".join(f"{len(names)} {what}, first {names[0]}" for what, names in problems.items() if names)
    return summary, [f"{what.rpartition(' ')[2]}: {name}" for what, names in problems.items() for name in names]


def assign(parameter, array):
    """Set a parameter to an array of its shape, converted to its type."""
    parameter.set_data(ms.Tensor(np.array(array, _numpy_type(parameter), order="C"), parameter.dtype))


def _parameters(network):
    return {torch_name(name): parameter for name, parameter in network.parameters_and_names()}


def _numpy_type(parameter):
    if parameter.dtype == ms.bfloat16:
        return np.dtype(np.float32)
    return np.dtype(str(parameter.dtype).lower())  # Float32 -> float32


def _converts(dtype, parameter):
    """Floats convert to floats and integers to integers; anything across is a sign of a wrong file."""
    return np.can_cast(dtype, _numpy_type(parameter), "same_kind")


def _other_variant(network, metadata):
    return "variant" in metadata and hasattr(network, "variant") and metadata["variant"] != network.variant


def _verdict(network, metadata, weights):
    held, wanted = _described(metadata), _described(describe(network))
    if "variant" in metadata and held != wanted:
        return f"holds {held}, not {wanted}"
    table = weights.get("image_encoder.pos_embed")  # [1, h, w, C], one cell per patch of 16 pixels
    if table is not None and table.ndim == 4 and 16 * table.shape[1] != getattr(network, "image_size", None):
        return f"holds weights for image_size {16 * table.shape[1]} and does not fit {wanted}"
    return f"does not fit {wanted}"


def _described(metadata):
    if "variant" not in metadata:
        return "the network"
    size = f" (image_size {metadata['image_size']})" if "image_size" in metadata else ""
    return f"variant {metadata['variant']}{size}"
