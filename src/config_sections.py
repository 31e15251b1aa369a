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
"""The sections of the configuration: every key with its type and range. Unit, source and default stand in
default_config.yaml; `src/config.py` reads them."""
import math
from dataclasses import dataclass, field
from typing import Any, List, Sequence


def _rule(choices: Sequence[str] = (), low: float = -math.inf, high: float = math.inf, multiple_of: int = 0) -> Any:
    return field(metadata={"choices": tuple(choices), "low": low, "high": high, "multiple_of": multiple_of})


def _one_of(*choices: str) -> Any:
    return _rule(choices=choices)


def _at_least(low: float) -> Any:
    return _rule(low=low)


def _between(low: float, high: float) -> Any:
    return _rule(low=low, high=high)


@dataclass(frozen=True)
class RuntimeConfig:
    device: str = _one_of("auto", "cpu", "ascend")
    mode: str = _one_of("graph", "pynative")
    seed: int = _between(0, 2**31 - 1)
    threads: int = _at_least(0)
    native_kernels: bool
    precision: str = _one_of("float32", "mixed_float16")
    distributed: bool
    devices: int = _at_least(1)


@dataclass(frozen=True)
class ModelConfig:
    student: str
    teacher: str
    image_size: int = _rule(low=0, multiple_of=64)
    teacher_image_size: int = _rule(low=0, multiple_of=64)
    student_checkpoint: str
    decoder_from_teacher: bool
    teacher_checkpoint: str
    freeze: List[str]


@dataclass(frozen=True)
class DataConfig:
    format: str = _one_of("sa1b", "coco", "synthetic")
    paths: List[str]
    image_roots: List[str]
    image_ids: str
    synthetic_images: int = _at_least(1)
    ellipses: int = _at_least(0)
    pasted_objects: int = _at_least(0)
    batch_size: int = _at_least(1)
    prompts_per_image: int = _at_least(1)
    repeat_masks: bool
    min_mask_pixels: int = _at_least(1)
    box_share: float = _between(0, 1)
    box_jitter: float = _between(0, 1)
    flip_probability: float = _between(0, 1)
    scale_jitter: List[float] = _between(0.05, 4)
    workers: int = _at_least(0)
    embedding_cache: str


@dataclass(frozen=True)
class DistillConfig:
    embedding_weight: float = _at_least(0)
    embedding_adapter: bool
    token_weight: float = _at_least(0)
    output_weight: float = _at_least(0)
    hard_mask_weighting: bool
    focal_weight: float = _at_least(0)
    dice_weight: float = _at_least(0)
    iou_weight: float = _at_least(0)
    max_rounds: int = _at_least(0)
    hard_region: str = _one_of("error", "missed")


@dataclass(frozen=True)
class OptimConfig:
    name: str = _one_of("adam", "adamw")
    learning_rate: float = _between(1e-12, 10)
    final_learning_rate: float = _between(0, 10)
    reference_batch: int = _at_least(0)
    warmup_steps: int = _at_least(0)
    weight_decay: float = _between(0, 1)
    layer_decay: float = _between(0.01, 1)
    clip_norm: float = _at_least(0)
    ema_decay: float = _between(0, 0.999999)


@dataclass(frozen=True)
class TrainConfig:
    epochs: int = _at_least(1)
    max_steps: int = _at_least(0)
    output_dir: str
    accumulate_steps: int = _at_least(1)
    batch_norm: str = _one_of("local", "sync", "frozen")
    resume: str
    log_every: int = _at_least(1)
    save_every: int = _at_least(1)
    keep_last: int = _at_least(1)
    sheet_every: int = _at_least(0)


@dataclass(frozen=True)
class EmbeddingsConfig:
    output_dir: str
    dtype: str = _one_of("float16", "int8")
    flips: bool
    shard_images: int = _at_least(1)
    batch_size: int = _at_least(1)
    part: int = _at_least(0)
    parts: int = _at_least(1)


@dataclass(frozen=True)
class EvalConfig:
    protocol: str = _one_of("box", "points", "everything")
    checkpoint: str
    mindir: str
    onnx: str
    engine: str = _one_of("mindspore", "openvino")
    annotations: str
    image_root: str
    image_ids: str
    boxes: str
    scales: str
    results: str
    max_detections: int = _at_least(1)
    metric: str = _one_of("coco", "lvis")
    mask_choice: str = _one_of("confident", "single")
    max_points: int = _at_least(1)
    first_mask: str = _one_of("confident", "oracle", "single")
    feed_mask: bool
    modes: List[str] = _one_of("full", "hierarchical", "full_plain")
    annotators: str = _one_of("together", "apart")
    prompt_batch: int = _at_least(1)
    limit: int = _at_least(0)
    output_dir: str


@dataclass(frozen=True)
class EverythingConfig:
    points_per_side: int = _at_least(1)
    points_per_batch: int = _at_least(1)
    pred_iou_thresh: float = _at_least(0)
    stability_score_thresh: float = _between(0, 1)
    stability_score_offset: float = _at_least(0)
    box_nms_thresh: float = _between(0, 1)
    crop_n_layers: int = _between(0, 4)
    crop_nms_thresh: float = _between(0, 1)
    crop_overlap_ratio: float = _between(0, 1)
    crop_n_points_downscale_factor: int = _at_least(1)
    min_mask_region_area: int = _at_least(0)
    hierarchical: bool
    coarse_ratio: float = _between(0, 1)
    high_score_thresh: float
    fast: bool


@dataclass(frozen=True)
class ExportConfig:
    checkpoint: str
    output_dir: str
    scales: str
    formats: List[str] = _one_of("mindir", "onnx", "air", "lite", "amct", "npu")
    decoders: List[str]
    dtype: str = _one_of("float32", "float16")
    single_graph: bool


@dataclass(frozen=True)
class QuantizeConfig:
    checkpoint: str
    output_dir: str
    preset: str = _one_of("paper", "ascend")
    weight_bits: int = _between(2, 8)
    activation_bits: int = _between(2, 8)
    wider: List[str]
    wide_bits: int = _between(2, 32)
    convolutions: bool
    decoder_attention: str = _one_of("preset", "float", "quantized")
    metric: str = _one_of("hessian", "mse")
    gelu: str = _one_of("preset", "signed", "twin", "offset")
    softmax: str = _one_of("preset", "signed", "unsigned", "twin", "log2")
    reparametrise: bool
    sign_trick: bool
    bias_correction: bool
    rounding: str = _one_of("nearest", "gptq")
    images: int = _at_least(1)
    prompts: int = _at_least(1)
    candidates: int = _at_least(2)
    rounds: int = _at_least(1)
    sensitivity_images: int = _at_least(0)
