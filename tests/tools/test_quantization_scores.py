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
"""tools/quantization_scores.py: its rows are settings that exist, its commands, its tables by hand, and going on."""
import hashlib
import json
import os
import shutil

import cv2
import numpy as np
import pytest

from src.config import load_config
from src.quantization.scales_file import write_scales
from src.quantization.sensitivity import sensitivity_rows
from src.quantization.settings import QuantizeSettings
from src.quantization.spec import CodeRange, LayerScales, Quantization, Quantizer
from tools import quantization_scores
from tools.quantization_report import markdown, plot
from tools.quantization_rows import BASES, ROWS, SCORES, SIX
from tools.quantization_scores import main, wider_layers

# Stands in for the interpreter: notes its arguments, leaves what quantize.py and eval.py leave.
FAKE = """#!/usr/bin/env python3
import hashlib, json, os, pathlib, shutil, sys
script, given = pathlib.Path(sys.argv[1]).name, dict(item.split("=", 1) for item in sys.argv[2:] if "=" in item)
pathlib.Path(os.environ["NOTES"]).open("a").write(" ".join([script, *sys.argv[2:]]) + "\\n")
if script == "quantize.py":
    shutil.copytree(os.environ["SCALES"], given["--quantize.output_dir"])
else:
    folder = pathlib.Path(given["--eval.output_dir"])
    folder.mkdir(parents=True)
    score = 0.5 if "--eval.scales" in given else 0.75
    sha = hashlib.sha256(pathlib.Path(given["--eval.checkpoint"]).read_bytes()).hexdigest()
    content = {"settings": {"checkpoint_sha256": sha}, "command": "eval.py as called",
               "mean_iou": score, "ap": 0.25, "miou": [score / 2, score], "modes": {"full": {"miou": 0.125}}}
    (folder / "results.json").write_text(json.dumps(content))
"""


@pytest.fixture
def scales(tmp_path):
    """Folder as quantize.py leaves it: one linear layer of 2 x 3 weights of 4 bits, 8 bits for activations, 32 MACs,
    and 7 MACs in float; 400 bytes of parameters."""
    quantizer = Quantizer("uniform", 8, (CodeRange(0.1, -128, 127),))
    layer = LayerScales("a.b", "linear", 4, 8, (quantizer,), 3, 32, 0.5, np.array([0.1, 0.3], np.float32),
                        np.ones((2, 3), np.int8), np.array([0.7, -1], np.float32))
    (tmp_path / "made").mkdir()
    write_scales(tmp_path / "made" / "scales.json", Quantization(
        "ab" * 32, "nano", 64, "paper", 4, 8, (layer,), {"a.c": "because"}, {"a.c": 7}, (), {}, {"metric": "mse"},
        parameter_bytes=400))
    (tmp_path / "made" / "cost.md").write_text("")
    return tmp_path / "made"


def test_every_row_is_a_configuration():
    for row, _, changes in ROWS:
        section = load_config(changes or []).quantize
        bits = (section.weight_bits, section.activation_bits)
        assert bits == ((6, 6) if row.endswith("w6a6") else (8, 8))
        QuantizeSettings(preset=section.preset, gelu=section.gelu, softmax=section.softmax, rounding=section.rounding)
    changed = load_config(next(changes for row, _, changes in ROWS if row == "all_w6a6")).quantize
    assert (changed.gelu, changed.softmax, changed.rounding) == ("offset", "unsigned", "gptq")
    assert changed.reparametrise and changed.sign_trick and changed.bias_correction
    changed = load_config(next(changes for row, _, changes in ROWS if row == "ascend_all_w8a8")).quantize
    assert (changed.gelu, changed.softmax, changed.sign_trick) == ("preset", "preset", False)  # no zero points
    assert changed.reparametrise and changed.bias_correction and changed.rounding == "gptq"


@pytest.fixture
def interpreter(tmp_path, monkeypatch, scales):
    (tmp_path / "python").write_text(FAKE)
    (tmp_path / "python").chmod(0o755)
    for name, value in (("PYTHON", tmp_path / "python"), ("NOTES", tmp_path / "notes"), ("SCALES", scales)):
        monkeypatch.setenv(name, str(value))


