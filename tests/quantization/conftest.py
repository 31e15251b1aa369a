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
"""Fixtures of quantization: a network small enough to calibrate in seconds, and pictures with prompts for it."""
import mindspore as ms
import numpy as np
import pytest

from src.modeling.build_sam import build_sam_around
from src.modeling.tiny_vit import TinyViT
from src.quantization.calibrate import Example

SIDE = 64


def small_sam():
    """A SAM of the students' kind, one block per stage, stirred: no branch is zero, no BatchNorm neutral."""
    def encoder(image_size):
        return TinyViT(image_size, (8, 16, 16, 32), (1, 1, 1, 1), (1, 2, 2, 4), (7, 7, 14, 7), 32)

    sam = build_sam_around(encoder, 32, 32, SIDE, "small", seed=3)
    rng = np.random.default_rng(4)
    for parameter in sam.get_parameters():
        value = parameter.asnumpy()
        noise = rng.standard_normal(value.shape).astype(np.float32)
        if parameter.name.endswith("moving_variance"):
            value = np.exp(0.3 * noise)
        elif "gaussian_matrix" not in parameter.name:
            value = value + (0.2 if value.ndim == 1 else 0.1) * noise
        parameter.set_data(ms.Tensor(value.astype(np.float32)))
    return sam.set_train(False)


def small_examples(count=2, seed=0):
    """Pictures [1, 3, 64, 64] with three prompts each: a box, a click, and one that is not valid."""
    rng, examples = np.random.default_rng(seed), []
    for _ in range(count):
        coords = np.sort(rng.uniform(0, SIDE, (1, 3, 2, 2)).astype(np.float32), 2)
        labels = np.array([[[2, 3], [1, -1], [-1, -2]]], np.int32)
        examples.append(Example(rng.standard_normal((1, 3, SIDE, SIDE)).astype(np.float32), coords, labels,
                                np.array([[1, 1, 0]], np.float32)))
    return examples


@pytest.fixture
def sam():
    return small_sam()


@pytest.fixture
def examples():
    return small_examples()
