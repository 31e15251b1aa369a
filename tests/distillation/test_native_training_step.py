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
"""A training step with the C++ kernels beside one with MindSpore's operators: the same losses and gradients."""
import os
import shutil
import sys

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from src.distillation.distiller import Distiller
from src.modeling.native_kernels import NativeBiasAdd, NativeGELU, NativeLayerNorm, NativeSoftmax

NATIVE = {NativeBiasAdd, NativeGELU, NativeLayerNorm, NativeSoftmax}


@pytest.mark.skipif(sys.platform != "linux" or not (os.environ.get("CXX") or shutil.which("c++")),
                    reason="needs Linux and a C++ compiler")
def test_a_training_step_is_the_operators(pynative, tiny_sam, settings, batch, inputs_of, monkeypatch):
    """Losses and gradients, as one vector, within 1e-5; each parameter's within 1e-4 of its largest value, but for the
    biases of keys, which softmax cancels."""
    found = []
    for threads in ("0", "1"):
        monkeypatch.setenv("TINYSAM_KERNEL_THREADS", threads)
        student = tiny_sam(1)
        for parameter in student.get_parameters():  # TinyViT starts with its residual branches closed
            if parameter.name.endswith("conv3.bn.gamma"):
                parameter.set_data(Tensor(np.ones(parameter.shape, np.float32)))
        distiller = Distiller(student, tiny_sam(2), settings())
        kinds = {type(cell) for _, cell in distiller.cells_and_names()}
        assert NATIVE & kinds == (NATIVE if threads == "1" else set())
        weights = student.trainable_params()
        losses, gradients = ms.value_and_grad(distiller, None, weights, has_aux=True)(*inputs_of(batch, 0))
        found.append(([float(loss) for loss in losses], {w.name: g.asnumpy() for w, g in zip(weights, gradients)}))
    (wanted_losses, wanted), (losses, gradients) = found
    np.testing.assert_allclose(losses, wanted_losses, rtol=1e-5)
    assert list(gradients) == list(wanted)
    one, other = (np.concatenate([value.ravel() for value in of.values()]) for of in (wanted, gradients))
    assert np.linalg.norm(other - one) < 1e-5 * np.linalg.norm(one)
    for name, value in wanted.items():
        if not name.endswith("k_proj.bias"):
            np.testing.assert_allclose(gradients[name], value, rtol=0, atol=1e-4 * np.abs(value).max(), err_msg=name)
