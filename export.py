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
"""Export a checkpoint for other programs: image encoder and prompt decoders as MindIR or ONNX, and a manifest.

    python export.py --export.checkpoint=output/train/student.ckpt --export.output_dir=output/export
    python export.py --export.checkpoint=tinysam.ckpt --export.formats=[mindir,onnx] --export.decoders=[1x11,64x2]
    python export.py --export.dtype=float16                        the checkpoint in checkpoints/, float16 graphs
    python export.py --quantized output/quantize/scales.json --export.formats=[onnx]       in int8: docs/quantization.md

A decoder 16x11 answers 16 prompts at once, each of 11 slots: up to nine points and a padding point, or with a box.
Shapes are static, so name one decoder for each use. docs/export.md describes the files; eval.py --eval.mindir=FOLDER
and --eval.onnx=FOLDER evaluate them. The folder is replaced as a whole, at the end.
"""
import dataclasses
import sys
from pathlib import Path

from src.checkpoint.file_hash import file_sha256
from src.config import load_config
from src.data.loader import first_pictures
from src.export.exporter import ExportSettings, check_export, export_model
from src.inference.chosen_checkpoint import choose_checkpoint
from src.inference.predictor import load_predictor
from src.runtime import code_version, init_runtime, versions


def read_pictures(config, settings, image_size):
    """Pictures of `data` that MindSpore Lite may calibrate with: as many as quantize.py takes, none without paths."""
    if "lite" not in settings.formats:
        return []
    if not config.data.paths and config.data.format != "synthetic":
        print("no data.paths: no image_encoder.lite.cfg", flush=True)
        return []
    pictures = first_pictures(config.data, image_size, config.quantize.images, 1, config.runtime.seed)
    return [batch["images"] for batch in pictures]


def main(argv=None):
    config = load_config(argv, usage=__doc__, aliases={"--quantized": "export.scales"})
    section = dataclasses.asdict(config.export)
    checkpoint, folder = section.pop("checkpoint"), section.pop("output_dir")
    settings = ExportSettings(**section)
    runtime = init_runtime(config.runtime)
    check_export(settings, folder, runtime.device)
    chosen = choose_checkpoint(checkpoint, config.model)
    sam = load_predictor(*chosen).sam
    print(f"{chosen.path} ({sam.variant}, {sam.image_size} px) as {settings.dtype} to {folder}", flush=True)
    manifest = export_model(
        sam, folder, settings, {"name": Path(chosen.path).name, "sha256": file_sha256(chosen.path)},
        {"mindspore": versions()["mindspore"], "tinysam": code_version()}, runtime.device,
        lambda line: print(line, flush=True), read_pictures(config, settings, sam.image_size))
    print(f"wrote {Path(folder) / manifest.name}")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        print(f"export.py: {error}", file=sys.stderr)
        sys.exit(2)
