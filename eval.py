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
"""Evaluate a checkpoint on a COCO-format set (arXiv 2312.13789, section 4); docs/evaluation.md describes the protocols.

    python eval.py --eval.checkpoint=output/train/student.ckpt --eval.annotations=data/val/instances.json
    python eval.py --eval.scales=output/quantize/scales.json --eval.annotations=data/val/instances.json   quantize.py's
    python eval.py --config configs/eval_coco.yaml --eval.boxes=vitdet_h_boxes.json --eval.checkpoint=tinysam.ckpt
    python eval.py --protocol points --eval.annotations=data/val/instances.json         box, points or everything
    python eval.py --protocol everything --config configs/nano_everything.yaml --eval.annotations=data/instances.json
    python eval.py --engine openvino --eval.annotations=data/val/instances.json     docs/export.md: also --eval.mindir

box: masks of the labels' boxes or a detector's, scored by COCO's or LVIS's AP and mean IoU. points: mean IoU after 1..9
simulated clicks. everything: full grid and hierarchical strategy side by side; that configuration is for the weights
that ship. Prints a table; writes results.json (scores, settings, versions) and per_image.jsonl into eval.output_dir. An
evaluation that was cut off continues from it.
"""
import dataclasses
import shlex
import sys
from pathlib import Path

from src.checkpoint.file_hash import file_sha256
from src.config import load_config
from src.data.coco import CocoDataset
from src.data.loader import read_image_ids
from src.data.records import SkipLog
from src.evaluation.box_sources import read_labels
from src.evaluation.protocols import BoxProtocol, EverythingProtocol, Inputs, PointsProtocol, ResultsProtocol
from src.evaluation.results_log import ResultsLog
from src.export.engines import open_predictor as open_engine
from src.export.exported_predictor import ExportedPredictor
from src.inference.chosen_checkpoint import choose_checkpoint
from src.inference.everything import EverythingSettings
from src.inference.mask_records import write_json
from src.runtime import init_runtime, versions

ALIASES = {"--protocol": "eval.protocol", "--engine": "eval.engine"}


def open_inputs(section):
    """Pictures and labels of the set that is evaluated."""
    if not section.annotations:
        raise ValueError("eval.annotations is empty; give a COCO-format JSON: --eval.annotations=FILE")
    dataset = CocoDataset([section.annotations], [section.image_root] if section.image_root else (), only_usable=False)
    skipped = SkipLog()
    skipped.merge(dataset.skipped)
    keep = read_image_ids(section.image_ids) if section.image_ids else set(dataset.image_ids)
    image_ids = [image_id for image_id in dataset.image_ids if image_id in keep][:section.limit or None]
    if not image_ids:
        raise ValueError(f"{section.image_ids}: none of its {len(keep)} image ids is in {section.annotations}")
    return Inputs(dataset, image_ids, read_labels(section.annotations, dataset, image_ids, skipped), skipped)


def open_protocol(config, inputs):
    if config.eval.results:
        return ResultsProtocol(config.eval, inputs)
    if config.eval.protocol in ("box", "points"):
        return {"box": BoxProtocol, "points": PointsProtocol}[config.eval.protocol](config.eval, inputs)
    return EverythingProtocol(config.eval, inputs, EverythingSettings(**dataclasses.asdict(config.everything)))


def open_predictor(config):
    """(path of the checkpoint, manifest or masks, predictor or None); the model section fills in what a file lacks."""
    section = config.eval
    if section.results:
        return section.results, None
    if section.mindir or section.onnx:
        engine = "mindir" if section.mindir else "onnx" if section.engine == "mindspore" else section.engine
        predictor = ExportedPredictor(section.mindir or section.onnx, engine, config.runtime.threads)
        return str(predictor.manifest), predictor
    chosen = choose_checkpoint(section.checkpoint, config.model)
    return chosen.path, open_engine(section.engine, *chosen, config.runtime.threads, scales=section.scales)


def settings_of(config, protocol, checkpoint, predictor, device):
    """Everything the predictions, and seconds where they are compared, depend on: files by their hash, pictures by
    their folder."""
    network = {"results_sha256": file_sha256(checkpoint)} if predictor is None else {
        "checkpoint_sha256": file_sha256(checkpoint), "variant": predictor.variant, "image_size": predictor.image_size,
        "image_root": str(protocol.inputs.dataset.image_roots[0].resolve()),
        **({"engine": predictor.engine} if predictor.engine else {})}
    timed = ("mode", "threads", "native_kernels") if config.eval.protocol == "everything" else ()
    return {"protocol": config.eval.protocol, **network,
            "annotations_sha256": file_sha256(config.eval.annotations), **protocol.settings, "device": device,
            **{f"runtime.{name}": getattr(config.runtime, name) for name in timed}}


def print_table(rows):
    width = max([14, *(len(cell) + 2 for _, *cells in rows for cell in map(str, cells) if len(cells) > 1)])
    for title, *cells in rows:
        print("  " + (f"{title:<24}" + "".join(f"{cell!s:<{width}}" for cell in cells)).rstrip())


def main(argv=None):
    config = load_config(argv, usage=__doc__, aliases=ALIASES)
    section = config.eval
    inputs = open_inputs(section)
    protocol = open_protocol(config, inputs)
    runtime = init_runtime(config.runtime)
    checkpoint, predictor = open_predictor(config)
    settings = settings_of(config, protocol, checkpoint, predictor, runtime.device)
    output = Path(section.output_dir)
    with ResultsLog(output / "per_image.jsonl", settings) as log:
        scores = protocol.evaluate(predictor, log)
    network = "masks of a file" if predictor is None else f"{predictor.variant}, {predictor.image_size} px"
    print(f"{checkpoint} ({network}); {section.annotations}; {section.protocol}")
    print_table(protocol.rows(scores))
    print(f"  {inputs.skipped}")
    written = protocol.write(output, scores)
    write_json(output / "results.json", {
        "protocol": section.protocol, **scores, "checkpoint": checkpoint, "annotations": section.annotations,
        "settings": settings, "skipped": dict(inputs.skipped.counts), "versions": versions(),
        "command": shlex.join([Path(sys.argv[0]).name, *(sys.argv[1:] if argv is None else argv)])})
    print(f"wrote {', '.join(str(path) for path in [output / 'results.json', *written])}")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        print(f"eval.py: {error}", file=sys.stderr)
        sys.exit(2)
