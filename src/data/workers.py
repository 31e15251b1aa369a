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
"""Worker processes for a function of a task: results in order, a bounded number ahead, errors as their message.

Why not fork or mindspore.dataset: forking a process that runs a compiled graph copies locks its threads may hold, and
mindspore.dataset's workers fork. These start fresh and never import the script that started them, so MindSpore is not
loaded into each.
"""
import multiprocessing
import signal
import sys
import traceback
from contextlib import contextmanager
from multiprocessing.util import Finalize

import cv2

TASKS_AHEAD = 2  # per worker: one being prepared, one waiting for it


class Workers:
    """`count` processes that run `function(*task)`.

    function, tasks and results must pickle. The processes start at the first `map` and stay for the next; abandoning a
    `map` half-way ends them. They also end when this process does, however it ends.
    """

    def __init__(self, function, count):
        self._function, self._count = function, count
        self._processes, self._pipes = [], []
        # By priority, so that at exit it comes before multiprocessing's own SIGTERM, which they ignore.
        self._finalizer = Finalize(self, _stop, args=(self._processes, self._pipes), exitpriority=0)

    def map(self, tasks):
        """Iterate over function(*task) of an iterable of tasks, in its order.

        Raises:
            ValueError: as raised in a worker, with its message.
            ChildProcessError (an OSError): a worker has ended; the message says what may help.
            RuntimeError: any other error of a worker, with its traceback in the message.
        """
        if not self._processes:
            self._start()
        tasks = iter(tasks)
        sent = received = 0
        finished = False
        try:
            while True:
                while sent - received < TASKS_AHEAD * self._count:
                    task = next(tasks, None)
                    if task is None:
                        break
                    self._send(sent % self._count, task)
                    sent += 1
                if sent == received:
                    finished = True
                    return
                yield self._receive(received % self._count)
                received += 1
        finally:
            if not finished:
                self.close()

    def close(self):
        """End the processes; a later `map` starts new ones."""
        _stop(self._processes, self._pipes)

    def _start(self):
        context = multiprocessing.get_context("spawn")
        with _main_module_hidden():
            for _ in range(self._count):
                ours, theirs = context.Pipe()
                process = context.Process(target=_work, args=(theirs, self._function), daemon=True)
                process.start()
                theirs.close()  # so that its end of the pipe closes with the worker
                self._processes.append(process)
                self._pipes.append(ours)

    def _send(self, worker, task):
        try:
            self._pipes[worker].send(task)
        except OSError:
            raise ChildProcessError(self._obituary(worker)) from None

    def _receive(self, worker):
        try:
            kind, value = self._pipes[worker].recv()
        except (EOFError, OSError):
            raise ChildProcessError(self._obituary(worker)) from None
        if kind == "result":
            return value
        raise ValueError(value) if kind == "refusal" else RuntimeError(value)

    def _obituary(self, worker):
        self._processes[worker].join(1)
        return (f"data worker {worker} ended (exit code {self._processes[worker].exitcode}); if it ran out of memory, "
                "lower data.workers")


def _work(pipe, function):
    """A worker's life: answer tasks until the other end of the pipe closes."""
    cv2.setNumThreads(1)
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to the whole group: the main process's to answer
        signal.signal(number, signal.SIG_IGN)
    try:
        while True:
            pipe.send(_answer(function, pipe.recv()))
    except (EOFError, OSError):
        return


def _answer(function, task):
    try:
        return "result", function(*task)
    except ValueError as error:
        return "refusal", str(error)
    except Exception:  # whatever it is, it belongs in front of the user
        return "error", f"in a data worker: {traceback.format_exc()}"


def _stop(processes, pipes):
    for pipe in pipes:
        pipe.close()
    for process in processes:
        process.kill()
    for process in processes:
        process.join()
    processes.clear()
    pipes.clear()


@contextmanager
def _main_module_hidden():
    """A started process imports the parent's main module unless it has neither file nor spec."""
    main = sys.modules["__main__"]
    hidden = {name: vars(main).pop(name) for name in ("__file__", "__spec__") if name in vars(main)}
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update(hidden)
