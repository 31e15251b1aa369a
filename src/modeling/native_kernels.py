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
"""GELU, LayerNorm and softmax in one pass over memory on a CPU, forward and backward: C++ kernels in MindSpore's place.

There, GELU is sixteen operators that each read and write all, LayerNorm takes several times what it needs, and so does
softmax's derivative, which is put together of products and differences with broadcasting, and a bias's. The kernels,
src/modeling/native_kernels.cc, are compiled once for the machine they are used on, with the C++ compiler found there,
and kept in the user's cache folder. Where that does not work the network stays as it is: same function, more time.
Networks that are exported keep the operators. `src/runtime.py` switches this on: TINYSAM_KERNEL_THREADS. Kernels of
quantized products are in the same library (native_codes.cc); src/quantization/native_cells.py puts them in place.
"""
import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import stat
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from mindspore import Tensor, nn, ops

from src.modeling.common import GELU
from src.modeling.mask_decoder import UpscaleRows
from src.modeling.replace import exchange

LOG = logging.getLogger("tinysam")
SOURCE = Path(__file__).resolve().parent / "native_kernels.cc"
CODES, HEADER = SOURCE.with_name("native_codes.cc"), SOURCE.with_name("native_kernels.h")
# Without traps the compiler may compute both sides of a condition, and so vectorises it: 7 times GELU's speed.
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fno-trapping-math", "-fno-math-errno", "-shared", "-fPIC", "-pthread")
THREADS = "TINYSAM_KERNEL_THREADS"  # of a kernel; 0 or not set: the operators


class NativeGELU(nn.Cell):
    """`GELU` by the kernels of a library: any shape of float32 in, the same shape out.

    Args:
        library: path of what `build_library` has made.
    """

    def __init__(self, library):
        super().__init__()
        self.forward = kernel(library, "TinysamGelu", like_first)
        self.backward = kernel(library, "TinysamGeluGradient", like_first)

    def construct(self, x):
        return self.forward(x)

    def bprop(self, x, out, dout):
        return (self.backward(x, dout),)


class NativeLayerNorm(nn.Cell):
    """An `nn.LayerNorm` over the last axis by the kernels of a library: [..., dim] float32 -> the same shape.

    Args:
        library: path of what `build_library` has made.
        norm: the `nn.LayerNorm`, whose parameters these are from now on, under their names.
    """

    def __init__(self, library, norm):
        super().__init__()
        self.gamma = norm.gamma
        self.beta = norm.beta
        self.normalise = _Normalise(library, norm.epsilon)

    def construct(self, x):
        return self.normalise(x, self.gamma, self.beta)


class NativeSoftmax(nn.Cell):
    """Softmax over the last axis by the kernels of a library: [..., width] float32 -> the same shape.

    Args:
        library: path of what `build_library` has made.
    """

    def __init__(self, library):
        super().__init__()
        self.forward = kernel(library, "TinysamSoftmax", like_first)
        self.backward = kernel(library, "TinysamSoftmaxGradient", like_first)

    def construct(self, x):
        return self.forward(x)

    def bprop(self, x, out, dout):
        return (self.backward(out, dout),)


class NativeBiasAdd(nn.Cell):
    """Rows [L, width] and a bias [width] float32 -> their sum [L, width]; its derivative by the kernels of a library.

    Args:
        library: path of what `build_library` has made.
    """

    def __init__(self, library):
        super().__init__()
        self.add = ops.BiasAdd()
        self.column_sums = kernel(library, "TinysamColumnSums", _like_a_row)

    def construct(self, x, bias):
        return self.add(x, bias)

    def bprop(self, x, bias, out, dout):
        return dout, self.column_sums(dout)


class _Normalise(nn.Cell):
    """x [..., dim], gamma [dim], beta [dim] -> [..., dim]. A cell without parameters, so that `bprop` has them all."""

    def __init__(self, library, epsilon):
        super().__init__()
        self.epsilon = Tensor(np.array([epsilon], np.float32))
        self.forward = kernel(library, "TinysamLayerNorm", like_first)
        self.backward = kernel(library, "TinysamLayerNormGradient", _like_input_gamma_beta)

    def construct(self, x, gamma, beta):
        return self.forward(x, gamma, beta, self.epsilon)

    def bprop(self, x, gamma, beta, out, dout):
        return self.backward(x, gamma, self.epsilon, dout)


def like_first(x, *_):
    """Of a kernel with one output, of the shape and type of its first input."""
    return x


def _like_a_row(x):
    """Of a shape its last side; a type stays."""
    return x[-1:] if isinstance(x, (list, tuple)) else x


