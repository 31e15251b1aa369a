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
"""The builder: sizes of the variants, seeds, and what it refuses."""
import numpy as np
import pytest
from mindspore import Tensor, nn

from src.modeling.build_sam import VARIANTS, build_sam, build_sam_around
from src.modeling.sam import PromptDecoder


def count(cell):
    return sum(param.size for param in cell.get_parameters())


def weights(sam):
    return {param.name: param.asnumpy() for param in sam.get_parameters()}


@pytest.fixture(scope="module")
def nano():
    return build_sam("nano", seed=3)


def test_nano_stays_below_three_million_parameters(nano):
    # encoder 1,990,528; prompt encoder 3,404; mask decoder 756,340
    assert (count(nano.image_encoder), count(nano.prompt_encoder), count(nano.mask_decoder)) == (1990528, 3404, 756340)
    assert count(nano) == 2750272


def test_nano_and_its_teacher_share_grid_and_width(nano):
    teacher = build_sam("nano_teacher", seed=3)
    for sam, variant in ((nano, "nano"), (teacher, "nano_teacher")):
        assert (sam.image_size, sam.grid_size, sam.embed_dim, sam.variant) == (512, 32, 128, variant)
    assert count(teacher.image_encoder) > 2 * count(nano.image_encoder)


def test_the_paper_student_has_sam_s_decoder_at_1024_pixels():
    # SAM's own prompt encoder and mask decoder have 6,476 (256 of them the fixed matrix) and 4,058,340 numbers.
    sam = build_sam("tinyvit_5m", seed=0)
    assert (sam.image_size, sam.grid_size, sam.embed_dim) == (1024, 64, 256)
    assert (count(sam.prompt_encoder), count(sam.mask_decoder)) == (6476, 4058340)


def test_an_own_image_size_decides_the_grid():
    sam = build_sam("nano", image_size=128, seed=0)
    assert (sam.image_size, sam.grid_size) == (128, 8)
    embeddings = sam.image_encoder(Tensor(np.zeros((1, 3, 128, 128), np.float32)))
    assert embeddings.shape == (1, 128, 8, 8)


def test_equal_seeds_give_equal_weights_and_leave_numpy_alone(nano):
    np.random.seed(42)
    expected = np.random.random(3)
    np.random.seed(42)
    same, other = weights(build_sam("nano", seed=3)), weights(build_sam("nano", seed=4))
    np.testing.assert_array_equal(np.random.random(3), expected)
    differing = 0
    for name, value in weights(nano).items():
        np.testing.assert_array_equal(same[name], value)
        differing += not np.array_equal(other[name], value)
    assert differing > 150  # all that is drawn; norms start at one, many biases at zero


def test_without_a_seed_weights_differ_from_build_to_build():
    def build():
        return weights(build_sam_around(lambda image_size: nn.Identity(), 16, 8, 64, "tiny"))

    name = "mask_decoder.transformer.layers.0.self_attn.q_proj.weight"
    assert np.abs(build()[name] - build()[name]).max() > 0


def test_fresh_weights_give_small_mask_logits():
    # Labels alone must be able to train it: logits near zero, so no pixel starts out saturated.
    sam = build_sam_around(lambda image_size: nn.Identity(), 32, 64, 64, "tiny", seed=0)
    rng = np.random.default_rng(0)
    embeddings = Tensor(rng.normal(size=(1, 32, 4, 4)).astype(np.float32))
    coords = Tensor(rng.uniform(0, 64, (1, 4, 2, 2)).astype(np.float32))
    masks, ious, _ = PromptDecoder(sam)(embeddings, coords, Tensor(np.tile(np.array([2, 3], np.int32), (1, 4, 1))))
    assert 1e-3 < np.abs(masks.asnumpy()).max() < 2
    assert np.abs(ious.asnumpy()).max() < 1


def test_the_gaussian_matrix_is_standard_normal():
    sam = build_sam_around(lambda image_size: nn.Identity(), 1024, 8, 64, "tiny", seed=1)
    matrix = sam.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix.asnumpy()
    assert abs(matrix.mean()) < 0.15 and abs(matrix.std() - 1) < 0.1  # 1,024 numbers: five standard errors


@pytest.mark.parametrize("variant, near", [("nan0", "nano"), ("vit-h", "vit_h"), ("tinyvit5m", "tinyvit_5m")])
def test_an_unknown_variant_is_refused_with_the_nearest(variant, near):
    with pytest.raises(ValueError) as error:
        build_sam(variant)
    assert str(error.value) == f"unknown variant '{variant}'; did you mean '{near}'? (all: {', '.join(VARIANTS)})"


@pytest.mark.parametrize("image_size", [100, 0, -64, 64.0, "64", True])
def test_an_image_size_off_the_step_is_refused(image_size):
    with pytest.raises(ValueError) as error:
        build_sam("nano", image_size)
    assert str(error.value) == f"image_size ({image_size}) must be a positive multiple of 64"


def test_variants_of_sam_follow_the_paper():
    encoders = {name: VARIANTS[name] for name in ("vit_b", "vit_l", "vit_h")}
    assert [(v.embed_dim, v.depth, v.num_heads) for v in encoders.values()] == [
        (768, 12, 12), (1024, 24, 16), (1280, 32, 16)]
    for variant in encoders.values():
        # Four global blocks, each the last of a quarter of the depth.
        assert variant.global_attn_indexes == tuple(variant.depth * i // 4 - 1 for i in (1, 2, 3, 4))
        assert (variant.window_size, variant.image_size) == (14, 1024)
        assert (variant.transformer_dim, variant.mlp_dim) == (256, 2048)
