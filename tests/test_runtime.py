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
"""Start-up: the device that answers, the seeds, the instruction-set cap. Each case in a process of its own."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from src import runtime
from src.config import build_config
from src.export.openvino_engine import _all_instructions
from src.runtime import VERSION, code_version, init_runtime

ROOT = Path(__file__).resolve().parent.parent

START = """
import os
from src.config import load_config
from src.runtime import init_runtime
runtime = init_runtime(load_config(["--runtime.device={device}", "--runtime.seed=5"]).runtime)
import mindspore as ms, numpy as np
print(runtime.device, runtime.rank, runtime.size, os.environ["ONEDNN_MAX_CPU_ISA"], np.random.rand(),
      ms.ops.rand(1).asnumpy()[0])
"""


def start(device, **environment):
    variables = {k: v for k, v in os.environ.items() if k != "ONEDNN_MAX_CPU_ISA"}
    return subprocess.run([sys.executable, "-c", START.format(device=device)], cwd=ROOT, capture_output=True, text=True,
                          env={**variables, **environment}, timeout=300, check=False)


def test_cpu_start_up_sets_the_cap_and_the_seeds():
    first, second = start("cpu"), start("auto")
    assert first.stdout.split()[:4] == ["CPU", "0", "1", "AVX2"], first.stderr
    assert first.stdout == second.stdout  # no Ascend here: auto takes the CPU; equal seeds draw equal numbers


@pytest.mark.parametrize("place, ranks, limit, turn, share", [
    (0, 1, 0, 5, [0, 1, 2, 3, 4, 6, 7, 9]), (0, 1, 8, 5, [0, 1, 2, 3, 4, 6, 7, 9]), (0, 1, 3, 0, [0, 1, 2]),
    (0, 1, 3, 8 + 6, [0, 7, 9]), (0, 2, 0, 1, [0, 1, 2, 3]), (1, 2, 0, 1, [4, 6, 7, 9]), (1, 2, 1, 2, [7]),
    (2, 3, 0, 0, [6, 7, 9]), (0, 3, 0, 0, [0, 1]), (9, 16, 0, 0, [4]), (8, 16, 0, 0, [4])])
def test_shares_of_a_nodes_processors(place, ranks, limit, turn, share):
    """Eight processors, numbered with gaps."""
    assert runtime.share_of_processors([0, 1, 2, 3, 4, 6, 7, 9], place, ranks, limit, turn) == share


@pytest.mark.parametrize("count, ranks", [(2, 4), (2, 8), (8, 16), (8, 3), (3, 8), (1, 5), (8, 8)])
def test_shares_are_even(count, ranks):
    """Every processor is taken; no rank has two more, and no processor two more ranks, than another."""
    shares = [runtime.share_of_processors(range(count), place, ranks, 0, 0) for place in range(ranks)]
    sizes, taken = [len(share) for share in shares], [sum(i in share for share in shares) for i in range(count)]
    assert min(taken) > 0 and max(sizes) - min(sizes) <= 1 and max(taken) - min(taken) <= 1


@pytest.fixture
def node(monkeypatch):
    """A node of eight processors; the list are those of this process, set by what is under test."""
    mine = list(range(8))
    monkeypatch.setattr(runtime, "ALLOWED", list(mine))

    def keep_to(process, wanted):
        assert process == 0
        mine[:] = wanted
    monkeypatch.setattr(runtime.os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(runtime.os, "sched_setaffinity", keep_to, raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("TINYSAM_KERNEL_THREADS", "7")
    return mine


@pytest.mark.parametrize("given, processors, threads", [({}, 8, "8"), ({"runtime.threads": 3}, 3, "3"),
                                                        ({"runtime.threads": 9}, 8, "8"),
                                                        ({"runtime.native_kernels": False}, 8, "0")])
def test_a_process_keeps_to_its_threads(node, given, processors, threads):
    init_runtime(build_config({"runtime.device": "cpu", **given}).runtime)
    assert (len(node), os.environ["TINYSAM_KERNEL_THREADS"]) == (processors, threads)


@pytest.mark.parametrize("rank, size, processors", [(0, 2, [0, 1, 2, 3]), (1, 2, [4, 5, 6, 7]), (5, 64, [4, 5, 6, 7])])
def test_ranks_share_the_nodes_processors(monkeypatch, node, rank, size, processors):
    """Two ranks a node, whichever number of nodes."""
    for name, value in {"init": lambda _: None, "get_rank": lambda: rank, "get_group_size": lambda: size}.items():
        monkeypatch.setattr(runtime, name, value)
    init_runtime(build_config({"runtime.device": "cpu", "runtime.distributed": True, "runtime.devices": 2}).runtime)
    assert (node, os.environ["TINYSAM_KERNEL_THREADS"]) == (processors, "4")


def test_a_rank_that_its_launcher_has_bound_stays_there(monkeypatch, node):
    for name, value in {"init": lambda _: None, "get_rank": lambda: 1, "get_group_size": lambda: 2}.items():
        monkeypatch.setattr(runtime, name, value)
    monkeypatch.setattr(runtime.os, "sched_getaffinity", lambda process: set(range(16)))  # its parent's
    init_runtime(build_config({"runtime.device": "cpu", "runtime.distributed": True, "runtime.devices": 2}).runtime)
    assert (node, os.environ["TINYSAM_KERNEL_THREADS"]) == (list(range(8)), "8")


def test_a_later_start_up_may_take_more_again(node):
    for threads, processors in ((1, 1), (0, 8), (5, 5)):
        init_runtime(build_config({"runtime.device": "cpu", "runtime.threads": threads}).runtime)
        assert len(node) == processors


@pytest.mark.parametrize("omp, threads", [("", "8"), ("words", "8"), ("3", "3"), ("5,2", "5"), ("0", "8"), ("64", "8")])
def test_native_kernels_have_the_threads_that_were_asked_for(monkeypatch, node, omp, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", omp)
    init_runtime(build_config({"runtime.device": "cpu"}).runtime)
    assert os.environ["TINYSAM_KERNEL_THREADS"] == threads


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
                    reason="needs 2 processors")
def test_threads_limit_a_real_process():
    ask = ("import os; from src.config import build_config; from src.runtime import init_runtime; "
           "init_runtime(build_config({'runtime.device': 'cpu', 'runtime.threads': 1}).runtime); "
           "print(len(os.sched_getaffinity(0)))")
    done = subprocess.run([sys.executable, "-c", ask], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


@pytest.mark.parametrize("enabled", ["0", "1"])
def test_a_cache_of_graphs_that_may_be_wrong_is_warned_of(monkeypatch, capsys, enabled):
    monkeypatch.setenv("MS_COMPILER_CACHE_ENABLE", enabled)
    init_runtime(build_config({"runtime.device": "cpu"}).runtime)
    warned = "MS_COMPILER_CACHE_ENABLE=1: MindSpore finds a stored graph by its number" in capsys.readouterr().err
    assert warned == (enabled == "1")


def test_a_cap_set_by_the_user_stays():
    assert start("cpu", ONEDNN_MAX_CPU_ISA="SSE41").stdout.split()[3] == "SSE41"


@pytest.mark.parametrize("given", [None, "AVX2", "SSE41"])
def test_openvino_lifts_the_cap_of_the_start_up_and_no_other(monkeypatch, given):
    for name in ("TINYSAM_CPU_ISA", "ONEDNN_MAX_CPU_ISA"):
        monkeypatch.setenv(name, "")  # so that what the start-up sets is taken back, too
        monkeypatch.delenv(name)
    if given:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", given)
    init_runtime(build_config({"runtime.device": "cpu"}).runtime)
    with _all_instructions():
        assert os.environ.get("ONEDNN_MAX_CPU_ISA") == given
    assert os.environ["ONEDNN_MAX_CPU_ISA"] == (given or "AVX2")


def test_a_wanted_ascend_that_is_not_here_is_an_error():
    import mindspore as ms
    if ms.hal.is_available("Ascend"):
        assert start("ascend").stdout.startswith("Ascend")
    else:
        assert "runtime.device is 'ascend' but MindSpore finds no Ascend device here" in start("ascend").stderr


def test_ranks_in_pynative_on_a_cpu_are_refused():
    with pytest.raises(ValueError, match="^runtime.mode is 'pynative' with several ranks on a CPU, which has "
                                         "collectives in graph mode only; use --runtime.mode=graph$"):
        init_runtime(build_config({"runtime.device": "cpu", "runtime.mode": "pynative",
                                   "runtime.distributed": True}).runtime)


def test_the_processor_is_named(monkeypatch, tmp_path):
    """As Linux lists it on x86; elsewhere as Python knows it, and once."""
    listing = tmp_path / "cpuinfo"
    listing.write_text("processor\t: 0\nmodel\t\t: 85\nmodel name\t: Xeon (R) 2.5GHz\nmodel name\t: other\n")
    assert runtime.processor_name(listing) == "Xeon (R) 2.5GHz"
    for name, value in {"machine": "riscv", "processor": ""}.items():
        monkeypatch.setattr(runtime.platform, name, lambda value=value: value)
    monkeypatch.setattr(runtime.os, "cpu_count", lambda: 4)
    listing.write_text("processor\t: 0\nCPU part\t: 0xd01\n")
    assert runtime.processor_name(listing) == runtime.processor_name(tmp_path / "none") == "riscv"
    monkeypatch.setattr(runtime.platform, "processor", lambda: "Kunpeng")
    assert runtime.processor_name(listing) == "Kunpeng"
    for name, machine in (("Kunpeng", "riscv, Kunpeng, 4 cores"), ("riscv", "riscv, 4 cores")):
        monkeypatch.setattr(runtime, "processor_name", lambda name=name: name)
        assert runtime.versions()["machine"] == machine


def test_the_version_of_the_code_is_the_checkouts_or_the_packages(tmp_path):
    """A copy of src without .git has the package's version, which pyproject.toml states too; a commit has its own."""
    assert f'version = "{VERSION}"' in (ROOT / "pyproject.toml").read_text()
    for name in ("__init__.py", "runtime.py", "config.py", "config_sections.py"):
        (tmp_path / "src").mkdir(exist_ok=True)
        shutil.copy(ROOT / "src" / name, tmp_path / "src" / name)
    ask = [sys.executable, "-c", "from src.runtime import code_version; print(code_version())"]

    def version():
        return subprocess.run(ask, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()
    assert version() == VERSION
    if shutil.which("git"):
        git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.com"]
        for words in (["init", "-q"], ["add", "src"], ["commit", "-q", "-m", "one"], ["tag", "v9"]):
            subprocess.run([*git, *words], check=True)
        assert version() == "v9"
    assert code_version()
