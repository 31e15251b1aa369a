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
"""Results of eval.py as one Markdown document, ours beside the paper's figures (arXiv 2312.13789), and as plots.

    python tools/report.py output/eval_coco output/eval_points student=output/everything --output output/report

Each result is a results.json or the folder that holds one, optionally as NAME=PATH; else its folder names it.
Writes OUTPUT/report.md, OUTPUT/points.png and OUTPUT/everything.png, the plots where there is something to plot. Rows
of the paper are labelled as the paper's: other hardware, other weights, and, unless the set says so, other images.
"""
import argparse
import json
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from src.checkpoint import write_atomically  # noqa: E402
from src.evaluation.plots import plot_everything, plot_points  # noqa: E402
from src.prompts.grids import coarse_points  # noqa: E402

APS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
SCORES = {"box": "ap", "points": "miou", "everything": "modes"}  # what a result of each protocol must hold
HASH = re.compile(r"\b[0-9a-f]{64}\b")  # sha256; 12 digits of it tell files apart
RARITIES = ("ap_rare", "ap_common", "ap_frequent")
# The paper's AP with ViTDet-H boxes, by metric.
PAPER_AP = {
    "coco": (("MobileSAM", 0.410), ("MobileSAM, W8A8", 0.398), ("MobileSAM, W6A6", 0.363), ("TinySAM", 0.423),
             ("TinySAM, W8A8", 0.414), ("TinySAM, W6A6", 0.390)),
    "lvis": (("TinySAM", 0.389), ("TinySAM, W8A8", 0.385)),
}
PAPER_SETS = {"coco": "COCO val2017", "lvis": "LVIS v1 val"}
# The paper's everything mode on the first 100 images of val2017, one V100 (tables 2 and 5): mode, points per side (of
# round one), tau, mean IoU, seconds per image.
PAPER_EVERYTHING = (("full", "32", None, 0.6137, 1.779), ("hierarchical", "8 of 32", 8.5, 0.6061, 0.930),
                    ("hierarchical", "4 of 16", 8.5, 0.5521, 0.357), ("hierarchical", "10 of 32", 8.5, 0.6078, 1.278),
                    ("hierarchical", "8 of 32", 7.0, 0.6018, 0.815), ("hierarchical", "8 of 32", 10.0, 0.6067, 1.182))


class Record(dict):
    """An object of a results.json. What an older eval.py did not write is None, a dash in the tables."""

    def __missing__(self, key):
        return None


def read_result(argument):
    """(name, content) of NAME=PATH or PATH; a ValueError for what eval.py did not write. A PATH may hold a =."""
    name, has_name, path = argument.partition("=")
    if Path(argument).exists() or not has_name:
        name, path = None, argument
    path = Path(path)
    file = path / "results.json" if path.is_dir() else path
    try:
        content = json.loads(file.read_bytes(), object_hook=Record)
    except FileNotFoundError:
        raise ValueError(f"{file}: no such file; give a results.json of eval.py or its folder") from None
    except ValueError as error:
        raise ValueError(f"{file}: not a JSON file ({error})") from None
    if not isinstance(content, dict) or not {"protocol", "settings", "checkpoint", "annotations"} <= content.keys():
        raise ValueError(f"{file}: not a results.json of eval.py")
    if (scores := SCORES.get(content["protocol"])) not in content:
        raise ValueError(f"{file}: no {scores!r} of protocol {content['protocol']!r}; run this evaluation again")
    content.setdefault("metric", "coco")  # before there was another
    return file.resolve().parent.name if name is None else name, content


def table(header, rows):
    """Lines of a Markdown table; numbers have three decimals, None is a dash."""
    def cell(value):
        text = "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
        return text.replace("|", "\\|")

    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(map(cell, line)) + " |" for line in lines]


def what(content):
    """Network, with what ran it unless that is MindSpore on floats, and set of a result, two cells."""
    settings = content["settings"]  # without a variant: masks of a file, by whatever network
    network = f"{settings['variant']}, {settings['image_size']} px" if "variant" in settings else "masks of a file"
    if settings["engine"] not in (None, "mindspore"):
        network += f", {re.sub(HASH, lambda found: found[0][:12], settings['engine'])}"
    return network, "/".join(Path(content["annotations"]).parts[-2:])


def command_line(name, content):
    """Line of a result's command and of what it ran on."""
    stack = [value if key == "machine" else f"{key} {value}" for key, value in (content["versions"] or {}).items()]
    ran_on = [content["settings"]["device"], ", ".join(stack)]
    return "; ".join([f"- {name}: `{content['command'] or '-'}`", *filter(None, ran_on)])


def boxes_of(content):
    """Whose boxes: a file's by name and hash, the labels', or as a file of masks has it."""
    source, digest = content["boxes_from"], content["settings"]["boxes_sha256"]
    if digest:
        return f"{Path(source or '-').name}, sha256 {digest[:12]}"
    return "of the labels" if source in (None, "ground_truth") else source


def number(value, digits):
    return None if value is None else f"{value:.{digits}f}"