def test_rows_run_and_go_on(tmp_path, capsys, interpreter):
    weights, out = tmp_path / "nano.safetensors", tmp_path / "out"
    weights.touch()
    call = ["--checkpoint", str(weights), "--output", str(out), "--protocols", "box", "points", "--eval.limit=3"]
    assert main([*call, "--rows", "float", "ascend_w6a6"]) == 0
    row = out / "ascend_w6a6"
    assert (tmp_path / "notes").read_text().splitlines()[2:4] == [
        "quantize.py --eval.limit=3 --quantize.weight_bits=6 --quantize.activation_bits=6 --quantize.preset=ascend "
        f"--quantize.checkpoint={weights} --quantize.output_dir={row}/quantize",
        f"eval.py --eval.limit=3 --eval.scales={row}/quantize/scales.json --eval.checkpoint={weights} "
        f"--eval.protocol=box --eval.output_dir={row}/box"]
    entry = json.loads((out / "scores.json").read_text())["rows"]["ascend_w6a6"]
    assert entry["scores"] == {"mean IoU, boxes": 0.5, "mask AP": 0.25, "mean IoU, one point": 0.25,
                               "mean IoU, last point": 0.5}
    assert entry["cost"]["float"]["bytes"] == 400 and entry["wider"] == []
    # 32 MACs by the wider of 4 and 8 bits: 32 * 8 / 32 = 8, and 7 float ones. 400 bytes, of which 6 weights of 4 bytes
    # become half a byte each, and two scales of 4 bytes come to it: 400 - 21 + 8.
    assert (entry["cost"]["quantized"]["scaled_macs"], entry["cost"]["quantized"]["bytes"]) == (15.0, 387)
    assert cv2.imread(str(out / "scores.png")) is not None
    text = (out / "scores.md").read_text()
    assert "| float32 | 75.00 | 25.00 | 37.50 | 75.00 |  |\n" in text
    assert "| W6A6, ascend | 50.00 (-25.00) | 25.00 (+0.00) | 25.00 (-12.50) | 50.00 (-25.00) |  |\n" in text
    assert main([*call, "--rows", "paper_w8a8"]) == 0
    assert len((tmp_path / "notes").read_text().splitlines()) == 2 + 3 + 3  # nothing twice
    kept = json.loads((out / "scores.json").read_text())["rows"]
    assert list(kept) == ["float", "paper_w8a8", "ascend_w6a6"] and kept["ascend_w6a6"] == entry
    # Other protocols add their columns; what was scored before stays.
    assert main([*call[:5], "everything", "--rows", "ascend_w6a6"]) == 0
    assert "--eval.protocol=everything" in (tmp_path / "notes").read_text().splitlines()[-1]
    scores = json.loads((out / "scores.json").read_text())["rows"]["ascend_w6a6"]["scores"]
    assert scores == {**entry["scores"], "mean IoU, everything": 0.125}
    assert "| float32 | 75.00 | 25.00 | 37.50 | 75.00 | - |  |\n" in (out / "scores.md").read_text()
    shutil.rmtree(out / "float")
    os.remove(weights)
    capsys.readouterr()
    assert main([*call, "--rows", "float"]) == 2
    assert capsys.readouterr().err == (f"quantization_scores.py: --checkpoint {weights} does not exist; name a file of "
                                       "weights\n")


