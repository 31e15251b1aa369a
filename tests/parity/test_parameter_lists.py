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
"""Names and shapes of every parameter of the released networks, against what tools/make_parameter_lists.py found in the
PyTorch packages: a hash of "name shape" lines for each part, so neither weights nor torch are needed.
"""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from src.checkpoint import torch_name
from src.modeling.build_sam import build_sam
from tools.make_parameter_lists import NETWORKS, summaries

HERE = Path(__file__).parent
STORED = HERE / "parameter_lists.json"
LISTS = json.loads(STORED.read_text(encoding="utf-8"))


def shapes_of(variant):
    """{name as released: shape} of our network, weights not drawn."""
    return {torch_name(parameter.name): tuple(parameter.shape)
            for parameter in build_sam(variant, draw_weights=False).get_parameters()}


@pytest.mark.parametrize("variant", NETWORKS)
def test_names_and_shapes_are_those_of_the_released_network(variant):
    assert summaries(shapes_of(variant)) == LISTS[variant]


def test_sizes_are_the_published_ones():
    # Parameters that learn: all but the 256 numbers of the prompt encoder's fixed matrix.
    sizes = {name: sum(part["numbers"] for part in parts.values()) - 256 for name, parts in LISTS.items()}
    assert (sizes["vit_b"], sizes["vit_l"], sizes["vit_h"]) == (93735472, 312342832, 641090608)


@pytest.mark.parametrize("change", [
    lambda shapes: shapes.pop("image_encoder.blocks.3.attn.qkv.bias"),
    lambda shapes: shapes.update({"image_encoder.blocks.3.attn.qkv.bias": (2304, 1)}),
    lambda shapes: shapes.update({"image_encoder.blocks.3.attn.qkv.biases":
                                  shapes.pop("image_encoder.blocks.3.attn.qkv.bias")}),
    # a global block with the table of a window
    lambda shapes: shapes.update({f"image_encoder.blocks.{a}.attn.rel_pos_h": shapes[f"image_encoder.blocks.{b}.attn."
                                                                                    "rel_pos_h"] for a, b in [(2, 3)]}),
])
def test_any_other_name_or_shape_is_seen(change):
    shapes = shapes_of("vit_b")
    change(shapes)
    assert summaries(shapes) != LISTS["vit_b"]


@pytest.mark.reference
def test_stored_lists_are_what_the_packages_give(tmp_path):
    # TINYSAM_REFERENCE_PYTHON: an interpreter with torch, where this one has none
    python = os.environ.get("TINYSAM_REFERENCE_PYTHON", sys.executable)
    if subprocess.run([python, "-c", "import torch"], capture_output=True, timeout=300).returncode:
        pytest.skip("needs torch, segment-anything and mobilesam-mirror here or in TINYSAM_REFERENCE_PYTHON")
    tool, written = HERE.parents[1] / "tools" / "make_parameter_lists.py", tmp_path / "new.json"
    made = subprocess.run([python, str(tool), "--output", str(written)], capture_output=True, text=True, timeout=600)
    assert made.returncode == 0, made.stderr
    assert json.loads(written.read_text()) == LISTS
