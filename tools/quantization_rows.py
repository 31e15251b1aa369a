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
"""What `tools/quantization_scores.py` compares: ways to quantize, which of them builds on which, and the scores."""
from pathlib import Path

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
# What is in the place of a preset's own codes behind GELU and softmax: measured against both.
ALTERNATIVES = ("offset", "unsigned", "log2")
# Without zero points, for which tools for Ascend have no room.
SYMMETRIC = [IMPROVEMENTS[name][1] for name in ("reparametrise", "bias", "gptq")]
INT8 = ["--config", str(Path(__file__).resolve().parent.parent / "configs" / "quantize_int8.yaml")]
# (folder, name, options of quantize.py; None: float)
ROWS = (
    ("float", "float32", None),
    ("paper_w8a8", "W8A8, paper", []),
    ("ascend_w8a8", "W8A8, ascend", ASCEND),
    ("all_w8a8", "W8A8, paper, all improvements", ALL),
    ("ascend_all_w8a8", "W8A8, ascend, improvements without zero points", [*ASCEND, *SYMMETRIC]),
    ("int8_w8a8", "W8A8, ascend, depthwise convolutions float", INT8),
    ("paper_w6a6", "W6A6, paper", SIX),
    ("ascend_w6a6", "W6A6, ascend", [*SIX, *ASCEND]),
    ("ascend_all_w6a6", "W6A6, ascend, improvements without zero points", [*SIX, *ASCEND, *SYMMETRIC]),
    *((f"ascend_{name}_w6a6", f"W6A6, ascend, {IMPROVEMENTS[name][0]}", [*SIX, *ASCEND, IMPROVEMENTS[name][1]])
      for name in ALTERNATIVES),
    *((f"{name}_w6a6", f"W6A6, paper, {title}", [*SIX, option]) for name, (title, option) in IMPROVEMENTS.items()),
    ("all_w6a6", "W6A6, paper, all improvements", [*SIX, *ALL]),
    ("mixed_w6a6", "W6A6, paper, some layers W8A8", SIX),
    ("ascend_mixed_w6a6", "W6A6, ascend, some layers W8A8", [*SIX, *ASCEND]),
)
NAMES = {row: name for row, name, _ in ROWS}
MIXED = ("mixed_w6a6", "ascend_mixed_w6a6")  # with --quantize.wider
# The row that another builds on, whose scores its gain is taken against.
BASES = {"all_w8a8": "paper_w8a8", "ascend_all_w8a8": "ascend_w8a8", "int8_w8a8": "ascend_w8a8",
         **{f"{name}_w6a6": "paper_w6a6" for name in (*IMPROVEMENTS, "all", "mixed")},
         **{f"ascend_{name}_w6a6": "ascend_w6a6" for name in (*ALTERNATIVES, "all", "mixed")}}
SCORES = {  # protocol -> {title: score of its results.json}
    "box": {"mean IoU, boxes": lambda scores: scores["mean_iou"], "mask AP": lambda scores: scores["ap"]},
    "points": {"mean IoU, one point": lambda scores: scores["miou"][0],
               "mean IoU, last point": lambda scores: scores["miou"][-1]},
    "everything": {"mean IoU, everything": lambda scores: next(iter(scores["modes"].values()))["miou"]},
}
