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
"""The C++ kernels beside what they replace: values, gradients, threads, and where they cannot be had."""
import logging
import math
import os
import re
import shutil
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from src.modeling import native_kernels
from src.modeling.build_sam import build_sam
from src.modeling.common import GELU, GELU_Q
from src.modeling.fold import fold_batch_norm
from src.modeling.native_kernels import SOURCE, NativeGELU, NativeLayerNorm, build_library, use_native_kernels

needs_compiler = pytest.mark.skipif(not (os.environ.get("CXX") or shutil.which("c++")), reason="needs a C++ compiler")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """A cache folder for the tests of this file, and one thread."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp()))
    monkeypatch.setenv("TINYSAM_KERNEL_THREADS", "1")


class SumOf(nn.Cell):
    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def construct(self, x):
        return ops.sum(self.cell(x))


def test_the_kernel_has_the_coefficients_of_the_operators():
    """The last is the highest power; signs stand in the source as `+` and `-`."""
    text = SOURCE.read_text(encoding="utf-8").split("inline float Phi")[1].split("const float u")[0]
    found = re.findall(r"(= |\+ |- )([\d.e-]+)f;", text)
    assert [(-1 if sign == "- " else 1) * float(value) for sign, value in found] == list(reversed(GELU_Q))


@needs_compiler
@pytest.mark.parametrize("reach", [1.0, 12.0])
def test_values_and_gradient(mode, reach):
    x = np.linspace(-reach, reach, 4001).astype(np.float32)
    phi = np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in x.astype(np.float64)])
    density = np.exp(-0.5 * x.astype(np.float64) ** 2) / math.sqrt(2 * math.pi)
    gelu = NativeGELU(build_library())
    np.testing.assert_allclose(gelu(Tensor(x)).asnumpy(), x * phi, atol=1e-6)
    np.testing.assert_allclose(ms.grad(SumOf(gelu))(Tensor(x)).asnumpy(), phi + x * density, atol=1e-6)


@needs_compiler
def test_far_out_and_not_a_number(mode):
    x = np.array([0.0, 1e4, -1e4, 1e18, -1e18, 3e38, -3e38], np.float32)
    gelu = NativeGELU(build_library())
    np.testing.assert_array_equal(gelu(Tensor(x)).asnumpy(), np.maximum(x, 0))
    np.testing.assert_array_equal(ms.grad(SumOf(gelu))(Tensor(x)).asnumpy(), [0.5, 1, 0, 1, 0, 1, 0])
    assert np.isnan(gelu(Tensor(np.full(7, np.nan, np.float32))).asnumpy()).all()  # a broken step must be seen


def reference_layer_norm(x, gamma, beta, after, epsilon):
    """(normalised rows, gradients of x, gamma and beta), in double precision, from the definition."""
    x, gamma, beta, after = (array.astype(np.float64) for array in (x, gamma, beta, after))
    scale = 1 / np.sqrt(x.var(-1, keepdims=True) + epsilon)
    normal = (x - x.mean(-1, keepdims=True)) * scale
    g = after * gamma
    before = scale * (g - g.mean(-1, keepdims=True) - normal * (g * normal).mean(-1, keepdims=True))
    axes = tuple(range(x.ndim - 1))
    return normal * gamma + beta, before, (after * normal).sum(axes), after.sum(axes)


class Weighted(nn.Cell):
    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def construct(self, x, after):
        return ops.sum(self.cell(x) * after)


@needs_compiler
@pytest.mark.parametrize("shape, threads", [((2, 3, 37), "1"), ((1, 70, 16), "1"), ((5000, 64), "2")])
def test_layer_norm_and_its_gradients(mode, monkeypatch, shape, threads):
    """Widths with and without a rest after 16 lanes, rows past the 64 that are summed together, two threads."""
    monkeypatch.setenv("TINYSAM_KERNEL_THREADS", threads)
    random = np.random.RandomState(0)
    x, after = ((3 * random.randn(*shape) + 1).astype(np.float32) for _ in range(2))
    norm = nn.LayerNorm(shape[-1:], epsilon=1e-3)
    norm.gamma.set_data(Tensor(random.randn(shape[-1]).astype(np.float32)))
    norm.beta.set_data(Tensor(random.randn(shape[-1]).astype(np.float32)))
    norm.update_parameters_name("block.")
    native = NativeLayerNorm(build_library(), norm)
    assert [parameter.name for parameter in native.trainable_params()] == ["block.gamma", "block.beta"]
    wanted = reference_layer_norm(x, norm.gamma.asnumpy(), norm.beta.asnumpy(), after, 1e-3)
    of_x, (of_gamma, of_beta) = ms.grad(Weighted(native), 0, native.trainable_params())(Tensor(x), Tensor(after))
    for array, found in zip(wanted, (native(Tensor(x)), of_x, of_gamma, of_beta)):
        np.testing.assert_allclose(found.asnumpy(), array, atol=2e-6 * np.abs(array).max())


@needs_compiler
def test_layer_norm_of_equal_values_is_its_bias(pynative):
    """A row without spread: the variance is 0 and epsilon alone is in the root."""
    norm = nn.LayerNorm((8,), epsilon=1e-6)
    norm.beta.set_data(Tensor(np.arange(8, dtype=np.float32)))
    x = Tensor(np.full((3, 8), 7.0, np.float32))
    np.testing.assert_array_equal(NativeLayerNorm(build_library(), norm)(x).asnumpy(), [list(range(8))] * 3)


@needs_compiler
def test_threads_share_the_work(monkeypatch):
    """Three threads of 2^17 values and a remainder: every value is written, by whichever thread."""
    x = np.random.RandomState(0).randn(3 * 2**17 + 5).astype(np.float32)
    gelu = NativeGELU(build_library())
    alone = gelu(Tensor(x)).asnumpy()
    monkeypatch.setenv("TINYSAM_KERNEL_THREADS", "3")
    np.testing.assert_array_equal(gelu(Tensor(x)).asnumpy(), alone)
    np.testing.assert_allclose(alone, GELU()(Tensor(x)).asnumpy(), atol=1e-6)


@needs_compiler
def test_a_folded_network_gives_the_same_embeddings(pynative):
    sam = fold_batch_norm(build_sam("nano", 64, seed=3))
    images = Tensor(np.random.RandomState(1).randn(1, 3, 64, 64).astype(np.float32))
    names = [parameter.name for parameter in sam.get_parameters()]
    wanted = sam.image_encoder(images).asnumpy()
    counts = [sum(type(cell) is kind for _, cell in sam.cells_and_names()) for kind in (GELU, nn.LayerNorm)]
    assert use_native_kernels(sam) is sam
    kinds = [type(cell) for _, cell in sam.cells_and_names()]
    assert [kinds.count(NativeGELU), kinds.count(NativeLayerNorm)] == counts and min(counts) > 8
    assert GELU not in kinds and nn.LayerNorm not in kinds
    assert [parameter.name for parameter in sam.get_parameters()] == names
    np.testing.assert_allclose(sam.image_encoder(images).asnumpy(), wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("threads", [None, "0"])
def test_off_unless_asked_for(monkeypatch, threads):
    monkeypatch.delenv("TINYSAM_KERNEL_THREADS")
    if threads:
        monkeypatch.setenv("TINYSAM_KERNEL_THREADS", threads)
    assert type(use_native_kernels(nn.SequentialCell(GELU()))[0]) is GELU


def test_without_a_compiler_the_operators_stay(monkeypatch, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "tinysam"):
        assert build_library("no-such-compiler", str(tmp_path)) is None
    assert caplog.messages == ["GELU and LayerNorm stay MindSpore's: the native kernels cannot be built or loaded "
                               "([Errno 2] No such file or directory: 'no-such-compiler')"]
    monkeypatch.setattr(native_kernels, "build_library", lambda: None)
    assert type(use_native_kernels(nn.SequentialCell(GELU()))[0]) is GELU


def test_a_compiler_that_fails_and_a_damaged_library_are_no_error(tmp_path, monkeypatch):
    assert build_library("false", str(tmp_path)) is None
    assert list(tmp_path.iterdir()) == []  # nothing half made stays
    monkeypatch.setattr(native_kernels.subprocess, "run", lambda command, **_: Path(command[-1]).write_text("no"))
    assert build_library("some-compiler", str(tmp_path)) is None
