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
"""Predictor: equal to decoding one prompt without empty slots and to a slow upscaling; refuses what does not fit."""
import mindspore as ms
import numpy as np
import pytest

from src.checkpoint import save_network
from src.data.images import normalise_and_pad, resize_longest_side
from src.inference.chosen_checkpoint import shipped_checkpoint
from src.inference.predictor import SamPredictor, load_predictor, split_prompts
from src.modeling.build_sam import build_sam, build_sam_around
from src.modeling.image_encoder import ImageEncoderViT
from src.modeling.sam import PromptDecoder

SIDE = 64


def tiny_sam():
    def encoder(image_size):
        return ImageEncoderViT(image_size, 16, 32, 1, 2, 2, (0,), 32)

    return build_sam_around(encoder, 32, 32, SIDE, "tiny", seed=3)


pytestmark = pytest.mark.usefixtures("pynative")


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)  # in the 64 frame: 48 x 64, factor 1.6


@pytest.fixture
def predictor(image):
    predictor = SamPredictor(tiny_sam())
    predictor.set_image(image)
    return predictor


def slow_bilinear(values, height, width):
    """Bilinear with aligned pixel edges, one output pixel at a time."""
    h, w = values.shape
    out = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            y, x = max(0, (i + 0.5) * h / height - 0.5), max(0, (j + 0.5) * w / width - 0.5)
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, h - 1), min(x0 + 1, w - 1)
            fy, fx = y - y0, x - x0
            out[i, j] = ((1 - fy) * ((1 - fx) * values[y0, x0] + fx * values[y0, x1])
                         + fy * ((1 - fx) * values[y1, x0] + fx * values[y1, x1]))
    return out


def decoded_alone(image, coords, labels, mask_input=None):
    """(low_res_masks [4, 16, 16], ious [4]) of one prompt in the 64 frame, without an empty slot, in PyNative."""
    mode = ms.get_context("mode")
    ms.set_context(mode=ms.PYNATIVE_MODE)
    sam = tiny_sam().set_train(False)
    embedding = sam.image_encoder(ms.Tensor(normalise_and_pad(resize_longest_side(image, SIDE), SIDE)[None]))
    prompt = [ms.Tensor(np.array([[coords]], np.float32)), ms.Tensor(np.array([[labels]], np.int32))]
    if mask_input is not None:
        prompt.append(ms.Tensor(mask_input[None, None]))
    masks, ious, _ = PromptDecoder(sam).set_train(False)(embedding, *prompt)
    ms.set_context(mode=mode)
    return masks.asnumpy()[0, 0], ious.asnumpy()[0, 0]


def test_prompts_are_cut_into_few_sizes():
    assert split_prompts(1) == [(0, 1, 1)]
    assert split_prompts(2) == [(0, 1, 1), (1, 1, 1)]
    assert split_prompts(3) == [(0, 3, 4)]  # three quarters of four
    assert split_prompts(21) == [(0, 16, 16), (16, 4, 4), (20, 1, 1)]
    assert split_prompts(50, limit=64) == [(0, 50, 64)]
    assert split_prompts(50, limit=16) == [(0, 16, 16), (16, 16, 16), (32, 16, 16), (48, 1, 1), (49, 1, 1)]
    assert split_prompts(0) == []
    with pytest.raises(ValueError, match=r"prompt_batch \(0\) must be at least 1"):
        split_prompts(3, limit=0)


def test_box_and_point_equal_decoding_without_empty_slots(mode, predictor, image):
    # Factor 64 / 40 = 1.6: the point (10, 20) lands at (16, 32), the box (5, 5, 35, 25) at (8, 8, 56, 40).
    masks, ious, low_res = predictor.predict(np.array([[10, 20]]), np.array([0]), np.array([5, 5, 35, 25]))
    expected_masks, expected_ious = decoded_alone(image, [[16, 32], [8, 8], [56, 40]], [0, 2, 3])
    np.testing.assert_allclose(low_res, expected_masks[1:], atol=1e-5)
    np.testing.assert_allclose(ious, expected_ious[1:], atol=1e-5)
    full = np.stack([slow_bilinear(slow_bilinear(mask, 64, 64)[:48], 30, 40) for mask in expected_masks[1:]])
    sure = np.abs(full) > 1e-4
    assert masks.dtype == bool and masks.shape == (3, 30, 40)
    assert (masks == (full > 0))[sure].all() and sure.mean() > 0.99


