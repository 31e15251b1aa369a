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
"""GELU in one pass over memory on a CPU: a C++ kernel in place of sixteen operators that each read and write all.

The kernel, src/modeling/gelu_kernel.cc, is compiled once for the machine it is used on, with the C++ compiler found
there, and kept in the user's cache folder. Where that does not work the network stays as it is: same function, more
time. Networks that are exported keep the operators. `src/runtime.py` switches this on: TINYSAM_KERNEL_THREADS.
"""
import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import subprocess
import tempfile
from pathlib import Path

from mindspore import nn, ops

from src.modeling.common import GELU
from src.modeling.replace import put_cell

LOG = logging.getLogger("tinysam")
SOURCE = Path(__file__).resolve().parent / "gelu_kernel.cc"
# Without traps the compiler may compute both sides of a condition, and so vectorises it: 7 times the speed.
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fno-trapping-math", "-shared", "-fPIC", "-pthread")
THREADS = "TINYSAM_KERNEL_THREADS"  # of the kernel; 0 or not set: the operators


class NativeGELU(nn.Cell):
    """`GELU` by the kernels of a library: any shape of float32 in, the same shape out, forward and backward.

    Args:
        library: path of what `build_library` has made.
    """

    def __init__(self, library):
        super().__init__()
        self.forward = _kernel(library, "TinysamGelu", lambda x: x)
        self.backward = _kernel(library, "TinysamGeluGradient", lambda x, dout: x)

    def construct(self, x):
        return self.forward(x)

    def bprop(self, x, out, dout):
        return (self.backward(x, dout),)


@functools.cache
def _kernel(library, name, like):
    return ops.Custom(f"{library}:{name}", out_shape=like, out_dtype=like, func_type="aot")


def use_native_gelu(network):
    """Exchange every `GELU` inside a cell for a `NativeGELU`, in place, where TINYSAM_KERNEL_THREADS is not 0 and the
    kernel can be had. Parameters stay what they are; a network that will be exported is left alone by its caller.

    Returns:
        The network.
    """
    if os.environ.get(THREADS, "0") == "0":
        return network
    library = build_library()
    if library is None:
        return network
    for _, cell in list(network.cells_and_names()):
        for attribute, child in list(cell._cells.items()):
            if type(child) is GELU:
                put_cell(cell, attribute, NativeGELU(library))
    return network


@functools.cache
def build_library(compiler="", folder=""):
    """Path (str) of the compiled kernels, or None where they cannot be made or loaded, which is logged.

    Args:
        compiler: command; empty: the environment variable CXX, else c++.
        folder: where libraries are kept; empty: tinysam/ in XDG_CACHE_HOME, else in ~/.cache.
    """
    compiler = shlex.split(compiler or os.environ.get("CXX") or "c++")
    folder = Path(folder or os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "tinysam"))
    key = hashlib.sha256(repr((SOURCE.read_bytes(), FLAGS, compiler, _processor())).encode()).hexdigest()[:16]
    library = folder / f"gelu_{key}.so"
    try:
        if not library.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder) as part:
                subprocess.run([*compiler, *FLAGS, str(SOURCE), "-o", f"{part}/gelu.so"], check=True,
                               capture_output=True, timeout=120)
                os.replace(f"{part}/gelu.so", library)  # whole or not at all, whoever else is at it
        ctypes.CDLL(str(library))
    except (OSError, subprocess.SubprocessError) as error:
        LOG.info("GELU stays with MindSpore's operators: its kernel cannot be built or loaded (%s)",
                 str(error).splitlines()[0])
        return None
    return str(library)


def _processor():
    """What -march=native depends on: the processor's features, where the system says."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line for line in lines if line.lower().startswith(("flags", "features")))
    except (OSError, StopIteration):
        return platform.machine()
