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
"""From the samples of all pictures to the LayerScales of each product, with the switched-on improvements around the
search."""
import numpy as np

from src.quantization import improve, sampling
from src.quantization.exact import check_exact
from src.quantization.search import Grid, activation_candidates, distance, search_pair, search_weighted
from src.quantization.spec import GELU_MINIMUM, LayerScales, weight_codes

NORMS_BEFORE = {"qkv": "norm", "fc1": "norm"}  # linear layers of TinyViT whose input is a norm of the same cell
TOLERANCE = 1e-4  # below GELU's minimum
# Share of the mean importance that every output gets: a unit that happens to be off in all samples has no gradient, and
# without a floor its weights would be rounded to anything.
LEAST_IMPORTANCE = 0.1


class LayerSearch:
    """Searches one product after another.

    Args:
        observer: with statistics of all pictures and reductions.
        settings: QuantizeSettings.
        work: WorkFolder with steps inputs_0.. and, for the metric "hessian", gradients_0..
        pictures: their number.

    Attributes:
        parameters: float parameters of the network that the improvements change, {name: array}.
        attentions: how many attentions the sign trick looked at; flipped: of how many it flipped keys.
    """

    def __init__(self, observer, settings, work, pictures):
        self._observer, self._settings = observer, settings
        self._inputs = [work.open(f"inputs_{index}") for index in range(pictures)]
        hessian = settings.metric == "hessian"
        self._gradients = [work.open(f"gradients_{index}") for index in range(pictures)] if hessian else []
        self._grid = Grid(count=settings.candidates, rounds=settings.rounds)
        self._factors, self._row_signs, self._key_signs, self.parameters = {}, {}, {}, {}
        self.attentions = 0
        if settings.reparametrise:
            self._move_scales_of_norms()
        if settings.sign_trick:
            self._flip_keys()

    @property
    def flipped(self):
        return len(self._key_signs)

    def bits_of(self, product):
        """(weight bits, activation bits); a product of two activations has no weight."""
        weight_bits, activation_bits = self._settings.bits(product.name)
        return (0 if product.kind == "matmul" else weight_bits), activation_bits

    def layer(self, product):
        """LayerScales of a product. ValueError where no cell could compute its sums exactly."""
        found = self._searched(product)
        check_exact(found, _groups(product))
        return found

    def _searched(self, product):
        importance = self._importance(product)
        reduction = self._observer.reductions[product.name]
        if product.kind == "matmul":
            return self._pair(product, importance, reduction)
        a = np.concatenate([stored[f"{product.name}@0"] for stored in self._inputs], 1)
        weight, bias, groups, a = self._prepared(product, a)
        weight_bits, bits = self.bits_of(product)
        by_group = sampling.weights_by_group(weight, groups)
        low, high = self._range(product, a)
        quantizers = activation_candidates(self._style(low), bits, low, high, self._grid)
        quantizer, scales, error = search_weighted(a, by_group, importance, quantizers, weight_bits, self._grid)
        codes, bias = self._rounded(weight, by_group, bias, a, quantizer, scales, weight_bits)
        return LayerScales(product.name, product.kind, weight_bits, bits, (quantizer,), reduction, error=error,
                           weight_scales=scales, weight_codes=codes.astype(np.int8), bias=bias)

    def _pair(self, product, importance, reduction):
        a, b = (np.concatenate([stored[f"{product.name}@{k}"] for stored in self._inputs]) for k in (0, 1))
        statistics, (_, bits) = self._observer.statistics[product.name], self.bits_of(product)
        styles = [self._style(low) for low in statistics.low]
        lows, highs = list(statistics.low), list(statistics.high)
        if product.after_softmax:
            soft = self._settings.style("softmax")
            styles[0] = "twin_softmax" if soft == "twin" else soft
        signs = self._key_signs.get(product.name)
        if signs is not None:
            a, b = a * signs[None, :, None, :], b * signs[None, :, :, None]
            styles[1], lows[1], highs[1] = "offset", float(b.min()), float(b.max())
        first, second = (activation_candidates(style, bits, low, high, self._grid)
                         for style, low, high in zip(styles, lows, highs))
        *chosen, error = search_pair(a, b, importance, first, second, self._grid, reduction, product.after_softmax)
        return LayerScales(product.name, product.kind, 0, bits, tuple(chosen), reduction, error=error)

    def _style(self, low):
        """How an operand is quantized whose values are not below `low`."""
        if low < GELU_MINIMUM - TOLERANCE:
            return "signed"
        gelu = self._settings.style("gelu")
        if gelu == "twin":
            return "twin_gelu" if low < 0 else "signed"
        return gelu

    def _importance(self, product):
        """Squared gradients of all pictures over their mean, and the floor; None without gradients. ValueError unless
        they are finite: every candidate would be as good as any other."""
        if not self._gradients:
            return None
        axis = 0 if product.kind == "matmul" else 1
        gradients = np.concatenate([stored[product.name] for stored in self._gradients], axis)
        if not np.isfinite(gradients).all():
            raise ValueError(f"{product.name} has gradients that are not finite; look at the checkpoint and at the "
                             "pictures, or quantize with --quantize.metric=mse, which needs none")
        largest = np.abs(gradients).max()
        if largest == 0:
            return None
        squares = np.square(gradients / largest)
        return squares / squares.mean() + np.float32(LEAST_IMPORTANCE)

    def _prepared(self, product, a):
        """(weight, bias, groups, a) behind the changes that leave the product what it is."""
        weight, bias = product.weight, product.bias
        factors, signs = self._factors.get(product.name), self._row_signs.get(product.name)
        if factors is not None:
            weight, a = weight * factors, a / factors
        if signs is not None:
            weight, bias = weight * signs[:, None], bias * signs
        return weight, bias, _groups(product), a

    def _range(self, product, a):
        statistics = self._observer.statistics[product.name]
        if product.name in self._factors:
            widest = float((statistics.channel_max / self._factors[product.name]).max())
            return -widest, widest
        return statistics.low[0], statistics.high[0]

    def _rounded(self, weight, by_group, bias, a, quantizer, scales, bits):
        """Codes of the weight's shape and the bias, by the settings `rounding` and `bias_correction`."""
        groups, inner, outs = by_group.shape
        codes = weight_codes(weight, scales, bits)
        seen = quantizer.dequantized(a)
        if self._settings.rounding == "gptq":
            better = improve.passed_on_rounding(by_group, seen, scales, bits)
            shaped = scales.reshape(groups, 1, outs)
            nearest = sampling.weights_by_group(codes, groups)
            target = np.matmul(seen, by_group)
            if (distance(np.matmul(seen, better * shaped), target, None)
                    < distance(np.matmul(seen, nearest * shaped), target, None)):
                codes = better.transpose(0, 2, 1).reshape(weight.shape)
        if self._settings.bias_correction:
            rounded = sampling.weights_by_group(codes, groups) * scales.reshape(groups, 1, outs)
            missing = improve.bias_correction(np.matmul(a, by_group), np.matmul(seen, rounded))
            bias = missing if bias is None else bias + missing
        return codes, bias

    def _move_scales_of_norms(self):
        for product in self._observer.products:
            norm = getattr(product.owner, NORMS_BEFORE.get(product.attribute, ""), None)
            if norm is None or product.kind != "linear":
                continue
            factors = improve.channel_factors(self._observer.statistics[product.name].channel_max)
            self._factors[product.name] = factors
            prefix = f"{product.name.rpartition('.')[0]}.{NORMS_BEFORE[product.attribute]}"
            self.parameters.update({f"{prefix}.{key}": getattr(norm, key).asnumpy() / factors
                                    for key in ("gamma", "beta")})

    def _flip_keys(self):
        """Signs of the decoder's attentions, whose queries and keys come from linear layers of their own."""
        names = {product.name for product in self._observer.products}
        for product in self._observer.products:
            before = product.name.rpartition(".")[0]
            projections = (f"{before}.q_proj", f"{before}.k_proj")
            if product.attribute != "scores" or not names.issuperset(projections):
                continue
            self.attentions += 1
            keys = np.concatenate([stored[f"{product.name}@1"] for stored in self._inputs])
            signs = improve.key_signs(keys)
            if signs is not None:
                self._key_signs[product.name] = signs
                self._row_signs.update({name: signs.reshape(-1) for name in projections})


def _groups(product):
    return product.operation.group if product.kind == "conv" else 1
