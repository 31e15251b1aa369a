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
"""How to quantize: the section `quantize` of the configuration, and what its presets stand for."""
import dataclasses

from src.quantization.spec import check_bits

FLOAT_BITS = 32
PRESETS = {
    # operands behind GELU and softmax                 products of two activations in the decoder
    "paper": {"gelu": "twin", "softmax": "twin", "decoder_attention": True},
    "ascend": {"gelu": "signed", "softmax": "signed", "decoder_attention": False},
}


@dataclasses.dataclass(frozen=True)
class QuantizeSettings:
    """How to quantize; names, meaning and values are those of the section `quantize` of default_config.yaml."""

    preset: str = "paper"
    weight_bits: int = 8
    activation_bits: int = 8
    wider: tuple = ()
    wide_bits: int = 8
    convolutions: bool = True
    decoder_attention: str = "preset"
    metric: str = "hessian"
    gelu: str = "preset"
    softmax: str = "preset"
    reparametrise: bool = False
    sign_trick: bool = False
    bias_correction: bool = False
    rounding: str = "nearest"
    candidates: int = 100
    rounds: int = 3
    seed: int = 1

    def __post_init__(self):
        if self.preset not in PRESETS:
            raise ValueError(f"quantize.preset is {self.preset!r}; it must be one of {', '.join(PRESETS)}")
        check_bits("quantize.weight_bits", self.weight_bits)
        check_bits("quantize.activation_bits", self.activation_bits)
        if self.wide_bits != FLOAT_BITS:
            check_bits("quantize.wide_bits", self.wide_bits)
        narrow, wide = sorted((self.weight_bits, self.activation_bits))
        if self.wider and (self.wide_bits < wide or self.wide_bits == narrow):
            elsewhere = f"{wide} bits" if narrow == wide else f"W{self.weight_bits}A{self.activation_bits}"
            least = "more" if narrow == wide else f"at least {wide}"
            raise ValueError(f"quantize.wide_bits is {self.wide_bits}; with {elsewhere} elsewhere it must be {least}, "
                             f"{FLOAT_BITS} for float")

        if self.sign_trick and not self.quantizes_decoder_attention():
            why = "quantize.decoder_attention" if self.decoder_attention == "float" else f"preset {self.preset}"
            raise ValueError(f"quantize.sign_trick flips keys of the decoder's attention, which is float by {why}; add "
                             "--quantize.decoder_attention=quantized, or leave sign_trick out")

    def style(self, key):
        """`gelu` or `softmax`, the preset's own where the setting says so."""
        value = {"gelu": self.gelu, "softmax": self.softmax}[key]
        return PRESETS[self.preset][key] if value == "preset" else value

    def quantizes_decoder_attention(self):
        """Whether the decoder's products of two activations are quantized."""
        if self.decoder_attention == "preset":
            return PRESETS[self.preset]["decoder_attention"]
        return self.decoder_attention == "quantized"

    def is_wider(self, name):
        """True for a product that `wider` names, by itself or by what its name begins with."""
        return any(names_product(entry, name) for entry in self.wider)

    def bits(self, name):
        """(weight bits, activation bits) of a product."""
        return (self.wide_bits,) * 2 if self.is_wider(name) else (self.weight_bits, self.activation_bits)


def names_product(entry, name):
    """Whether an entry of `wider` names the product `name`, by itself or by what its name begins with."""
    return name == entry or name.startswith(entry + ".")
