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
"""The click protocol with a "network" that paints squares where it is clicked."""
import json

import numpy as np
import pytest
from PIL import Image

from src.data.coco import CocoDataset
from src.data.records import SkipLog
from src.evaluation.box_sources import read_labels
from src.evaluation.points import click_rounds, evaluate_points, score_points
from src.evaluation.results_log import ResultsLog
from src.inference.mask_records import encode_masks


class Painter:
    """Stands in for a SamPredictor: 3 x 3 pixels around each foreground click, less those around background clicks.

    Of three masks the first is empty, the second the painting, the third all of the picture; `confident` is the one
    with the highest predicted IoU. A mask input is painted over. Calls are recorded.
    """

    def __init__(self, size=None, confident=1):
        self.size, self.confident, self.calls, self.images = size, confident, [], 0

    def set_image(self, image):
        self.size = image.shape[:2]
        self.images += 1

    def wait(self):
        pass

    def predict_low_res(self, point_coords, point_labels, mask_input, multimask_output, prompt_batch):
        self.calls.append((point_labels.copy(), mask_input, multimask_output, prompt_batch))
        paintings = np.zeros((len(point_coords), *self.size), np.float32)
        if mask_input is not None:
            paintings[mask_input[:, 0] > 0] = 1
        for painting, points, labels in zip(paintings, point_coords, point_labels):
            for (x, y), label in zip(points.astype(int), labels):
                if label >= 0:
                    painting[max(0, y - 1):y + 2, max(0, x - 1):x + 2] = label
        if not multimask_output:
            return paintings[:, None], np.full((len(paintings), 1), 0.5, np.float32)
        masks = np.stack([np.zeros_like(paintings), paintings, np.ones_like(paintings)], axis=1)
        predictions = np.full((len(paintings), 3), 0.1, np.float32)
        predictions[:, self.confident] = 0.9
        return masks, predictions

    def upscale(self, low_res_mask):
        return low_res_mask > 0


def rle(height, width, x0, y0, x1, y1):
    mask = np.zeros((1, height, width), bool)
    mask[0, y0:y1, x0:x1] = True
    return encode_masks(mask)[0]


BAND = rle(5, 12, 0, 0, 7, 5)  # 7 x 5 pixels at the left border


def test_rounds_by_hand():
    """The band's depth is 3 at (2..4, 2). After 3 x 3 pixels around (2, 2) columns 4..6 are missed: depth 2 at (5, 1),
    two from the painting, from column 7 and from the upper border. After that all that is missed has depth 1; the
    first is (0, 0), whose square adds 3 pixels."""
    ious, clicks = click_rounds(Painter((5, 12)), [BAND], max_points=3)
    assert clicks == [[[2, 2, 1], [5, 1, 1], [0, 0, 1]]]
    assert ious == [pytest.approx([9 / 35, 18 / 35, 21 / 35])]


@pytest.mark.parametrize("first_mask, confident, iou, next_clicked", [
    ("confident", 1, 9 / 35, [5, 1, 1]),
    ("confident", 2, 35 / 60, [9, 2, 0]),  # all of the picture: 5 x 5 wrong pixels at columns 7..11
    ("confident", 0, 0, [2, 2, 1]),
    ("oracle", 0, 35 / 60, [9, 2, 0]),
    ("single", 0, 9 / 35, [5, 1, 1])])
def test_which_mask_answers_the_first_point(first_mask, confident, iou, next_clicked):
    painter = Painter((5, 12), confident)
    ious, clicks = click_rounds(painter, [BAND], max_points=2, first_mask=first_mask)
    assert ious[0][0] == pytest.approx(iou) and clicks[0][1] == next_clicked
    assert [call[2] for call in painter.calls] == [first_mask != "single", False]


def test_all_labels_go_through_a_round_together_and_finished_ones_leave():
    """A 3 x 3 label is painted at once; it keeps IoU 1 and is not decoded again."""
    painter = Painter((5, 12))
    ious, clicks = click_rounds(painter, [BAND, rle(5, 12, 8, 1, 11, 4)], max_points=4, prompt_batch=7)
    assert ious[1] == [1, 1, 1, 1] and clicks[1] == [[9, 2, 1]]
    assert len(ious[0]) == len(clicks[0]) == 4
    assert [call[0].tolist() for call in painter.calls] == [
        [[1, -2, -2, -2], [1, -2, -2, -2]], [[1, 1, -2, -2]], [[1, 1, 1, -2]], [[1, 1, 1, 1]]]
    assert all(call[3] == 7 for call in painter.calls)
    alone = Painter((5, 12))
    click_rounds(alone, [rle(5, 12, 8, 1, 11, 4)], max_points=4)
    assert len(alone.calls) == 1


