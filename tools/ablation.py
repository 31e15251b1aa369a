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
"""The ablation of the method (arXiv 2312.13789, tables 3 and 4) at one's own scale: which part of the distillation
gains what, over several seeds.

    python tools/ablation.py --output output/ablation --seeds 1 2 3 --config configs/ablation_cpu.yaml \\
        --data.paths='[train.json]' --model.teacher_checkpoint=teacher.ckpt --eval.annotations=val.json

Every row of ROWS is trained with `train.py` and scored with `eval.py` by boxes and by points, once for each seed, all
with the same budget; what is not in the row comes from the configuration and the options. Rows of one seed see the same
pictures and first prompts in the same order and start from the same weights, so the differences to the baseline are
taken seed by seed. Writes OUTPUT/ROW/seed_N/, OUTPUT/ablation.json, OUTPUT/ablation.md and OUTPUT/ablation.png after
every run. Started again, it goes on where it was stopped; finished runs are kept, so change OUTPUT with the settings.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from matplotlib.figure import Figure  # noqa: E402
from tqdm import tqdm  # noqa: E402

from src.checkpoint import write_atomically  # noqa: E402
from src.inference.mask_records import write_json  # noqa: E402

NO_ROUNDS, NO_WEIGHTS = "--distill.max_rounds=0", "--distill.hard_mask_weighting=false"
# (folder, name, options, the paper's COCO AP or None): table 3 is rows 1 to 4, table 4 the last four.
ROWS = (
    ("labels", "baseline: labels only", ["--model.teacher=none", "--data.embedding_cache=", NO_ROUNDS], 0.407),
    ("distillation", "+ distillation losses", [NO_ROUNDS, NO_WEIGHTS], 0.414),
    ("hard_prompts", "+ hard prompt sampling (all three losses)", [NO_WEIGHTS], 0.419),
    ("hard_masks", "+ hard mask weighting (all three losses, weights)", [], 0.423),
    ("token_output", "token and output losses", [NO_WEIGHTS, "--distill.embedding_weight=0"], 0.416),
    ("embedding_output", "embedding and output losses", [NO_WEIGHTS, "--distill.token_weight=0"], 0.417),
)
SCORES = {"box": "mean IoU, boxes", "point": "mean IoU, one point", "points": "mean IoU, nine points"}


def run(script, options, log):
    """One of the root scripts; what it prints goes to `log`. ValueError with its last line where it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as file:
        code = subprocess.run([os.environ.get("PYTHON", sys.executable), str(ROOT / script), *options], stdout=file,
                              stderr=subprocess.STDOUT, check=False).returncode
    if code:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise ValueError(f"{script} ended with exit code {code}: {lines[-1] if lines else 'it printed nothing'} "
                         f"(all of it: {log})")


def train_and_score(folder, options, seed):
    """Scores of one row and seed: {"box": mean IoU, "point": after one point, "points": after the last}."""
    shared = [*options, f"--runtime.seed={seed}"]
    student = folder / "train" / "student.ckpt"
    if not student.exists():
        run("train.py", [*shared, f"--train.output_dir={folder / 'train'}", "--resume", "auto"], folder / "train.log")
    for protocol in ("box", "points"):
        if not (folder / protocol / "results.json").exists():
            run("eval.py", [*shared, f"--eval.protocol={protocol}", f"--eval.checkpoint={student}",
                            f"--eval.output_dir={folder / protocol}"], folder / f"{protocol}.log")
    boxes, points = (json.loads((folder / protocol / "results.json").read_bytes()) for protocol in ("box", "points"))
    return {"box": boxes["mean_iou"], "point": points["miou"][0], "points": points["miou"][-1]}


def mean_and_spread(values):
    """(mean, standard deviation of the sample); None for what so few values do not have."""
    return statistics.fmean(values) if values else None, statistics.stdev(values) if len(values) > 1 else None


