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
"""One pass of an image that keeps samples of every product at once: inputs of the float model, then gradients of the
distance between it and the quantized model at each product's output (arXiv 2312.13789, section 3.3).

The network runs in PyNative, its products inside cells that look on. In the second pass inputs and weights are rounded
with the ranges seen in the first, and the gradient passes through the rounding as if it were not there.
"""
import contextlib

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from src.modeling.replace import put_cell
from src.quantization import sampling
from src.quantization.losses import model_distance
from src.quantization.products import reduction_of
from src.quantization.spec import signed_range, weight_codes

FLOAT, ROUNDED, COUNT = "float", "rounded", "count"


class Statistics:
    """Ranges of a product's inputs over all positions of all images: low, high of each, channel_max [C] of one."""

    def __init__(self):
        self.low, self.high, self.channel_max = [np.inf, np.inf], [-np.inf, -np.inf], None

    def add(self, operand, array, channels):
        """Widen by the values of one operand, and if `channels` by the largest of each channel (last axis)."""
        self.low[operand] = min(self.low[operand], float(array.min()))
        self.high[operand] = max(self.high[operand], float(array.max()))
        if channels:
            self._widen_channels(np.abs(array.reshape(-1, array.shape[-1])).max(0))

    def merge(self, low, high, channel_max=None):
        """Widen by the ranges of another picture."""
        self.low = [min(*pair) for pair in zip(self.low, low)]
        self.high = [max(*pair) for pair in zip(self.high, high)]
        if channel_max is not None:
            self._widen_channels(channel_max)

    def _widen_channels(self, largest):
        self.channel_max = largest if self.channel_max is None else np.maximum(self.channel_max, largest)

    def largest(self, operand):
        """Largest absolute value of an operand; 1 where it never was anything but 0."""
        return max(abs(self.low[operand]), abs(self.high[operand])) or 1.0


class RoundThrough(nn.Cell):
    """Rounds to a range's codes and back; the gradient passes unchanged."""

    def __init__(self, range_):
        super().__init__()
        self.range_ = range_

    def construct(self, x):
        codes = ops.round(x / self.range_.scale)
        return ops.clip_by_value(codes, self.range_.low, self.range_.high) * self.range_.scale

    def bprop(self, x, out, dout):
        return (dout,)


class GradientProbe(nn.Cell):
    """Passes a value on and hands the gradient at it, as an array, to `keep`."""

    def __init__(self, keep):
        super().__init__()
        self.keep = keep

    def construct(self, x):
        return x * 1.0

    def bprop(self, x, out, dout):
        self.keep(dout.asnumpy())
        return (dout,)


class ObservedProduct(nn.Cell):
    """A product that tells an `Observer` what passes, and rounds its inputs where the observer asks."""

    def __init__(self, product, observer):
        super().__init__()
        self.operation = product.operation
        self.product, self.observer = product, observer
        self.probe = GradientProbe(lambda gradient: observer.keep_gradient(product, gradient))
        self.rounding = None

    def construct(self, *inputs):
        phase = self.observer.phase
        if phase == ROUNDED:
            inputs = [rounding(x) for rounding, x in zip(self.rounding, inputs)]
        out = self.operation(*inputs)
        if phase == COUNT:
            self.observer.count(self.product, inputs, out)
        elif phase == FLOAT:
            self.observer.keep_inputs(self.product, [x.asnumpy() for x in inputs], out.shape)
        elif phase == ROUNDED:
            out = self.probe(out)
        return out


