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
"""Launch a root script on several devices with msrun, on one node or on each of several.

    python tools/launch.py train.py --config configs/distill_sa1b_8p.yaml
    python tools/launch.py --nodes 2 --node_rank 0 --master_addr 192.0.2.10 train.py --config configs/...
    python tools/launch.py --rank_table hccl_8p.json train.py --config configs/distill_sa1b_8p.yaml

The number of devices of a node is `runtime.devices` of the configuration; everything after the script's name is passed
on to it, with `--runtime.distributed=true`. The log of the node's first rank is shown, all are kept. A rank that dies
ends the job within seconds: the last lines of its log are printed, and the exit code is 1 (2: the script refused its
settings). The first Ctrl-C lets the ranks finish their step and save, the second ends them. To go on from the newest
whole checkpoint start the same command with `--resume auto`.
"""
import argparse
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Set

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from src.config import load_config  # noqa: E402

TAIL_LINES = 15
POLL_SECONDS = 0.3
LEAVE_SECONDS = 60  # for the other ranks to leave, once one has left because it was told to stop
ALIASES = {"--resume": "train.resume", "--protocol": "eval.protocol"}
FRAMEWORK_LINE = re.compile(r"^\[(INFO|WARNING)\] [A-Z_]+\(")
WORKER_FAILED = re.compile(r"Worker process (\d+) exit with exception\. Error code: (-?\d+)")  # msrun's own words
SCHEDULER_FAILED = re.compile(r"Scheduler process \d+ exit with exception")


