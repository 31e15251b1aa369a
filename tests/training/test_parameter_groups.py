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
"""Decay groups and layer-wise rates, name by name on small networks, and Adam with multipliers against NumPy."""
import math
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn

from src.modeling.build_sam import build_sam_around
from src.modeling.image_encoder import ImageEncoderViT
from src.modeling.tiny_vit import TinyViT
from src.training.optimizer import Adam, WarmupCosine, build_optimizer
from src.training.parameter_groups import batch_norm_statistics, decays, rate_multipliers

SETTINGS = {"name": "adam", "learning_rate": 0.01, "final_learning_rate": 0.0, "warmup_steps": 0, "weight_decay": 0.1,
            "layer_decay": 1.0, "clip_norm": 0.0, "ema_decay": 0.0}


def tiny_sam():
    def encoder(image_size):
        return TinyViT(image_size, (8, 8, 16, 16), (1, 1, 2, 1), (1, 1, 2, 2), (4, 4, 4, 4), 16)

    return build_sam_around(encoder, 16, 16, 64, "tiny", seed=0)


def vit_sam():
    def encoder(image_size):
        return ImageEncoderViT(image_size, 16, 16, 3, 2, 2, (2,), 16)

    return build_sam_around(encoder, 16, 16, 64, "tiny_vit", seed=0)


def multipliers_by_name(network, decay):
    parameters = network.trainable_params()
    return {p.name: m for p, m in zip(parameters, rate_multipliers(network, parameters, decay))}


def test_rates_of_a_tiny_vit_by_hand():
    # Five blocks, bottom to top: 0.0 | 1.0 | 2.0 2.1 | 3.0, so the exponents are 4 | 3 | 2 1 | 0.
    found = multipliers_by_name(tiny_sam(), 0.5)
    expected = {
        "patch_embed.seq.0.c.weight": 0.0625,  # with the first block
        "layers.0.blocks.0.conv1.c.weight": 0.0625,
        "layers.0.downsample.conv1.c.weight": 0.0625,  # with the last block of its stage
        "layers.1.blocks.0.attn.qkv.weight": 0.125,
        "layers.1.downsample.conv3.bn.gamma": 0.125,
        "layers.2.blocks.0.mlp.fc1.bias": 0.25,
        "layers.2.blocks.1.attn.attention_biases": 0.5,
        "layers.2.downsample.conv2.c.weight": 0.5,
        "layers.3.blocks.0.local_conv.c.weight": 1.0,
        "neck.0.weight": 1.0,
    }
    assert {name: found[f"image_encoder.{name}"] for name in expected} == expected
    others = {m for name, m in found.items() if not name.startswith("image_encoder.")}
    assert others == {1.0} and any(name.startswith("mask_decoder.") for name in found)
    counts = {value: sum(m == value for name, m in found.items() if name.startswith("image_encoder.layers.3"))
              for value in (1.0, 0.5)}
    assert counts[1.0] > 0 and counts[0.5] == 0


def test_rates_of_a_vit_by_hand():
    found = multipliers_by_name(vit_sam(), 0.8)
    expected = {"pos_embed": 0.64, "patch_embed.proj.weight": 0.64, "blocks.0.norm1.gamma": 0.64,
                "blocks.1.attn.rel_pos_h": 0.8, "blocks.2.mlp.lin2.bias": 1.0, "neck.2.weight": 1.0}
    for name, value in expected.items():
        assert math.isclose(found[f"image_encoder.{name}"], value), name


def test_frozen_blocks_still_count():
    network = tiny_sam()
    for parameter in network.get_parameters():
        if ".layers.2." in parameter.name:
            parameter.requires_grad = False
    found = multipliers_by_name(network, 0.5)
    assert found["image_encoder.layers.1.blocks.0.attn.qkv.weight"] == 0.125
    assert not any(".layers.2." in name for name in found)


def test_blocks_past_nine_are_ordered_by_number():
    parameters = [Parameter(Tensor([0.0], ms.float32), name=f"image_encoder.blocks.{i}.weight") for i in range(11)]
    network = SimpleNamespace(get_parameters=lambda: parameters)
    assert rate_multipliers(network, parameters, 0.5) == [0.5 ** (10 - i) for i in range(11)]


