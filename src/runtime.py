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
"""Start-up of a run: device, mode, threads, ranks, seeds and logging. The only module that branches on the device.

On a CPU, oneDNN picks reference kernels for k x k convolutions on AVX-512 hosts, about 100 times slower than its AVX2
ones; the cap on the instruction set is set here unless the user has set it, and noted in TINYSAM_CPU_ISA for
src/export/openvino_engine.py, which lifts no other. oneDNN reads it at its first kernel.
MindSpore starts threads by the processors of the machine, whatever the process may use; `runtime.threads` and ranks
limit the processors that these share: any number given to mindspore.runtime.dispatch_threads_num but 1 doubles the time
(2.10, docs/performance.md).
TINYSAM_KERNEL_THREADS tells src/modeling/native_kernels.py whether to use its kernels, and how many threads they have.
"""
import logging
import os
import platform
import random
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Sequence

import mindspore as ms
import numpy as np
from mindspore.communication import get_group_size, get_rank, init

from src.config import RuntimeConfig

LOG = logging.getLogger("tinysam")
VERSION = "0.1.0"  # as in pyproject.toml
# Processors that this process was started with.
ALLOWED = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


@dataclass(frozen=True)
class Runtime:
    """What a run has been given: `device` "CPU" or "Ascend", this process's `rank` of `size`."""
    device: str
    rank: int
    size: int


def _pick_device(wanted: str) -> str:
    """Name of the device as MindSpore spells it; a wanted device that does not answer is an error, never replaced."""
    if wanted == "cpu":
        return "CPU"
    available = ms.hal.is_available("Ascend")
    if wanted == "ascend" and not available:
        raise ValueError("runtime.device is 'ascend' but MindSpore finds no Ascend device here; "
                         "check the driver and CANN, or use --runtime.device=cpu")
    return "Ascend" if available else "CPU"


def _cap_instructions() -> None:
    """Keep oneDNN to AVX2 unless the user says otherwise."""
    if "ONEDNN_MAX_CPU_ISA" not in os.environ:
        os.environ["ONEDNN_MAX_CPU_ISA"] = os.environ["TINYSAM_CPU_ISA"] = "AVX2"


def share_of_processors(processors: Sequence[int], place: int, ranks: int, limit: int, turn: int) -> List[int]:
    """Which of a node's processors a process keeps to.

    Args:
        processors: of the node.
        place, ranks: which of the node's processes this is, from 0, and how many there are.
        limit: the most it takes; 0: its whole share.
        turn: with a limit, where in its share it begins, so that processes that do not know each other spread.
    """
    first, end = (number * len(processors) // ranks for number in (place, place + 1))
    share = list(processors[first:max(end, first + 1)])
    if not 0 < limit < len(share):
        return share
    start = turn % len(share)
    return sorted((share[start:] + share[:start])[:limit])


def _keep_to_processors(config: RuntimeConfig, rank: int, size: int) -> List[int]:
    """Limit this process, and what it starts from here on, to `runtime.threads` processors, and a rank to its share
    unless its launcher has bound it -> the processors."""
    ranks = 1 if size == 1 or _is_bound() else min(size, config.devices)
    wanted = share_of_processors(ALLOWED, rank % ranks, ranks, config.threads, os.getpid())
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, wanted)
    return wanted


def _is_bound() -> bool:
    """Whether this process was given other processors than its parent."""
    try:
        return os.sched_getaffinity(os.getppid()) != set(ALLOWED)
    except (OSError, AttributeError):
        return False


def _kernel_threads(processors: int) -> int:
    """Of a native kernel: one a processor, or OMP_NUM_THREADS where that is less."""
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # a list has one number a nesting level
    return min(int(asked) if asked.isdecimal() and int(asked) else processors, processors)


def init_runtime(config: RuntimeConfig) -> Runtime:
    """Set up MindSpore for this process.

    Args:
        config: the `runtime:` section.

    Returns:
        Runtime with the device in use and this process's place among the ranks.

    Raises:
        ValueError: the wanted device is not here.
    """
    device = _pick_device(config.device)
    if device == "CPU":
        _cap_instructions()
    ms.set_device(device)
    ms.set_context(mode=ms.GRAPH_MODE if config.mode == "graph" else ms.PYNATIVE_MODE)
    rank, size = 0, 1
    if config.distributed:
        if device == "CPU" and config.mode != "graph":
            raise ValueError(f"runtime.mode is '{config.mode}' with several ranks on a CPU, which has collectives in "
                             "graph mode only; use --runtime.mode=graph")
        init("hccl" if device == "Ascend" else "mccl")
        rank, size = get_rank(), get_group_size()
    processors = _keep_to_processors(config, rank, size) if device == "CPU" else []
    native = device == "CPU" and config.native_kernels
    os.environ["TINYSAM_KERNEL_THREADS"] = str(_kernel_threads(len(processors))) if native else "0"
    random.seed(config.seed)
    np.random.seed(config.seed)
    ms.set_seed(config.seed)
    set_up_logging(rank, size)
    if os.environ.get("MS_COMPILER_CACHE_ENABLE") == "1":
        LOG.warning("MS_COMPILER_CACHE_ENABLE=1: MindSpore finds a stored graph by its number, and runs one of other "
                    "shapes or settings without a word; keep a folder for each command and empty it on any change")
    return Runtime(device=device, rank=rank, size=size)


def set_up_logging(rank: int = 0, size: int = 1) -> None:
    """Log lines of the module on stderr: rank 0 says everything, the others warnings only."""
    handler = logging.StreamHandler(sys.stderr)
    prefix = f"[rank {rank}] " if size > 1 else ""
    handler.setFormatter(logging.Formatter(f"%(asctime)s {prefix}%(message)s", datefmt="%H:%M:%S"))
    LOG.handlers[:] = [handler]
    LOG.setLevel(logging.INFO if rank == 0 else logging.WARNING)
    LOG.propagate = False


def code_version() -> str:
    """`git describe` of the checkout this file lies in, else the version of the package."""
    root = Path(__file__).resolve().parent.parent
    if (root / ".git").exists():
        try:
            found = subprocess.run(["git", "-C", str(root), "describe", "--always", "--tags", "--dirty"], check=True,
                                   capture_output=True, text=True, timeout=10)
            return found.stdout.strip()
        except (OSError, subprocess.SubprocessError):
            pass  # no git here, or a checkout it refuses to read
    return VERSION


def versions() -> Dict[str, str]:
    """What a measured number was measured with: versions and the kind of processor."""
    return {"python": platform.python_version(), "mindspore": ms.__version__, "numpy": np.__version__,
            "machine": ", ".join(dict.fromkeys((platform.machine(), processor_name(), f"{os.cpu_count()} cores")))}


def processor_name(listing: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's model; where nothing names it, its architecture."""
    try:
        found = re.search(r"^model name\s*:\s*(\S.*)$", listing.read_text(encoding="utf-8"), re.MULTILINE)
    except (OSError, ValueError):
        found = None  # another system
    return (found.group(1).strip() if found else platform.processor()) or platform.machine()
