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
"""The rows of `tools/quantization_scores.py` as a table with its commands, and as a picture."""
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from src.checkpoint import write_atomically
from tools.quantization_rows import BASES, MIXED, NAMES, SCORES

COLOURS = {"float32": "0.5", "W8A8": "C0", "W6A6": "C1"}


def gains(rows, row, titles):
    """What a row has gained against the one that it builds on, x 100, in the order of the titles; "" without one."""
    base = rows.get(BASES.get(row), {"scores": {}})["scores"]
    scores = rows[row]["scores"]
    found = ["-" if scores.get(title) is None or base.get(title) is None else
             f"{100 * (scores[title] - base[title]):+.2f}" for title in titles]
    return ", ".join(found) if set(found) != {"-"} else ""


def command_lines(rows):
    """Every command with the steps that it made and of which rows, and the steps whose command nobody noted."""
    names, made = {}, {}
    for row, entry in rows.items():
        scored = [protocol for protocol, of_protocol in SCORES.items() if set(of_protocol) & set(entry["scores"])]
        for step in (["quantize"] if entry["cost"] else []) + scored:
            names.setdefault(step, []).append(NAMES[row])
            command = entry.get("commands", {}).get(step)
            made.setdefault(command, {}).setdefault(step, []).append(NAMES[row])
    lines = []
    for command in sorted(made, key=lambda command: command is None):
        what = [f"{step} of {'all rows' if found == names[step] else '; '.join(found)}"
                for step, found in made[command].items()]
        text = "command not recorded" if command is None else f"`{command}`"
        lines += ["", f"{text}: {', '.join(what)}"]
    return lines


def titles_of(rows):
    """Titles of the scores that some row has, in their order."""
    return [title for of_protocol in SCORES.values() for title in of_protocol
            if any(title in entry["scores"] for entry in rows.values())]


def markdown(rows):
    """The table as text: scores x 100, in brackets what is lost against float, behind them what an improvement gains;
    a table of the costs, the layers of mixed rows, and the commands."""
    float_scores = rows["float"]["scores"] if "float" in rows else {}
    titles = titles_of(rows)
    lines = [f"| network | {' | '.join(titles)} | gain |", "|---|" + "---|" * (len(titles) + 1)]
    for row, entry in rows.items():
        cells = []
        for title in titles:
            value = entry["scores"].get(title)
            if value is None:  # scored by fewer protocols, or no AP: no label counts
                cells.append("-")
                continue
            whole = float_scores.get(title) if row != "float" else None
            cells.append(f"{100 * value:.2f}" + ("" if whole is None else f" ({100 * (value - whole):+.2f})"))
        lines.append(f"| {NAMES[row]} | {' | '.join([*cells, gains(rows, row, titles)])} |")
    lines += ["", "x 100; in brackets the difference to float32. Gain: in each column, against the same preset and "
              "bits and nothing else.", ""]
    lines += ["| network | MiB | MACs by the paper's rule, G | bit operations, T | quantized MACs |",
              "|---|---|---|---|---|"]
    seen = []
    for row, entry in rows.items():
        for kind, name in (("float", "float32"), ("quantized", NAMES[row])):
            cost = (entry["cost"] or {}).get(kind)
            if cost and cost not in seen:  # improvements cost nothing: one line for all of them
                seen.append(cost)
                lines.append(f"| {name} | {cost['bytes'] / 2**20:.2f} | {cost['scaled_macs'] / 1e9:.2f} | "
                             f"{cost['bit_operations'] / 1e12:.2f} | {100 * cost['quantized_share']:.1f} % |")
    for row in MIXED:
        if row in rows:
            lines += ["", f"{NAMES[row]}: {', '.join(rows[row].get('wider') or ['not recorded'])}"]
    return "\n".join([*lines, *command_lines(rows), ""])


def plot(rows, path):
    """A panel a score, a dot a row in the colour of its bits, x 100; the line is float32's score, and what lies left of
    it is lost. Returns the figure, which it writes to `path`."""
    titles = titles_of(rows)
    figure = Figure(figsize=(4 + 2.2 * len(titles), 1 + 0.27 * len(rows)), layout="constrained")
    panels = figure.subplots(1, len(titles), sharey=True, squeeze=False)[0]
    for panel, title in zip(panels, titles):
        for place, (row, entry) in enumerate(rows.items()):
            value, bits = entry["scores"].get(title), NAMES[row].partition(",")[0]
            if value is not None:
                panel.plot(100 * value, place, "o", color=COLOURS[bits])
                if row == "float":
                    panel.axvline(100 * value, color=COLOURS[bits], linewidth=1)
        panel.set_title(f"{title}, x 100", fontsize=9)
        low, high = panel.get_xlim()
        room = max(0.0, 5.0 - (high - low)) / 2  # so that hundredths do not look like much
        panel.set_xlim(low - room, high + room)
        panel.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(rows)), [NAMES[row] for row in rows])
    panels[0].invert_yaxis()
    figure.legend(handles=[Line2D([], [], marker="o", linestyle="", color=colour, label=bits)
                           for bits, colour in COLOURS.items()], loc="outside lower center", ncols=len(COLOURS))
    write_atomically(path, ".png", lambda part: figure.savefig(part, dpi=120))
    return figure
