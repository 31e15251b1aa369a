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
"""What a quantization is: quantizers of activations, the scales of every layer, and the file that keeps them.

Source: post-training quantization of TinySAM (arXiv 2312.13789, section 3.3): x_q = clip(round(x / s), low, high). A
code is an integer; the value it stands for is scale * code, so zero is always code zero and a zero point, where a
format wants one, is -low of an unsigned range. `scales.json` with its `.npz` of integer weights is the only truth:
evaluation and every export read it, and docs/design.md describes it.
"""
from dataclasses import dataclass, field
from typing import Any, Dict, NamedTuple, Optional, Tuple

import numpy as np

MIN_BITS, MAX_BITS = 2, 8
FORMAT = 1
EXACT = 2**24  # float32 holds every integer up to this
GELU_MINIMUM = -0.16997121  # the least value of x * Phi(x)


def codes_of(values, scale, low, high):
    """Integer-valued codes of an array's type and shape: values / scale, rounded half to even as the hardware does,
    kept in low..high. scale: a number or an array that broadcasts, of the values' type."""
    codes = values / scale
    np.rint(codes, out=codes)
    np.maximum(codes, codes.dtype.type(low), out=codes)
    return np.minimum(codes, codes.dtype.type(high), out=codes)


def signed_limits(bits):
    """(low, high) of the symmetric range of the paper: -2^(b-1) .. 2^(b-1) - 1."""
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


class CodeRange(NamedTuple):
    """Integer codes low..high, each worth `scale`."""

    scale: float
    low: int
    high: int

    def codes(self, x):
        """x float32, any shape -> integer-valued float32."""
        return codes_of(x, np.float32(self.scale), self.low, self.high)


class Quantizer(NamedTuple):
    """Quantizer of one operand.

    kind: "uniform": one range. "twin": values below `split` take the first range, the others the second, and what a
    value does not take holds 0. "log2": the values scale * 2^-code, the last code 0; simulation only, no integer
    product.
    """

    kind: str
    bits: int
    ranges: Tuple[CodeRange, ...]
    split: float = 0.0

    def parts(self, x):
        """x float32 of any shape -> [(scale, codes of x's shape)], x being about the sum of scale * codes."""
        if self.kind == "log2":
            return [(np.float32(self.ranges[0].scale), self._powers(x))]
        if self.kind == "uniform":
            return [(np.float32(self.ranges[0].scale), self.ranges[0].codes(x))]
        below, above = self.ranges
        if self.split == 0.0:  # the ranges' own ends select
            return [(np.float32(below.scale), below.codes(x)), (np.float32(above.scale), above.codes(x))]
        lower = (x < np.float32(self.split)).astype(np.float32)
        return [(np.float32(below.scale), below.codes(x * lower)),
                (np.float32(above.scale), above.codes(x * (np.float32(1) - lower)))]

    def dequantized(self, x):
        """The values the codes of x stand for: float32 of x's shape."""
        total = None
        for scale, codes in self.parts(x):
            codes *= scale
            total = codes if total is None else np.add(total, codes, out=total)
        return total

    def _powers(self, x):
        last = self.ranges[0].high
        smallest = np.float32(2.0 ** -(last + 1))
        exponents = np.clip(np.rint(-np.log2(np.maximum(x / np.float32(self.ranges[0].scale), smallest))), 0, last)
        return np.where(exponents == last, np.float32(0), np.exp2(-exponents)).astype(np.float32)

    def record(self):
        """As an entry of scales.json; `signed` and `zero_point` are those of the stored integers."""
        entry = {"kind": self.kind, "bits": self.bits, "ranges": [range_._asdict() for range_ in self.ranges]}
        if self.kind == "uniform":
            low = self.ranges[0].low
            signed = low == -(2 ** (self.bits - 1))
            entry.update(signed=signed, zero_point=0 if signed else -low)
        elif self.kind == "twin":
            entry["split"] = self.split
        return entry

    @classmethod
    def from_record(cls, entry):
        """The inverse of `record`. ValueError where no scheme makes such a quantizer."""
        ranges = tuple(CodeRange(float(r["scale"]), r["low"], r["high"]) for r in entry["ranges"])
        quantizer = cls(entry["kind"], entry["bits"], ranges, float(entry.get("split", 0.0)))
        if {"uniform": 1, "twin": 2, "log2": 1}.get(quantizer.kind) != len(ranges):
            raise ValueError(f"quantizer {entry} is not of a known kind")
        check_bits("bits of a quantizer", quantizer.bits)
        half, levels = 2 ** (quantizer.bits - 1), 2**quantizer.bits - 1
        for range_ in ranges:
            scale, low, high = range_
            if not (np.isfinite(scale) and scale > 0):
                raise ValueError(f"scale of a quantizer is {scale}; it must be finite and positive")
            whole = all(isinstance(end, int) and not isinstance(end, bool) for end in (low, high))
            fits = whole and low <= 0 <= high and high - low <= levels
            if not fits or quantizer.kind == "twin" and not -half <= low <= high < half:
                raise ValueError(f"codes {low}..{high} are no range of a {quantizer.kind} quantizer of "
                                 f"{quantizer.bits} bits")
        if not (np.isfinite(quantizer.split) and quantizer.split >= 0):
            raise ValueError(f"split of a quantizer is {quantizer.split}; it must be finite and not below 0")
        return quantizer


