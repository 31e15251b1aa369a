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
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from src.checkpoint import write_atomically  # noqa: E402
from src.evaluation.plots import plot_everything, plot_points  # noqa: E402

APS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
RARITIES = ("ap_rare", "ap_common", "ap_frequent")
# The paper's AP with ViTDet-H boxes, by metric.
PAPER_AP = {
    "coco": (("MobileSAM", 0.410), ("TinySAM", 0.423), ("TinySAM, W8A8", 0.414), ("TinySAM, W6A6", 0.390)),
    "lvis": (("TinySAM", 0.389), ("TinySAM, W8A8", 0.385)),
}
PAPER_SETS = {"coco": "COCO val2017", "lvis": "LVIS v1 val"}
# The paper's everything mode on the first 100 images of val2017, one V100: (mode, mean IoU, seconds per image).
PAPER_EVERYTHING = (("full, 32 x 32 points", 0.6137, 1.779), ("hierarchical, 8 of 32, tau 8.5", 0.6061, 0.930))


def read_result(argument):
    """(name, content) of NAME=PATH or PATH; a ValueError for what eval.py did not write."""
    name, has_name, path = argument.partition("=")
    path = Path(path if has_name else argument)
    file = path / "results.json" if path.is_dir() else path
    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{file}: no such file; give a results.json of eval.py or its folder") from None
    except ValueError as error:
        raise ValueError(f"{file}: not a JSON file ({error})") from None
    if not isinstance(content, dict) or not {"protocol", "settings", "checkpoint", "annotations"} <= content.keys():
        raise ValueError(f"{file}: not a results.json of eval.py")
    return name if has_name else file.resolve().parent.name, content


def table(header, rows):
    """Lines of a Markdown table; numbers have three decimals, None is a dash."""
    def cell(value):
        text = "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
        return text.replace("|", "\\|")

    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(map(cell, line)) + " |" for line in lines]


def what(content):
    """Network and set of a result, two cells."""
    settings = content["settings"]  # without a variant: masks of a file, by whatever network
    network = f"{settings['variant']}, {settings['image_size']} px" if "variant" in settings else "masks of a file"
    return network, "/".join(Path(content["annotations"]).parts[-2:])


def box_section(results, metric):
    names = APS + (RARITIES if metric == "lvis" else ())
    header = ["result", "network", "set", "images", "boxes", "maxDets",
              *(name[:2].upper() + name[2:].replace("_", " ") for name in names), "mean IoU"]
    rows = []
    for name, content in results:
        digest = content["settings"]["boxes_sha256"]
        boxes = f"{Path(content['boxes_from']).name}, sha256 {digest[:12]}" if digest else "of the labels"
        rows.append([name, *what(content), content["images"], boxes, content["settings"]["max_detections"],
                     *(content[key] for key in names), content["mean_iou"]])
    for name, value in PAPER_AP[metric]:
        rows.append([f"{name} (paper)", "-", PAPER_SETS[metric], "all", "ViTDet-H", "-", value,
                     *[None] * len(names)])
    choices = sorted({f"{content['mask_choice']}; score: {content['mask_score']}" for _, content in results})
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
    header = ["result", "network", "set", "mode", "mean IoU", "mean IoU / first", "AR@100", "AR@1000", "masks",
              "points", "decoder calls", "s encode", "s decode", "s total", "s / first"]
    rows, dots = [], {}
    for name, content in results:
        first = next(iter(content["modes"].values()))
        for mode, scores in content["modes"].items():
            seconds = {phase: value["mean"] for phase, value in scores["seconds_per_image"].items()}
            rows.append([name, *what(content), mode, scores["miou"], share(scores["miou"], first["miou"]),
                         scores["ar100"], scores["ar1000"],
                         *(f"{scores[f'{key}_per_image']:.1f}" for key in ("masks", "points", "decoder_calls")),
                         seconds["encode"], seconds["decode"], seconds["total"],
                         share(seconds["total"], first["seconds_per_image"]["total"]["mean"])])
            if scores["miou"] is not None:
                dots.setdefault(name, {})[mode] = seconds["total"], scores["miou"]
    (_, first_miou, first_seconds), *_ = PAPER_EVERYTHING
    for mode, miou, seconds in PAPER_EVERYTHING:
        rows.append(["TinySAM (paper, V100)", "-", "100 images of val2017", mode, miou, share(miou, first_miou),
                     *[None] * 7, seconds, share(seconds, first_seconds)])
    plot = ["![mean IoU against seconds](everything.png)", ""] if dots else []
    if dots:
        plot_everything(dots, output / "everything.png")
    return ["## Segment everything, modes side by side", "", *table(header, rows), "", *plot]


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
        lines += ["## Commands", "", *(f"- {name}: `{content['command']}`" for name, content in results)]
        text = "\n".join(lines) + "\n"
        write_atomically(output / "report.md", ".md", lambda part: part.write_text(text, encoding="utf-8"))
    except (ValueError, OSError) as error:
        print(f"report.py: {error}", file=sys.stderr)
        return 2
    print(f"wrote {output / 'report.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