def _like_input_gamma_beta(x, gamma, *_):
    return x, gamma, gamma


@functools.cache
def kernel(library, name, like):
    """A kernel of a library as an operator; `like` gives its outputs' shapes, and types, from its inputs'."""
    return ops.Custom(f"{library}:{name}", out_shape=like, out_dtype=like, func_type="aot")


def use_native_kernels(network):
    """Exchange every `GELU`, every `nn.LayerNorm` over one axis, every `ops.Softmax(-1)` and what adds the bias of rows
    inside a cell for the native ones, in place, where TINYSAM_KERNEL_THREADS is not 0 and the kernels can be had.
    Parameters and their names stay; a network that will be exported is left alone by its caller.

    Returns:
        The network.
    """
    library = wanted_library()

    def native(owner, child, name):
        if type(child) is GELU:
            return NativeGELU(library)
        if type(child) is nn.LayerNorm and len(child.normalized_shape) == 1:
            return NativeLayerNorm(library, child)
        if isinstance(child, ops.Softmax) and child.axis in (-1, (-1,)):
            return NativeSoftmax(library)
        if isinstance(child, ops.BiasAdd) and isinstance(owner, (nn.Dense, UpscaleRows)):
            return NativeBiasAdd(library)
        return None

    return network if library is None else exchange(network, native)


def wanted_library():
    """Path (str) of the compiled kernels, or None where TINYSAM_KERNEL_THREADS is 0 or they cannot be had."""
    return build_library() if os.environ.get(THREADS, "0") != "0" else None


@functools.cache
def build_library(compiler="", folder=""):
    """Path (str) of the compiled kernels, or None where they cannot be made, loaded or used, which is logged.

    Args:
        compiler: command; empty: the environment variable CXX, else c++.
        folder: where libraries are kept, an absolute path; empty: tinysam/ in XDG_CACHE_HOME, else in ~/.cache.
    """
    try:
        if platform.system() != "Linux":
            raise OSError(f"MindSpore takes them on Linux only, not on {platform.system()}")
        library = _build(shlex.split(compiler or os.environ.get("CXX") or "c++"), Path(folder or os.path.join(
            os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "tinysam")))
        kernel(library, "TinysamGelu", like_first)  # may refuse the folder: MS_CUSTOM_AOT_WHITE_LIST
        return library
    except (OSError, ValueError, TypeError, subprocess.SubprocessError) as error:
        LOG.info("GELU, LayerNorm and softmax stay MindSpore's: the native kernels cannot be built or loaded (%s)",
                 _reason(error))
        return None


def _build(compiler, folder):
    """Path (str) of a library that can be loaded, in the folder; compiled unless it is there. Errors: OSError,
    ValueError, subprocess.SubprocessError."""
    if not folder.is_absolute() or ":" in str(folder):
        raise ValueError(f"the cache folder {folder} is not an absolute path without ':'; set XDG_CACHE_HOME")
    texts = [path.read_bytes() for path in (SOURCE, CODES, HEADER)]
    key = hashlib.sha256(repr((texts, FLAGS, compiler, _processor())).encode()).hexdigest()[:16]
    library = folder / f"kernels_{key}.so"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _require_own(folder)
    if library.is_file():
        _require_own(library)
        try:
            ctypes.CDLL(str(library))
            return str(library)
        except OSError:
            pass  # damaged, or a shared home and another C library: made anew
    with tempfile.TemporaryDirectory(dir=folder) as part:
        made = Path(part, "kernels.so")
        subprocess.run([*compiler, *FLAGS, str(SOURCE), str(CODES), "-o", str(made)], check=True,
                       capture_output=True, timeout=120)
        made.chmod(0o700)
        os.replace(made, library)  # whole or not at all, whoever else is at it
    ctypes.CDLL(str(library))
    return str(library)


def _require_own(path):
    """A library runs with the rights of this user: nobody else may have written it. Raises PermissionError."""
    found = path.stat()
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"{path} is not this user's alone to write: remove it, or set XDG_CACHE_HOME")


def _reason(error):
    """One line: the last of a compiler that names an error, or the exception's."""
    said = (getattr(error, "stderr", None) or b"").decode(errors="replace").splitlines()
    named = [line for line in said if "error" in line.lower()] or said
    return named[-1] if named else next(iter(str(error).splitlines()), type(error).__name__)


def _processor():
    """What -march=native depends on: the processor's features, where the system says."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line for line in lines if line.lower().startswith(("flags", "features")))
    except (OSError, StopIteration):
        return platform.machine()