def test_masks_are_fed_back_only_when_asked_for():
    painter = Painter((5, 12))
    click_rounds(painter, [BAND], max_points=2)
    assert [call[1] for call in painter.calls] == [None, None]
    painter = Painter((5, 12), confident=2)
    click_rounds(painter, [rle(5, 12, 8, 1, 11, 4), BAND], max_points=2, feed_mask=True)
    assert painter.calls[0][1] is None
    assert painter.calls[1][1].shape == (2, 1, 5, 12) and (painter.calls[1][1] == 1).all()  # all was chosen


IMAGES = [{"id": number, "file_name": f"{number}.png", "height": 5, "width": 12} for number in (1, 2, 3)]


def annotation(annotation_id, image_id, segmentation, iscrowd=0):
    return {"id": annotation_id, "image_id": image_id, "category_id": 1, "segmentation": segmentation,
            "iscrowd": iscrowd}


@pytest.fixture
def annotations_path(tmp_path):
    """Image 1: the band and the 3 x 3 square; 2: the square, an empty mask and a crowd; 3: nothing."""
    (tmp_path / "images").mkdir()
    for record in IMAGES:
        Image.new("RGB", (12, 5)).save(tmp_path / "images" / record["file_name"])
    square = rle(5, 12, 8, 1, 11, 4)
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({"images": IMAGES, "categories": [{"id": 1}], "annotations": [
        annotation(1, 1, BAND), annotation(2, 1, square), annotation(3, 2, square),
        annotation(4, 2, rle(5, 12, 0, 0, 0, 0)), annotation(5, 2, BAND, iscrowd=1)]}))
    return path


def evaluate(painter, path, log_path, **options):
    dataset, skipped = CocoDataset([path], only_usable=False), SkipLog()
    labels = read_labels(path, dataset, dataset.image_ids, skipped)
    with ResultsLog(log_path, {}) as log:
        return evaluate_points(painter, dataset, dataset.image_ids, labels, log, skipped, **options), skipped


def test_scores_by_hand_and_continuing(annotations_path, tmp_path):
    painter = Painter()
    scores, skipped = evaluate(painter, annotations_path, tmp_path / "log", max_points=3)
    assert (scores["images"], scores["masks"], painter.images) == (3, 3, 2)
    assert scores["miou"] == pytest.approx([(9 / 35 + 2) / 3, (18 / 35 + 2) / 3, (21 / 35 + 2) / 3])
    assert dict(skipped.counts) == {"labels without a pixel": 1}
    assert set(scores["seconds_per_image"]) == {"encode", "rounds"}
    lines = (tmp_path / "log").read_text().splitlines()
    record = json.loads(lines[1])["masks"][0]
    assert (record["annotation_id"], record["clicks"]) == (1, [[2, 2, 1], [5, 1, 1], [0, 0, 1]])
    (tmp_path / "log").write_text("\n".join(lines[:2]) + "\n")  # cut off after image 1
    again = Painter()
    continued, _ = evaluate(again, annotations_path, tmp_path / "log", max_points=3)
    assert again.images == 1 and continued["miou"] == scores["miou"]


def test_unknown_choice_and_empty_labels_are_refused(annotations_path, tmp_path):
    with pytest.raises(ValueError, match=r"first_mask \('best'\) must be one of confident, oracle, single"):
        evaluate(Painter(), annotations_path, tmp_path / "log", first_mask="best")
    content = json.loads(annotations_path.read_text())
    content["annotations"] = [content["annotations"][3]]
    annotations_path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="no label with a pixel on 3 images; skipped 1: 1 labels without a pixel"):
        evaluate(Painter(), annotations_path, tmp_path / "log")


def test_no_masks_give_no_score():
    assert score_points([{"image_id": 1, "masks": [], "seconds": None}])["miou"] is None
