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
"""Distil a student from a frozen teacher, or train a network on labels alone (TinySAM, arXiv 2312.13789, section 3.2).

On a laptop's CPU, with pictures drawn on the fly, minutes each: make a small teacher from labels, then distil from it.

    python train.py --config configs/smoke_cpu.yaml --model.student=nano_teacher --model.teacher=none \\
        --train.output_dir=output/smoke_teacher
    python train.py --config configs/smoke_cpu.yaml --model.teacher_checkpoint=output/smoke_teacher/student.ckpt

The paper's setting on eight devices is configs/distill_sa1b_8p.yaml. A run that was stopped goes on with --resume auto
(the newest whole checkpoint of train.output_dir) or --resume FILE. That folder also receives student.ckpt and curves.
"""
import sys
from typing import Optional, Sequence, Tuple

from src.checkpoint import load_network, read_metadata
from src.config import Config, ModelConfig, load_config
from src.data.embedding_cache import EmbeddingCache, meta_of
from src.data.loader import Batches, open_dataset
from src.distillation.distiller import Distiller, start_decoder_from_teacher
from src.distillation.hard_point_loop import FIRST_SLOTS
from src.distillation.preview import Preview
from src.modeling.build_sam import build_sam, spec_of
from src.modeling.precision import set_precision
from src.modeling.sam import Sam
from src.runtime import Runtime, code_version, init_runtime
from src.training.batch_norm import set_batch_norm
from src.training.freeze import freeze_parts
from src.training.loop import TrainLoop, count_steps, steps_per_epoch
from src.training.optimizer import build_optimizer, scale_rates
from src.training.ranks import RankAverage
from src.training.sheets import Sheets
from src.training.step import TrainStep


def training_size(model: ModelConfig) -> int:
    """Side of the input in pixels: as configured, else as the weights to start from say, else the student's own."""
    found = read_metadata(model.student_checkpoint) if model.student_checkpoint else {}
    return int(model.image_size or found.get("image_size") or spec_of(model.student).image_size)


def build_student(model: ModelConfig, seed: int, precision: str) -> Sam:
    """The network that is trained, from a checkpoint or from fresh weights."""
    student = build_sam(model.student, training_size(model), seed=seed, draw_weights=not model.student_checkpoint)
    if model.student_checkpoint:
        load_network(student, model.student_checkpoint)
    return set_precision(student, precision)


def build_teacher(model: ModelConfig, image_size: int, precision: str) -> Optional[Sam]:
    """The network that is imitated, or None: labels only."""
    if model.teacher == "none":
        return None
    if not model.teacher_checkpoint:
        raise ValueError(f"model.teacher is '{model.teacher}' but model.teacher_checkpoint is empty: random weights "
                         "never teach; give its checkpoint, or train on labels alone with --model.teacher=none")
    teacher = build_sam(model.teacher, model.teacher_image_size or image_size, draw_weights=False)
    load_network(teacher, model.teacher_checkpoint)
    return set_precision(teacher, precision)


def build_distiller(config: Config, student: Sam) -> Tuple[Distiller, Optional[EmbeddingCache]]:
    """The losses, and the stored embeddings where there are some: the teacher's encoder is let go of then."""
    teacher = build_teacher(config.model, student.image_size, config.runtime.precision)
    cache = None
    if config.model.decoder_from_teacher:
        if teacher is None or config.model.student_checkpoint:
            raise ValueError("model.decoder_from_teacher is true: it needs a model.teacher, and fresh weights instead "
                             "of model.student_checkpoint")
        start_decoder_from_teacher(student, teacher)
    if config.data.embedding_cache:
        cache = EmbeddingCache(config.data.embedding_cache, meta_of(teacher, config.model.teacher_checkpoint))
    return Distiller(student, teacher, config.distill, stored_embeddings=cache is not None), cache


def build_batches(config: Config, image_size: int, runtime: Runtime, cache: Optional[EmbeddingCache]) -> Batches:
    """Fixed-shape batches of this rank."""
    data, seed = config.data, config.runtime.seed
    dataset = open_dataset(data.format, data.paths, data.image_roots, data.image_ids, data.synthetic_images, seed,
                           image_size, data.min_mask_pixels)
    return Batches(dataset, image_size, data.prompts_per_image, FIRST_SLOTS + config.distill.max_rounds,
                   data.batch_size, data.box_share, data.box_jitter, data.flip_probability, data.scale_jitter, seed,
                   runtime.rank, runtime.size, data.workers, data.min_mask_pixels, cache, data.repeat_masks,
                   data.ellipses, data.pasted_objects)


def train(config: Config) -> int:
    """One run as configured -> exit code."""
    runtime, precision = init_runtime(config.runtime), config.runtime.precision
    student = build_student(config.model, config.runtime.seed, precision)
    freeze_parts(student, config.model.freeze)
    distiller, cache = build_distiller(config, student)
    ranks = RankAverage(runtime.size, config.train.batch_norm == "local") if runtime.size > 1 else None
    set_batch_norm(student, config.train.batch_norm, ranks.mean if ranks else None)
    with build_batches(config, student.image_size, runtime, cache) as batches:
        accumulated, epochs = config.train.accumulate_steps, config.train.epochs
        total_steps = count_steps(steps_per_epoch(len(batches), accumulated), epochs, config.train.max_steps)
        global_batch = config.data.batch_size * accumulated * runtime.size
        optimizer = build_optimizer(distiller, scale_rates(config.optim, global_batch), total_steps,
                                    scale_loss=precision == "mixed_float16")
        step = TrainStep(distiller, optimizer, config.optim.clip_norm, ranks)
        loop = TrainLoop(step, student, batches, config.train, config.runtime.seed, config.distill.max_rounds,
                         {"config": config.to_yaml(), "code": code_version()}, runtime.rank, runtime.size,
                         Sheets(Preview(distiller), config.train.output_dir, config.train.sheet_every,
                                config.runtime.seed))
        stopped_by = loop.run()
        if batches.skipped.counts:
            print(f"data left out: {batches.skipped}", file=sys.stderr)
    return 128 + stopped_by if stopped_by else 0


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Exit code: 0 trained, 2 refused with one line on stderr, 128 + n stopped by signal n with the state saved."""
    try:
        return train(load_config(argv, __doc__, {"--resume": "train.resume"}))
    except (ValueError, OSError) as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
