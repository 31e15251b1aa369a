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
import ctypes
import logging
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from src.checkpoint import save_network
from src.export.engines import open_predictor
from src.modeling import native_kernels
from src.modeling.build_sam import build_sam
from src.modeling.common import GELU, GELU_Q
from src.modeling.fold import fold_batch_norm
from src.modeling.native_kernels import (
    SOURCE,
    NativeBiasAdd,
    NativeGELU,
    NativeLayerNorm,
    NativeSoftmax,
    build_library,
    use_native_kernels,
)

SOFTMAXES = 6 + 7  # of nano: its attention blocks, those of the mask decoder
needs_compiler = pytest.mark.skipif(sys.platform != "linux" or not (os.environ.get("CXX") or shutil.which("c++")),
                                    reason="needs Linux and a C++ compiler")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("TINYSAM_KERNEL_THREADS", "1")


@pytest.fixture
def refusal(caplog):
    """Function of `build_library`'s arguments, which must give None -> the reason in the log."""
    def build(compiler, folder):
        before = len(caplog.messages)
        with caplog.at_level(logging.INFO, "tinysam"):
            assert build_library.__wrapped__(compiler, str(folder)) is None
        line, = caplog.messages[before:]
        start = "GELU, LayerNorm and softmax stay MindSpore's: the native kernels cannot be built or loaded ("
        assert line.startswith(start) and line.endswith(")")
        return line[len(start):-1]
    return build


@pytest.fixture
def copies(monkeypatch):
    """A compiler that takes no time: it copies this session's library. Its calls so far."""
    calls, library = [], build_library()

    def run(command, **_):
        calls.append(command)
        shutil.copy(library, command[-1])
    monkeypatch.setattr(native_kernels.subprocess, "run", run)
    return calls


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


def reference_softmax(x, after):
    """(softmax of the rows, gradient of x), in double precision, from the definition."""
    powers = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
    y = powers / powers.sum(-1, keepdims=True)
    return y, y * (after - (y * after).sum(-1, keepdims=True))


@needs_compiler
@pytest.mark.parametrize("shape, threads", [((3, 2, 1), "1"), ((2, 8, 40, 7), "1"), ((5, 16), "1"), ((3, 2, 37), "1"),
                                            ((2, 5000), "1"), ((4000, 100), "2")])
def test_softmax_and_its_gradient(mode, monkeypatch, shape, threads):
    """Rows shorter and longer than 16 lanes, with and without a rest, longer than what is worked on at once."""
    monkeypatch.setenv("TINYSAM_KERNEL_THREADS", threads)
    random = np.random.RandomState(0)
    x, after = ((5 * random.randn(*shape)).astype(np.float32) for _ in range(2))
    native = NativeSoftmax(build_library())
    y, gradient = reference_softmax(x, after)
    np.testing.assert_allclose(native(Tensor(x)).asnumpy(), y, atol=1e-6)
    np.testing.assert_allclose(ms.grad(Weighted(native))(Tensor(x), Tensor(after)).asnumpy(), gradient, atol=1e-5)


@needs_compiler
@pytest.mark.parametrize("shape", [(3, 0), (0, 3)])
def test_softmax_of_nothing(shape):
    library, sides = ctypes.CDLL(build_library()), (ctypes.c_int64 * 2)(*shape)
    assert library.TinysamSoftmax(2, (ctypes.c_void_p * 2)(), (ctypes.c_int * 2)(2, 2),
                                  (ctypes.c_void_p * 2)(*[ctypes.addressof(sides)] * 2),
                                  (ctypes.c_char_p * 2)(b"float32", b"float32"), None, None) == 0


@needs_compiler
def test_softmax_of_large_and_excluded_values(mode):
    """Nothing overflows; a key that is kept out by -1e4 or -inf gets 0, not a little; a broken step is seen."""
    rows = [[3e38, 3e38, -3e38], [1e4, 0.0, 1e4], [-1e4, 0.0, -np.inf], [-2e4, -2e4, -1e4], [0.0, -87.5, -90.0]]
    native = NativeSoftmax(build_library())
    found = native(Tensor(np.array(rows, np.float32))).asnumpy()
    np.testing.assert_array_equal(found, [[0.5, 0.5, 0], [0.5, 0, 0.5], [0, 1, 0], [0, 0, 1], [1, 0, 0]])
    assert np.isnan(native(Tensor(np.array([[0, np.nan, 1.0]], np.float32))).asnumpy()).all()


