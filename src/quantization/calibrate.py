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
"""Post-training quantization of a `Sam` (arXiv 2312.13789, section 3.3): fold, observe, search, freeze.

Every image passes twice, once for samples of all inputs and once for gradients at the quantized point; then each
product is searched by itself. Each of these steps is saved, so a killed calibration continues, unless the code or
MindSpore changed meanwhile.
"""
import dataclasses
import hashlib
import json
import shutil
from typing import NamedTuple

import mindspore as ms
import numpy as np

from src.checkpoint.file_hash import sources_sha256
from src.modeling.sam import PromptDecoder
from src.modeling.tiny_vit import TinyViT
from src.quantization.fold import fold_network
from src.quantization.layer_search import LayerSearch
from src.quantization.observe import Observer, Statistics
from src.quantization.products import find_products, reason_to_keep
from src.quantization.settings import FLOAT_BITS, names_product
from src.quantization.spec import LayerScales, Quantization, Quantizer
from src.quantization.work_folder import WorkFolder

FEWEST_IMAGES = 2


class Example(NamedTuple):
    """A calibration picture with prompts: image [1, 3, S, S] float32 normalised, point_coords [1, M, K, 2],
    point_labels [1, M, K] int32, valid [1, M] float32, all as docs/design.md has a batch."""

    image: np.ndarray
    point_coords: np.ndarray
    point_labels: np.ndarray
    valid: np.ndarray


def check_pictures(pictures):
    """Raises ValueError for a picture [1, 3, S, S] that nothing can be calibrated with."""
    count = len(pictures)
    for index, picture in enumerate(pictures):
        if not np.isfinite(picture).all():
            raise ValueError(f"calibration picture {index + 1} of {count} holds a value that is not finite")
    # Padding is 0, and a picture of one colour has one more value per channel.
    flat = [all(len(np.unique(channel[channel != 0])) <= 1 for channel in picture[0]) for picture in pictures]
    if any(flat):
        raise ValueError(f"{sum(flat)} of {count} calibration pictures are of a single colour, the first is number "
                         f"{flat.index(True) + 1}; give photographs like those the network will see")


def check_examples(examples):
    """Raises ValueError for calibration pictures that scales cannot be learned from."""
    count = len(examples)
    if count < FEWEST_IMAGES:
        raise ValueError(f"{count} calibration picture{'s' * (count != 1)}; give at least {FEWEST_IMAGES}, the paper "
                         "takes 8: scales of one picture fit no other")
    check_pictures([example.image for example in examples])
    distinct = len({hashlib.sha256(example.image.tobytes()).digest() for example in examples})
    if distinct < FEWEST_IMAGES:
        raise ValueError(f"{count} calibration pictures, but only {distinct} distinct; give at least {FEWEST_IMAGES} "
                         "that differ, the paper takes 8: scales of one picture fit no other")
    if not any(example.valid.any() for example in examples):
        raise ValueError(f"none of the {count} calibration pictures has a mask to prompt with")


