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
"""The evaluation protocols in the one shape that eval.py runs: docs/evaluation.md describes them.

A protocol is made from the evaluation's settings before any network is built, so that unusable input ends at once. It
has `settings`, what its predictions depend on beside the network and the labels; `evaluate(predictor, log)`, the scores
and what was chosen for them as one dict for results.json; `rows(scores)`, the table; and `write(folder, scores)`, which
writes further files and returns their paths.
"""
import functools
from dataclasses import replace
from typing import Any, Dict, List, NamedTuple

from src.checkpoint.file_hash import file_sha256
from src.data.coco import CocoDataset
from src.data.coco_json import load_coco_json
from src.data.records import SkipLog
from src.evaluation.box_prompted import evaluate_boxes, score_masks
from src.evaluation.box_sources import detected_boxes, ground_truth_boxes
from src.evaluation.coco_metrics import average_precision
from src.evaluation.everything import LIMITS, evaluate_everything
from src.evaluation.lvis_metrics import lvis_average_precision, read_federation
from src.evaluation.plots import plot_points
from src.evaluation.points import evaluate_points
from src.evaluation.results_file import read_results
from src.inference.everything import EverythingGenerator
from src.inference.everything_settings import NO_MASK_HINT
from src.inference.mask_records import write_json

GROUND_TRUTH = "ground_truth"
AS_IN_FILE = "as in the file"
MASK_CHOICES = {"confident": "highest predicted IoU of three masks", "single": "the single mask"}
MODES = {"full": {"hierarchical": False}, "hierarchical": {"hierarchical": True},
         "full_plain": {"hierarchical": False, "fast": False}}


class Inputs(NamedTuple):
    """What is evaluated: the pictures, the ids that count, their labels {image_id: [label]}, and what was left out."""
    dataset: CocoDataset
    image_ids: List[int]
    labels: Dict[int, List[Dict[str, Any]]]
    skipped: SkipLog


class BoxProtocol:
    """Boxes to masks, COCO's or LVIS's AP. `section` is the section `eval` of the configuration."""

    def __init__(self, section, inputs):
        self.inputs, self.section, self._results = inputs, section, []
        dataset, image_ids, labels, skipped = inputs
        detections = section.boxes != GROUND_TRUTH
        self._metric = average_precision
        if section.metric == "lvis":
            self._metric = functools.partial(_lvis, federation=read_federation(section.annotations, image_ids))
        self._prompts = (detected_boxes(section.boxes, dataset, image_ids, section.max_detections, skipped)
                         if detections else ground_truth_boxes(labels, dataset, skipped))
        self.settings = {"boxes": "detections" if detections else GROUND_TRUTH,
                         "boxes_sha256": file_sha256(section.boxes) if detections else None,
                         "max_detections": section.max_detections, "prompt_batch": section.prompt_batch,
                         "mask_choice": section.mask_choice}

    def evaluate(self, predictor, log):
        dataset, _, labels, skipped = self.inputs
        scores, self._results = evaluate_boxes(predictor, dataset, self._prompts, labels, log, skipped,
                                               self.section.prompt_batch, self.section.max_detections, self._metric,
                                               self.section.mask_choice)
        ground_truth = self.section.boxes == GROUND_TRUTH
        return {**scores, "metric": self.section.metric, "boxes_from": self.section.boxes,
                "mask_choice": MASK_CHOICES[self.section.mask_choice],
                "mask_score": "predicted IoU" if ground_truth else "the detection's score"}

    def rows(self, scores):
        digest = self.settings["boxes_sha256"]
        rows = [("boxes", scores["boxes_from"] + (f" (sha256 {digest[:12]})" if digest else "")),
                ("mask choice", scores["mask_choice"]), ("mask score", scores["mask_score"]),
                ("maxDets", f"{self.settings['max_detections']} of an image"
                            + (", all categories" if scores["metric"] == "lvis" else " and category")),
                ("images", scores["images"]), ("masks", scores["masks"])]
        metric = "LVIS" if scores["metric"] == "lvis" else "mask"
        for name, value in scores.items():
            if name.startswith("ap") or name == "ar":
                rows.append((f"{metric} {name[:2].upper()}{name[2:].replace('_', ' ')}", _share(value)))
        return [*rows, ("mean IoU", _share(scores["mean_iou"])), *_seconds_rows(scores["seconds_per_image"])]

    def write(self, folder, scores):
        write_json(folder / "masks.json", self._results)
        return [folder / "masks.json"]


class ResultsProtocol(BoxProtocol):
    """Masks that another program made, from the file `section.results`; nothing is predicted. Of which boxes they are,
    only the user can say, by `section.boxes`; how they were chosen, nobody."""

    def __init__(self, section, inputs):
        super().__init__(section, inputs)
        self._boxes_from = AS_IN_FILE if section.boxes == GROUND_TRUTH else section.boxes
        self.settings["mask_choice"] = AS_IN_FILE
        if section.boxes == GROUND_TRUTH:
            self.settings["boxes"] = AS_IN_FILE
        dataset, image_ids, labels, skipped = inputs
        self._records = read_results(section.results, dataset, image_ids, labels, skipped)

    def evaluate(self, predictor, log):
        scores, self._results = score_masks(self._records, self.inputs.labels, self.section.max_detections,
                                            self._metric)
        return {**scores, "metric": self.section.metric, "boxes_from": self._boxes_from, "mask_choice": AS_IN_FILE,
                "mask_score": AS_IN_FILE}


