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

Every row of tools/quantization_rows.py is calibrated with `quantize.py` and scored with `eval.py` by each protocol;
what is not in the row comes from the options, which go to both. Writes OUTPUT/ROW/, and after every row
OUTPUT/scores.json, scores.png and scores.md, with bytes, multiply-accumulates by the paper's rule (arXiv 2312.13789,
table 1) and bit operations. Started again, it goes on where it was stopped, and other --protocols add their columns,
with other options where they want them; finished rows are kept, so change OUTPUT with the settings. Under the tables
stands what each command made; another checkpoint is refused. Mixed rows keep the layers of
configs/quantize_mixed.yaml at 8 bits, or those that --mixed names.
"""
import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import NamedTuple, Sequence

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tqdm import tqdm  # noqa: E402

from src.checkpoint import write_atomically  # noqa: E402
from src.checkpoint.file_hash import file_sha256  # noqa: E402
from src.config import load_config  # noqa: E402
from src.inference.mask_records import write_json  # noqa: E402
from src.quantization.cost import float_cost, quantized_cost  # noqa: E402
from src.quantization.scales_file import read_scales  # noqa: E402
from tools.ablation import run  # noqa: E402
from tools.quantization_report import markdown, plot  # noqa: E402
from tools.quantization_rows import MIXED, ROWS, SCORES  # noqa: E402

PROPOSAL = "proposal: --quantize.wider=["  # in cost.md of quantize.py with quantize.sensitivity_images


class Call(NamedTuple):
    """One call of this tool: the command line, the checkpoint and its hash, and the options for the scripts."""

    command: str
    checkpoint: Path
    sha256: str
    options: Sequence[str]

    def step(self, folder, name, script, options, result):
        """Run a script for the step `name` of a row unless its result is there. Returns the command that made it, which
        stands in NAME.command: a row that was killed is finished by another call; None where nobody noted it."""
        note = folder / f"{name}.command"
        if not result.exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(note, ".command", lambda part: part.write_text(self.command, encoding="utf-8"))
            run(script, [*self.options, *options], folder / f"{name}.log")
        return note.read_text(encoding="utf-8") if note.exists() else None


def quantize_and_score(folder, call, changes, protocols):
    """One row: {"scores": {title: value}, "cost": Cost as a dict, or None for float, "commands": {step: command},
    "wider": layers that had more bits}."""
    scales, commands = [], {}
    if changes is not None:
        path = folder / "quantize" / "scales.json"
        commands["quantize"] = call.step(folder, "quantize", "quantize.py", [
            *changes, f"--quantize.checkpoint={call.checkpoint}", f"--quantize.output_dir={path.parent}"],
            folder / "quantize" / "cost.md")  # the last file that quantize.py writes
        scales = [f"--eval.scales={path}"]
    scores = {}
    for protocol in protocols:
        results = folder / protocol / "results.json"
        commands[protocol] = call.step(folder, protocol, "eval.py", [
            *scales, f"--eval.checkpoint={call.checkpoint}", f"--eval.protocol={protocol}",
            f"--eval.output_dir={folder / protocol}"], results)
        content = json.loads(results.read_bytes())
        check_checkpoint(results, content.get("settings", {}).get("checkpoint_sha256"), call)
        commands[protocol] = commands[protocol] or content.get("command")  # of eval.py itself
        scores.update({title: score(content) for title, score in SCORES[protocol].items()})
    cost, wider = None, ()
    if changes is not None:
        quantization = read_scales(path)
        wider = quantization.wider
        cost = {"quantized": quantized_cost(quantization)._asdict(), "float": float_cost(quantization)._asdict()}
    return {"scores": scores, "cost": cost, "wider": list(wider),
            "commands": {step: text for step, text in commands.items() if text}}


def finished_rows(path):
    """(rows of an earlier call by name, SHA-256 of their checkpoint, or None in files of earlier versions); no rows
    where there was no call. ValueError where the file cannot be read."""
    if not path.exists():
        return {}, None
    try:
        content = json.loads(path.read_bytes())
        return content["rows"], content.get("checkpoint_sha256")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{path} is not what this tool writes; choose another --output") from None


def check_checkpoint(path, recorded, call):
    """ValueError where a file says that it is of another checkpoint than this call's."""
    if recorded not in (None, call.sha256):
        raise ValueError(f"{path} is of the checkpoint with SHA-256 {recorded[:12]}.., and {call.checkpoint} has "
                         f"{call.sha256[:12]}..; choose another --output")


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


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     allow_abbrev=False)
    parser.add_argument("--checkpoint", required=True, type=Path, help="the float weights")
    parser.add_argument("--output", required=True, type=Path, help="folder to write to; made when absent")
    parser.add_argument("--rows", nargs="+", choices=[row for row, *_ in ROWS], help="some rows alone; default: all")
    parser.add_argument("--protocols", nargs="+", choices=list(SCORES), default=["box"], help="default: box")
    parser.add_argument("--mixed", nargs="+", metavar="NAME", help="layers or parts that mixed rows keep at 8 "
                        "bits, or the cost.md with the proposal of a quantize.py")
    arguments, options = parser.parse_known_args(argv)
    command = shlex.join(["tools/quantization_scores.py", *(sys.argv[1:] if argv is None else argv)])
    try:
        rows, recorded = finished_rows(arguments.output / "scores.json")
        if not arguments.checkpoint.is_file():
            raise ValueError(f"--checkpoint {arguments.checkpoint} does not exist; name a file of weights")
        call = Call(command, arguments.checkpoint, file_sha256(arguments.checkpoint), options)
        check_checkpoint(arguments.output / "scores.json", recorded, call)
        wider = f"--quantize.wider=[{','.join(wider_layers(arguments.mixed))}]"
        bar = tqdm([row for row in ROWS if not arguments.rows or row[0] in arguments.rows], unit="row")
        for row, name, changes in bar:
            bar.set_postfix_str(name)
            changes = [*changes, wider] if row in MIXED else changes
            entry = quantize_and_score(arguments.output / row, call, changes, arguments.protocols)
            earlier = rows.get(row, {})  # of other protocols
            rows[row] = {**entry, **{key: {**earlier.get(key, {}), **entry[key]} for key in ("scores", "commands")}}
            rows = {row: rows[row] for row, *_ in ROWS if row in rows}  # in their order
            write_json(arguments.output / "scores.json", {"checkpoint_sha256": call.sha256, "rows": rows})
            text = markdown(rows)
            write_atomically(arguments.output / "scores.md", ".md",
                             lambda part, text=text: part.write_text(text, encoding="utf-8"))
            plot(rows, arguments.output / "scores.png")
    except (ValueError, OSError) as error:
        print(f"quantization_scores.py: {error}", file=sys.stderr)
        return 2
    print(f"wrote {arguments.output / 'scores.md'}, {arguments.output / 'scores.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
