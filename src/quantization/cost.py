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
"""What a quantized network costs: bytes, multiply-accumulates by the paper's rule, and bit operations.

The paper (arXiv 2312.13789, table 1) counts a multiply-accumulate on b-bit operands as b / 32 of one in float32: its
42.0 G are 20.3 G at 8 bits, so 29 G of them are quantized. Bit operations multiply both widths, 32 for float.
"""
from typing import NamedTuple

FLOAT_BITS = 32


class Cost(NamedTuple):
    """bytes of all parameters; macs and scaled_macs (the paper's rule); bit_operations; share of MACs quantized."""

    bytes: int
    macs: int
    scaled_macs: float
    bit_operations: float
    quantized_share: float


def float_cost(quantization):
    """Cost of the float network that a Quantization was made of. ValueError as `quantized_cost`."""
    macs = quantized_cost(quantization).macs
    return Cost(quantization.parameter_bytes, macs, float(macs), float(macs) * FLOAT_BITS**2, 0.0)


def quantized_cost(quantization):
    """Cost of a Quantization.

    Weights of b bits count b / 8 bytes and 4 bytes for each channel's scale; everything else stays float32. A product
    of two widths counts by the wider one under the paper's rule.

    Raises:
        ValueError: a file of an earlier version, without the bytes of the float network.
    """
    if quantization.parameter_bytes is None:
        raise ValueError("the scales do not say how many bytes the parameters have; run quantize.py again")
    size, scaled, operations, quantized = float(quantization.parameter_bytes), 0.0, 0.0, 0
    for layer in quantization.layers:
        weight_bits = layer.weight_bits or layer.activation_bits
        scaled += layer.macs * max(weight_bits, layer.activation_bits) / FLOAT_BITS
        operations += layer.macs * weight_bits * layer.activation_bits
        quantized += layer.macs
        if layer.weight_codes is not None:
            size += layer.weight_codes.size * (layer.weight_bits / 8 - 4) + 4 * len(layer.weight_scales)
    kept = sum(quantization.kept_macs.values())
    macs = quantized + kept
    return Cost(int(round(size)), macs, scaled + kept, operations + kept * FLOAT_BITS**2, quantized / macs)


def cost_rows(quantization):
    """Lines of the table that quantize.py writes (Markdown)."""
    float_, quantized = float_cost(quantization), quantized_cost(quantization)
    bits = f"W{quantization.weight_bits}A{quantization.activation_bits}"
    title = f"{bits}, {quantization.preset}{quantization.simulation()}"
    rows, flips = cost_table([("float32", float_), (title, quantized)]), quantization.sign_trick()
    return [*rows, "", flips] if flips else rows


def cost_table(costs):
    """Lines of a table (Markdown) of (name, Cost)."""
    lines = ["| model | MiB | MACs, G | MACs by the paper's rule, G | bit operations, T | quantized MACs |",
             "|---|---|---|---|---|---|"]
    lines += [f"| {name} | {cost.bytes / 2**20:.2f} | {cost.macs / 1e9:.2f} | {cost.scaled_macs / 1e9:.2f} | "
              f"{cost.bit_operations / 1e12:.2f} | {100 * cost.quantized_share:.1f} % |" for name, cost in costs]
    return lines
