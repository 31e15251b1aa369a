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
"""The weights that ship: what they are, that they are taken by default, and that the stated scores come out."""
import json
import re
from pathlib import Path

import numpy as np
import pytest

from src.checkpoint import read_metadata, read_weights
from src.checkpoint.file_hash import file_sha256
from src.inference.chosen_checkpoint import shipped_checkpoint
from src.inference.mask_records import decode_mask
from tests.root_scripts import run

ROOT = Path(__file__).resolve().parent.parent
CARD = (ROOT / "checkpoints" / "README.md").read_text(encoding="utf-8")


def test_the_card_describes_the_file():
    path = shipped_checkpoint()
    assert f"`{file_sha256(path)}`" in CARD and f"`{path.name}`" in CARD
    assert path.stat().st_size < 15e6
    metadata = read_metadata(path)
    assert metadata.keys() == {"variant", "image_size"}  # nothing of the machine it was trained on
    assert f"`{metadata['variant']}`" in CARD and f"{metadata['image_size']} px" in CARD
    numbers = sum(array.size for name, array in read_weights(path).items() if "running_" not in name)
    assert numbers < 3e6 and f"{numbers / 1e6:.2f} M" in CARD


def test_the_demo_finds_the_animals(monkeypatch, tmp_path, capsys):
    """Boxes of COCO's labels, whose areas are 11,257 and 2,149 pixels of the 640 x 427 photograph."""
    code, out, err = run(monkeypatch, capsys, "demo.py", "--image", ROOT / "examples" / "cattle.jpg", "--box",
                         "106,250,283,385", "--box", "325,310,395,353", "--output", tmp_path / "out.png",
                         "--json", tmp_path / "out.json", "--device", "cpu")
    assert code == 0, err
    found = json.loads((tmp_path / "out.json").read_text())["masks"]
    masks = [decode_mask(item["segmentation"]) for item in found]
    for mask, (y, x), label_area in zip(masks, ((300, 190), (335, 360)), (11257, 2149)):
        assert mask[y, x] and 0.6 * label_area < mask.sum() < 1.7 * label_area  # the first box: 2.1
    assert not (masks[0] & masks[1]).any()
    assert out.count("(best): predicted IoU") == 2


@pytest.mark.data
def test_eval_gives_the_score_of_the_card(monkeypatch, capsys, tmp_path, data_root):
    """Boxes of the labels on COCO val2017's pictures: mean IoU and AP as the card states them."""
    stated = re.search(r"\| coco_val2017 \| 122 \| 931 \| ([\d.]+) / ([\d.]+) \|", CARD)
    code, _, err = run(monkeypatch, capsys, "eval.py", f"--eval.output_dir={tmp_path}", "--runtime.device=cpu",
                       f"--eval.annotations={data_root / 'eval' / 'coco_val2017' / 'instances.json'}")
    assert code == 0, err
    scores = json.loads((tmp_path / "results.json").read_bytes())
    assert (scores["images"], scores["masks"]) == (122, 931)
    assert np.round([scores["mean_iou"], scores["ap"]], 3).tolist() == [float(text) for text in stated.groups()]
    assert scores["mean_iou"] > 0.5