def test_layer_decay_without_blocks_is_refused():
    network = nn.Dense(2, 2)
    assert rate_multipliers(network, network.trainable_params(), 1.0) == [1.0, 1.0]
    with pytest.raises(ValueError, match=r"optim\.layer_decay is 0\.8 but the student has no parameter named"):
        rate_multipliers(network, network.trainable_params(), 0.8)


def test_decay_spares_norms_biases_and_tables():
    found = {p.name: decays(p) for sam in (tiny_sam(), vit_sam()) for p in sam.trainable_params()}
    block = "image_encoder.layers.1.blocks.0."
    assert found[f"{block}attn.qkv.weight"] and found[f"{block}local_conv.c.weight"]
    assert found["mask_decoder.output_upscaling.0.weight"] and found["image_encoder.neck.0.weight"]
    spared = [f"{block}attn.norm.gamma", f"{block}attn.qkv.bias", f"{block}attn.attention_biases",
              f"{block}local_conv.bn.gamma", "image_encoder.neck.1.weight", "image_encoder.pos_embed",
              "image_encoder.blocks.0.attn.rel_pos_w", "mask_decoder.iou_token.embedding_table",
              "mask_decoder.mask_tokens.embedding_table", "prompt_encoder.not_a_point_embed.embedding_table"]
    assert [name for name in spared if found[name]] == []


def test_statistics_are_the_students():
    names = [p.name for p in batch_norm_statistics(tiny_sam())]
    # 2 of the stem, 3 per MBConv, 3 per merging layer, 1 per attention block; each a mean and a variance.
    assert len(names) == 2 * (2 + 3 + 3 * 3 + 4) == len(set(names))


@pytest.mark.parametrize("decoupled", [False, True])
def test_adam_with_multipliers_follows_numpy(mode, decoupled):
    rng = np.random.default_rng(3)
    start = [rng.standard_normal((2, 3)).astype(np.float32), rng.standard_normal(3).astype(np.float32)]
    parameters = [Parameter(Tensor(value), name=f"p{i}") for i, value in enumerate(start)]
    multipliers = [0.25, 1.0]
    adam = Adam(parameters, WarmupCosine(0.1, 0.1, 0, 10), 0.2, decoupled, multipliers)
    weights = [value.astype(np.float64) for value in start]
    first, second = [0.0, 0.0], [0.0, 0.0]
    for t in range(1, 5):
        gradients = [rng.standard_normal(w.shape).astype(np.float32) for w in weights]
        rate = adam(tuple(Tensor(g) for g in gradients))
        assert float(rate.asnumpy()) == pytest.approx(0.1)
        for i, gradient in enumerate(gradients):
            decay = 0.2 if i == 0 else 0.0  # the vector does not decay
            step = 0.1 * multipliers[i]
            gradient = gradient.astype(np.float64)
            if decoupled:
                weights[i] = weights[i] * (1 - step * decay)
            else:
                gradient = gradient + decay * weights[i]
            first[i] = 0.9 * first[i] + 0.1 * gradient
            second[i] = 0.999 * second[i] + 0.001 * gradient**2
            size = step * math.sqrt(1 - 0.999**t) / (1 - 0.9**t)
            weights[i] = weights[i] - size * first[i] / (np.sqrt(second[i]) + 1e-8)
    for parameter, expected in zip(parameters, weights):
        np.testing.assert_allclose(parameter.asnumpy(), expected, atol=2e-6)


def test_build_optimizer_takes_the_options():
    network = tiny_sam()
    settings = SimpleNamespace(**{**SETTINGS, "layer_decay": 0.5, "ema_decay": 0.99})
    optimizer = build_optimizer(network, settings, 10, scale_loss=True)
    by_name = dict(zip([p.name for p in network.trainable_params()], zip(optimizer.multipliers, optimizer.decays)))
    assert by_name["image_encoder.layers.2.blocks.0.attn.qkv.weight"] == (0.25, 0.1)
    assert by_name["image_encoder.layers.2.blocks.0.attn.qkv.bias"] == (0.25, 0.0)
    names = {name for name, _ in optimizer.state.parameters_and_names()}
    assert {"loss_scale.scale", "loss_scale.finite_steps", "step"} <= names
    averaged = len(network.trainable_params()) + len(batch_norm_statistics(network))
    assert sum(name.startswith("average.") for name in names) == averaged
    plain = build_optimizer(tiny_sam(), SimpleNamespace(**SETTINGS), 10).state
    assert plain.loss_scale is None and plain.average is None
