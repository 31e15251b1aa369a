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
"""Scores of the everything mode: by hand, against COCOeval, and with generators whose masks are known."""
import contextlib
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from src.data.coco import CocoDataset
from src.data.records import SkipLog
from src.evaluation import image_loop
from src.evaluation.box_sources import read_labels
from src.evaluation.everything import evaluate_everything, labels_by_annotator, score_mode
from src.evaluation.proposals import label_scores, recalls
from src.evaluation.results_log import ResultsLog
from src.inference.mask_records import encode_masks

HEIGHT, WIDTH = 40, 60


def rle(x0, y0, x1, y1):
    mask = np.zeros((1, HEIGHT, WIDTH), bool)
    mask[0, y0:y1, x0:x1] = True
    return encode_masks(mask)[0]


SQUARE, HALF, OTHER = rle(0, 0, 20, 20), rle(0, 0, 20, 10), rle(30, 0, 50, 20)


def test_best_iou_and_recall_by_hand():
    # The half has IoU 1/2 with the square (1 of 10 thresholds), the exact one 1; OTHER is not found.
    best, recall = label_scores([HALF, SQUARE], [0.9, 0.8], [SQUARE, OTHER], limits=(1, 2))
    assert best.tolist() == [1, 0]
    # The half comes first and takes the square at .50; at the other nine thresholds the exact mask does.
    assert recall.tolist() == [[pytest.approx(0.1), 0], [pytest.approx(1), 0]]
    # The score decides who comes first, not the order.
    assert label_scores([HALF, SQUARE], [0.8, 0.9], [SQUARE], (1, 2))[1].tolist() == [[1], [1]]


def test_a_mask_takes_one_label_only():
    """Two equal labels and one mask: a recall of one half, though both have a best IoU of 1."""
    best, recall = label_scores([SQUARE], [0.9], [SQUARE, SQUARE], (100,))
    assert best.tolist() == [1, 1] and recall.mean() == 0.5
    assert label_scores([SQUARE, SQUARE], [0.9, 0.9], [SQUARE, SQUARE], (100,))[1].mean() == 1


def test_nothing_proposed_or_labelled():
    best, recall = label_scores([], [], [SQUARE], (100, 1000))
    assert best.tolist() == [0] and recall.tolist() == [[0], [0]]
    best, recall = label_scores([SQUARE], [0.9], [], (100, 1000))
    assert best.shape == (0,) and recall.shape == (2, 0)


@pytest.mark.parametrize("seed", range(3))
def test_recall_equals_cocoevals_without_categories(seed):
    rng = np.random.default_rng(seed)

    def box():
        x, y = rng.integers(0, WIDTH - 12), rng.integers(0, HEIGHT - 12)
        return rle(x, y, x + rng.integers(6, 40), y + rng.integers(6, 30))

    labels = {image_id: [box() for _ in range(6)] for image_id in (1, 2, 3)}
    masks = {image_id: [box() for _ in range(120)] for image_id in (1, 2)}
    masks[3] = labels[3][:3] + [box() for _ in range(10)]
    scores = {image_id: rng.random(len(found)).round(1) for image_id, found in masks.items()}
    shares = [label_scores(masks[image_id], scores[image_id], labels[image_id], (10, 100)) for image_id in labels]
    ours = np.concatenate([recall for _, recall in shares], axis=1).mean(axis=1)

    truth = COCO()
    truth.dataset = {"images": [{"id": image_id, "height": HEIGHT, "width": WIDTH} for image_id in labels],
                     "categories": [{"id": 1}], "annotations": []}
    for image_id, found in labels.items():
        for segmentation in found:
            truth.dataset["annotations"].append(
                {"id": len(truth.dataset["annotations"]) + 1, "image_id": image_id, "category_id": 1, "iscrowd": 0,
                 "segmentation": segmentation, "area": 100})
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        results = truth.loadRes([
            {"image_id": image_id, "category_id": 1, "segmentation": dict(mask), "score": float(score)}
            for image_id in labels for mask, score in zip(masks[image_id], scores[image_id])])
        evaluation = COCOeval(truth, results, "segm")
        evaluation.params.useCats, evaluation.params.maxDets = 0, [10, 100]
        evaluation.evaluate()
        evaluation.accumulate()
    assert ours == pytest.approx(evaluation.eval["recall"][:, 0, 0].mean(axis=0), abs=1e-12)
    assert 0.05 < ours[0] < ours[1] < 1


def test_recall_at_the_edges_of_thresholds():
    assert recalls(np.array([[0.5], [0.95]]), (1, 2)).ravel().tolist() == [pytest.approx(0.1), 1]
    assert recalls(np.array([[0.499]]), (5,)).ravel().tolist() == [0]


def counts(points, calls, encode, decode, total, largest_logit=12.5):
    return SimpleNamespace(points=points, decoder_calls=calls, encoder_seconds=encode, decoder_seconds=decode,
                           seconds=total, grid_points=1024, largest_logit=largest_logit)


class Generator:
    """Stands in for an EverythingGenerator: always the same masks and counts. `events` names what all were asked."""

    def __init__(self, segmentations, counts_of_run, events):
        self.segmentations, self.counts, self.events = segmentations, counts_of_run, events

    def warm_up(self, image):
        assert image.shape == (HEIGHT, WIDTH, 3)
        self.events.append("warm up")

    def run(self, image):
        assert image.shape == (HEIGHT, WIDTH, 3)
        self.events.append("run")
        return [{"segmentation": segmentation, "predicted_iou": 0.9, "stability_score": 0.9}
                for segmentation in self.segmentations], self.counts


