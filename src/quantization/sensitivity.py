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
"""How much each layer alone costs: the distance of the model to the float one with only that layer quantized."""
import numpy as np
from mindspore import Tensor

from src.modeling.replace import put_cell
from src.quantization.cells import quantized_cell
from src.quantization.losses import model_distance
from src.quantization.observe import pynative, restore

PROPOSED_SHARE = 0.9  # the proposal holds the layers that together make this share of the sum of all distances
MOST_PROPOSED = 12


def propose_wider(calibration, quantization, examples):
    """Distances of all layers, largest first: list of (name, distance); empty without examples.

    calibration: the Calibration that made `quantization`, its network float again, without the improvements that move
    factors or signs between layers (`reparametrise`, `sign_trick`): a layer alone would compute something else.
    """
    if not examples:
        return []
    sam, decoder = calibration.sam, calibration.observer.decoder
    products = {product.name: product for product in calibration.products}
    with pynative():
        embeddings = [sam.image_encoder(Tensor(example.image)) for example in examples]
        expected = [_decode(decoder, *pair) for pair in zip(embeddings, examples)]
        losses = []
        for index, layer in enumerate(quantization.layers):
            product = products[layer.name]
            put_cell(product.owner, product.attribute, quantized_cell(layer, product.operation))
            try:
                seen = embeddings
                if layer.name.startswith("image_encoder"):
                    seen = [sam.image_encoder(Tensor(example.image)) for example in examples]
                found = [_distance(wanted, _decode(decoder, *pair), pair[1])
                         for wanted, pair in zip(expected, zip(seen, examples))]
            finally:
                restore(product)
            losses.append((layer.name, float(np.mean(found))))
            calibration.progress("sensitivity", index + 1, len(quantization.layers))
    return sorted(losses, key=lambda entry: -entry[1])


def proposal(losses):
    """The fewest layers of (name, distance), largest first, that make PROPOSED_SHARE of the sum, at most
    MOST_PROPOSED."""
    total, wider, reached = sum(loss for _, loss in losses), [], 0.0
    for name, loss in losses:
        if reached >= PROPOSED_SHARE * total or len(wider) == MOST_PROPOSED:
            break
        wider.append(name)
        reached += loss
    return wider


def sensitivity_rows(losses):
    """Lines of the proposal (Markdown), none without losses."""
    if not losses:
        return []
    wider = proposal(losses)
    rows = ["", "| layer alone quantized | KL to the float model |", "|---|---|"]
    rows += [f"| {name} | {loss:.3g} |" for name, loss in losses[:2 * MOST_PROPOSED]]
    return [*rows, "", f"proposal: --quantize.wider=[{','.join(wider)}]"]


def _decode(decoder, embeddings, example):
    masks, ious, _ = decoder(embeddings, Tensor(example.point_coords), Tensor(example.point_labels))
    return masks, ious


def _distance(expected, found, example):
    return float(model_distance(*expected, *found, Tensor(example.valid)).asnumpy())