class Dense(nn.Cell):
    """A fully connected layer whose bias is added by a NativeBiasAdd, times a weight for every value."""

    def __init__(self, dense):
        super().__init__()
        self.dense = dense

    def construct(self, x, after):
        return ops.sum(self.dense(x) * after)


@needs_compiler
@pytest.mark.parametrize("rows, threads", [(1, "1"), (150, "1"), (3 * 2**13, "2")])
def test_the_gradient_of_a_bias(mode, monkeypatch, rows, threads):
    """Rows past the 64 that are summed together, two threads; the other gradients are the layer's own."""
    monkeypatch.setenv("TINYSAM_KERNEL_THREADS", threads)
    random = np.random.RandomState(0)
    x, after = Tensor(random.randn(rows, 5).astype(np.float32)), random.randn(rows, 37).astype(np.float32)
    cell = Dense(nn.Dense(5, 37))
    wanted = ms.grad(cell, 0, cell.trainable_params())(x, Tensor(after))
    use_native_kernels(cell)
    assert type(cell.dense.bias_add) is NativeBiasAdd
    of_x, (of_weight, of_bias) = ms.grad(cell, 0, cell.trainable_params())(x, Tensor(after))
    np.testing.assert_allclose(of_bias.asnumpy(), after.astype(np.float64).sum(0), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(of_x.asnumpy(), wanted[0].asnumpy())
    np.testing.assert_array_equal(of_weight.asnumpy(), wanted[1][0].asnumpy())


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
    biases = sum(isinstance(one, ops.BiasAdd) for _, cell in sam.cells_and_names()
                 if not isinstance(cell, nn.Conv2d) for one in cell._primitives.values())
    assert use_native_kernels(sam) is sam
    kinds = [type(cell) for _, cell in sam.cells_and_names()]
    assert [kinds.count(NativeGELU), kinds.count(NativeLayerNorm)] == counts and min(counts) > 8
    assert GELU not in kinds and nn.LayerNorm not in kinds
    assert [parameter.name for parameter in sam.get_parameters()] == names
    assert kinds.count(NativeSoftmax) == SOFTMAXES and kinds.count(NativeBiasAdd) == biases > 40
    assert not any(isinstance(one, ops.Softmax) for _, cell in sam.cells_and_names()
                   for one in cell._primitives.values())
    np.testing.assert_allclose(sam.image_encoder(images).asnumpy(), wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("threads", [None, "0"])
def test_off_unless_asked_for(monkeypatch, threads):
    monkeypatch.delenv("TINYSAM_KERNEL_THREADS")
    if threads:
        monkeypatch.setenv("TINYSAM_KERNEL_THREADS", threads)
    assert type(use_native_kernels(nn.SequentialCell(GELU()))[0]) is GELU


@needs_compiler
def test_a_predictor_runs_them(tmp_path):
    save_network(tmp_path / "nano.ckpt", build_sam("nano", 64, seed=3))
    kinds = {type(cell) for _, cell in open_predictor("mindspore", tmp_path / "nano.ckpt").sam.cells_and_names()}
    assert {NativeGELU, NativeLayerNorm} <= kinds and not {GELU, nn.LayerNorm} & kinds


# Takes a library; then no further thread can start, since there is no room for its stack.
WITHOUT_THREADS = """
import ctypes, os, resource, sys, threading
library, count = ctypes.CDLL(sys.argv[1]), 3 * 2**17
x, alone, result = ((ctypes.c_float * count)() for _ in range(3))
for i in range(count):
    x[i] = i / 2**17 - 1.5
shape = (ctypes.c_int64 * 1)(count)

def gelu(y, threads):
    os.environ["TINYSAM_KERNEL_THREADS"] = threads
    return library.TinysamGelu(2, (ctypes.c_void_p * 2)(*map(ctypes.addressof, (x, y))), (ctypes.c_int * 2)(1, 1),
                               (ctypes.c_void_p * 2)(*[ctypes.addressof(shape)] * 2),
                               (ctypes.c_char_p * 2)(b"float32", b"float32"), None, None)

assert gelu(alone, "1") == 0
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 2**20, resource.RLIM_INFINITY))
try:
    threading.Thread(target=print).start()
    print("a thread could start")
except RuntimeError:
    code = gelu(result, "3")
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(code, bytes(alone) == bytes(result))
"""


@needs_compiler
def test_without_threads_to_be_had_the_caller_does_the_work():
    done = subprocess.run([sys.executable, "-c", WITHOUT_THREADS, build_library()], capture_output=True, text=True,
                          check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0 True\n", "")


def test_without_a_compiler_the_operators_stay(monkeypatch, tmp_path, refusal):
    assert refusal("no-such-compiler", tmp_path) == "[Errno 2] No such file or directory: 'no-such-compiler'"
    monkeypatch.setattr(native_kernels, "build_library", lambda: None)
    assert type(use_native_kernels(nn.SequentialCell(GELU()))[0]) is GELU


def test_what_a_compiler_says_is_logged_and_nothing_half_made_stays(tmp_path, refusal):
    says = "sh -c 'echo kernels.cc: >&2; echo error: no such flag >&2; echo ^~~~ >&2; exit 1'"
    assert refusal(says, tmp_path) == "error: no such flag"
    assert refusal("sh -c 'echo killed >&2; exit 1'", tmp_path) == "killed"
    assert "returned non-zero exit status 1" in refusal("false", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_system_a_command_and_folders_that_cannot_be(monkeypatch, tmp_path, refusal):
    assert refusal("c++ '", tmp_path) == "No closing quotation"
    for folder in (tmp_path / "a:b", "relative"):
        assert refusal("c++", folder) == \
            f"the cache folder {folder} is not an absolute path without ':'; set XDG_CACHE_HOME"
    with monkeypatch.context() as patch:
        patch.setattr(native_kernels, "SOURCE", tmp_path / "gone.cc")
        assert refusal("c++", tmp_path) == f"[Errno 2] No such file or directory: '{tmp_path}/gone.cc'"
    monkeypatch.setattr(native_kernels.platform, "system", lambda: "Darwin")
    assert refusal("c++", tmp_path) == "MindSpore takes them on Linux only, not on Darwin"
    assert list(tmp_path.iterdir()) == []


@needs_compiler
def test_a_folder_that_mindspore_may_not_load_from(monkeypatch, tmp_path, refusal, copies):
    monkeypatch.setenv("MS_CUSTOM_AOT_WHITE_LIST", str(tmp_path / "other"))
    assert f"the legal path for the file is {tmp_path}/other, but the file is {tmp_path}/mine/kernels_" in \
        refusal("some-compiler", tmp_path / "mine")


@needs_compiler
def test_what_others_could_have_written_is_not_loaded(monkeypatch, tmp_path, refusal, copies):
    folder = tmp_path / "made"
    mask = os.umask(0)
    try:
        library = Path(build_library("some-compiler", str(folder)))
    finally:
        os.umask(mask)
    assert folder.stat().st_mode & 0o777 == library.stat().st_mode & 0o777 == 0o700
    for path, mode in [(library, 0o720), (library, 0o702), (folder, 0o770), (folder, 0o777)]:
        path.chmod(mode)
        assert refusal("some-compiler", folder) == \
            f"{path} is not this user's alone to write: remove it, or set XDG_CACHE_HOME"
        path.chmod(0o755)  # reading is no harm
    assert build_library.__wrapped__("some-compiler", str(folder)) == str(library) and len(copies) == 1
    monkeypatch.setattr(native_kernels.os, "geteuid", lambda: folder.stat().st_uid + 1)
    assert refusal("some-compiler", folder).startswith(f"{folder} is not this user's alone to write")


@needs_compiler
def test_a_library_that_cannot_be_loaded_is_made_anew_once(monkeypatch, tmp_path, refusal, copies):
    """As of another C library on a shared home. A file that this process has once loaded would count as loaded."""
    made = Path(build_library("some-compiler", str(tmp_path)))
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    library = other / made.name
    library.write_text("of another machine")
    assert build_library("some-compiler", str(other)) == str(library)
    assert library.read_bytes() == made.read_bytes() and len(copies) == 2
    monkeypatch.setattr(native_kernels.subprocess, "run",
                        lambda command, **_: copies.append(Path(command[-1]).write_text("no")))
    third = tmp_path / "third"
    assert f"{third / made.name}: file too short" == refusal("some-compiler", third) and len(copies) == 3