def box_section(results, metric):
    names = APS + (RARITIES if metric == "lvis" else ())
    header = ["result", "network", "set", "images", "boxes", "maxDets",
              *(name[:2].upper() + name[2:].replace("_", " ") for name in names), "mean IoU"]
    rows = []
    for name, content in results:
        rows.append([name, *what(content), content["images"], boxes_of(content), content["settings"]["max_detections"],
                     *(content[key] for key in names), content["mean_iou"]])
    for name, value in PAPER_AP[metric]:
        rows.append([f"{name} (paper)", "-", PAPER_SETS[metric], "all", "ViTDet-H", "-", value,
                     *[None] * len(names)])
    choices = sorted({f"{content['mask_choice'] or '-'}; score: {content['mask_score'] or '-'}"
                      for _, content in results})
    return [f"## Box prompts, {metric.upper()} mask AP", "", *table(header, rows), "",
            f"Mask choice: {' / '.join(choices)}. The paper gives AP alone.", ""]


def points_section(results, output):
    longest = max(len(content["miou"] or []) for _, content in results)
    header = ["result", "network", "set", "masks", "first mask", *(str(point + 1) for point in range(longest))]
    rows = [[name, *what(content), content["masks"], content["settings"]["first_mask"],
             *(content["miou"] or []), *[None] * (longest - len(content["miou"] or []))] for name, content in results]
    curves = {name: content["miou"] for name, content in results if content["miou"]}
    plot = ["![mean IoU against points](points.png)", ""] if curves else []
    if curves:
        plot_points(curves, output / "points.png")
    return ["## Point prompts, mean IoU after 1, 2, ... points", "", *table(header, rows), "",
            "The paper shows curves of other sets and states no numbers.", "", *plot]


def everything_section(results, output):
    header = ["result", "network", "set", "images", "labels", "annotators", "mode", "points a side", "tau",
              "IoU, stability above", "mean IoU", "mean IoU / first", "AR@100", "AR@1000", "masks", "points",
              "batches of points", "s encode", "s decode", "s total", "s / first"]
    rows, dots = [], {}
    for name, content in results:
        first = next(iter(content["modes"].values()))
        for mode, scores in content["modes"].items():
            miou, seconds = scores["miou"], [mean_seconds(scores, phase) for phase in ("encode", "decode", "total")]
            rows.append([name, *what(content), content["images"], content["labels"], content["settings"]["annotators"],
                         mode, *plan(content["settings"], mode == "hierarchical"), miou, share(miou, first["miou"]),
                         scores["ar100"], scores["ar1000"],
                         *(number(scores[f"{key}_per_image"], 1) for key in ("masks", "points", "decoder_calls")),
                         *seconds, share(seconds[-1], mean_seconds(first, "total"))])
            if None not in (miou, seconds[-1]):
                dots.setdefault(name, {})[mode] = seconds[-1], miou
    first_miou, first_seconds = PAPER_EVERYTHING[0][3:]
    for mode, points, tau, miou, seconds in PAPER_EVERYTHING:
        rows.append(["TinySAM (paper, V100)", "-", "val2017", 100, "-", "-", mode, points, tau and f"{tau:g}", "-",
                     miou, share(miou, first_miou), *[None] * 7, seconds, share(seconds, first_seconds)])
    plot = ["![mean IoU against seconds](everything.png)", ""] if dots else []
    if dots:
        plot_everything(dots, output / "everything.png")
    return ["## Segment everything, modes side by side", "", *table(header, rows), "",
            "Points a side: of the grid, or of round one and of the grid. The paper does not state its thresholds.",
            "", *plot]


def plan(settings, hierarchical):
    """Three cells of a mode: points per side, tau, thresholds of predicted IoU and stability score."""
    side, ratio, tau, iou, stability = (settings[f"everything.{name}"] for name in (
        "points_per_side", "coarse_ratio", "high_score_thresh", "pred_iou_thresh", "stability_score_thresh"))
    thresholds = None if iou is None else f"{iou:g}, {stability:g}"
    if side is None or not hierarchical:
        return side, None, thresholds
    return f"{round(int(coarse_points(side, ratio).sum()) ** 0.5)} of {side}", f"{tau:g}", thresholds


def mean_seconds(scores, phase):
    """Mean seconds per image of a phase, or None."""
    return ((scores["seconds_per_image"] or {}).get(phase) or {}).get("mean")


def share(value, first):
    return f"{value / first:.1%}" if value is not None and first else None


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", help="results.json of eval.py or its folder, as PATH or NAME=PATH")
    parser.add_argument("--output", required=True, help="folder to write to; made when absent")
    arguments = parser.parse_args(argv)
    try:
        results, output = [read_result(argument) for argument in arguments.results], Path(arguments.output)
        names = [name for name, _ in results]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two results are named {twice[0]!r}; name them apart: NAME=PATH")
        lines = ["# Evaluation", "",
                 "Written by `tools/report.py` from results of `eval.py`. Rows marked (paper) are the paper's figures.",
                 ""]
        for metric in PAPER_AP:
            chosen = [item for item in results if item[1]["protocol"] == "box" and item[1]["metric"] == metric]
            lines += box_section(chosen, metric) if chosen else []
        for protocol, section in (("points", points_section), ("everything", everything_section)):
            chosen = [item for item in results if item[1]["protocol"] == protocol]
            lines += section(chosen, output) if chosen else []
        lines += ["## Commands", "", *(command_line(name, content) for name, content in results)]
        text = "\n".join(lines) + "\n"
        write_atomically(output / "report.md", ".md", lambda part: part.write_text(text, encoding="utf-8"))
    except (ValueError, OSError) as error:
        print(f"report.py: {error}", file=sys.stderr)
        return 2
    print(f"wrote {output / 'report.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