def parse_arguments(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """Launcher's own flags, then the script and what belongs to it; ValueError for what cannot be run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=1, help="machines that take part (default 1)")
    parser.add_argument("--node_rank", type=int, default=0, help="which of them this one is, from 0 (default 0)")
    parser.add_argument("--master_addr", default="127.0.0.1", help="address of node 0, reachable from all nodes")
    parser.add_argument("--master_port", type=int, default=8118, help="a free port on node 0 (default 8118)")
    parser.add_argument("--rank_table", default="", help="rank table JSON of clusters that are set up with one")
    parser.add_argument("--log_dir", default="output/log", help="one log a rank goes here (default output/log)")
    parser.add_argument("script", help="train.py, or another script that reads the configuration")
    parser.add_argument("script_args", nargs=argparse.REMAINDER, help="--config FILE, --section.key=value")
    arguments = parser.parse_args(argv)
    if arguments.nodes < 1 or not 0 <= arguments.node_rank < arguments.nodes:
        raise ValueError(f"--node_rank is {arguments.node_rank}; it must be 0..{arguments.nodes - 1} (--nodes "
                         f"{arguments.nodes})")
    if not 1024 <= arguments.master_port <= 65535:
        raise ValueError(f"--master_port is {arguments.master_port}; it must be 1024..65535")
    for name, path in (("script", arguments.script), ("--rank_table", arguments.rank_table)):
        if path and not Path(path).is_file():
            raise ValueError(f"{name}: no file '{path}'")
    if arguments.node_rank == 0:
        _check_port_is_free(arguments.master_port)
    return arguments


def msrun_command(arguments: argparse.Namespace, devices: int) -> List[str]:
    """The msrun call of this node, `devices` processes of `nodes * devices` in all."""
    command = ["msrun", f"--worker_num={arguments.nodes * devices}", f"--local_worker_num={devices}",
               f"--master_addr={arguments.master_addr}", f"--master_port={arguments.master_port}",
               f"--log_dir={arguments.log_dir}", "--join=True", "--cluster_time_out=300"]
    if arguments.nodes > 1:
        command.append(f"--node_rank={arguments.node_rank}")
    if arguments.rank_table:
        command.append(f"--rank_table_file={arguments.rank_table}")
    return command + [arguments.script, *arguments.script_args, "--runtime.distributed=true"]


class Job:
    """The processes of this node. msrun waits half a minute for its scheduler after a rank has died, and kills all
    ranks at Ctrl-C; so it runs in a session of its own and is watched here.

    Args:
        command: an msrun call.
        environment: of the processes.
        log_dir: msrun's.
        ranks: ranks of this node.
    """

    def __init__(self, command: Sequence[str], environment: Dict[str, str], log_dir: Path, ranks: range) -> None:
        self.log_dir = log_dir
        self.ranks = ranks
        self.workers: Dict[int, int] = {}  # process -> rank
        self.failed: Dict[int, int] = {}  # rank -> exit code, negative: the signal that ended it
        self.stopped_by = 0
        self.scheduler_failed = False
        for rank in ranks:
            self._log(rank).unlink(missing_ok=True)
        self._msrun = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                       stdin=subprocess.DEVNULL, text=True, errors="replace", start_new_session=True)
        self._said: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        self._shown = 0

    def watch(self) -> int:
        """Wait for the end, showing the first rank's log -> exit code."""
        deadline = float("inf")
        while self._msrun.poll() is None and time.monotonic() < deadline:
            self._find_workers()
            self._hear()
            self._show_log()
            if self.failed and deadline == float("inf"):
                deadline = time.monotonic() + (LEAVE_SECONDS if self.stopped_by else 0)
            if self.stopped_by and self.failed and not any(_alive(process) for process in self.workers):
                break
            time.sleep(POLL_SECONDS)
        code = self._msrun.poll()
        self.kill()
        self._hear()
        self._show_log()
        if self.stopped_by:
            return 128 + self.stopped_by
        if self.failed:
            return 2 if set(self.failed.values()) == {2} else 1
        # msrun looks at its scheduler when all ranks have ended well. Two nodes on one machine start one each: the
        # second finds the port taken, and nobody needs it.
        return 0 if code == 0 or self.scheduler_failed else 1

    def stop(self, number: int, _: Any = None) -> None:
        """Ask the ranks to finish their step, save and leave; at the second call end them."""
        if self.stopped_by:
            self.kill()
            return
        self.stopped_by = number
        self._find_workers()
        for process in self.workers:
            _signal(os.kill, process, signal.SIGTERM)
        if not self.workers:
            self.kill()

    def kill(self) -> None:
        """End every process of the job, with what they started."""
        self._find_workers()
        for process in self.workers:  # msrun makes each the leader of a group
            _signal(os.killpg, process, signal.SIGKILL)
        _signal(os.killpg, self._msrun.pid, signal.SIGKILL)
        self._msrun.wait()

    def last_words(self) -> str:
        """The last lines of the failed ranks' logs; of all ranks where none is known to have failed."""
        parts = []
        for rank in sorted(self.failed) or self.ranks:
            path = self._log(rank)
            lines = path.read_text(errors="replace").splitlines() if path.exists() else []
            said = [line for line in lines if not FRAMEWORK_LINE.match(line)][-TAIL_LINES:]
            parts.append("\n".join([f"--- {path}", *(said or ["(empty)"])]))
        return "\n".join(parts)

    def causes(self) -> str:
        """How each failed rank ended."""
        ends = [f"rank {rank} " + (f"was ended by signal {-code}" if code < 0 else f"left with exit code {code}")
                for rank, code in sorted(self.failed.items())]
        return ", ".join(ends) or "the job did not start or lost its scheduler"

    def _log(self, rank: int) -> Path:
        return self.log_dir / f"worker_{rank}.log"

    def _find_workers(self) -> None:
        """Remember which process is which rank, while they live."""
        if len(self.workers) == len(self.ranks):
            return
        for process in _session_leaders(self._msrun.pid):
            environment = _environment(process)
            if environment.get("MS_ROLE") == "MS_WORKER" and environment.get("RANK_ID", "").isdigit():
                self.workers[process] = int(environment["RANK_ID"])

    def _listen(self) -> None:
        for line in self._msrun.stdout or ():
            self._said.put(line)

    def _hear(self) -> None:
        """Take in what msrun has said."""
        while not self._said.empty():
            line = self._said.get()
            died = WORKER_FAILED.search(line)
            if died:
                self.failed[self.workers.get(int(died.group(1)), self.ranks[0])] = int(died.group(2))
            elif SCHEDULER_FAILED.search(line):
                self.scheduler_failed = True

    def _show_log(self) -> None:
        """Print what is new in the first rank's log, without the framework's own lines."""
        path = self._log(self.ranks[0])
        if not path.exists():
            return
        with open(path, "rb") as file:
            file.seek(self._shown)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._shown += len(whole + newline)
        for line in whole.decode(errors="replace").splitlines():
            if not FRAMEWORK_LINE.match(line):
                print(line, flush=True)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Exit code: 0 every rank ended well, 1 one did not, 2 cannot be run as asked, 128 + n ended by signal n."""
    try:
        arguments = parse_arguments(argv)
        devices = load_config(arguments.script_args, aliases=ALIASES).runtime.devices
    except ValueError as error:
        print(f"launch.py: {error}", file=sys.stderr)
        return 2
    environment = dict(os.environ)
    # msrun starts "python" of the PATH: it must be the interpreter that runs this file.
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
    if environment.get("GLOG_v", "") not in ("0", "1", "2", "3"):
        environment["GLOG_v"] = "3"  # msrun says at level 3 that a rank has died
    if shutil.which("msrun", path=environment["PATH"]) is None:
        print("launch.py: no program 'msrun' beside this Python; install requirements.txt", file=sys.stderr)
        return 2
    first = arguments.node_rank * devices
    job = Job(msrun_command(arguments, devices), environment, Path(arguments.log_dir), range(first, first + devices))
    before = {number: signal.signal(number, job.stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        code = job.watch()
    finally:
        job.kill()
        for number, handler in before.items():
            signal.signal(number, handler)
    if code in (1, 2):
        print(job.last_words(), file=sys.stderr)
        advice = "" if code == 2 else ("; the same command again goes on from here (train.py: with --resume auto, from "
                                       "the newest whole checkpoint)")
        print(f"launch.py: {job.causes()}; logs are in {arguments.log_dir}{advice}", file=sys.stderr)
    return code


def _check_port_is_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            raise ValueError(f"--master_port {port} is in use on this node; another job runs, or give another port") \
                from None


def _session_leaders(parent: int) -> Set[int]:
    """Processes that `parent` started in sessions of their own: msrun's workers, not its scheduler or log readers."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()  # state, parent, group, session, ...
        except OSError:
            continue
        if int(fields[1]) == parent and fields[3] == path.parent.name:
            found.add(int(path.parent.name))
    return found


def _environment(process: int) -> Dict[str, str]:
    try:
        pairs = Path(f"/proc/{process}/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return {}
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def _alive(process: int) -> bool:
    """The process is there and has not ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _signal(send: Any, target: int, number: int) -> None:
    try:
        send(target, number)
    except ProcessLookupError:
        pass  # it has ended already


if __name__ == "__main__":
    sys.exit(main())
