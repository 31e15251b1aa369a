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
"""Worker processes: order, errors, early exit, and that they do not carry MindSpore with them."""
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from src.data.workers import Workers


def work(kind, value):
    """What the workers of these tests are asked to do."""
    if kind == "square":
        time.sleep(0.02 * (value % 3))  # so that they would overtake each other
        return value * value
    if kind == "loaded":
        return value in sys.modules
    if kind == "refuse":
        raise ValueError(f"picture {value} is unusable")
    if kind == "fail":
        raise OSError(f"disk {value} is gone")
    os._exit(value)


def alive(workers):
    return [process for process in workers._processes if process.is_alive()]


def test_order_reuse_and_end():
    workers = Workers(work, 2)
    assert list(workers.map(("square", value) for value in range(11))) == [value * value for value in range(11)]
    first = [process.pid for process in alive(workers)]
    assert list(workers.map([("square", 3)])) == [9] and list(workers.map([])) == []
    assert [process.pid for process in alive(workers)] == first and len(first) == 2  # kept for the next epoch
    assert list(workers.map([("loaded", "mindspore"), ("loaded", "cv2")])) == [False, True]
    processes = list(workers._processes)
    workers.close()
    assert not any(process.is_alive() for process in processes)


SCRIPT = """
print("imported")  # without an `if __name__` guard: it must run once, not once in every worker
from src.data.workers import Workers
workers = Workers(divmod, 2)
print(list(workers.map([(7, 2), (9, 4)])))
if {kill}:
    import os, signal
    print([process.pid for process in workers._processes], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def run_script(tmp_path, kill):
    path = tmp_path / "main.py"
    path.write_text(SCRIPT.format(kill=kill))
    root = Path(__file__).parents[2]
    return subprocess.run([sys.executable, str(path)], env={**os.environ, "PYTHONPATH": str(root)}, timeout=60,
                          capture_output=True, text=True, check=False)


def test_the_main_script_is_not_imported_again(tmp_path):
    done = run_script(tmp_path, kill=False)
    assert done.stdout == "imported\n[(3, 1), (2, 1)]\n" and done.stderr == "" and done.returncode == 0


def test_they_end_when_the_main_process_is_killed(tmp_path):
    done = run_script(tmp_path, kill=True)
    pids = [int(pid) for pid in done.stdout.splitlines()[-1].strip("[]").split(",")]
    assert len(pids) == 2
    deadline = time.time() + 10
    while any(running(pid) for pid in pids) and time.time() < deadline:
        time.sleep(0.05)
    assert not any(running(pid) for pid in pids)


def running(pid):
    """Whether the process exists and is not a zombie that nobody has collected yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_signal_to_the_whole_group_leaves_them_to_the_main_process():
    workers = Workers(work, 2)
    assert list(workers.map([("square", 2), ("square", 3)])) == [4, 9]
    for process in alive(workers):
        os.kill(process.pid, signal.SIGTERM)
        os.kill(process.pid, signal.SIGINT)
    assert list(workers.map(("square", value) for value in range(6))) == [0, 1, 4, 9, 16, 25]
    workers.close()
    assert not alive(workers)


def test_early_exit_ends_them_and_the_next_map_is_clean():
    workers = Workers(work, 1)
    iterator = workers.map(("square", value) for value in range(100))
    assert next(iterator) == 0
    processes = list(workers._processes)
    iterator.close()
    assert not any(process.is_alive() for process in processes)
    assert list(workers.map([("square", 7)])) == [49]  # nothing stale
    processes = list(workers._processes)
    del workers  # forgotten without close()
    assert not any(process.is_alive() for process in processes)


@pytest.mark.parametrize("task, kind, message", [
    (("refuse", 5), ValueError, r"^picture 5 is unusable$"),
    (("fail", 6), RuntimeError, r"in a data worker: Traceback[\s\S]*OSError: disk 6 is gone"),
    (("exit", 3), ChildProcessError,
     r"^data worker 0 ended \(exit code 3\); if it ran out of memory, lower data\.workers$"),
])
def test_errors_surface(task, kind, message):
    workers = Workers(work, 1)
    iterator = workers.map([("square", 2), task, ("square", 3)])
    assert next(iterator) == 4
    with pytest.raises(kind, match=message):
        next(iterator)
    assert workers._processes == []
