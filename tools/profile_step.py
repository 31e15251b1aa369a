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
"""Where the time of a training step goes: split into its parts, and by kind of operator.

    python tools/profile_step.py --config configs/smoke_cpu.yaml --rounds 1
    python tools/profile_step.py --config configs/nano_cpu.yaml --data.paths='[train/instances.json]' --output step.json

Network, losses, step and batches are those of train.py with the same settings, in one process; a teacher without a
checkpoint gets random weights, which take as long as trained ones. Configuration: configs/smoke_cpu.yaml by default.

How the split is obtained. The same cells are compiled five times, each graph doing more of the step: the student's
encoder; encoder and hard rounds; all losses; losses and their gradient; the whole step. The teacher's part is compiled
alone. All are called in turn, the median of their times is taken, and the split is made of differences:

    encoder                  encoder
    hard rounds              (encoder and hard rounds) - encoder
    teacher                  its encoder, unless its embeddings are stored, and its decode of the final prompts, alone
    final decode and losses  losses - (encoder and hard rounds) - teacher
    backward                 gradient - losses
    update                   step - gradient: norm, clip, finite check, Adam, running average
    data                     making a batch in this process, on top of the step; training makes batches in
                             `data.workers` processes beside it

Each is given by the clock and in CPU time of all threads; on a machine that does other work the second says more. A
graph that keeps less for later may run a little faster than as a part of the step, so a difference of some per cent
means nothing. The operators' times come from the framework's profiler; what the step takes beyond their sum is the host
launching them. Graph mode only.
"""
import argparse
import csv
import dataclasses
import functools
import glob
import itertools
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import mindspore as ms  # noqa: E402
from mindspore import Tensor, nn  # noqa: E402
from mindspore.profiler import ProfilerActivity, tensorboard_trace_handler  # noqa: E402

from src.config import Config, load_config  # noqa: E402
from src.data.embedding_cache import EmbeddingCache  # noqa: E402
from src.distillation.distiller import Distiller  # noqa: E402
from src.inference.mask_records import write_json  # noqa: E402
from src.modeling.build_sam import build_sam  # noqa: E402
from src.modeling.precision import set_precision  # noqa: E402
from src.runtime import init_runtime, versions  # noqa: E402
from src.training.batch_norm import set_batch_norm  # noqa: E402
from src.training.freeze import freeze_parts  # noqa: E402
from src.training.loop import draw_noise, inputs_of_part  # noqa: E402
from src.training.optimizer import build_optimizer, scale_rates  # noqa: E402
from src.training.step import TrainStep  # noqa: E402
from train import build_batches, build_distiller, build_student  # noqa: E402

PROFILED_STEPS = 2


class _Encoder(nn.Cell):
    """The student's image embeddings."""

    def __init__(self, distiller: Distiller) -> None:
        super().__init__(auto_prefix=False)
        self.image_encoder = distiller.student.image_encoder

    def construct(self, *inputs: Tensor) -> Tensor:
        return self.image_encoder(inputs[0])


class _Rounds(nn.Cell):
    """The prompts after all hard rounds."""

    def __init__(self, distiller: Distiller) -> None:
        super().__init__(auto_prefix=False)
        self.image_encoder = distiller.student.image_encoder
        self.mine_hard_points = distiller.mine_hard_points

    def construct(self, images: Tensor, gt_masks: Tensor, point_coords: Tensor, point_labels: Tensor,
                  mask_valid: Tensor, noise: Tensor, rounds: Tensor, *_: Optional[Tensor]) -> Tuple[Tensor, Tensor]:
        return self.mine_hard_points(self.image_encoder(images), gt_masks, point_coords, point_labels, noise, rounds)


class _Teacher(nn.Cell):
    """What the losses read of the teacher, at the first prompts: their number of slots is that of the last ones."""

    def __init__(self, distiller: Distiller) -> None:
        super().__init__(auto_prefix=False)
        self.distiller = distiller
        self.decodes = distiller.teacher_decodes

    def construct(self, images: Tensor, gt_masks: Tensor, point_coords: Tensor, point_labels: Tensor,
                  mask_valid: Tensor, noise: Tensor, rounds: Tensor, embeddings: Optional[Tensor] = None,
                  prompt_count: Optional[Tensor] = None) -> Tuple[Tensor, ...]:
        embeddings = self.distiller.embed_with_teacher(images, embeddings)
        if self.decodes:
            return self.distiller.teacher(embeddings, point_coords, point_labels)
        return (embeddings,)


class _Gradient(nn.Cell):
    """The losses and all gradients, which are returned so that none is left out as unused."""

    def __init__(self, train_step: TrainStep) -> None:
        super().__init__(auto_prefix=False)
        self.train_step = train_step

    def construct(self, *inputs: Tensor) -> Tuple:
        losses, gradients, _ = self.train_step.losses_and_gradients(inputs)
        return losses, gradients


