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
"""Shared fixtures. MindSpore reads its environment at import, so the start-up settings come first."""
import logging
import os
import sys
from pathlib import Path

if "ONEDNN_MAX_CPU_ISA" not in os.environ:  # k x k convolutions are 100x slower without it on AVX-512 hosts
    os.environ["ONEDNN_MAX_CPU_ISA"] = os.environ["TINYSAM_CPU_ISA"] = "AVX2"
os.environ.setdefault("GLOG_v", "3")

import mindspore as ms  # noqa: E402
import pytest  # noqa: E402

ms.set_device("CPU")  # before the first kernel: root scripts that run inside a test set it again, which then is allowed


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_session(tmp_path_factory):
    """A cache folder that is not the user's; one for all tests, since a process looks for its kernels once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def start_up_of_the_test_alone(monkeypatch):
    """What a root script's `init_runtime` sets in this process ends with the test: native kernels, which are off unless
    a test or its script wants them, and where log lines go. Processors stay: threads would keep to fewer for good."""
    monkeypatch.setenv("TINYSAM_KERNEL_THREADS", "0")
    monkeypatch.setattr("os.sched_setaffinity", lambda *_: None, raising=False)
    log = logging.getLogger("tinysam")
    kept = log.handlers[:], log.level, log.propagate
    yield
    log.handlers[:], log.level, log.propagate = kept


@pytest.fixture(autouse=True)
def openvino_in_a_process_of_its_own(request):
    """A MindSpore training step crashes the process that imported OpenVINO, some tests later: so tests that import it
    live in tests/export/with_openvino, which scripts/run_tests.sh runs apart."""
    before = "openvino" in sys.modules
    yield
    if "with_openvino" not in request.path.parts and not before:
        assert "openvino" not in sys.modules, "imports OpenVINO: move this test to tests/export/with_openvino"


@pytest.fixture(params=["graph", "pynative"])
def mode(request):
    """Run the test once in graph mode and once in PyNative."""
    ms.set_context(mode=ms.GRAPH_MODE if request.param == "graph" else ms.PYNATIVE_MODE)
    yield request.param
    ms.set_context(mode=ms.GRAPH_MODE)


@pytest.fixture
def pynative():
    """PyNative unless a test asks for `mode`: graphs are compiled anew for every network, which takes seconds. For a
    whole file: `pytestmark = pytest.mark.usefixtures("pynative")`."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    yield
    ms.set_context(mode=ms.GRAPH_MODE)


@pytest.fixture(scope="session")
def data_root():
    """Folder of the curated data set (environment variable TINYSAM_DATA); a test that needs it says so without it."""
    root = Path(os.environ.get("TINYSAM_DATA", ""))
    if not os.environ.get("TINYSAM_DATA") or not (root / "eval").is_dir():
        pytest.skip("needs the curated data set: set TINYSAM_DATA to its folder (the one that holds train/ and eval/)")
    return root