class Calibration:
    """Calibrates one network.

    Args:
        sam: a `Sam` with a TinyViT encoder; folded in place.
        settings: QuantizeSettings (src/quantization/settings.py).
        checkpoint_sha256: hash of the file its weights come from.
        folder: where steps are kept.
        progress: function of (stage, done, total), called after each step.

    Raises:
        ValueError: another encoder, or `wider` names what is no product.
    """

    def __init__(self, sam, settings, checkpoint_sha256, folder, progress=lambda stage, done, total: None):
        if not isinstance(sam.image_encoder, TinyViT):
            raise ValueError(f"variant {sam.variant} has no TinyViT encoder; students are quantized, teachers are not")
        self.sam, self.settings, self.checkpoint_sha256 = fold_network(sam), settings, checkpoint_sha256
        self.folder, self.progress = folder, progress
        products = find_products(sam)
        self._check_wider(products)
        reasons = {product.name: self._reason(product) for product in products}
        self.kept = {name: reason for name, reason in reasons.items() if reason}
        self.products = [product for product in products if product.name not in self.kept]
        if not self.products:
            raise ValueError("quantize.wider and quantize.convolutions leave no product to quantize")
        self._everything = products
        self.observer = Observer(sam, PromptDecoder(sam).set_train(False), self.products, settings.seed)

    def run(self, examples):
        """Quantization from a list of Example.

        Raises:
            ValueError: pictures that scales cannot be learned from, or values that are not finite on the way.
        """
        check_examples(examples)
        work = WorkFolder(self.folder, {
            "settings": dataclasses.asdict(self.settings), "sha256": self.checkpoint_sha256,
            "size": self.sam.image_size, "pictures": [_digest(e) for e in examples], "mindspore": ms.__version__,
            "sources": sources_sha256("modeling", "quantization")})
        macs = self._count_macs()
        self._observe(work, examples)
        search = LayerSearch(self.observer, self.settings, work, len(examples))
        layers = []
        for index, product in enumerate(self.products):
            layers.append(self._searched(work, search, product, index))
            self.progress("search", index + 1, len(self.products))
        return Quantization(
            self.checkpoint_sha256, self.sam.variant, self.sam.image_size, self.settings.preset,
            self.settings.weight_bits, self.settings.activation_bits,
            tuple(dataclasses.replace(layer, macs=macs[layer.name]) for layer in layers), self.kept,
            {name: macs.get(name, 0) for name in self.kept},
            tuple(p.name for p in self.products if self.settings.is_wider(p.name)), search.parameters,
            {**dataclasses.asdict(self.settings), "pictures": len(examples), "attentions": search.attentions,
             "flipped_attentions": search.flipped},
            sum(parameter.nbytes for parameter in self.sam.get_parameters()))

    def remove_steps(self):
        """Delete the saved steps."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _reason(self, product):
        settings = self.settings
        reason = reason_to_keep(product, settings.quantizes_decoder_attention(), settings.convolutions)
        if not reason and settings.is_wider(product.name) and settings.wide_bits == FLOAT_BITS:
            reason = "named by quantize.wider, float by quantize.wide_bits"
        return reason

    def _check_wider(self, products):
        for entry in self.settings.wider:
            if not any(names_product(entry, product.name) for product in products):
                raise ValueError(f"quantize.wider: '{entry}' is no product of {self.sam.variant}, nor a part that "
                                 "holds one; scales.json lists the names")

    def _count_macs(self):
        everything = Observer(self.sam, self.observer.decoder, self._everything, self.settings.seed)
        everything.count_macs()
        self.observer.macs, self.observer.reductions = everything.macs, everything.reductions
        return everything.macs

    def _observe(self, work, examples):
        bits = {product.name: self.settings.bits(product.name) for product in self.products}
        for index, example in enumerate(examples):
            if not work.has(f"inputs_{index}"):
                self._save_inputs(work, index, example)
            self._add_statistics(work.open(f"inputs_{index}"))
            self.progress("inputs", index + 1, len(examples))
        for index, example in enumerate(examples):
            if self.settings.metric == "hessian" and not work.has(f"gradients_{index}"):
                stored = work.open(f"inputs_{index}")
                gradients, _ = self.observer.gradient_pass(index, example, (stored["masks"], stored["ious"]), bits)
                work.save(f"gradients_{index}", gradients)
            self.progress("gradients", index + 1, len(examples))

    def _save_inputs(self, work, index, example):
        """One picture's samples, its outputs, and its own ranges, so that those of all can be put together again."""
        totals = self.observer.statistics
        ranges = self.observer.statistics = {product.name: Statistics() for product in self.products}
        samples, (masks, ious) = self.observer.float_pass(index, example)
        arrays = {"masks": masks, "ious": ious}
        for name, operands in samples.items():
            arrays.update({f"{name}@{operand}": array for operand, array in enumerate(operands)})
        for name, statistics in ranges.items():
            arrays[f"{name}@range"] = np.array([statistics.low, statistics.high])
            if statistics.channel_max is not None:
                arrays[f"{name}@channels"] = statistics.channel_max
        work.save(f"inputs_{index}", arrays)
        self.observer.statistics = totals

    def _add_statistics(self, stored):
        for product in self.products:
            channels = stored[f"{product.name}@channels"] if f"{product.name}@channels" in stored else None
            self.observer.statistics[product.name].merge(*stored[f"{product.name}@range"], channels)

    def _searched(self, work, search, product, index):
        """LayerScales of a product, searched now or before."""
        step = f"layer_{index}"
        if work.has(step):
            stored = work.open(step)
            record = json.loads(str(stored["record"]))
            arrays = {key: stored[key] for key in ("weight_scales", "weight_codes", "bias") if key in stored}
            return LayerScales(product.name, product.kind, *search.bits_of(product),
                               tuple(Quantizer.from_record(entry) for entry in record["inputs"]), record["reduction"],
                               error=record["error"], **arrays)
        layer = search.layer(product)
        arrays = {key: getattr(layer, key) for key in ("weight_scales", "weight_codes", "bias")
                  if getattr(layer, key) is not None}
        record = {"inputs": [q.record() for q in layer.inputs], "reduction": layer.reduction, "error": layer.error}
        work.save(step, {"record": np.array(json.dumps(record)), **arrays})
        return layer


def _digest(example):
    """Numbers that tell one picture with its prompts from another."""
    return [float(np.float64(array).sum()) for array in example] + [float((example.image[..., ::7] ** 2).sum())]
