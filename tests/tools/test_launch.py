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
"""The launcher: what it passes to msrun, how it watches a job, two nodes on one machine."""
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = str(Path(__file__).with_name("say_sum.py"))
SETTINGS = ["--runtime.device=cpu", "--runtime.threads=1"]

# Stands in for msrun: starts ranks in sessions of their own, says its words when one fails, then waits for a scheduler.
MSRUN = """
import os, subprocess, sys, time
log_dir, scheduler_seconds, *bodies = sys.argv[1:]
os.makedirs(log_dir, exist_ok=True)
ranks = []
for rank, body in enumerate(bodies):
    log = open(f"{log_dir}/worker_{rank}.log", "w")
    environment = {**os.environ, "MS_ROLE": "MS_WORKER", "RANK_ID": str(rank)}
    ranks.append(subprocess.Popen([sys.executable, "-u", "-c", body], env=environment, stdout=log, stderr=log,
                                  start_new_session=True))
while True:
    codes = [rank.poll() for rank in ranks]
    bad = [i for i, code in enumerate(codes) if code]
    if bad:
        print(f"Worker process {ranks[bad[0]].pid} exit with exception. Error code: {codes[bad[0]]}.", flush=True)
        time.sleep(float(scheduler_seconds))
        sys.exit(1)
    if all(code == 0 for code in codes):
        sys.exit(0)
    time.sleep(0.05)
"""
SLEEP = "import time; print('step 1', flush=True); time.sleep(60)"
LEAVES_WHEN_ASKED = ("import signal, sys, time\n"
                     "signal.signal(signal.SIGTERM, lambda *_: (print('saved'), sys.exit(143)))\n"
                     "print('ready', flush=True); time.sleep(60)")


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("launch_tool", ROOT / "tools" / "launch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def job(tool, tmp_path):
    """Function of the ranks' programs -> Job; whatever is left of it is killed."""
    jobs = []

    def make(*bodies, scheduler_seconds=60):
        command = [sys.executable, "-c", MSRUN, str(tmp_path), str(scheduler_seconds), *bodies]
        jobs.append(tool.Job(command, dict(os.environ), tmp_path, range(len(bodies))))
        return jobs[-1]
    yield make
    for one in jobs:
        one.kill()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(happened):
    end = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.02)