def test_click_gets_the_padding_point_and_single_mask_is_mask_0(predictor, image):
    logits, ious, low_res = predictor.predict([[10, 20]], [1], multimask_output=False, return_logits=True)
    expected_masks, expected_ious = decoded_alone(image, [[16, 32], [0, 0]], [1, -1])
    np.testing.assert_allclose(low_res, expected_masks[:1], atol=1e-5)
    np.testing.assert_allclose(ious, expected_ious[:1], atol=1e-5)
    full = slow_bilinear(slow_bilinear(expected_masks[0], 64, 64)[:48], 30, 40)
    np.testing.assert_allclose(logits[0], full, atol=1e-4)


def test_mask_input_alone_and_with_a_box(predictor, image):
    mask_input = np.random.default_rng(1).normal(0, 5, (1, 16, 16)).astype(np.float32)
    _, ious, low_res = predictor.predict(mask_input=mask_input)
    expected_masks, expected_ious = decoded_alone(image, [[0, 0]], [-2], mask_input)
    np.testing.assert_allclose(low_res, expected_masks[1:], atol=1e-5)
    np.testing.assert_allclose(ious, expected_ious[1:], atol=1e-5)
    _, ious, low_res = predictor.predict(box=[5, 5, 35, 25], mask_input=mask_input)
    expected_masks, _ = decoded_alone(image, [[8, 8], [56, 40]], [2, 3], mask_input)
    np.testing.assert_allclose(low_res, expected_masks[1:], atol=1e-5)


def test_a_box_may_have_the_batch_axis_of_sams_notebook(predictor):
    flat, batched = (predictor.predict(box=box) for box in (np.array([5, 5, 35, 25]), np.array([[5, 5, 35, 25]])))
    for one, other in zip(flat, batched):
        np.testing.assert_array_equal(one, other)
    assert batched[0].shape == (3, 30, 40)


def test_batch_equals_one_by_one(predictor):
    boxes = np.array([[0, 0, 40, 30], [5, 5, 35, 25], [1, 2, 3, 4]])  # padded to 4 prompts
    masks, ious, low_res = predictor.predict_batch(boxes)
    assert masks.shape == (3, 3, 30, 40)
    for index, box in enumerate(boxes):
        alone = predictor.predict(box=box)
        np.testing.assert_allclose(low_res[index], alone[2], atol=1e-5)
        np.testing.assert_allclose(ious[index], alone[1], atol=1e-5)
        assert (masks[index] == alone[0]).mean() > 0.999
    assert np.abs(low_res[0] - low_res[2]).max() > 1e-3  # the prompts do differ


def test_prompts_with_fewer_points_leave_slots_empty(predictor):
    _, ious, low_res = predictor.predict_batch(point_coords=[[[10, 20], [3, 4]], [[30, 9], [999, 999]]],
                                               point_labels=[[1, 0], [1, -2]])
    _, alone_ious, alone = predictor.predict([[30, 9]], [1])
    np.testing.assert_allclose(low_res[1], alone, atol=1e-5)
    np.testing.assert_allclose(ious[1], alone_ious, atol=1e-5)


def test_upscaling_works_for_every_aspect(predictor):
    low_res = np.random.default_rng(2).normal(size=(2, 16, 16)).astype(np.float32)
    for height, width in ((1, 50), (50, 3), (90, 130)):
        predictor.set_image(np.zeros((height, width, 3), np.uint8))
        h, w = predictor.input_size
        expected = [slow_bilinear(slow_bilinear(mask, 64, 64)[:h, :w], height, width) for mask in low_res]
        np.testing.assert_allclose(predictor.upscale(low_res, return_logits=True), expected, atol=1e-4)


def test_bgr_is_the_same_image_turned_around(predictor, image):
    rgb = predictor.image_embeddings.asnumpy()
    predictor.set_image(image[..., ::-1], image_format="BGR")
    np.testing.assert_array_equal(predictor.image_embeddings.asnumpy(), rgb)