def build_step(config: Config) -> Tuple[TrainStep, int, Optional[EmbeddingCache]]:
    """The training step of train.py, without ranks, its image size, and the stored embeddings where there are some."""
    model, precision = config.model, config.runtime.precision
    student = build_student(model, config.runtime.seed, precision)
    freeze_parts(student, model.freeze)
    cache = None
    if model.teacher == "none" or model.teacher_checkpoint:
        distiller, cache = build_distiller(config, student)
    elif config.data.embedding_cache:
        raise ValueError("data.embedding_cache is given but model.teacher_checkpoint is empty: a cache knows its "
                         "teacher's checkpoint; give it, or --data.embedding_cache=")
    else:
        teacher = set_precision(build_sam(model.teacher, student.image_size, seed=config.runtime.seed), precision)
        distiller = Distiller(student, teacher, config.distill)
    set_batch_norm(student, config.train.batch_norm, None)
    optimizer = build_optimizer(student, scale_rates(config.optim, config.data.batch_size), 1000,
                                scale_loss=precision == "mixed_float16")
    return TrainStep(distiller, optimizer, config.optim.clip_norm), student.image_size, cache


def graphs_of(step: TrainStep) -> Dict[str, nn.Cell]:
    """Name of a graph -> cell of the step's inputs; no teacher where the losses do not read one."""
    distiller = step.loss_cell
    cells = {"encoder": _Encoder(distiller), "rounds": _Rounds(distiller), "teacher": _Teacher(distiller),
             "losses": distiller, "gradient": _Gradient(step), "step": step}
    if distiller.teacher is None:
        del cells["teacher"]
    for cell in cells.values():
        cell.set_train(True)
    return cells


def timed(call: Callable[[], Any]) -> Tuple[float, float]:
    """Milliseconds of one call, up to where its result is there: by the clock, and of CPU over all threads."""
    start, start_cpu = time.perf_counter(), time.process_time()
    result = call()
    while isinstance(result, tuple):
        result = result[-1]
    if isinstance(result, Tensor):
        result.asnumpy()
    return 1000 * (time.perf_counter() - start), 1000 * (time.process_time() - start_cpu)


