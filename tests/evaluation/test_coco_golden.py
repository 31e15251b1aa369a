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
"""COCO AP of our whole path (reading, re-encoding, scoring) against pycocotools run on the files by itself.

Detections are made from real labels: moved by a few pixels, of the wrong category, invented. Beside them stand the
example results that cocoapi publishes; they need the annotations of val2014, which are not stored here.
"""
import contextlib
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from src.data.coco import CocoDataset
from src.data.records import SkipLog
from src.evaluation.box_prompted import score_masks
from src.evaluation.box_sources import read_labels
from src.evaluation.results_file import read_results
from src.inference.mask_records import coco_result, encode_masks

STATS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")


def made_detections(truth, rng):
    """COCO results: nine of ten labels moved by up to six pixels, some of them doubled in a wrong category or place."""
    results, categories = [], truth.getCatIds()
    for annotation in truth.loadAnns(truth.getAnnIds()):
        mask = truth.annToMask(annotation)
        for chance, reach, category_id in ((0.9, 6, annotation["category_id"]), (0.3, 40, annotation["category_id"]),
                                           (0.2, 2, int(rng.choice(categories)))):
            if rng.random() < chance:
                moved = np.roll(mask, rng.integers(-reach, reach + 1, 2), (0, 1))
                results.append(coco_result(annotation["image_id"], category_id, encode_masks(moved[None])[0],
                                           round(float(rng.random()), 3)))
    return results


@pytest.mark.data
@pytest.mark.parametrize("limit", [100, 5])
def test_scores_equal_cocoevals_own(data_root, tmp_path, limit):
    path = data_root / "eval" / "coco_val2017" / "instances.json"
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        results = made_detections(truth, np.random.default_rng(0))
        (tmp_path / "results.json").write_text(json.dumps(results))
        direct = COCOeval(truth, truth.loadRes(str(tmp_path / "results.json")), "segm")
        direct.params.maxDets = [1, 3, limit]
        direct.evaluate()
        direct.accumulate()
    precision = direct.eval["precision"][..., 2]

    def mean(part):
        return part[part > -1].mean()

    expected = [mean(precision[..., 0]), mean(precision[0, ..., 0]), mean(precision[5, ..., 0]),
                *(mean(precision[..., area]) for area in (1, 2, 3))]
    assert 0.2 < expected[0] < 0.8 and len(results) > 1000  # a case with rights and wrongs

    dataset = CocoDataset([path], only_usable=False)
    image_ids, skipped = dataset.image_ids, SkipLog()
    labels = read_labels(path, dataset, image_ids, skipped)
    records = read_results(tmp_path / "results.json", dataset, image_ids, labels, skipped)
    assert sum(len(record["masks"]) for record in records) == len(results)
    scores, _ = score_masks(records, labels, limit)
    assert [scores[name] for name in STATS] == pytest.approx(expected, abs=1e-12)


def val2014(folder):
    """COCO's annotations of val2014, or faster_coco_eval's extract of the 100 images (tests/dataset/cocoapi there)."""
    found = [path for path in (Path(folder, "instances_val2014_100.json"), Path(folder, "instances_val2014.json"))
             if path.is_file()]
    assert found, f"TINYSAM_COCOAPI={folder}: neither instances_val2014_100.json nor instances_val2014.json there"
    return found[0]


@pytest.mark.data
def test_published_example_results_give_the_published_scores():
    # github.com/cocodataset/cocoapi: results/instances_val2014_fakesegm100_results.json on the first 100 images of
    # val2014 by id. results/val2014_fake_eval_res.txt says 0.320 / 0.562 / 0.299 / 0.387 / 0.310 / 0.327; the digits
    # are those of github.com/MiXaiLL76/faster_coco_eval, tests/test_cocoapi_fake_data.py.
    folder = os.environ.get("TINYSAM_COCOAPI")
    if not folder:
        pytest.skip("needs TINYSAM_COCOAPI: a folder with cocoapi's instances_val2014_fakesegm100_results.json and "
                    "COCO's instances_val2014.json, or faster_coco_eval's instances_val2014_100.json")
    path, skipped = val2014(folder), SkipLog()
    dataset = CocoDataset([path], only_usable=False)
    image_ids = sorted(dataset.image_ids)[:100]
    labels = read_labels(path, dataset, image_ids, skipped)
    results = Path(folder, "instances_val2014_fakesegm100_results.json")
    scores, _ = score_masks(read_results(results, dataset, image_ids, labels, skipped), labels, 100)
    published = (0.3195452758576433, 0.5622883972521636, 0.29892653412086784, 0.3873740315997838, 0.31018272403369485,
                 0.3269339071005138)
    assert [scores[name] for name in STATS] == pytest.approx(published, abs=1e-10)
