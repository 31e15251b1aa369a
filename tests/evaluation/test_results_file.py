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
"""Masks of a COCO results JSON as records to score, and eval.py with eval.results."""
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.data.coco import CocoDataset
from src.data.records import SkipLog
from src.evaluation.box_prompted import score_masks
from src.evaluation.box_sources import read_labels
from src.evaluation.results_file import read_results
from src.inference.mask_records import encode_masks

ROOT = Path(__file__).resolve().parent.parent.parent


def square(x0, y0, x1, y1):
    mask = np.zeros((20, 30), bool)
    mask[y0:y1, x0:x1] = True
    return encode_masks(mask[None])[0]


@pytest.fixture()
def labels_file(tmp_path):
    """Two images of 30 x 20 pixels; label 5 on the first is columns 2..11, rows 3..12, and 6 on the second."""
    (tmp_path / "images").mkdir()
    for number in (1, 2):
        Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "images" / f"{number}.png")
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({
        "images": [{"id": number, "file_name": f"{number}.png", "height": 20, "width": 30} for number in (1, 2)],
        "annotations": [{"id": 4 + number, "image_id": number, "category_id": 7, "bbox": [2, 3, 10, 10],
                         "segmentation": square(2, 3, 12, 13)} for number in (1, 2)],
        "categories": [{"id": 7, "name": "square"}]}))
    return path


def read(labels_file, entries):
    path = labels_file.parent / "results.json"
    path.write_text(json.dumps(entries))
    dataset, skipped = CocoDataset([labels_file], only_usable=False), SkipLog()
    labels = read_labels(labels_file, dataset, [1, 2], skipped)
    return read_results(path, dataset, [1, 2], labels, skipped), labels, skipped


def test_values_and_what_is_left_out(labels_file):
    half = {"image_id": 1, "category_id": 7, "segmentation": square(2, 3, 12, 8), "score": 0.5, "annotation_id": 5,
            "predicted_iou": 0.25}
    records, labels, skipped = read(labels_file, [
        half, {**half, "annotation_id": 6}, {**half, "image_id": 3}, {"image_id": 1, "score": 1},
        {**half, "segmentation": {"size": [30, 20], "counts": half["segmentation"]["counts"]}}, 5])
    assert [(record["image_id"], len(record["masks"])) for record in records] == [(1, 2), (2, 0)]
    assert records[0]["masks"] == [
        {"category_id": 7, "score": 0.5, "predicted_iou": 0.25, "annotation_id": 5,
         "segmentation": half["segmentation"]},
        {"category_id": 7, "score": 0.5, "predicted_iou": 0.25, "annotation_id": None,  # 6 is a label of image 2
         "segmentation": half["segmentation"]}]
    assert dict(skipped.counts) == {"masks of images that do not count": 1, "entries that are no masks": 2,
                                    "entries with a damaged mask": 1}
    scores, _ = score_masks(records, labels)
    # 50 of 100 pixels for label 5. AP: IoU 0.5 passes the first of ten thresholds; one of two labels is found at
    # precision 1, which covers recalls 0 .. 0.50: 51 of 101.
    assert scores["mean_iou"] == 0.5
    assert scores["ap"] == pytest.approx(51 / 101 / 10)


def test_values_that_are_no_numbers_are_counted(labels_file):
    good = {"image_id": 1, "category_id": 7, "segmentation": square(2, 3, 12, 8), "score": 0.5, "annotation_id": 5}
    odd = [{"category_id": float("inf")}, {"category_id": [7]}, {"score": 10**400}, {"score": "high"},
           {"predicted_iou": 10**400}, {"predicted_iou": "high"}, {"predicted_iou": None}, {"annotation_id": [5]},
           {"score": float("inf")}, {"score": float("nan")}, {"predicted_iou": float("nan")}]
    records, _, skipped = read(labels_file, [good, *({**good, **change} for change in odd)])
    assert [len(record["masks"]) for record in records] == [1, 0]
    assert dict(skipped.counts) == {"entries that are no masks": 8, "masks whose score is no number": 3}


@pytest.mark.parametrize("content, reason", [
    ('{"a": 1}', "results.json: holds a dict, not a COCO results list of masks"),
    ("[1", "results.json: not a JSON file (Expecting"),
    ("[]", "results.json: no usable mask among 0 entries; skipped nothing")])
def test_foreign_files_are_refused(labels_file, content, reason):
    path = labels_file.parent / "results.json"
    path.write_text(content)
    dataset = CocoDataset([labels_file], only_usable=False)
    labels = read_labels(labels_file, dataset, [1, 2], SkipLog())
    with pytest.raises(ValueError) as error:
        read_results(path, dataset, [1, 2], labels, SkipLog())
    assert reason in str(error.value)
    with pytest.raises(ValueError, match=r"gone\.json: no such file; eval\.results is a COCO results JSON"):
        read_results(labels_file.parent / "gone.json", dataset, [1, 2], labels, SkipLog())


def test_eval_scores_a_file_without_a_network(labels_file):
    read(labels_file, [{"image_id": number, "category_id": 7, "segmentation": square(2, 3, 12, 13), "score": 1,
                        "annotation_id": 4 + number} for number in (1, 2)])
    folder = labels_file.parent
    arguments = [f"--eval.results={folder / 'results.json'}", f"--eval.annotations={labels_file}",
                 f"--eval.output_dir={folder / 'out'}", "--runtime.device=cpu"]
    done = subprocess.run([sys.executable, "eval.py", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    scores = json.loads((folder / "out" / "results.json").read_text())
    assert (scores["ap"], scores["mean_iou"], scores["masks"]) == (pytest.approx(1), 1, 2)
    assert "(masks of a file)" in done.stdout
    done = subprocess.run([sys.executable, "eval.py", *arguments, "--protocol", "points"], cwd=ROOT,
                          capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (2, "eval.py: eval.results goes with protocol box, not points")