def measure(calls: Mapping[str, Callable[[], Any]], repeats: int) -> Tuple[Dict[str, float], Dict[str, float]]:
    """Median milliseconds of each call: by the clock, and of CPU. They take turns, so that a slow minute of the machine
    is shared by all; two calls of each before that, the first of which compiles, do not count."""
    for call in calls.values():
        timed(call)
        timed(call)
    times: Dict[str, List[Tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            times[name].append(timed(call))
    clock, cpu = ({name: statistics.median(value[i] for value in values) for name, values in times.items()}
                  for i in (0, 1))
    return clock, cpu


def split(times: Mapping[str, float]) -> Dict[str, float]:
    """Milliseconds of the step's parts, from those of the nested graphs; see the module's docstring."""
    teacher = times.get("teacher", 0.0)
    return {"encoder": times["encoder"], "hard rounds": times["rounds"] - times["encoder"], "teacher": teacher,
            "final decode and losses": times["losses"] - times["rounds"] - teacher,
            "backward": times["gradient"] - times["losses"], "update": times["step"] - times["gradient"]}


def read_operators(folder: Path, steps: int) -> List[Dict[str, Any]]:
    """Kinds of operator in a folder that the profiler wrote, the slowest first.

    Args:
        folder: searched with all folders below it.
        steps: profiled.

    Returns:
        Dicts with `operator`, `calls` and `milliseconds` a step, and `share` of the time in all operators, 0..1.

    Raises:
        ValueError: the profiler left no such file.
    """
    files = sorted(glob.glob(str(folder / "**" / "cpu_op_type_info_*.csv"), recursive=True))
    if not files:
        raise ValueError(f"no cpu_op_type_info_*.csv below {folder}: the profiler saw no operator on a CPU")
    rows = []
    for path in files:
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                rows.append({"operator": row["op_type"], "calls": int(row["type_occurrences"]) / steps,
                             "milliseconds": float(row["total_compute_time"]) / steps})
    total = sum(row["milliseconds"] for row in rows)
    for row in rows:
        row["share"] = row["milliseconds"] / total if total else 0.0
    return sorted(rows, key=lambda row: -row["milliseconds"])


def profile_operators(step: Callable[..., Tensor], inputs: Sequence[Any]) -> List[Dict[str, Any]]:
    """`read_operators` of some steps, after they have been compiled."""
    with tempfile.TemporaryDirectory() as folder:
        with ms.profiler.profile(activities=[ProfilerActivity.CPU],
                                 on_trace_ready=tensorboard_trace_handler(folder)):
            for _ in range(PROFILED_STEPS):
                step(*inputs).asnumpy()
        return read_operators(Path(folder), PROFILED_STEPS)


def profile(config: Config, rounds: int, repeats: int) -> Dict[str, Any]:
    """Everything the tool measures, as it is written to the JSON.

    Args:
        config: as of train.py, in graph mode.
        rounds: hard rounds of the measured step.
        repeats: calls of each graph whose median counts.
    """
    if config.runtime.mode != "graph":
        raise ValueError(f"runtime.mode is '{config.runtime.mode}'; the parts of a step are told apart as graphs: use "
                         "--runtime.mode=graph")
    if not 0 <= rounds <= config.distill.max_rounds:
        raise ValueError(f"--rounds is {rounds}; it must be 0..{config.distill.max_rounds} (distill.max_rounds)")
    runtime = init_runtime(config.runtime)
    step, image_size, cache = build_step(config)
    data = dataclasses.replace(config.data, workers=0)
    with build_batches(dataclasses.replace(config, data=data), image_size, runtime, cache) as batches:
        stream = itertools.chain.from_iterable(batches.epoch(epoch) for epoch in itertools.count())
        noise, _ = draw_noise(config.runtime.seed, 0, data.batch_size, data.prompts_per_image,
                              config.distill.max_rounds)
        inputs = inputs_of_part(next(stream), noise, rounds)
        making, making_cpu = measure({"data": lambda: inputs_of_part(next(stream), noise, rounds)}, repeats)
    times, cpu = measure({name: functools.partial(cell, *inputs) for name, cell in graphs_of(step).items()}, repeats)
    operators = profile_operators(step, inputs)
    model = config.model
    return {"student": model.student, "teacher": model.teacher, "image_size": image_size,
            "batch_size": data.batch_size, "prompts": data.prompts_per_image, "rounds": rounds,
            "precision": config.runtime.precision, "threads": config.runtime.threads, "versions": versions(),
            "graph_milliseconds": times, "graph_cpu_milliseconds": cpu,
            "split_milliseconds": {**split(times), **making}, "split_cpu_milliseconds": {**split(cpu), **making_cpu},
            "operators": operators}


def table(result: Mapping[str, Any], shown: int = 12) -> str:
    """The result as text: the split, then the `shown` slowest kinds of operator."""
    whole, operators = result["graph_milliseconds"]["step"], result["operators"]
    cpu = {**result["split_cpu_milliseconds"], "step": result["graph_cpu_milliseconds"]["step"]}
    lines = [f"{result['student']} from {result['teacher']}, {result['image_size']} px, batch {result['batch_size']}, "
             f"{result['prompts']} prompts, hard rounds: {result['rounds']}; {result['precision']}, "
             f"{result['threads'] or 'the usual'} threads",
             f"{'part of a step':<28}{'ms':>10}{'share':>8}{'CPU ms':>10}"]
    for name, value in {**result["split_milliseconds"], "step": whole}.items():
        share = "beside" if name == "data" else f"{value / whole:.1%}"
        lines.append(f"{name:<28}{value:>10.1f}{share:>8}{cpu[name]:>10.1f}")
    lines += ["", f"{'operator':<28}{'ms':>10}{'share':>8}{'calls':>10}"]
    for row in operators[:shown]:
        lines.append(f"{row['operator']:<28}{row['milliseconds']:>10.1f}{row['share']:>8.1%}{row['calls']:>10.0f}")
    lines.append(f"{'all operators':<28}{sum(row['milliseconds'] for row in operators):>10.1f}{1:>8.1%}"
                 f"{sum(row['calls'] for row in operators):>10.0f}")
    return "\n".join(lines)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Exit code: 0 measured, 2 refused with one line on stderr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, help="hard rounds of the step (default: distill.max_rounds)")
    parser.add_argument("--repeats", type=int, default=5, help="calls of each graph, whose median counts (default 5)")
    parser.add_argument("--output", default="output/profile_step.json", help="default output/profile_step.json")
    arguments, settings = parser.parse_known_args(argv)
    if "--config" not in settings:
        settings = ["--config", str(ROOT / "configs" / "smoke_cpu.yaml"), *settings]
    try:
        if arguments.repeats < 1:
            raise ValueError(f"--repeats is {arguments.repeats}; it must be at least 1")
        config = load_config(settings)
        rounds = config.distill.max_rounds if arguments.rounds is None else arguments.rounds
        result = profile(config, rounds, arguments.repeats)
        write_json(Path(arguments.output), result)
    except (ValueError, OSError) as error:
        print(f"profile_step.py: {error}", file=sys.stderr)
        return 2
    print(f"{table(result)}\nwritten: {arguments.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
