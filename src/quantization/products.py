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
"""Every matrix product and convolution of a network, by name.

The list is the coverage: what runs quantized and what stays float, with the reason, adds up to it, or a network is
refused. Names are those of the folded network (`fold_network`).
"""
from typing import Any, NamedTuple

import numpy as np
from mindspore import nn, ops

from src.modeling.prompt_encoder import PositionEmbeddingRandom

SOFTMAX_FIRST = ("mix", "weighted_sum")  # products whose first operand comes from a softmax
PRIMITIVES = (ops.MatMul, ops.BatchMatMul, ops.Conv2D)


class Product(NamedTuple):
    """A product. kind: "linear", "conv" or "matmul"; `operation` is what the attribute of `owner` held when found."""

    name: str
    kind: str
    owner: nn.Cell
    attribute: str
    operation: Any

    @property
    def weight(self):
        """[out, ...] float32 of linear and conv."""
        return self.operation.weight.asnumpy()

    @property
    def bias(self):
        """[out] float32 or None."""
        return None if self.operation.bias is None else self.operation.bias.asnumpy()

    @property
    def after_softmax(self):
        return self.kind == "matmul" and self.attribute in SOFTMAX_FIRST

    @property
    def transposes_second(self):
        """True for the product A B^T of operands stored as A [.., N, K] and B [.., M, K]."""
        return bool(self.operation.transpose_b)


def find_products(network):
    """All products of a network that is folded and not quantized yet, in order of definition: list of Product."""
    products = []
    for prefix, cell in network.cells_and_names():
        if isinstance(cell, (nn.Dense, nn.Conv2d, nn.Embedding)):
            continue  # listed by its owner; of an embedding only the table is read
        dot = f"{prefix}." if prefix else ""
        for attribute, child in cell._cells.items():
            if isinstance(child, (nn.Dense, nn.Conv2d)):
                kind = "linear" if isinstance(child, nn.Dense) else "conv"
                products.append(Product(dot + attribute, kind, cell, attribute, child))
        for attribute, primitive in cell._primitives.items():
            if isinstance(primitive, PRIMITIVES):
                products.append(Product(dot + attribute, "matmul", cell, attribute, primitive))
    return products


def reason_to_keep(product, decoder_attention=True, convolutions=True):
    """Why a product stays float whatever its sensitivity, or "".

    decoder_attention, convolutions: False keeps the decoder's products of two activations, or all convolutions.
    """
    if isinstance(product.owner, PositionEmbeddingRandom):
        return "makes the phases of positions: rounding them would merge neighbouring pixels"
    if product.name.startswith("prompt_encoder.mask_downscaling"):
        return "runs only where a mask is a prompt, which calibration does not show"
    if product.kind == "matmul" and product.name.startswith("mask_decoder") and not decoder_attention:
        return "a product of two activations in the decoder, float by the preset or quantize.decoder_attention"
    if product.kind == "conv" and not convolutions:
        return "a convolution, float by quantize.convolutions"
    return ""


def check_coverage(products, quantized, kept, source):
    """Raises ValueError unless every product is in exactly one of the collections of names `quantized` and `kept`."""
    names = {product.name for product in products}
    listed = list(quantized) + list(kept)
    missing = sorted(names - set(listed))
    unknown = sorted(set(listed) - names)
    twice = sorted({name for name in listed if listed.count(name) > 1})
    for what, found in (("is listed neither as quantized nor as float", missing),
                        ("is not a product of this network", unknown), ("is listed twice", twice)):
        if found:
            raise ValueError(f"{source}: {found[0]} {what} ({len(found)} such); run quantize.py again for this network")


def reduction_of(product, first_shape):
    """Length of the sums of a product whose first operand has `first_shape`."""
    if product.kind == "matmul":
        return int(first_shape[-2 if getattr(product.operation, "transpose_a", False) else -1])
    return int(np.prod(product.operation.weight.shape[1:]))