class Observer:
    """Looks at a folded `Sam` while images pass.

    Args:
        sam, decoder: the network and its `PromptDecoder`.
        products: those to look at.
        seed: of the sampled positions.

    Attributes:
        statistics: {product: Statistics}; macs, reductions: {product: int}, from `count_macs`.
    """

    def __init__(self, sam, decoder, products, seed):
        self.sam, self.decoder, self.products, self.seed = sam, decoder, products, seed
        self.statistics = {product.name: Statistics() for product in products}
        self.macs, self.reductions = {}, {}
        self.phase, self._image, self._samples = None, 0, {}
        self._cells = {product.name: ObservedProduct(product, self) for product in products}

    @contextlib.contextmanager
    def looking(self, phase):
        """PyNative, with the observed products in place; everything as it was behind it."""
        self.phase = phase
        for product in self.products:
            put_cell(product.owner, product.attribute, self._cells[product.name])
        try:
            with pynative():
                yield
        finally:
            self.phase = None
            for product in self.products:
                restore(product)

    def count_macs(self):
        """Multiply-accumulates and length of the sums of every product, for one image and one click."""
        side = self.sam.image_size
        with self.looking(COUNT):
            embeddings = self.sam.image_encoder(Tensor(np.zeros((1, 3, side, side), np.float32)))
            click = np.zeros((1, 1, 2, 2), np.float32), np.array([[[1, -1]]], np.int32)
            self.decoder(embeddings, *map(Tensor, click))

    def count(self, product, inputs, out):
        reduction = reduction_of(product, inputs[0].shape)
        self.reductions[product.name] = reduction
        self.macs[product.name] = self.macs.get(product.name, 0) + int(np.prod(out.shape)) * reduction

    def float_pass(self, image, example):
        """Samples {product: tuple of arrays} and outputs (masks, ious) of the float model, example number `image`.

        Raises:
            ValueError: values that are not finite, on the way to a product or in the outputs.
        """
        self._image, self._samples = image, {}
        with self.looking(FLOAT):
            masks, ious, _ = self.decoder(self.sam.image_encoder(Tensor(example.image)), Tensor(example.point_coords),
                                          Tensor(example.point_labels))
        outputs = masks.asnumpy(), ious.asnumpy()
        for what, values in zip(("masks", "IoUs"), outputs):
            if not np.isfinite(values).all():  # the last products' own weights: no product receives their results
                raise ValueError(f"{what} of the float network are not finite on calibration picture {image + 1}: its "
                                 "weights or the picture are the cause; look at the checkpoint and at the picture")
        return self._samples, outputs

    def keep_inputs(self, product, inputs, out_shape):
        name, rng = product.name, sampling.generator(self.seed, self._image, product.name)
        if not all(np.isfinite(x).all() for x in inputs):
            raise ValueError(f"{name} receives values that are not finite on calibration picture {self._image + 1}; "
                             "look at the picture and at the checkpoint")
        for operand, x in enumerate(inputs):
            self.statistics[name].add(operand, x, product.kind == "linear")
        if product.kind == "linear":
            self._samples[name] = (sampling.linear_rows(inputs[0], rng),)
        elif product.kind == "conv":
            self._samples[name] = (sampling.conv_patches(inputs[0], product.operation, out_shape, rng),)
        else:
            a, b = pair_of(product, *inputs)
            # Two generators in the same state, since gradients take the places again.
            self._samples[name] = sampling.pair_samples(a, b, rng)

    def gradient_pass(self, image, example, outputs, bits):
        """Gradients {product: array} of the distance to the float model's `outputs` at the rounded model, and it.

        bits: {product: (weight bits, activation bits)}.
        """
        self._image, self._samples = image, {}
        for product in self.products:
            self._cells[product.name].rounding = [
                RoundThrough(signed_range(self.statistics[product.name].largest(operand)
                                          / 2 ** (bits[product.name][1] - 1), bits[product.name][1]))
                for operand in range(2 if product.kind == "matmul" else 1)]
        masks, ious, valid = Tensor(outputs[0]), Tensor(outputs[1]), Tensor(example.valid)

        def distance(embeddings, point_coords):
            new_masks, new_ious, _ = self.decoder(embeddings, point_coords, Tensor(example.point_labels))
            return model_distance(masks, ious, new_masks, new_ious, valid)

        # First the decoder, then the encoder with the decoder's gradient: their activations are never held together.
        # Products of tokens alone have gradients only if the points have.
        picture = Tensor(example.image)
        with self.looking(ROUNDED), rounded_weights(self.products, bits):
            embeddings = self.sam.image_encoder(picture)
            value, (slope, _) = ms.value_and_grad(distance, (0, 1))(embeddings, Tensor(example.point_coords))
            ms.grad(lambda pixels: ops.sum(self.sam.image_encoder(pixels) * slope))(picture)
        return self._samples, float(value.asnumpy())

    def keep_gradient(self, product, gradient):
        rng = sampling.generator(self.seed, self._image, product.name)
        if product.kind == "linear":
            kept = sampling.linear_rows(gradient, rng)
        elif product.kind == "conv":
            kept = sampling.conv_gradients(gradient, product.operation.group, rng)
        else:
            kept = sampling.pair_gradients(sampling.four_axes(gradient), self.reductions[product.name], rng)
        self._samples[product.name] = kept


@contextlib.contextmanager
def pynative():
    """PyNative mode, and the mode that was there behind it."""
    graph = ms.get_context("mode") == ms.GRAPH_MODE
    ms.set_context(mode=ms.PYNATIVE_MODE)
    try:
        yield
    finally:
        if graph:
            ms.set_context(mode=ms.GRAPH_MODE)


@contextlib.contextmanager
def rounded_weights(products, bits):
    """The weights rounded per channel with their largest values as ranges; the old ones behind it."""
    old = {}
    for product in products:
        if product.kind != "matmul":
            weight = product.weight
            old[product.name] = weight.copy()
            num_bits = bits[product.name][0]
            scales = channel_scales(weight, num_bits)
            rounded = weight_codes(weight, scales, num_bits) * scales.reshape((-1,) + (1,) * (weight.ndim - 1))
            product.operation.weight.set_data(Tensor(rounded.astype(np.float32)))
    try:
        yield
    finally:
        for product in products:
            if product.name in old:
                product.operation.weight.set_data(Tensor(old[product.name]))


def channel_scales(weight, bits):
    """Scales [O] that let the largest weight of each channel have the largest code; 1 where all are 0."""
    largest = np.abs(weight.reshape(len(weight), -1)).max(1)
    return (np.where(largest == 0, 1, largest) / 2 ** (bits - 1)).astype(np.float32)


def pair_of(product, a, b):
    """The operands of a product of two activations as [b, h, N, K] and [b, h, K, M]."""
    return sampling.four_axes(a), sampling.four_axes(b, product.transposes_second)


def restore(product):
    """Put a product's own operation back. A primitive comes back as what it was, not as a cell."""
    owner, attribute = product.owner, product.attribute
    if product.kind == "matmul":
        del owner._cells[attribute]
        setattr(owner, attribute, product.operation)
    else:
        put_cell(owner, attribute, product.operation)
