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
"""Gradients of the whole network against PyTorch, in training mode: what learning rests on. Graph mode and PyNative.

Stored vectors are made by tools/make_gradient_vectors.py. A few gradients are exactly zero in theory (a bias that a
softmax or a following BatchNorm cancels) and rounding in practice, hence a tolerance beside the relative one.
"""
import os
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import ParameterTuple, Tensor, nn, ops

from src.checkpoint.names import torch_name
from src.modeling.build_sam import build_sam
from src.modeling.sam import PromptDecoder
from tools.make_gradient_vectors import BOXES, CASE, CLICK, FILE, objective_weights, values_of
from tools.make_parity_vectors import CASES, input_image, reference_weight

HERE = Path(__file__).parent


class Objective(nn.Cell):
    """As the reference's: 10 * sum of mean(probability * weight), and sum(iou * weight)."""

    def __init__(self, sam):
        super().__init__(auto_prefix=False)
        self.sam = sam
        self.decoder = PromptDecoder(sam)

    def construct(self, images, coords, labels, mask_weights, iou_weights):
        masks, ious, _ = self.decoder(self.sam.image_encoder(images), coords, labels)
        return 10 * ops.sum(ops.mean(ops.sigmoid(masks) * mask_weights, (-2, -1))) + ops.sum(ious * iou_weights)


class Gradients(nn.Cell):
    def __init__(self, objective, parameters):
        super().__init__(auto_prefix=False)
        self.gradients = ms.value_and_grad(objective, None, parameters)

    def construct(self, *inputs):
        return self.gradients(*inputs)


def prompts(batch):
    """Coords [B, 3, 2, 2] and labels [B, 3, 2] of the two boxes and the click."""
    coords = [np.reshape(box, (2, 2)) for box in BOXES] + [[CLICK, (0, 0)]]
    labels = [[2, 3]] * len(BOXES) + [[1, -1]]
    return np.tile(np.array(coords, np.float32), (batch, 1, 1, 1)), np.tile(np.array(labels, np.int32), (batch, 1, 1))


def test_gradients_equal_the_reference(mode):
    case, expected = CASES[CASE], np.load(HERE / FILE)
    sam = build_sam("tinyvit_5m", image_size=case.image_size, draw_weights=False)
    for parameter in sam.get_parameters():
        parameter.set_data(Tensor(reference_weight(torch_name(parameter.name), parameter.shape)))
    sam.set_train(True)
    parameters = ParameterTuple(sam.trainable_params())
    inputs = [input_image(case.batch, case.image_size), *prompts(case.batch),
              *objective_weights(case.batch, case.image_size // 16)]
    value, gradients = Gradients(Objective(sam), parameters)(*map(Tensor, inputs))
    np.testing.assert_allclose(float(value.asnumpy()), expected["objective"], rtol=0, atol=5e-4)
    found = {torch_name(p.name): g.asnumpy() for p, g in zip(parameters, gradients)}
    wanted = dict(zip(expected["names"], expected["values"]))
    assert len(wanted) == 343 and set(wanted) <= set(found)
    for name, gradient in found.items():
        if name in wanted:
            np.testing.assert_allclose(values_of(name, gradient), wanted[name], rtol=0,
                                       atol=2e-3 * wanted[name][0] + 5e-5, err_msg=name)
        else:  # the mask prompt's layers, which no prompt used
            assert name.startswith("prompt_encoder.mask_downscaling.") and not gradient.any(), name


@pytest.mark.reference
def test_stored_gradients_are_what_the_reference_gives(tmp_path):
    # TINYSAM_REFERENCE_PYTHON: an interpreter with torch, where this one has none
    python = os.environ.get("TINYSAM_REFERENCE_PYTHON", sys.executable)
    if subprocess.run([python, "-c", "import torch"], capture_output=True, timeout=300).returncode:
        pytest.skip("needs torch and mobilesam-mirror here or in TINYSAM_REFERENCE_PYTHON")
    command = [python, str(HERE.parents[1] / "tools" / "make_gradient_vectors.py"), "--output", str(tmp_path)]
    made = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert made.returncode == 0, made.stderr
    stored, fresh = np.load(HERE / FILE), np.load(tmp_path / FILE)
    assert stored["names"].tolist() == fresh["names"].tolist()
    np.testing.assert_allclose(fresh["values"], stored["values"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(fresh["objective"], stored["objective"], atol=1e-5)