def generators():
    events = []
    return {"full": Generator([SQUARE, OTHER], counts(1024, 16, 0.5, 2.0, 3.0), events),
            "hierarchical": Generator([HALF], counts(256, 5, 0.5, 0.5, 1.25, None), events)}


@pytest.fixture
def annotations_path(tmp_path):
    """Image 1 is labelled by two people: A saw both shapes, B the square only. Image 2 has A's crowd and square."""
    (tmp_path / "images").mkdir()
    images = [{"id": number, "file_name": f"{number}.png", "height": HEIGHT, "width": WIDTH} for number in (1, 2)]
    for record in images:
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "images" / record["file_name"])
    rows = [(1, 1, SQUARE, 0, "A"), (2, 1, OTHER, 0, "A"), (3, 1, SQUARE, 0, "B"), (4, 2, SQUARE, 0, "A"),
            (5, 2, OTHER, 1, "A")]
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({"images": images, "categories": [{"id": 1}], "annotations": [
        {"id": number, "image_id": image_id, "category_id": 1, "segmentation": segmentation, "iscrowd": iscrowd,
         "annotator": annotator} for number, image_id, segmentation, iscrowd, annotator in rows]}))
    return path


def evaluate(modes, path, log_path, annotators=None):
    dataset, skipped = CocoDataset([path], only_usable=False), SkipLog()
    labels = read_labels(path, dataset, dataset.image_ids, skipped)
    with ResultsLog(log_path, {}) as log:
        return evaluate_everything(modes, dataset, dataset.image_ids, labels, log, skipped, annotators)


def test_modes_side_by_side(annotations_path, tmp_path):
    scores = evaluate(generators(), annotations_path, tmp_path / "log")
    assert (scores["images"], scores["labels"]) == (2, 4)
    full, hierarchical = scores["modes"]["full"], scores["modes"]["hierarchical"]
    assert full["miou"] == 1
    # Of image 1's two equal labels the square's mask takes one: 3 of 4 labels.
    assert full["ar100"] == full["ar1000"] == pytest.approx(3 / 4)
    assert hierarchical["miou"] == pytest.approx((0.5 + 0 + 0.5 + 0.5) / 4)
    assert hierarchical["ar1000"] == pytest.approx((0.1 + 0.1) / 4)
    assert (full["masks_per_image"], full["points_per_image"], full["decoder_calls_per_image"]) == (2, 1024, 16)
    assert (full["points_saved"], full["largest_logit"]) == (0, 12.5)
    assert (hierarchical["points_saved"], hierarchical["largest_logit"]) == (0.75, None)
    assert hierarchical["seconds_per_image"]["other"] == {"mean": 0.25, "median": 0.25}
    assert hierarchical["seconds_per_image"]["total"]["mean"] == 1.25


def test_annotators_are_averaged(annotations_path, tmp_path):
    scores = evaluate(generators(), annotations_path, tmp_path / "log",
                      {1: "A", 2: "A", 3: "B", 4: "A", 5: "A"})["modes"]
    # Weights 1/2 for image 1's three labels, 1 for image 2's. B's square is matched apart from A's.
    assert scores["full"]["ar100"] == 1
    assert scores["hierarchical"]["miou"] == pytest.approx((0.25 + 0 + 0.25 + 0.5) / 2.5)


def test_groups_of_labels():
    labels = [{"annotation_id": number, "segmentation": number, "iscrowd": number == 4} for number in (1, 2, 3, 4)]
    assert labels_by_annotator(labels) == [[1, 2, 3]]
    assert labels_by_annotator(labels, {1: "A", 2: "B", 3: "A", 4: "B"}) == [[1, 3], [2]]
    assert labels_by_annotator(labels[3:]) == []


def test_all_modes_are_warm_before_the_first_image_and_a_second_run_continues(annotations_path, tmp_path):
    modes = generators()
    first = evaluate(modes, annotations_path, tmp_path / "log")
    assert modes["full"].events == ["warm up"] * 2 + ["run"] * 4
    lines = (tmp_path / "log").read_text().splitlines()
    (tmp_path / "log").write_text("\n".join(lines[:2]) + "\n")
    modes = generators()
    assert evaluate(modes, annotations_path, tmp_path / "log") == first
    assert modes["full"].events == ["warm up"] * 2 + ["run"] * 2
    done = generators()
    assert evaluate(done, annotations_path, tmp_path / "log") == first and done["full"].events == []


def test_a_bar_counts_the_images(annotations_path, tmp_path, monkeypatch):
    bars = []

    class Bar(image_loop.tqdm):
        def __init__(self, *arguments, disable, **options):
            assert disable is None  # shown on a terminal
            super().__init__(*arguments, **options, file=io.StringIO())
            bars.append(self)

    monkeypatch.setattr(image_loop, "tqdm", Bar)
    evaluate(generators(), annotations_path, tmp_path / "log")
    assert [(bar.desc, bar.n, bar.total, bar.unit) for bar in bars] == [("everything", 2, 2, "image")]


def test_images_without_labels_count_for_the_costs():
    seconds = {"encode": 1.0, "decode": 2.0, "other": 0.0, "total": 3.0}
    record = {"masks": 4, "points": 16, "decoder_calls": 1, "points_saved": 0.25, "largest_logit": 9.0, "groups": [],
              "seconds": seconds}
    scores = score_mode([record, {**record, "masks": 8, "points_saved": 0.75, "largest_logit": 5.0},
                         {**record, "masks": 6, "points_saved": 0.5, "largest_logit": None}])
    assert (scores["points_saved"], scores["largest_logit"]) == (0.5, 7.0)
    assert scores["miou"] is None and scores["ar100"] is None and scores["masks_per_image"] == 6