def test_every_command_stands_by_what_it_made(tmp_path, interpreter):
    """Options of one protocol alone, a row added later, a row whose call was killed, and one that nobody noted."""
    weights, out = tmp_path / "nano.safetensors", tmp_path / "out"
    weights.touch()
    call = ["--checkpoint", str(weights), "--output", str(out)]
    head = f"tools/quantization_scores.py --checkpoint {weights} --output {out}"
    assert main([*call, "--rows", "float", "paper_w8a8", "--data.paths=[a.json]"]) == 0
    assert main([*call, "--protocols", "everything", "--rows", "float", "paper_w8a8", "--eval.limit=5"]) == 0
    first = f"{head} --rows float paper_w8a8 '--data.paths=[a.json]'"
    second = f"{head} --protocols everything --rows float paper_w8a8 --eval.limit=5"
    content = json.loads((out / "scores.json").read_text())
    assert content["rows"]["float"]["commands"] == {"box": first, "everything": second}
    assert content["rows"]["paper_w8a8"]["commands"] == {"quantize": first, "box": first, "everything": second}
    assert (out / "scores.md").read_text().endswith(
        f"\n\n`{first}`: box of all rows, quantize of all rows\n\n`{second}`: everything of all rows\n")
    # Everything is there already: nothing runs, and the commands stay those that made it.
    notes = (tmp_path / "notes").read_text()
    assert main([*call, "--protocols", "box", "everything", "--eval.limit=7"]) == 0
    rows = json.loads((out / "scores.json").read_text())["rows"]
    assert {row: rows[row] for row in content["rows"]} == content["rows"]
    assert [line for line in (tmp_path / "notes").read_text()[len(notes):].splitlines()
            if "paper_w8a8" in line or f"{out}/float" in line] == []
    # Killed between a row's last script and scores.json; and results of a version that noted no commands.
    (out / "scores.json").unlink()
    for name in ("box.command", "quantize.command"):
        (out / "ascend_w8a8" / name).unlink()
    assert main([*call, "--rows", "paper_w8a8", "ascend_w8a8"]) == 0
    rows = json.loads((out / "scores.json").read_text())["rows"]
    assert rows["paper_w8a8"]["commands"] == {"quantize": first, "box": first}
    assert rows["ascend_w8a8"]["commands"] == {"box": "eval.py as called"}
    assert (out / "scores.md").read_text().endswith(
        f"\n\n`{first}`: quantize of W8A8, paper, box of W8A8, paper\n\n"
        "`eval.py as called`: box of W8A8, ascend\n\ncommand not recorded: quantize of W8A8, ascend\n")


def test_another_checkpoint_is_refused(tmp_path, capsys, interpreter):
    one, other, out = tmp_path / "one.ckpt", tmp_path / "other.ckpt", tmp_path / "out"
    one.write_bytes(b"1")
    other.write_bytes(b"2")

    def call(weights):
        capsys.readouterr()
        return main(["--checkpoint", str(weights), "--output", str(out), "--rows", "float"]), capsys.readouterr().err

    assert call(one)[0] == 0
    digests = [hashlib.sha256(content).hexdigest() for content in (b"1", b"2")]
    assert json.loads((out / "scores.json").read_text())["checkpoint_sha256"] == digests[0]
    before = (out / "scores.json").read_bytes()
    refused = (f"is of the checkpoint with SHA-256 {digests[0][:12]}.., and {other} has {digests[1][:12]}..; choose "
               "another --output\n")
    assert call(other) == (2, f"quantization_scores.py: {out / 'scores.json'} {refused}")
    assert (out / "scores.json").read_bytes() == before and call(one)[0] == 0
    (out / "scores.json").write_text(json.dumps({"command": "", "rows": {}}))  # of an earlier version
    code, err = call(other)
    assert code == 2 and err.endswith(f"quantization_scores.py: {out / 'float' / 'box' / 'results.json'} {refused}")


def test_improvements_share_a_line_of_cost():
    cost = {"float": {"bytes": 2**20, "scaled_macs": 2e9, "bit_operations": 4e12, "quantized_share": 0.0},
            "quantized": {"bytes": 2**19, "scaled_macs": 1e9, "bit_operations": 1e12, "quantized_share": 0.5}}
    commands = {"quantize": "the command", "box": "the command"}
    rows = {row: {"scores": {"mean IoU, boxes": 0.5}, "cost": cost, "commands": commands}
            for row in ("paper_w6a6", "bias_w6a6")}
    text = markdown(rows)
    assert ("| float32 | 1.00 | 2.00 | 4.00 | 0.0 % |\n"
            "| W6A6, paper | 0.50 | 1.00 | 1.00 | 50.0 % |\n\n`the command`") in text
    assert "| W6A6, paper, bias correction | 50.00 | +0.00 |" in text
    rows["float"] = {"scores": {"mask AP": 0.25}, "cost": None}
    assert "| float32 | - | 25.00 |  |" in markdown(rows)