def summarise(runs):
    """Rows of the table.

    Args:
        runs: {row's folder name: {seed: scores as of `train_and_score`}}; rows without a run are left out.

    Returns:
        A dict a row: `row`, `name`, `paper_ap`, `seeds`, and for each score `mean`, `spread`, and `gain` and
        `gain_spread` over the baseline of the same seeds (None where there are too few).
    """
    rows = []
    for row, name, _, paper_ap in ROWS:
        scores = runs.get(row)
        if not scores:
            continue
        entry = {"row": row, "name": name, "paper_ap": paper_ap, "seeds": sorted(scores)}
        for key in SCORES:
            mean, spread = mean_and_spread([scores[seed][key] for seed in sorted(scores)])
            base = runs.get(ROWS[0][0], {})
            gains = [scores[seed][key] - base[seed][key] for seed in sorted(scores) if seed in base]
            gain, gain_spread = mean_and_spread(gains)
            entry[key] = {"mean": mean, "spread": spread, "gain": gain, "gain_spread": gain_spread}
        rows.append(entry)
    return rows


def markdown(rows, command):
    """The table as text: mean ± standard deviation of mean IoU x 100, the gain over the baseline in brackets."""
    def number(mean, spread, sign=""):
        return f"{100 * mean:{sign}.2f}" + ("" if spread is None else f" ± {100 * spread:.2f}")

    def cell(score):
        gain = "" if score["gain"] is None else f" ({number(score['gain'], score['gain_spread'], '+')})"
        return number(score["mean"], score["spread"]) + gain

    lines = ["| row | seeds | " + " | ".join(SCORES.values()) + " | the paper's COCO AP |",
             "|---|---|" + "---|" * (len(SCORES) + 1)]
    for entry in rows:
        lines.append(f"| {entry['name']} | {len(entry['seeds'])} | " + " | ".join(cell(entry[key]) for key in SCORES)
                     + f" | {100 * entry['paper_ap']:.1f} |")
    return "\n".join([*lines, "", "Mean ± standard deviation over the seeds, x 100; in brackets the gain over the "
                      "baseline of the same seed. The paper's figures are of other networks, data and protocol.", "",
                      f"`{command}`", ""])


def plot(rows, path):
    """The scores of each row, a bar a score, whiskers of one standard deviation."""
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for number, (key, label) in enumerate(SCORES.items()):
        places = [index + 0.27 * (number - 1) for index in range(len(rows))]
        axes.bar(places, [100 * entry[key]["mean"] for entry in rows], 0.25, label=label,
                 yerr=[100 * (entry[key]["spread"] or 0) for entry in rows], capsize=3)
    axes.set_xticks(range(len(rows)), [entry["name"].replace(" (", "\n(") for entry in rows], rotation=20, ha="right")
    axes.set_ylabel("mean IoU x 100")
    axes.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=len(SCORES))
    write_atomically(path, ".png", lambda part: figure.savefig(part, dpi=120))


def write_report(output, runs, command):
    """ablation.json, ablation.md, ablation.png of what is there so far."""
    rows = summarise(runs)
    write_json(output / "ablation.json", {"command": command, "runs": runs, "rows": rows})
    write_atomically(output / "ablation.md", ".md",
                     lambda part: part.write_text(markdown(rows, command), encoding="utf-8"))
    plot(rows, output / "ablation.png")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     allow_abbrev=False)
    parser.add_argument("--output", required=True, type=Path, help="folder to write to; made when absent")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="one run of every row for each")
    parser.add_argument("--rows", nargs="+", choices=[row for row, *_ in ROWS], help="some rows alone; default: all")
    arguments, options = parser.parse_known_args(argv)
    command = " ".join(["tools/ablation.py", *(sys.argv[1:] if argv is None else argv)])
    chosen = [row for row in ROWS if not arguments.rows or row[0] in arguments.rows]
    runs = {}
    try:
        with tqdm(total=len(chosen) * len(arguments.seeds), unit="run") as bar:
            for seed in arguments.seeds:
                for row, name, changes, _ in chosen:
                    bar.set_postfix_str(f"{name}, seed {seed}")
                    scores = train_and_score(arguments.output / row / f"seed_{seed}", [*options, *changes], seed)
                    runs.setdefault(row, {})[seed] = scores
                    write_report(arguments.output, runs, command)
                    bar.update()
    except (ValueError, OSError) as error:
        print(f"ablation.py: {error}", file=sys.stderr)
        return 2
    print(f"wrote {arguments.output / 'ablation.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