@pytest.mark.parametrize("prompt, message", [
    ({}, "no prompt: give a box, points with labels, or a mask_input"),
    ({"box": [5, 5, 5, 9]}, r"box \(5, 5, 5, 9\) is inside out; give x0 < x1 and y0 < y1"),
    ({"box": [9, 5, 3, 9]}, r"box \(9, 5, 3, 9\) is inside out"),
    ({"box": [5, 5, 41, 9]}, r"box \(5, 5, 41, 9\) reaches outside the image of 40 x 30 pixels; clip it"),
    ({"box": [-1, 5, 4, 9]}, r"box \(-1, 5, 4, 9\) reaches outside the image"),
    ({"box": [5, 5, 9]}, r"box must have shape \[4\], got \[3\]"),
    ({"box": [[5, 5, 9, 9], [5, 5, 8, 8]]}, r"box must have shape \[4\], got \[2, 4\]"),
    ({"box": [[5, 5, 9, 9], [5]]}, "box must be numbers in one rectangular array"),
    ({"box": [5, 5, 10**400, 9]}, "box must be numbers in one rectangular array"),
    ({"box": [5, 5, np.nan, 9]}, "box holds a value that is not finite"),
    ({"point_coords": [[41, 3]], "point_labels": [1]}, r"point \(41, 3\) lies outside the image of 40 x 30 pixels"),
    ({"point_coords": [[4, 3]], "point_labels": [2]}, "point label 2 is unknown; 1 is foreground, 0 background"),
    ({"point_coords": [[4, 3]]}, "point_coords need point_labels: 1 foreground, 0 background"),
    ({"point_labels": [1]}, "point_labels without point_coords: give both or neither"),
    ({"point_coords": [[4, 3]], "point_labels": [1, 0]}, r"point_labels must have shape \[1, 1\], got \[1, 2\]"),
    ({"point_coords": [4, 3], "point_labels": [1]}, r"point_coords must have shape \[any, 2\], got \[2\]"),
    ({"point_coords": [[4, "a"]], "point_labels": [1]}, "point_coords must be numbers in one rectangular array"),
    ({"mask_input": np.zeros((1, 8, 8))}, r"mask_input must have shape \[any, 1, 16, 16\], got \[1, 1, 8, 8\]"),
])
def test_prompts_that_do_not_fit_are_refused(predictor, prompt, message):
    with pytest.raises(ValueError, match=message):
        predictor.predict(**prompt)


def test_prompts_of_different_number_are_refused(predictor):
    with pytest.raises(ValueError, match=r"boxes, points and mask_input are of \[1, 2\] prompts; give each as many"):
        predictor.predict_batch(boxes=[[1, 1, 2, 2]], point_coords=[[[1, 1]], [[2, 2]]], point_labels=[[1], [1]])


@pytest.mark.parametrize("unfit, message", [
    (np.zeros((4, 4, 3), np.float32), r"image must be \[H, W, 3\] uint8, got \[4, 4, 3\] float32"),
    (np.zeros((4, 4), np.uint8), r"image must be \[H, W, 3\] uint8, got \[4, 4\] uint8"),
    (np.zeros((0, 4, 3), np.uint8), r"image must be \[H, W, 3\] uint8, got \[0, 4, 3\] uint8"),
])
def test_images_of_another_kind_are_refused(predictor, unfit, message):
    with pytest.raises(ValueError, match=message):
        predictor.set_image(unfit)


def test_image_must_be_set_first(predictor):
    predictor.reset_image()
    for call in (lambda: predictor.predict(box=[1, 1, 2, 2]), lambda: predictor.upscale(np.zeros((1, 16, 16)))):
        with pytest.raises(ValueError, match="no image is set: call set_image first"):
            call()
    with pytest.raises(ValueError, match="image_format must be RGB or BGR, got 'rgb'"):
        predictor.set_image(np.zeros((4, 4, 3), np.uint8), image_format="rgb")


def test_load_predictor_reads_variant_and_size_from_the_checkpoint(tmp_path):
    path = tmp_path / "nano.ckpt"
    sam = build_sam("nano", image_size=128, seed=5)
    save_network(path, sam, {"variant": "nano", "image_size": 128})
    predictor = load_predictor(path)
    assert (predictor.variant, predictor.image_size) == ("nano", 128)
    image, box = np.full((50, 60, 3), 90, np.uint8), np.array([3, 4, 50, 40])
    expected = SamPredictor(sam)
    for each in (predictor, expected):
        each.set_image(image)
    np.testing.assert_array_equal(predictor.predict(box=box)[2], expected.predict(box=box)[2])
    with pytest.raises(ValueError, match="holds variant nano"):
        load_predictor(path, variant="tinyvit_5m")
    with pytest.raises(FileNotFoundError, match="checkpoint nowhere.ckpt does not exist"):
        load_predictor("nowhere.ckpt")


def test_shipped_checkpoint_is_the_only_one(tmp_path):
    with pytest.raises(ValueError, match="no checkpoint in .*: name one, or train one with `python train.py --config"):
        shipped_checkpoint(tmp_path)
    (tmp_path / "a.ckpt").touch()
    (tmp_path / "README.md").touch()
    assert shipped_checkpoint(tmp_path) == tmp_path / "a.ckpt"
    (tmp_path / "b.safetensors").touch()
    with pytest.raises(ValueError, match="holds a.ckpt, b.safetensors: name the one to use"):
        shipped_checkpoint(tmp_path)
