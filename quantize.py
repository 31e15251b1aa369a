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
"""Quantize a checkpoint after training (arXiv 2312.13789, section 3.3); docs/quantization.md describes how.

    python quantize.py --quantize.checkpoint=tinysam.ckpt --data.paths=[sa1b_pictures]       8 bits, as the paper
    python quantize.py --config configs/quantize_w6a6.yaml --quantize.checkpoint=tinysam.ckpt --data.paths=[pictures]
    python quantize.py --quantize.preset=ascend --data.format=coco --data.paths=[labels.json]       for integer hardware

Eight pictures calibrate. Writes scales.json, scales_codes.npz (integer weights) and cost.md into quantize.output_dir;
eval.py --eval.scales=FILE and demo.py --scales FILE run them. A killed run continues where it was.
"""
import dataclasses
import sys
import time
from pathlib import Path

from tqdm import tqdm

from src.checkpoint.atomic import write_atomically
from src.checkpoint.file_hash import file_sha256
from src.config import load_config
from src.data.loader import first_pictures
from src.inference.chosen_checkpoint import choose_checkpoint
from src.inference.predictor import load_predictor
from src.quantization.calibrate import Calibration, Example
from src.quantization.cost import cost_rows
from src.quantization.scales_file import write_scales
from src.quantization.sensitivity import propose_wider, sensitivity_rows
from src.quantization.settings import QuantizeSettings
from src.runtime import init_runtime

NOT_SETTINGS = ("checkpoint", "output_dir", "images", "prompts", "sensitivity_images")


class StageBars:
    """One progress bar for each stage of a calibration."""

    def __init__(self):
        self._stage, self._bar = None, None

    def __call__(self, stage, done, total):
        if stage != self._stage:
            self.close()
            self._stage, self._bar = stage, tqdm(total=total, desc=stage, dynamic_ncols=True)
        self._bar.update(done - self._bar.n)

    def close(self):
        if self._bar is not None:
            self._bar.close()


def main(argv=None):
    config = load_config(argv, usage=__doc__)
    section, folder = config.quantize, Path(config.quantize.output_dir)
    settings = QuantizeSettings(seed=config.runtime.seed, **{
        key: value for key, value in dataclasses.asdict(section).items() if key not in NOT_SETTINGS})
    if section.sensitivity_images and (section.reparametrise or section.sign_trick):
        raise ValueError("quantize.sensitivity_images measures one layer at a time, which quantize.reparametrise and "
                         "quantize.sign_trick tie to others; measure without them, then use the proposal with them")
    init_runtime(config.runtime)
    chosen = choose_checkpoint(section.checkpoint, config.model)
    sam = load_predictor(*chosen).sam
    pictures = first_pictures(config.data, sam.image_size, section.images, section.prompts, config.runtime.seed)
    examples = [Example(*(batch[name] for name in ("images", "point_coords", "point_labels", "mask_valid")))
                for batch in pictures]
    print(f"{chosen.path} ({sam.variant}, {sam.image_size} px), {len(examples)} pictures, preset {settings.preset}, "
          f"W{settings.weight_bits}A{settings.activation_bits}", flush=True)
    started, bars = time.monotonic(), StageBars()
    calibration = Calibration(sam, settings, file_sha256(chosen.path), folder / "unfinished", bars)
    try:
        quantization = calibration.run(examples)
        written = [*write_scales(folder / "scales.json", quantization)]
        losses = propose_wider(calibration, quantization, examples[:section.sensitivity_images])
    finally:
        bars.close()
    calibration.remove_steps()
    lines = [*cost_rows(quantization), *sensitivity_rows(losses)]
    write_atomically(folder / "cost.md", ".md", lambda part: part.write_text("\n".join(lines) + "\n", encoding="utf-8"))
    print("\n".join(lines))
    print(f"{len(quantization.layers)} products quantized, {len(quantization.kept)} float, "
          f"{time.monotonic() - started:.0f} s")
    print(f"wrote {', '.join(map(str, [*written, folder / 'cost.md']))}")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        print(f"quantize.py: {error}", file=sys.stderr)
        sys.exit(2)
