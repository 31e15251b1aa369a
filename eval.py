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
"""Evaluate a checkpoint: box-prompted instance segmentation on a COCO-format set (arXiv 2312.13789, section 4).

    python eval.py --eval.checkpoint=output/train/student.ckpt --eval.annotations=data/val/instances.json
    python eval.py --config configs/eval_coco.yaml --eval.boxes=vitdet_h_boxes.json --eval.checkpoint=tinysam.ckpt

Prompts with the labels' own boxes (eval.boxes=ground_truth) or with a detector's. Prints COCO mask AP, mean IoU and the
time per image; writes eval.output_dir/results.json (scores, settings, versions), masks.json (COCO results) and
per_image.jsonl, from which an evaluation that was cut off continues.
"""
import shlex
import sys
from pathlib import Path

from src.checkpoint import read_metadata
from src.config import load_config
from src.data.coco import CocoDataset
from src.data.records import SkipLog
from src.evaluation.box_prompted import evaluate_boxes
from src.evaluation.box_sources import detected_boxes, ground_truth_boxes, read_labels
from src.evaluation.results_log import ResultsLog, file_sha256
from src.inference.mask_records import write_json
from src.inference.predictor import load_predictor, shipped_checkpoint
from src.runtime import init_runtime, versions

GROUND_TRUTH = "ground_truth"


def open_predictor(config):
    """(path of the checkpoint, its predictor); variant and size as the checkpoint says, else as the model section."""
    checkpoint = config.eval.checkpoint or config.model.student_checkpoint or str(shipped_checkpoint())
    metadata = read_metadata(checkpoint)
    return checkpoint, load_predictor(checkpoint, metadata.get("variant") or config.model.student,
                                      metadata.get("image_size") or config.model.image_size)


def settings_of(config, checkpoint, predictor, device):
    """Everything the masks depend on; files by their hash."""
    section = config.eval
    detections = section.boxes != GROUND_TRUTH
    return {"protocol": section.protocol, "checkpoint_sha256": file_sha256(checkpoint), "variant": predictor.variant,
            "image_size": predictor.image_size, "annotations_sha256": file_sha256(section.annotations),
            "boxes": "detections" if detections else GROUND_TRUTH,
            "boxes_sha256": file_sha256(section.boxes) if detections else None,
            "max_detections": section.max_detections, "prompt_batch": section.prompt_batch,
            "device": device}


def print_table(scores, skipped):
    def line(name, value, unit=""):
        print(f"  {name:<24}{'-' if value is None else value}{unit}")

    for name in ("images", "masks"):
        line(name, scores[name])
    for name in ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "mean_iou"):
        title = "mean IoU" if name == "mean_iou" else f"mask AP{name[2:].replace('_', ' ')}"
        line(title, None if scores[name] is None else f"{scores[name]:.3f}")
    for phase, seconds in (scores["seconds_per_image"] or {}).items():
        line(f"{phase} (median)", f"{1000 * seconds['median']:.1f}", " ms per image")
    print(f"  {skipped}")


def main(argv=None):
    config = load_config(argv, usage=__doc__)
    section = config.eval
    if not section.annotations:
        raise ValueError("eval.annotations is empty; give a COCO-format JSON: --eval.annotations=FILE")
    dataset = CocoDataset([section.annotations], [section.image_root] if section.image_root else (), only_usable=False)
    skipped = SkipLog()
    skipped.merge(dataset.skipped)
    image_ids = dataset.image_ids[:section.limit or None]
    labels = read_labels(section.annotations, dataset, image_ids, skipped)
    if section.boxes == GROUND_TRUTH:
        prompts = ground_truth_boxes(labels, dataset, skipped)
    else:
        prompts = detected_boxes(section.boxes, dataset, image_ids, section.max_detections, skipped)

    runtime = init_runtime(config.runtime)
    checkpoint, predictor = open_predictor(config)
    settings = settings_of(config, checkpoint, predictor, runtime.device)
    output = Path(section.output_dir)
    with ResultsLog(output / "per_image.jsonl", settings) as log:
        scores, results = evaluate_boxes(predictor, dataset, prompts, labels, log, skipped, section.prompt_batch,
                                         section.max_detections)
    print(f"{checkpoint} ({predictor.variant}, {predictor.image_size} px); {section.annotations}; {section.boxes}")
    print_table(scores, skipped)
    write_json(output / "masks.json", results)
    write_json(output / "results.json", {
        **scores, "checkpoint": checkpoint, "annotations": section.annotations, "boxes_from": section.boxes,
        "mask_choice": "highest predicted IoU of three masks",
        "mask_score": "predicted IoU" if section.boxes == GROUND_TRUTH else "the detection's score",
        "settings": settings, "skipped": dict(skipped.counts),
        "command": shlex.join([Path(sys.argv[0]).name, *(sys.argv[1:] if argv is None else argv)]),
        "versions": versions()})
    print(f"wrote {output / 'results.json'} and {output / 'masks.json'}")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        print(f"eval.py: {error}", file=sys.stderr)
        sys.exit(2)