def largest_code(quantizer):
    """No code of a quantizer is larger in size."""
    return max(max(-r.low, r.high) for r in quantizer.ranges)


def largest_sum(quantizer, reduction, after_softmax=False):
    """No sum of `reduction` codes of a quantizer is larger in size. Behind a softmax values add up to 1, and a code
    that is not 0 stands for at least half of its scale."""
    return max(min(reduction * max(-r.low, r.high), 2.0 / r.scale if after_softmax else np.inf)
               for r in quantizer.ranges)


def check_bits(name, bits, highest=MAX_BITS):
    """Raises ValueError unless `bits` is an integer from 2 to `highest`."""
    if not isinstance(bits, int) or isinstance(bits, bool) or not MIN_BITS <= bits <= highest:
        raise ValueError(f"{name} is {bits}; it must be an integer from {MIN_BITS} to {highest}")


def signed_range(scale, bits):
    """The CodeRange of `signed_limits`."""
    return CodeRange(float(np.float32(scale)), *signed_limits(bits))


def weight_codes(weight, scales, bits):
    """weight [O, ...], scales [O] -> integer-valued float32 codes of the weight's shape, symmetric."""
    shaped = np.asarray(scales, np.float32).reshape((-1,) + (1,) * (weight.ndim - 1))
    return codes_of(weight, shaped, *signed_limits(bits))


@dataclass(frozen=True)
class LayerScales:
    """One quantized product.

    kind: "linear" (weight [out, in]), "conv" (weight [out, in/groups, kh, kw]) or "matmul" (two activations).
    inputs: quantizer of the activation, or of both operands of a matmul.
    weight_codes int8, weight_scales [out] float32, bias [out] float32 or None: of linear and conv.
    reduction: terms of each of its sums. macs: of one image and prompt. error: the search's distance to the float
    product over that product's own size.
    """

    name: str
    kind: str
    weight_bits: int
    activation_bits: int
    inputs: Tuple[Quantizer, ...]
    reduction: int
    macs: int = 0
    error: float = 0.0
    weight_scales: Optional[np.ndarray] = None
    weight_codes: Optional[np.ndarray] = None
    bias: Optional[np.ndarray] = None

    def record(self):
        entry: Dict[str, Any] = {"name": self.name, "kind": self.kind, "activation_bits": self.activation_bits,
                                 "inputs": [quantizer.record() for quantizer in self.inputs],
                                 "reduction": self.reduction, "macs": self.macs, "error": self.error}
        if self.kind != "matmul":
            entry.update(weight_bits=self.weight_bits, weight_zero_point=0, weight_axis=0,
                         weight_scales=[float(scale) for scale in self.weight_scales])
        return entry


@dataclass(frozen=True)
class Quantization:
    """A quantized network beside its checkpoint; what is not here, a network takes from the checkpoint.

    kept: {product: why it stays float}; kept_macs: their {product: MACs}. wider: layers with more bits than the rest.
    parameters: float parameters that replace the checkpoint's, such as norms a scale was moved into.
    parameter_bytes: of the float network with BatchNorm folded in; None in files of earlier versions.
    """

    checkpoint_sha256: str
    variant: str
    image_size: int
    preset: str
    weight_bits: int
    activation_bits: int
    layers: Tuple[LayerScales, ...]
    kept: Dict[str, str]
    kept_macs: Dict[str, int] = field(default_factory=dict)
    wider: Tuple[str, ...] = ()
    parameters: Dict[str, np.ndarray] = field(default_factory=dict)
    settings: Dict[str, Any] = field(default_factory=dict)
    parameter_bytes: Optional[int] = None

    def simulation(self):
        """", ..." for records of a network with products that are simulated in float, such as log2's; "" otherwise."""
        kinds = {quantizer.kind for layer in self.layers for quantizer in layer.inputs}
        return ", simulation only (log2 softmax)" if "log2" in kinds else ""

    def sign_trick(self):
        """Line that says what the sign trick found; "" where it was not applied, or not counted (earlier versions)."""
        if not self.settings.get("sign_trick") or "flipped_attentions" not in self.settings:
            return ""
        return (f"sign trick: keys of {self.settings['flipped_attentions']} of {self.settings.get('attentions')} "
                "attentions flipped")

    def arrays(self):
        """What the file of codes holds: {layer.weight_codes, layer.bias, parameter:name} -> array."""
        arrays = {f"parameter:{name}": np.asarray(value, np.float32) for name, value in self.parameters.items()}
        for layer in self.layers:
            if layer.weight_codes is not None:
                arrays[f"{layer.name}.weight_codes"] = layer.weight_codes.astype(np.int8)
            if layer.bias is not None:
                arrays[f"{layer.name}.bias"] = np.asarray(layer.bias, np.float32)
        return arrays

    def record(self, codes_file, codes_sha256):
        """As the object of scales.json."""
        return {
            "format": FORMAT, "checkpoint_sha256": self.checkpoint_sha256, "variant": self.variant,
            "image_size": self.image_size, "preset": self.preset, "weight_bits": self.weight_bits,
            "activation_bits": self.activation_bits, "wider": list(self.wider), "settings": self.settings,
            "codes_file": codes_file, "codes_sha256": codes_sha256, "parameters": sorted(self.parameters),
            "parameter_bytes": self.parameter_bytes,
            "layers": [layer.record() for layer in self.layers],
            "kept": [{"name": name, "reason": reason, "macs": self.kept_macs.get(name, 0)}
                     for name, reason in self.kept.items()]}
