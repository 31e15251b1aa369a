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
"""train.py: where values of the configuration arrive, the paper's values, a run on labels alone, data left out."""
import csv
import inspect
import json
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from PIL import Image

import train
from src.checkpoint import read_weights, save_network
from src.config import load_config
from src.modeling.build_sam import build_sam, spec_of

ROOT = Path(__file__).resolve().parent.parent
TINY = ["--config", str(ROOT / "configs" / "smoke_cpu.yaml"), "--runtime.mode=pynative", "--model.image_size=64",
        "--model.teacher=none", "--data.synthetic_images=6", "--data.prompts_per_image=2", "--distill.max_rounds=1",
        "--train.log_every=1"]
SQUARE = [[2, 3, 22, 3, 22, 23, 2, 23]]


@pytest.fixture(autouse=True)
def mode_of_the_run():
    """The mode is put back after a run."""
    yield
    ms.set_context(mode=ms.GRAPH_MODE)


@pytest.fixture
def call(monkeypatch):
    """Function of the name of what train.py calls, and arguments -> the values of that call; the run ends there."""

    def spy(name, *arguments):
        signature, seen = inspect.signature(getattr(train, name)), {}

        def record(*values, **named):
            bound = signature.bind(*values, **named)
            bound.apply_defaults()
            seen.update(bound.arguments)
            raise ValueError("seen")

        monkeypatch.setattr(train, name, record)
        assert train.main([*TINY, *arguments]) == 2
        return seen

    return spy