class PointsProtocol:
    """Points to mask: mean IoU for 1, 2, ... points. `section` is the section `eval` of the configuration."""

    def __init__(self, section, inputs):
        self.inputs = inputs
        self.settings = {"max_points": section.max_points, "first_mask": section.first_mask,
                         "feed_mask": section.feed_mask, "prompt_batch": section.prompt_batch}

    def evaluate(self, predictor, log):
        dataset, image_ids, labels, skipped = self.inputs
        return evaluate_points(predictor, dataset, image_ids, labels, log, skipped, **self.settings)

    def rows(self, scores):
        rows = [("images", scores["images"]), ("masks", scores["masks"]), ("first mask", self.settings["first_mask"])]
        for points, value in enumerate(scores["miou"] or [], 1):
            rows.append((f"mean IoU, {points} point{'s' * (points > 1)}", _share(value)))
        return [*rows, *_seconds_rows(scores["seconds_per_image"])]

    def write(self, folder, scores):
        if not scores["miou"]:
            return []
        plot_points({"this run": scores["miou"]}, folder / "points.png")
        return [folder / "points.png"]


class EverythingProtocol:
    """Segment everything in several modes side by side.

    Args:
        section: the section `eval` of the configuration.
        inputs: Inputs.
        everything: EverythingSettings of the full grid, the first mode; others differ as MODES says.

    Raises:
        ValueError: no mode, a plan of points beside the modes' own, or annotators apart, where annotations name none.
    """

    def __init__(self, section, inputs, everything):
        self.inputs = inputs
        self._settings = settings_of_modes(everything, section.modes)
        if not self._settings:
            raise ValueError(f"eval.modes is empty; name some of {', '.join(MODES)}")
        self._annotators = read_annotators(section.annotations) if section.annotators == "apart" else None
        self.settings = {"modes": list(section.modes), "annotators": section.annotators,
                         **{f"everything.{name}": value for name, value in vars(everything).items()
                            if name not in ("hierarchical", "output_mode")}}

    def evaluate(self, predictor, log):
        dataset, image_ids, labels, skipped = self.inputs
        generators = {mode: EverythingGenerator(predictor, settings) for mode, settings in self._settings.items()}
        return evaluate_everything(generators, dataset, image_ids, labels, log, skipped, self._annotators)

    def rows(self, scores):
        modes = scores["modes"]
        rows = [("images", scores["images"]), ("labels", scores["labels"]),
                ("", *modes, *(f"{mode} / {next(iter(modes))}" for mode in list(modes)[1:]))]
        for name, title in (("miou", "mean IoU of best mask"), *((f"ar{limit}", f"AR@{limit}") for limit in LIMITS)):
            rows.append((title, *_with_shares([modes[mode][name] for mode in modes], 4)))
        for name, title in (("masks", "masks"), ("points", "points decoded"), ("decoder_calls", "batches of points")):
            rows.append((title, *_with_shares([modes[mode][f"{name}_per_image"] for mode in modes], 1)))
        rows.append(("points saved", *(f"{scores['points_saved']:.1%}" for scores in modes.values())))
        rows.append(("largest logit, median", *("-" if scores["largest_logit"] is None else
                                                f"{scores['largest_logit']:.1f}" for scores in modes.values())))
        for phase in ("encode", "decode", "other", "total"):
            seconds = [modes[mode]["seconds_per_image"][phase]["mean"] for mode in modes]
            rows.append((f"seconds, {phase}", *_with_shares(seconds, 3)))
        if not any(mode["masks_per_image"] for mode in modes.values()):
            rows.append((NO_MASK_HINT,))
        return rows

    def write(self, folder, scores):
        return []


def settings_of_modes(everything, modes):
    """{mode: EverythingSettings} as MODES says, masks as run lengths; a ValueError for settings that name a plan of
    points of their own, as every mode has one."""
    if everything.hierarchical:
        raise ValueError(f"everything.hierarchical=true changes nothing: each mode ({', '.join(modes)}) has its own "
                         "plan of points; leave it out")
    return {mode: replace(everything, output_mode="coco_rle", **MODES[mode]) for mode in modes}


def read_annotators(path):
    """{annotation id: annotator} of a COCO-format JSON; a ValueError where an annotation names none, a text or an
    integer, or has no id."""
    annotations = load_coco_json(path)["annotations"]
    missing = [record.get("id") for record in annotations
               if type(record.get("id")) is not int or not isinstance(record.get("annotator"), (str, int))]
    if missing:
        raise ValueError(f"{path}: annotation {missing[0]} names no 'annotator' or has no id; set "
                         "eval.annotators=together")
    return {record["id"]: record["annotator"] for record in annotations}


def _lvis(image_ids, labels, results, max_detections, federation):
    return lvis_average_precision(image_ids, labels, results, federation, max_detections)


def _share(value):
    return "-" if value is None else f"{value:.3f}"


def _with_shares(values, digits):
    """Texts of the values, then of each later one as a share of the first."""
    if None in values:
        return ["-"] * (2 * len(values) - 1)
    shares = [f"{value / values[0]:.1%}" if values[0] else "-" for value in values[1:]]
    return [f"{value:.{digits}f}" for value in values] + shares


def _seconds_rows(seconds_per_image):
    return [(f"{phase} (median)", f"{1000 * seconds['median']:.1f} ms per image")
            for phase, seconds in (seconds_per_image or {}).items()]