def test_gains_are_against_the_row_that_is_built_on():
    """0.5 + 0.01 of the improvement alone, not 0.75 - 0.51 of float; a column that the base lacks has none."""
    rows = {"float": {"mean IoU, boxes": 0.75}, "paper_w8a8": {"mean IoU, boxes": 0.625}, "paper_w6a6": {
        "mean IoU, boxes": 0.5}, "bias_w6a6": {"mean IoU, boxes": 0.51, "mask AP": 0.25},
        "all_w8a8": {"mean IoU, boxes": 0.62}, "mixed_w6a6": {"mean IoU, boxes": 0.56},
        "ascend_w6a6": {"mean IoU, boxes": 0.4, "mask AP": None}, "ascend_offset_w6a6": {
        "mean IoU, boxes": 0.45, "mask AP": 0.25}}
    text = markdown({row: {"scores": scores, "cost": None} for row, scores in rows.items()})
    assert "| network | mean IoU, boxes | mask AP | gain |\n|---|---|---|---|\n" in text
    assert "| W6A6, paper | 50.00 (-25.00) | - |  |\n" in text
    assert "| W6A6, paper, bias correction | 51.00 (-24.00) | 25.00 | +1.00, - |\n" in text
    assert "| W8A8, paper, all improvements | 62.00 (-13.00) | - | -0.50, - |\n" in text
    assert "| W6A6, paper, some layers W8A8 | 56.00 (-19.00) | - | +6.00, - |\n" in text
    assert "| W6A6, ascend, offset behind GELU | 45.00 (-30.00) | 25.00 | +5.00, - |\n" in text
    assert "\n\nW6A6, paper, some layers W8A8: not recorded\n" in text
    rows = {row for row, *_ in ROWS}
    assert set(BASES) | set(BASES.values()) <= rows
    assert rows - set(BASES) == {"float", "paper_w8a8", "ascend_w8a8", "paper_w6a6", "ascend_w6a6"}


def test_the_picture_has_a_dot_where_each_row_has_a_score(tmp_path):
    """Two panels: three rows and the line of float32 in the first, one row and no line in the second."""
    rows = {"float": {"mean IoU, boxes": 0.75}, "paper_w8a8": {"mean IoU, boxes": 0.625, "mask AP": None},
            "paper_w6a6": {"mean IoU, boxes": 0.5, "mask AP": 0.25}}
    figure = plot({row: {"scores": scores} for row, scores in rows.items()}, tmp_path / "scores.png")
    assert cv2.imread(str(tmp_path / "scores.png")) is not None
    boxes, precision = figure.axes
    dots = [line for line in boxes.lines if line.get_marker() == "o"]
    assert [(*dot.get_xydata()[0], dot.get_color()) for dot in dots] == [
        (75, 0, "0.5"), (62.5, 1, "C0"), (50, 2, "C1")]
    line, = set(boxes.lines) - set(dots)
    assert list(line.get_xdata()) == [75, 75]
    assert [tuple(line.get_xydata()[0]) for line in precision.lines] == [(25, 2)]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["float32", "W8A8", "W6A6"]
    assert [label.get_text() for label in boxes.get_yticklabels()] == ["float32", "W8A8, paper", "W6A6, paper"]


def test_layers_of_the_mixed_row(tmp_path, monkeypatch, capsys):
    """As named, as a sensitivity run proposes, or of the configuration."""
    losses = [("image_encoder.neck.0", 40.0), ("a.fc1", 3.0), ("b", 1.0)]
    report = tmp_path / "cost.md"
    report.write_text("\n".join(["| model |", *sensitivity_rows(losses)]) + "\n")
    assert wider_layers([str(report)]) == ["image_encoder.neck.0"]
    assert wider_layers(["a.fc1", "b"]) == ["a.fc1", "b"] and wider_layers(["b"]) == ["b"]
    assert "image_encoder.patch_embed" in wider_layers(None)
    report.write_text("| model |\n")
    with pytest.raises(ValueError, match="cost.md holds no proposal; run quantize.py with --quantize.sensitivity_im"):
        wider_layers([str(report)])
    # The row passes them to quantize.py, and to it alone.
    seen = []

    def note(script, options, log):
        seen.append((script, options))
        raise ValueError("stop")

    monkeypatch.setattr(quantization_scores, "run", note)
    (tmp_path / "w.safetensors").touch()
    call = ["--checkpoint", str(tmp_path / "w.safetensors"), "--output", str(tmp_path / "out"), "--mixed", "a.fc1", "b"]
    assert [main([*call, "--rows", row]) for row in ("mixed_w6a6", "ascend_mixed_w6a6", "paper_w6a6")] == [2, 2, 2]
    for _, options in seen[:2]:
        assert "--quantize.wider=[a.fc1,b]" in options and options[:2] == SIX
    assert ("--quantize.preset=ascend" in seen[1][1]) and not any("wider" in option for option in seen[2][1])


def test_everything_is_scored_by_its_first_mode():
    score, = SCORES["everything"].values()
    assert score({"modes": {"full": {"miou": 0.5}, "hierarchical": {"miou": 0.25}}}) == 0.5