def alive(process):
    """The process is there and has not ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_msrun_call(tool, tmp_path):
    table = tmp_path / "table.json"
    table.write_text("{}")
    port = str(free_port())
    arguments = tool.parse_arguments(["--nodes", "2", "--node_rank", "1", "--master_addr", "192.0.2.10",
                                      "--master_port", port, "--rank_table", str(table), SCRIPT, "--config", "a.yaml"])
    assert tool.msrun_command(arguments, 8) == [
        "msrun", "--worker_num=16", "--local_worker_num=8", "--master_addr=192.0.2.10", f"--master_port={port}",
        "--log_dir=output/log", "--join=True", "--cluster_time_out=300", "--node_rank=1",
        f"--rank_table_file={table}", SCRIPT, "--config", "a.yaml", "--runtime.distributed=true"]


@pytest.mark.parametrize("arguments, message", [
    (["--nodes", "2", "--node_rank", "2", SCRIPT], "--node_rank is 2; it must be 0..1 (--nodes 2)"),
    (["--master_port", "80", SCRIPT], "--master_port is 80; it must be 1024..65535"),
    (["no_such.py"], "script: no file 'no_such.py'"),
    (["--rank_table", "no.json", SCRIPT], "--rank_table: no file 'no.json'"),
    ([SCRIPT, "--train.epoch=3"], "command line: unknown key 'train.epoch'; did you mean 'train.epochs'?"),
])
def test_what_cannot_be_run_is_refused_in_one_line(tool, capsys, arguments, message):
    assert tool.main(arguments) == 2
    assert capsys.readouterr().err == f"launch.py: {message}\n"


def test_a_port_in_use_is_refused(tool, capsys):
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = other.getsockname()[1]
        assert tool.main(["--master_port", str(port), SCRIPT]) == 2
    assert capsys.readouterr().err == (f"launch.py: --master_port {port} is in use on this node; another job runs, or "
                                       "give another port\n")


def test_a_rank_that_is_killed_ends_the_job_at_once_and_is_named(job):
    found = job(SLEEP, "import os, time; print('last words'); time.sleep(1.5); os.kill(os.getpid(), 9)")
    started = time.monotonic()
    assert found.watch() == 1
    assert time.monotonic() - started < 10  # the scheduler would take 60 s
    assert found.causes() == "rank 1 was ended by signal 9"
    assert found.last_words() == f"--- {found.log_dir / 'worker_1.log'}\nlast words"
    assert len(found.workers) == 2
    wait_until(lambda: not any(alive(process) for process in found.workers))


def test_settings_that_the_script_refuses_give_its_exit_code(job):
    body = "import sys, time; time.sleep(1); sys.exit(2)"
    found = job(body)
    assert found.watch() == 2
    assert found.causes() == "rank 0 left with exit code 2"


def test_the_first_ranks_log_is_shown_without_the_frameworks_lines(job, capsys):
    found = job("print('[WARNING] DISTRIBUTED(1,7f,python): x'); print('step 1'); print('step 2')", "print('quiet')")
    assert found.watch() == 0
    assert capsys.readouterr().out == "step 1\nstep 2\n"


def test_ctrl_c_lets_ranks_save_and_a_second_one_ends_them(job):
    found = job(LEAVES_WHEN_ASKED, LEAVES_WHEN_ASKED)
    code = []
    watching = threading.Thread(target=lambda: code.append(found.watch()))
    watching.start()
    logs = [found.log_dir / f"worker_{rank}.log" for rank in range(2)]
    wait_until(lambda: len(found.workers) == 2 and all(log.exists() and "ready" in log.read_text() for log in logs))
    found.stop(signal.SIGINT)
    watching.join(20)
    assert code == [130]
    assert all("saved" in log.read_text() for log in logs)

    stubborn = job("import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True);"
                   "time.sleep(60)")
    watching = threading.Thread(target=lambda: code.append(stubborn.watch()))
    watching.start()
    wait_until(lambda: stubborn.workers and "ready" in logs[0].read_text())
    stubborn.stop(signal.SIGTERM)
    assert watching.is_alive()
    stubborn.stop(signal.SIGTERM)
    watching.join(20)
    assert code == [130, 143]


def start(folder, *arguments, **environment):
    command = [sys.executable, "tools/launch.py", "--log_dir", str(folder), *arguments]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_two_nodes_on_one_machine(tmp_path):
    port = str(free_port())
    nodes = []
    for rank in range(2):
        nodes.append(start(tmp_path / str(rank), "--nodes", "2", "--node_rank", str(rank), "--master_port", port,
                           SCRIPT, *SETTINGS, "--runtime.devices=1"))
        time.sleep(0.5 * (rank == 0))  # node 0 looks whether the port is free
    said = [node.communicate(timeout=300) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    assert "rank 0 of 2: sum 3" in said[0][0] and "rank 1 of 2: sum 3" in said[1][0]


@pytest.mark.slow
def test_a_rank_that_fails_is_shown_with_its_last_lines(tmp_path):
    found = start(tmp_path, "--master_port", str(free_port()), SCRIPT, *SETTINGS, "--runtime.devices=2", LEAVE_WITH="7")
    said = found.communicate(timeout=300)
    assert found.returncode == 1, said
    assert "ValueError: something is wrong here" in said[1]
    assert f"launch.py: rank 1 left with exit code 7; logs are in {tmp_path}; the same command again goes" in said[1]


@pytest.mark.parametrize("arguments, message", [
    ([], "no config file ''; usage: bash scripts/run_distribute_train.sh"),
    (["--nodes", "2", "none.yaml"], "no config file 'none.yaml'; usage: "),
])
def test_the_script_says_how_to_call_it(arguments, message):
    done = subprocess.run(["bash", str(ROOT / "scripts" / "run_distribute_train.sh"), *arguments], capture_output=True,
                          text=True, check=False)
    assert done.returncode == 2
    assert message in done.stderr


def test_the_script_passes_everything_on(tmp_path):
    """A stand-in for the interpreter prints what it is called with."""
    echo = tmp_path / "python"
    echo.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    echo.chmod(0o755)
    config = ROOT / "configs" / "smoke_cpu.yaml"
    script = str(ROOT / "scripts" / "run_distribute_train.sh")
    done = subprocess.run(["bash", script, "--nodes", "2", "--node_rank", "1", str(config), "--resume", "auto"],
                          capture_output=True, text=True, check=True, env={**os.environ, "PYTHON": str(echo)})
    assert done.stdout.split() == ["tools/launch.py", "--nodes", "2", "--node_rank", "1", "train.py", "--config",
                                   str(config), "--resume", "auto"]
