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
"""Pictures of scores: mean IoU against the number of points, and quality against seconds of the everything mode."""
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from src.checkpoint import write_atomically

MARKERS = "os^Dv"  # of the modes of segment everything


def plot_points(curves, path):
    """Draw mean IoU against the number of points.

    Args:
        curves: {name: [mean IoU after 1, 2, ... points]}.
        path: of the PNG.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    for name, miou in curves.items():
        axes.plot(range(1, len(miou) + 1), miou, marker="o", label=name)
    axes.set(xlabel="points", ylabel="mean IoU", ylim=(0, 1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()
    write_atomically(path, ".png", lambda part: figure.savefig(part, dpi=120))


def plot_everything(results, path):
    """Draw mean IoU against seconds per image: a colour for each result, a marker for each mode, joined by a line.

    Args:
        results: {name: {mode: (mean seconds per image, mean IoU)}}.
        path: of the PNG.
    """
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot()
    modes = list(dict.fromkeys(mode for dots in results.values() for mode in dots))
    for number, (name, dots) in enumerate(results.items()):
        colour = f"C{number % 10}"
        axes.plot(*zip(*dots.values()), color=colour, linewidth=1, label=name,
                  linestyle=("-", "--", ":")[number // 10 % 3])  # ten colours
        for mode, (seconds, miou) in dots.items():
            axes.plot([seconds], [miou], marker=MARKERS[modes.index(mode) % len(MARKERS)], color=colour, linestyle="")
    for mode, marker in zip(modes, MARKERS):
        axes.plot([], [], marker=marker, color="0.3", linestyle="", label=mode)
    axes.set(xlabel="seconds per image", ylabel="mean IoU of the best mask", ylim=(0, 1))
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper")
    write_atomically(path, ".png", lambda part: figure.savefig(part, dpi=120))
