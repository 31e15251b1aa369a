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


def plot_everything(modes, path):
    """Draw mean IoU against seconds per image, one dot for each mode.

    Args:
        modes: {name: (mean seconds per image, mean IoU)}.
        path: of the PNG.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    for name, (seconds, miou) in modes.items():
        axes.plot([seconds], [miou], marker="o", linestyle="", label=name)
    axes.set(xlabel="seconds per image", ylabel="mean IoU of the best mask", ylim=(0, 1))
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.legend()
    write_atomically(path, ".png", lambda part: figure.savefig(part, dpi=120))
