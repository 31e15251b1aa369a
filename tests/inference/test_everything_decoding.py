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
"""Segment everything with a network: fast decoding gives what plain decoding gives, in shapes that are known before."""
import dataclasses

import numpy as np
import pytest
from colour_predictor import grid
from pycocotools import mask as coco_mask

from src.inference.everything import EverythingGenerator, EverythingSettings
from src.inference.everything_decoding import FastDecoding, PlainDecoding
from src.inference.predictor import SamPredictor
from src.modeling.build_sam import build_sam_around
from src.modeling.image_encoder import ImageEncoderViT
from src.prompts.labels import EMPTY, FOREGROUND, NOT_A_POINT


@pytest.fixture(scope="module")
def tiny_predictor():
    """A network with predicted IoUs around the threshold and masks that are stable at a small offset."""
    def encoder(image_size):
        return ImageEncoderViT(image_size, 16, 32, 1, 2, 2, (0,), 32)

    sam = build_sam_around(encoder, 32, 32, 64, "tiny", seed=3)
    for parameter in sam.mask_decoder.get_parameters():
        if parameter.name.endswith(("q_proj.weight", "k_proj.weight")):
            parameter.set_data(parameter * 6)
    return SamPredictor(sam)


def test_fast_equals_plain(tiny_predictor, pynative, monkeypatch):  # test_token_first.py has both modes
    image = np.random.default_rng(5).integers(0, 256, (44, 60, 3), np.uint8)
    tiny_predictor.set_image(image)
    points = np.array(grid(4, 60, 44))
    logits, ious, _ = tiny_predictor.predict_batch(point_coords=points[:, None], point_labels=np.ones((16, 1)),
                                                   return_logits=True, prompt_batch=4)
    best = np.sort(ious.max(axis=1))
    place = 4 + int(np.diff(best)[4:11].argmax())  # the threshold lies in the widest gap, out of reach of rounding
    settings = EverythingSettings(
        points_per_side=4, points_per_batch=4, output_mode="coco_rle", box_nms_thresh=1.0,
        pred_iou_thresh=float(best[place:place + 2].mean()), stability_score_offset=float(logits.std() / 20),
        stability_score_thresh=0.85, high_score_thresh=float(np.quantile(logits, 0.95)))
    generators = [EverythingGenerator(tiny_predictor, dataclasses.replace(settings, fast=fast))
                  for fast in (True, False)]
    upscaled, masks_step = [], generators[0]._decoding._masks
    monkeypatch.setattr(generators[0]._decoding, "_masks",
                        lambda *inputs: (upscaled.append(inputs[2].asnumpy()), masks_step(*inputs))[1])
    for hierarchical in (False, True):
        for generator in generators:  # the same ones: their graphs are compiled once
            generator.settings = dataclasses.replace(generator.settings, hierarchical=hierarchical)
        (fast, fast_counts), (plain, plain_counts) = (generator.run(image) for generator in generators)
        assert len(plain) >= 3 and len(fast) == len(plain)
        assert fast_counts[:3] == plain_counts[:3] and fast_counts.full_size_masks <= plain_counts.full_size_masks
        assert 0 < plain_counts.candidates < 3 * plain_counts.points  # the threshold parts them
        for ours, theirs in zip(fast, plain):
            assert coco_mask.iou([ours["segmentation"]], [theirs["segmentation"]], [0])[0, 0] > 0.99
            assert ours["point_coords"] == theirs["point_coords"] and ours["crop_box"] == theirs["crop_box"]
            np.testing.assert_allclose(ours["predicted_iou"], theirs["predicted_iou"], atol=1e-5)
            np.testing.assert_allclose(ours["stability_score"], theirs["stability_score"], atol=0.01)
        if not hierarchical:  # of each batch of four only the prompts with a mask that passes are upscaled, in one call
            passing = (ious > settings.pred_iou_thresh).any(axis=1).reshape(4, 4)
            assert [sorted(set(chosen.tolist())) for chosen in upscaled] == [
                np.flatnonzero(batch).tolist() for batch in passing if batch.any()]
            assert 0 < passing.sum() < 16


def shapes_of_calls(decoding, steps, monkeypatch):
    """A list that the shapes of the arguments of each later call of the named steps are added to."""
    seen = []
    for name in steps:
        step = getattr(decoding, name)

        def spy(*arguments, name=name, step=step):
            seen.append((name, *(tuple(argument.shape) for argument in arguments if argument is not None)))
            return step(*arguments)

        monkeypatch.setattr(decoding, name, spy)
    return seen


