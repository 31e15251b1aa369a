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
"""The curves of a network that was trained in stages, as one small CSV and one picture.

    python tools/plot_stages.py --output docs/results/nano "64 px=output/nano/64px/metrics.csv" \
        "ellipses=output/nano/ellipses/metrics.csv" "last=output/nano/last/metrics.csv"

Stages follow each other in the order given; steps count on over all of them. Every point is the mean over --window
steps. Writes OUTPUT.csv (stage, step, the means) and OUTPUT.png.
"""
import argparse
import csv
import math
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from matplotlib import colormaps  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from src.checkpoint import write_atomically  # noqa: E402
from src.training.progress import read_scalars  # noqa: E402

DRAWN = {"mean_iou": "mean IoU with the labels", "dice_loss": "dice loss"}


def parse_stage(text):
    """NAME=PATH -> (name, path); ValueError where it is not that or the file has no rows."""
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise ValueError(f"stage {text!r} must be NAME=metrics.csv")
    if not Path(path).is_file():
        raise ValueError(f"stage {name}: {path} does not exist; give the metrics.csv of a run of train.py")
    return name, Path(path)


def averaged(scalars, window):
    """Means over windows of `window` steps.

    Args:
        scalars: {column: [values]} with the column `step`, as `read_scalars` gives.
        window: steps.

    Returns:
        [{"step": the window's last logged step, column: mean over the window without NaN}]; columns that are 0
        throughout are left out.
    """
    columns = [name for name in scalars if name.endswith(("_loss", "_iou")) and any(scalars[name])]
    windows = {}
    for row, step in enumerate(scalars["step"]):
        windows.setdefault(math.ceil(step / window), []).append(row)
    points = []
    for rows in windows.values():
        point = {"step": int(scalars["step"][rows[-1]])}
        for name in columns:
            values = [scalars[name][row] for row in rows if not math.isnan(scalars[name][row])]
            if values:
                point[name] = sum(values) / len(values)
        points.append(point)
    return points


def joined(stages, window):
    """Points of all stages [(name, path)] with `stage`, and `step` counted on from stage to stage."""
    points, before = [], 0
    for name, path in stages:
        scalars = read_scalars(path)
        if not scalars:
            raise ValueError(f"stage {name}: {path} holds no steps")
        points += [{"stage": name, **point, "step": point["step"] + before} for point in averaged(scalars, window)]
        before = points[-1]["step"]
    return points


def write_csv(points, path):
    """One row a point; a stage that lacks a column leaves it empty."""
    columns = list(dict.fromkeys(name for point in points for name in point))

    def write(part):
        with open(part, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            for point in points:
                writer.writerow({name: f"{value:.4g}" if isinstance(value, float) else value
                                 for name, value in point.items()})

    write_atomically(path, ".csv", write)


def plot(points, path):
    """A panel for each curve of DRAWN, a colour for each stage."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    panels = figure.subplots(len(DRAWN), 1, sharex=True)
    names = list(dict.fromkeys(point["stage"] for point in points))
    for axes, (column, label) in zip(panels, DRAWN.items()):
        axes.set_prop_cycle(color=colormaps["tab20"].colors)
        for name in names:
            drawn = [(point["step"], point[column]) for point in points if point["stage"] == name and column in point]
            steps, values = zip(*drawn) if drawn else ((), ())  # an empty curve keeps the colours of both panels alike
            axes.plot(steps, values, marker=".", label=name)
        axes.set(ylabel=label, ylim=(0, None))
        axes.grid(alpha=0.3)
    panels[-1].set_xlabel("step, all stages")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", fontsize="small")
    write_atomically(path, ".png", lambda part: figure.savefig(part, dpi=90))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="+", metavar="NAME=metrics.csv", help="in the order of training")
    parser.add_argument("--output", type=Path, required=True, help="path without ending: OUTPUT.csv and OUTPUT.png")
    parser.add_argument("--window", type=int, default=50, help="steps averaged into a point (default: 50)")
    arguments = parser.parse_args(argv)
    if arguments.window < 1:
        raise ValueError(f"--window ({arguments.window}) must be at least 1 step")
    points = joined([parse_stage(text) for text in arguments.stages], arguments.window)
    table, picture = (arguments.output.with_name(arguments.output.name + ending) for ending in (".csv", ".png"))
    write_csv(points, table)
    plot(points, picture)
    print(f"wrote {table}, {picture}")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        print(f"{Path(__file__).name}: {error}", file=sys.stderr)
        sys.exit(2)
