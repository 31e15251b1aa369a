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
"""One side of tools/benchmark.py: a child process that runs one section again and again, and the inputs of all sides.

Needs NumPy only, since the reference's environment imports it too. A side's program is started with one JSON argument,
the options, and answers on its standard output, a line of JSON for each of:

    (start)   what is ready: memory with the network loaded, seconds of the first run, times of the start
    run       one more run: its seconds by the clock and of all threads
    result    numbers or masks of the last run, by which the sides are compared
    end       the largest memory of the process; it ends
"""
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

SAMPLES = 512  # values of an array by which two sides are compared
TRAIN_SLOTS = 2


def serve(sections, options):
    """Run `options["section"]`: a function of the options that loads the network and returns (run, result), run a
    function without arguments and result a function of what it returned, to {"values": list} or {"records": lists}.
    A third function makes ready what a run needs in less time than a run; without it the first run does."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print stays out of the answers
    imported = time.time()

    def answer(**content):
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    run, result, *warm_up = sections[options["section"]](options)
    model, built, (first, _, found) = memory()["now"], time.time(), timed(warm_up[0] if warm_up else run)
    answer(model_bytes=model, first_seconds=first, imported=imported, built=built, ready=time.time())
    for line in sys.stdin:
        if line.strip() == "run":
            seconds, cpu_seconds, found = timed(run)
            answer(seconds=seconds, cpu_seconds=cpu_seconds)
        elif line.strip() == "result":
            answer(**result(found))
        else:
            answer(peak_bytes=memory()["peak"])
            break


def timed(run):
    """(seconds, CPU seconds of all threads, result) of a function without arguments."""
    start, cpu = time.perf_counter(), time.process_time()
    found = run()
    return time.perf_counter() - start, time.process_time() - cpu, found


def memory():
    """{"now", "peak"} resident bytes of this process; Linux only."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return {name: int(lines[field].split()[0]) * 1024 for name, field in (("now", "VmRSS"), ("peak", "VmHWM"))}


def sampled(*arrays):
    """{"values": SAMPLES numbers of each array}, at fixed places."""
    values = []
    for array in arrays:
        flat = np.asarray(array, np.float32).ravel()
        values += flat[np.random.RandomState(0).randint(0, len(flat), SAMPLES)].tolist()
    return {"values": values}


def photographs(options):
    """The pictures of the options: [H, W, 3] uint8 each."""
    return [np.load(path) for path in options["pictures"]]


def click_points(count, height, width):
    """[count, 2] (x, y) pixels, fixed places inside a picture."""
    return np.random.RandomState(count).uniform(0.05, 0.95, (count, 2)) * (width, height)


def box_of(height, width):
    """[4] (x0, y0, x1, y1): the middle of a picture."""
    return np.array([0.25 * width, 0.2 * height, 0.8 * width, 0.7 * height])


def training_batch(options):
    """One picture and M clicks on discs: images [1, 3, S, S], gt_masks [1, M, S/4, S/4] uint8, point_coords
    [1, M, 2, 2], point_labels [1, M, 2] (a click and a padding point)."""
    from tools.make_parity_vectors import input_image

    size, prompts = options["train_size"], options["train_prompts"]
    side = size // 4
    points = click_points(prompts, side, side)
    radii = np.random.RandomState(1).uniform(0.05, 0.3, prompts) * side
    y, x = np.mgrid[:side, :side] + 0.5
    gt_masks = np.hypot(x - points[:, 0, None, None], y - points[:, 1, None, None]) < radii[:, None, None]
    point_coords = np.zeros((1, prompts, TRAIN_SLOTS, 2), np.float32)
    point_coords[0, :, 0] = 4 * points
    point_labels = np.tile(np.array([1, -1], np.int32), (1, prompts, 1))
    return {"images": input_image(1, size), "gt_masks": gt_masks[None].astype(np.uint8), "point_coords": point_coords,
            "point_labels": point_labels}
