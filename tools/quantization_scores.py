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
"""What quantization costs in accuracy: one checkpoint in float and quantized in many ways, side by side.

    python tools/quantization_scores.py --checkpoint checkpoints/nano.safetensors --output output/quantization_scores \\
        --protocols box points --data.format=coco --data.paths='[train.json]' --eval.annotations=val.json

Every row of ROWS is calibrated with `quantize.py` and scored with `eval.py` by each protocol; what is not in the row
comes from the options, which go to both. Writes OUTPUT/ROW/, OUTPUT/scores.json and OUTPUT/scores.md after every row,
with bytes, multiply-accumulates by the paper's rule (arXiv 2312.13789, table 1) and bit operations. Started again, it
goes on where it was stopped, and other --protocols add their columns; finished rows are kept, so change OUTPUT with the
settings. The mixed row keeps the layers of configs/quantize_mixed.yaml at 8 bits, or those that --mixed names.
"""
import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tqdm import tqdm  # noqa: E402

from src.checkpoint import write_atomically  # noqa: E402
from src.config import load_config  # noqa: E402
from src.inference.mask_records import write_json  # noqa: E402
from src.quantization.cost import float_cost, quantized_cost  # noqa: E402
from src.quantization.scales_file import read_scales  # noqa: E402
from tools.ablation import run  # noqa: E402

SIX = ["--quantize.weight_bits=6", "--quantize.activation_bits=6"]
ASCEND = ["--quantize.preset=ascend"]
IMPROVEMENTS = {  # name of the row -> (title, option)
    "offset": ("offset behind GELU", "--quantize.gelu=offset"),
    "unsigned": ("unsigned softmax", "--quantize.softmax=unsigned"),
    "log2": ("log2 softmax (simulation only)", "--quantize.softmax=log2"),
    "reparametrise": ("norms into linear layers", "--quantize.reparametrise=true"),
    "sign": ("sign trick", "--quantize.sign_trick=true"),
    "bias": ("bias correction", "--quantize.bias_correction=true"),
    "gptq": ("GPTQ rounding", "--quantize.rounding=gptq"),
}
ALL = [option for name, (_, option) in IMPROVEMENTS.items() if name != "log2"]
# (folder, name, options of quantize.py; None: float)
ROWS = (
    ("float", "float32", None),
    ("paper_w8a8", "W8A8, paper", []),
    ("ascend_w8a8", "W8A8, ascend", ASCEND),
    ("all_w8a8", "W8A8, paper, all improvements", ALL),
    ("paper_w6a6", "W6A6, paper", SIX),
    ("ascend_w6a6", "W6A6, ascend", [*SIX, *ASCEND]),
    *((f"{name}_w6a6", f"W6A6, paper, {title}", [*SIX, option]) for name, (title, option) in IMPROVEMENTS.items()),
    ("all_w6a6", "W6A6, paper, all improvements", [*SIX, *ALL]),
    ("mixed_w6a6", "W6A6, paper, some layers W8A8", SIX),  # and --quantize.wider
)
# The row that another builds on, whose scores its gain is taken against.
BASES = {"all_w8a8": "paper_w8a8", **{f"{name}_w6a6": "paper_w6a6" for name in (*IMPROVEMENTS, "all", "mixed")}}
PROPOSAL = "proposal: --quantize.wider=["  # in cost.md of quantize.py with quantize.sensitivity_images
SCORES = {  # protocol -> {title: score of its results.json}
    "box": {"mean IoU, boxes": lambda scores: scores["mean_iou"], "mask AP": lambda scores: scores["ap"]},
    "points": {"mean IoU, one point": lambda scores: scores["miou"][0],
               "mean IoU, last point": lambda scores: scores["miou"][-1]},
    "everything": {"mean IoU, everything": lambda scores: next(iter(scores["modes"].values()))["miou"]},
}


def quantize_and_score(folder, checkpoint, options, changes, protocols):
    """One row: {"scores": {title: value}, "cost": Cost as a dict, or None for float}."""
    scales = []
    if changes is not None:
        path = folder / "quantize" / "scales.json"
        if not (folder / "quantize" / "cost.md").exists():  # the last file that quantize.py writes
            run("quantize.py", [*options, *changes, f"--quantize.checkpoint={checkpoint}",
                                f"--quantize.output_dir={path.parent}"], folder / "quantize.log")
        scales = [f"--eval.scales={path}"]
    scores = {}
    for protocol in protocols:
        results = folder / protocol / "results.json"
        if not results.exists():
            run("eval.py", [*options, *scales, f"--eval.checkpoint={checkpoint}", f"--eval.protocol={protocol}",
                            f"--eval.output_dir={folder / protocol}"], folder / f"{protocol}.log")
        content = json.loads(results.read_bytes())
        scores.update({title: score(content) for title, score in SCORES[protocol].items()})
    cost = None
    if changes is not None:
        quantization = read_scales(path)
        cost = {"quantized": quantized_cost(quantization)._asdict(), "float": float_cost(quantization)._asdict()}
    return {"scores": scores, "cost": cost}