def test_batches_that_are_not_full_are_filled_with_empty_prompts(tiny_predictor, pynative, monkeypatch):
    """Of 3 x 3 points in batches of 8 the last one goes in a quarter of a batch, with one empty prompt; 5 points go in
    a whole one, with three."""
    tiny_predictor.set_image(np.random.default_rng(5).integers(0, 256, (44, 60, 3), np.uint8))
    points = np.array(grid(3, 60, 44))
    fast, plain = FastDecoding(tiny_predictor, 8), PlainDecoding(tiny_predictor, 8)
    labels, tokens_step = [], fast._tokens
    monkeypatch.setattr(fast, "_tokens",
                        lambda *inputs: (labels.append(inputs[2].asnumpy()[0]), tokens_step(*inputs))[1])
    for part in (points[:8], points[8:], points[:5]):
        prompts, low_res_masks, predicted_iou = fast.decode(part, 0)
        expected_prompts, expected_masks, expected_iou = plain.decode(part, 0)
        assert prompts.tolist() == expected_prompts.tolist() == np.repeat(range(len(part)), 3).tolist()
        np.testing.assert_allclose(predicted_iou, expected_iou, atol=1e-5)
        np.testing.assert_allclose(low_res_masks, expected_masks, atol=1e-4 * np.abs(expected_masks).max())
    click, nothing = [FOREGROUND, NOT_A_POINT], [EMPTY, EMPTY]
    assert [batch.tolist() for batch in labels] == [[click] * 8, [click, nothing], [click] * 5 + [nothing] * 3]


@pytest.mark.parametrize("height, width", [(8, 8), (2600, 4000)])
def test_every_size_with_a_network(tiny_predictor, pynative, height, width):
    image = np.random.default_rng(7).integers(0, 256, (8, 8, 3), np.uint8)
    image = np.kron(image, np.ones((height // 8, width // 8, 1), np.uint8))
    tiny_predictor.set_image(image)
    points = np.array(grid(2, width, height))
    _, low_res_masks, ious = PlainDecoding(tiny_predictor, 4).decode(points, 0)
    settings = EverythingSettings(
        points_per_side=2, points_per_batch=4, output_mode="coco_rle", box_nms_thresh=1.0, hierarchical=True,
        coarse_ratio=0.5, high_score_thresh=1e9, pred_iou_thresh=float(np.quantile(ious, 0.7)),
        stability_score_offset=float(low_res_masks.std() / 20), stability_score_thresh=0.5)
    fast, plain = (EverythingGenerator(tiny_predictor, dataclasses.replace(settings, fast=fast)).run(image)[0]
                   for fast in (True, False))
    assert len(fast) == len(plain) > 0
    for ours, theirs in zip(fast, plain):
        assert ours["segmentation"]["size"] == [height, width] and ours["point_coords"] == theirs["point_coords"]
        assert 0 < ours["area"] < height * width
        assert coco_mask.iou([ours["segmentation"]], [theirs["segmentation"]], [0])[0, 0] > 0.99


@pytest.mark.parametrize("fast", (True, False))
def test_after_warming_up_no_shape_is_new(tiny_predictor, pynative, monkeypatch, fast):
    """A graph is compiled for each shape of each step: of 5 x 5 points round one asks 4, round two 16 and 5."""
    image = np.random.default_rng(5).integers(0, 256, (44, 60, 3), np.uint8)
    settings = EverythingSettings(points_per_side=5, points_per_batch=16, hierarchical=True, fast=fast,
                                  coarse_ratio=0.4, pred_iou_thresh=1e-9, high_score_thresh=1e9)
    generator = EverythingGenerator(tiny_predictor, settings)
    seen = (shapes_of_calls(generator._decoding, ("_tokens", "_masks"), monkeypatch) if fast else
            shapes_of_calls(tiny_predictor, ("_decode",), monkeypatch))
    generator.warm_up(image)
    assert tiny_predictor.image_embeddings is None
    warm = set(seen)
    # Fast: 16 and 4 prompts in both steps. Plain: 16, 4 and 1 prompts.
    assert len(warm) == (4 if fast else 3)
    seen.clear()
    for size in ((44, 60), (30, 20)):
        generator.run(np.resize(image, (*size, 3)))
    assert set(seen) == warm


def test_fast_discards_at_low_resolution_what_cannot_be_stable(tiny_predictor, pynative):
    image = np.random.default_rng(5).integers(0, 256, (44, 60, 3), np.uint8)
    settings = EverythingSettings(points_per_side=2, points_per_batch=4, pred_iou_thresh=0, stability_score_offset=1e3)
    counts = EverythingGenerator(tiny_predictor, settings).run(image)[1]
    plain = EverythingGenerator(tiny_predictor, dataclasses.replace(settings, fast=False)).run(image)[1]
    assert (counts.full_size_masks, plain.full_size_masks) == (0, 12)
