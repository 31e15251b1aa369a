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
"""The C++ GELU beside the one made of operators: values, gradients, threads, and where it cannot be had."""
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

from src.modeling import native_gelu
from src.modeling.build_sam import build_sam
from src.modeling.common import GELU, GELU_Q
from src.modeling.fold import fold_batch_norm
from src.modeling.native_gelu import SOURCE, NativeGELU, build_library, use_native_gelu

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
    count = sum(type(cell) is GELU for _, cell in sam.cells_and_names())
    assert use_native_gelu(sam) is sam
    kinds = [type(cell) for _, cell in sam.cells_and_names()]
    assert kinds.count(NativeGELU) == count > 10 and GELU not in kinds
    assert [parameter.name for parameter in sam.get_parameters()] == names
    np.testing.assert_allclose(sam.image_encoder(images).asnumpy(), wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("threads", [None, "0"])
def test_off_unless_asked_for(monkeypatch, threads):
    monkeypatch.delenv("TINYSAM_KERNEL_THREADS")
    if threads:
        monkeypatch.setenv("TINYSAM_KERNEL_THREADS", threads)
    assert type(use_native_gelu(nn.SequentialCell(GELU()))[0]) is GELU


def test_without_a_compiler_the_operators_stay(monkeypatch, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "tinysam"):
        assert build_library("no-such-compiler", str(tmp_path)) is None
    assert caplog.messages == ["GELU stays with MindSpore's operators: its kernel cannot be built or loaded ([Errno 2] "
                               "No such file or directory: 'no-such-compiler')"]
    monkeypatch.setattr(native_gelu, "build_library", lambda: None)
    assert type(use_native_gelu(nn.SequentialCell(GELU()))[0]) is GELU


def test_a_compiler_that_fails_and_a_damaged_library_are_no_error(tmp_path, monkeypatch):
    assert build_library("false", str(tmp_path)) is None
    assert list(tmp_path.iterdir()) == []  # nothing half made stays
    monkeypatch.setattr(native_gelu.subprocess, "run", lambda command, **_: Path(command[-1]).write_text("no library"))
    assert build_library("some-compiler", str(tmp_path)) is None