def finished_rows(path):
    """Rows of an earlier call, by name; none where there was none. ValueError where the file cannot be read."""
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_bytes())["rows"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is not what this tool writes; choose another --output") from None


def wider_layers(named):
    """Names of the mixed row: as given, of the proposal in a cost.md, or without any those of the configuration."""
    if not named:
        return load_config(["--config", str(ROOT / "configs" / "quantize_mixed.yaml")]).quantize.wider
    if len(named) > 1 or not named[0].endswith(".md"):
        return named
    lines = Path(named[0]).read_text(encoding="utf-8").splitlines()
    found = next((line[len(PROPOSAL):-1] for line in lines if line.startswith(PROPOSAL)), "")
    if not found:
        raise ValueError(f"--mixed {named[0]} holds no proposal; run quantize.py with --quantize.sensitivity_images=2")
    return found.split(",")


def gains(rows, row, titles):
    """What a row has gained against the one that it builds on, x 100, in the order of the titles; "" without one."""
    base = rows.get(BASES.get(row), {"scores": {}})["scores"]
    scores = rows[row]["scores"]
    found = [f"{100 * (scores[title] - base[title]):+.2f}" if title in scores and title in base else "-"
             for title in titles]
    return ", ".join(found) if set(found) != {"-"} else ""


def markdown(rows, command):
    """The table as text: scores x 100, in brackets what is lost against float, behind them what an improvement gains;
    and a table of the costs."""
    float_scores = rows["float"]["scores"] if "float" in rows else {}
    titles = [title for of_protocol in SCORES.values() for title in of_protocol
              if any(title in entry["scores"] for entry in rows.values())]
    lines = [f"| network | {' | '.join(titles)} | gain |", "|---|" + "---|" * (len(titles) + 1)]
    names = {row: name for row, name, _ in ROWS}
    for row, entry in rows.items():
        cells = []
        for title in titles:
            value = entry["scores"].get(title)
            if value is None:  # scored by fewer protocols
                cells.append("-")
                continue
            lost = f" ({100 * (value - float_scores[title]):+.2f})" if row != "float" and title in float_scores else ""
            cells.append(f"{100 * value:.2f}{lost}")
        lines.append(f"| {names[row]} | {' | '.join([*cells, gains(rows, row, titles)])} |")
    lines += ["", "x 100; in brackets the difference to float32. Gain: in each column, against the preset paper with "
              "the same bits and nothing else.", ""]
    lines += ["| network | MiB | MACs by the paper's rule, G | bit operations, T | quantized MACs |",
              "|---|---|---|---|---|"]
    seen = []
    for row, entry in rows.items():
        for kind, name in (("float", "float32"), ("quantized", names[row])):
            cost = (entry["cost"] or {}).get(kind)
            if cost and cost not in seen:  # improvements cost nothing: one line for all of them
                seen.append(cost)
                lines.append(f"| {name} | {cost['bytes'] / 2**20:.2f} | {cost['scaled_macs'] / 1e9:.2f} | "
                             f"{cost['bit_operations'] / 1e12:.2f} | {100 * cost['quantized_share']:.1f} % |")
    return "\n".join([*lines, "", f"`{command}`", ""])


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     allow_abbrev=False)
    parser.add_argument("--checkpoint", required=True, type=Path, help="the float weights")
    parser.add_argument("--output", required=True, type=Path, help="folder to write to; made when absent")
    parser.add_argument("--rows", nargs="+", choices=[row for row, *_ in ROWS], help="some rows alone; default: all")
    parser.add_argument("--protocols", nargs="+", choices=list(SCORES), default=["box"], help="default: box")
    parser.add_argument("--mixed", nargs="+", metavar="NAME", help="layers or parts that the mixed row keeps at 8 "
                        "bits, or the cost.md with the proposal of a quantize.py")
    arguments, options = parser.parse_known_args(argv)
    command = " ".join(["tools/quantization_scores.py", *(sys.argv[1:] if argv is None else argv)])
    try:
        rows = finished_rows(arguments.output / "scores.json")
        if not arguments.checkpoint.is_file():
            raise ValueError(f"--checkpoint {arguments.checkpoint} does not exist; name a file of weights")
        wider = f"--quantize.wider=[{','.join(wider_layers(arguments.mixed))}]"
        bar = tqdm([row for row in ROWS if not arguments.rows or row[0] in arguments.rows], unit="row")
        for row, name, changes in bar:
            bar.set_postfix_str(name)
            changes = [*changes, wider] if row == "mixed_w6a6" else changes
            entry = quantize_and_score(arguments.output / row, arguments.checkpoint, options, changes,
                                       arguments.protocols)
            earlier = rows.get(row, {"scores": {}})["scores"]  # of other protocols
            rows[row] = {**entry, "scores": {**earlier, **entry["scores"]}}
            rows = {row: rows[row] for row, *_ in ROWS if row in rows}  # in their order
            write_json(arguments.output / "scores.json", {"command": command, "rows": rows})
            text = markdown(rows, command)
            write_atomically(arguments.output / "scores.md", ".md",
                             lambda part, text=text: part.write_text(text, encoding="utf-8"))
    except (ValueError, OSError) as error:
        print(f"quantization_scores.py: {error}", file=sys.stderr)
        return 2
    print(f"wrote {arguments.output / 'scores.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
