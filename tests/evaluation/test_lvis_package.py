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
"""LVIS AP on the curated LVIS labels against the package `lvis` itself, where it is installed (`pip install --no-deps
lvis`): it is made for a NumPy that still had np.float, which is put back for the test."""
import json
from pathlib import Path

import numpy as np
import pytest

from src.data.coco import CocoDataset
from src.data.coco_json import load_coco_json
from src.data.records import SkipLog
from src.evaluation.box_sources import read_labels
from src.evaluation.lvis_metrics import lvis_average_precision, read_federation
from src.inference.mask_records import coco_result, decode_mask, encode_masks

NAMES = {"ap": "AP", "ap50": "AP50", "ap75": "AP75", "ap_small": "APs", "ap_medium": "APm", "ap_large": "APl",
         "ap_rare": "APr", "ap_common": "APc", "ap_frequent": "APf", "ar": "AR@300"}


def made_detections(path, labels, rng):
    """Most labels moved by a few pixels; some doubled far away, under a category that the image lists as absent or as
    not exhaustive, or under any."""
    categories = [category["id"] for category in load_coco_json(path)["categories"]]
    federation = read_federation(path, labels)
    results = []
    for image_id, of_image in labels.items():
        listed = [*federation.negative[image_id], *federation.not_exhaustive[image_id]] or categories
        for label in of_image:
            mask = decode_mask(label["segmentation"])
            for chance, reach, category_id in ((0.9, 4, label["category_id"]), (0.3, 40, label["category_id"]),
                                               (0.3, 3, rng.choice(listed)), (0.1, 3, rng.choice(categories))):
                if rng.random() < chance:
                    moved = np.roll(mask, rng.integers(-reach, reach + 1, 2), (0, 1))
                    results.append(coco_result(image_id, category_id, encode_masks(moved[None])[0], rng.random()))
    return results, federation


@pytest.mark.data
@pytest.mark.parametrize("limit", [300, 8])
def test_scores_equal_those_of_the_package(data_root, tmp_path, monkeypatch, limit):
    lvis = pytest.importorskip("lvis")
    monkeypatch.setattr(np, "float", float, raising=False)
    path = Path(data_root, "eval", "coco_val2017", "lvis_val.json")
    dataset = CocoDataset([path], only_usable=False)
    image_ids = dataset.image_ids
    labels = read_labels(path, dataset, image_ids, SkipLog())
    results, federation = made_detections(path, labels, np.random.default_rng(0))
    (tmp_path / "results.json").write_text(json.dumps(results))

    truth = lvis.LVIS(str(path))
    evaluation = lvis.LVISEval(truth, lvis.LVISResults(truth, str(tmp_path / "results.json"), max_dets=limit), "segm")
    evaluation.params.img_ids = image_ids
    evaluation.params.max_dets = limit
    evaluation.run()
    scores = lvis_average_precision(image_ids, [label for of_image in labels.values() for label in of_image], results,
                                    federation, limit)
    expected = {name: evaluation.results[theirs.replace("300", str(limit))] for name, theirs in NAMES.items()}
    assert 0.1 < expected["ap"] < 0.9 and len(results) > 500  # a case with rights and wrongs
    assert scores == pytest.approx(expected, abs=1e-9)
