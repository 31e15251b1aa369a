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
"""A network that begins with another's weights: what has the same name and fits, as DistilBERT begins with every second
layer of its teacher (arXiv 1910.01108, section 3)."""
import math

import numpy as np

from src.checkpoint.names import torch_name
from src.checkpoint.networks import assign


def inherit_weights(network, weights, parts, source="the weights"):
    """Fill parts of `network` from the weights of a network of another depth, width or window.

    Args:
        network: a Cell; what is not taken keeps its values.
        weights: {released name: array} of `read_weights`; names that `network` does not have are passed over.
        parts: beginnings of released names up to a dot, such as "image_encoder" or "mask_decoder".
        source: what messages call the weights.

    Returns:
        (taken, left): released names that were filled, and those inside `parts` that were not, since `weights` does not
        have them or in another shape. Attention biases of another window count as taken: an offset |dy|, |dx| beyond
        the trained ones begins with the bias of the farthest trained one (`resized_biases`).

    Raises:
        ValueError: nothing in one of `parts` fits; nothing was filled then.
    """
    found, left = {}, []
    for name, parameter in network.parameters_and_names():
        name = torch_name(name)
        part = next((part for part in parts if f"{name}.".startswith(f"{part}.")), None)
        if part is None:
            continue
        array = weights.get(name)
        if array is not None and name.endswith(".attention_biases"):
            array = resized_biases(array, parameter.shape)
        if array is not None and array.shape == tuple(parameter.shape):
            found[name] = part, parameter, array
        else:
            left.append(name)
    for part in parts:
        if all(part != taken for taken, _, _ in found.values()):
            raise ValueError(f"{source}: nothing in {part} has the name and the shape of a parameter of this network; "
                             "name other parts or another file")
    for _, parameter, array in found.values():
        assign(parameter, array)
    return list(found), left


def resized_biases(biases, shape):
    """TinyViT's attention biases [heads, window * window], one per offset (|dy|, |dx|), for another window.

    Smaller windows lose the far offsets, larger ones repeat the last row and column: [heads, new * new]. Biases of
    another number of heads come back as they are.
    """
    if biases.ndim != 2 or biases.shape[0] != shape[0]:
        return biases
    window, wanted = math.isqrt(biases.shape[1]), math.isqrt(shape[1])
    nearest = np.minimum(np.arange(wanted), window - 1)
    table = biases.reshape(-1, window, window)
    return table[:, nearest[:, None], nearest].reshape(shape[0], -1)
