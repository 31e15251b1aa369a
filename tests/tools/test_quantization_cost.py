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
"""tools/quantization_cost.py: MACs by hand, the rules of the table, and the table of docs/quantization.md."""
from pathlib import Path

import pytest

from src.modeling.build_sam import build_sam
from tools.quantization_cost import Counted, main

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def small():
    return Counted(build_sam("nano", image_size=64, seed=0))


def test_macs_by_hand(small):
    """The first convolution: 32 x 32 places, 3 x 3 of 3 channels, 32 channels. The neck's last: 4 x 4 places,
    3 x 3 of 128, 128. A click in two slots: 5 tokens of its own and 2 of the slots read 16 places of 8 heads of 8."""
    assert small.macs["image_encoder.patch_embed.seq.0"] == 32 * 32 * 27 * 32
    assert small.macs["image_encoder.neck.2"] == 16 * 9 * 128 * 128
    scores = "mask_decoder.transformer.layers.0.cross_attn_token_to_image.scores"
    assert small.macs[scores] == small.macs[scores.replace("scores", "weighted_sum")] == 7 * 16 * 64
    assert small.macs.get("prompt_encoder.mask_downscaling.0", 0) == 0  # no mask prompt


def test_the_rules(small):
    """b / 32 of a MAC and b * b bit operations where it is quantized, 1 and 32 * 32 where not."""
    costs = dict(small.costs())
    assert len(costs) == 9
    whole = costs["float32"]
    assert whole.macs == sum(small.macs.values()) and whole.bytes == small.parameter_bytes
    kinds = {product.name: product.kind for product in small.products}
    convolutions = sum(macs for name, macs in small.macs.items() if kinds[name] == "conv")
    attention = sum(macs for name, macs in small.macs.items()
                    if kinds[name] == "matmul" and name.startswith("mask_decoder"))
    phases = small.macs["prompt_encoder.pe_layer.matmul"]  # always float
    for bits in (8, 6):
        for left, name in ((0, ""), (attention, ", decoder's attention float"), (convolutions, ", convolutions float"),
                           (convolutions + attention, ", convolutions and decoder's attention float")):
            cost, kept = costs[f"W{bits}A{bits}{name}"], left + phases
            assert cost.scaled_macs == pytest.approx(kept + (whole.macs - kept) * bits / 32)
            assert cost.bit_operations == pytest.approx(kept * 1024 + (whole.macs - kept) * bits**2)
            assert cost.quantized_share == pytest.approx(1 - kept / whole.macs)
    assert costs["W6A6"].bytes < costs["W8A8"].bytes < costs["W8A8, convolutions float"].bytes < whole.bytes
    assert costs["W8A8"].bytes == costs["W8A8, decoder's attention float"].bytes  # it has no weights


def test_tinyvit_5m_at_1024_px_is_the_table_of_the_documents(capsys):
    """39.3 G multiply-accumulates."""
    main([])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("| float32 |") and round(float(lines[2].split("|")[3]), 1) == 39.3
    assert "\n".join(lines) in (ROOT / "docs" / "quantization.md").read_text(encoding="utf-8")
    assert len(lines) == 2 + 9