def write_set(folder):
    """Six pictures of 40 x 30 pixels with a square each; of the first the file is cut off, of the last there is a crowd
    and a mask with broken run lengths as well."""
    (folder / "images").mkdir(parents=True)
    for number in range(1, 7):
        pixels = np.random.default_rng(number).integers(0, 256, (30, 40, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number}.jpg")
    cut = folder / "images" / "1.jpg"
    cut.write_bytes(cut.read_bytes()[:300])
    records = [{"id": number, "image_id": number, "category_id": 1, "segmentation": SQUARE} for number in range(1, 7)]
    records += [{**records[5], "id": 7, "iscrowd": 1},
                {**records[5], "id": 8, "segmentation": {"size": [30, 40], "counts": [1, 2, 3]}}]
    content = {"images": [{"id": number, "file_name": f"{number}.jpg", "height": 30, "width": 40}
                          for number in range(1, 7)], "annotations": records, "categories": [{"id": 1}]}
    (folder / "instances.json").write_text(json.dumps(content))
    return folder / "instances.json"


def test_labels_alone_train_without_distillation_and_what_was_left_out_is_said(tmp_path, capfd):
    arguments = [*TINY, "--data.format=coco", f"--data.paths=[{write_set(tmp_path / 'set')}]", "--train.max_steps=3",
                 f"--train.output_dir={tmp_path / 'run'}"]
    assert train.main(arguments) == 0
    with open(tmp_path / "run" / "metrics.csv", newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [row["step"] for row in table] == ["1", "2", "3"]
    for row in table:
        assert [float(row[name]) for name in ("embedding_loss", "token_loss", "output_loss")] == [0, 0, 0]
        assert all(float(row[name]) > 0 for name in ("total_loss", "focal_loss", "dice_loss", "iou_loss", "grad_norm"))
    before, after = (read_weights(tmp_path / "run" / f"{name}.ckpt") for name in ("student_start", "student"))
    for part in ("image_encoder.patch_embed.seq.0.c.weight", "image_encoder.layers.2.blocks.1.mlp.fc2.weight",
                 "mask_decoder.mask_tokens.weight", "mask_decoder.iou_prediction_head.layers.0.weight",
                 "prompt_encoder.point_embeddings.1.weight"):
        assert np.abs(after[part] - before[part]).max() > 0, part
    last = capfd.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("data left out: skipped 3: ")
    for part in ("1 crowd annotations", "1 unreadable images (first: ", "1.jpg: truncated or broken image (",
                 "1 broken masks (first: image 6, annotation 8: broken run lengths: they add up to 6 of 1200 pixels)"):
        assert part in last


def test_the_data_section_reaches_the_batches(call):
    seen = call("Batches", "--data.box_share=0.25", "--data.box_jitter=0.05", "--data.flip_probability=0.125",
                "--data.scale_jitter=[0.5, 2.0]", "--data.batch_size=3", "--data.prompts_per_image=5",
                "--data.workers=1", "--data.min_mask_pixels=7", "--data.repeat_masks=true", "--data.ellipses=2",
                "--data.pasted_objects=4", "--distill.max_rounds=6", "--runtime.seed=23")
    del seen["dataset"]
    assert seen == {
        "image_size": 64, "prompts_per_image": 5, "slots": 8, "batch_size": 3, "box_share": 0.25, "box_jitter": 0.05,
        "flip_probability": 0.125, "scale_jitter": (0.5, 2.0), "seed": 23, "rank": 0, "size": 1, "workers": 1,
        "min_mask_pixels": 7, "embedding_cache": None, "repeat_masks": True, "ellipses": 2, "pasted_objects": 4}


@pytest.mark.parametrize("name, decoupled", [("adam", False), ("adamw", True)])
def test_the_optim_section_reaches_the_optimizer_and_the_step(call, name, decoupled):
    seen = call("TrainStep", f"--optim.name={name}", "--optim.clip_norm=0.75", "--optim.weight_decay=0.03",
                "--optim.learning_rate=0.02", "--optim.final_learning_rate=0.001", "--optim.warmup_steps=2",
                "--optim.layer_decay=0.5", "--optim.ema_decay=0.9", "--train.max_steps=9", "--train.epochs=4")
    optimizer = seen["optimizer"]
    assert seen["clip_norm"] == 0.75 and optimizer.decoupled is decoupled
    assert set(optimizer.decays) == {0.0, 0.03} and min(optimizer.multipliers) < 0.5 < max(optimizer.multipliers) == 1
    assert optimizer.state.average is not None and optimizer.state.loss_scale is None
    rates = [float(optimizer.schedule(ms.Tensor(step, ms.int32))) for step in (0, 1, 8)]
    np.testing.assert_allclose(rates, [0.01, 0.02, 0.001], rtol=1e-5)  # half the warm-up, the peak, the end


def test_the_distill_section_reaches_the_distiller(call):
    seen = call("Distiller", "--distill.embedding_weight=2", "--distill.token_weight=3", "--distill.output_weight=4",
                "--distill.hard_mask_weighting=false", "--distill.hard_region=missed")
    settings = list(seen.values())[2]
    assert (settings.embedding_weight, settings.token_weight, settings.output_weight) == (2, 3, 4)
    assert settings.hard_mask_weighting is False and settings.hard_region == "missed" and settings.max_rounds == 1


@pytest.mark.parametrize("arguments", [[], ["--config", str(ROOT / "configs" / "distill_sa1b_8p.yaml")]],
                         ids=["default_config", "distill_sa1b_8p"])
def test_the_papers_setting(arguments):
    """arXiv 2312.13789, section 4.1 and figure 3: what it states, whatever a variant file changes."""
    config = load_config(arguments)
    assert (config.model.student, config.model.teacher) == ("tinyvit_5m", "vit_h")
    assert (config.model.image_size or spec_of(config.model.student).image_size) == 1024
    assert config.data.format == "sa1b" and config.data.prompts_per_image == 64
    assert config.distill.max_rounds == 9 and config.distill.hard_mask_weighting is True
    assert min(config.distill.embedding_weight, config.distill.token_weight, config.distill.output_weight) > 0
    assert (config.distill.focal_weight, config.distill.dice_weight, config.distill.iou_weight) == (20, 1, 1)
    assert config.optim.name == "adam" and config.train.epochs == 8 and config.train.max_steps == 0


def test_weights_of_another_variant_to_start_from_are_refused(tmp_path, capsys):
    path = tmp_path / "teacher.ckpt"
    save_network(path, build_sam("nano_teacher", 64, seed=3))
    assert train.main([*TINY, f"--model.student_checkpoint={path}", f"--train.output_dir={tmp_path / 'run'}"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert "holds variant nano_teacher (image_size 64), not variant nano" in lines[-1]
    assert not any(line.startswith("Traceback") for line in lines)
    assert not (tmp_path / "run").exists()
