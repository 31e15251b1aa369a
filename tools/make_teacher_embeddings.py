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
"""Encode every picture of the `data` section with the teacher and store the embeddings, so that training need not run
its image encoder (TinySAM, arXiv 2312.13789, section 4.1: "computed once and stored").

    python tools/make_teacher_embeddings.py --config configs/distill_sa1b_8p.yaml --embeddings.output_dir=sa1b/vit_h
    python tools/launch.py tools/make_teacher_embeddings.py --config configs/distill_sa1b_8p.yaml    # a node's devices
    python train.py --config configs/distill_sa1b_8p.yaml --data.embedding_cache=sa1b/vit_h

A run that was stopped goes on where it was when the same command is given again, also with another number of ranks.
Pictures that cannot be read are left out, named in skipped-RRRRR.json and counted.
"""
import logging
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Dict, Optional, Sequence, Tuple

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mindspore import Tensor  # noqa: E402

from src.checkpoint import load_network  # noqa: E402
from src.config import Config, load_config  # noqa: E402
from src.data.embedding_cache import CacheMeta, EmbeddingWriter, done_keys, meta_of  # noqa: E402
from src.data.embedding_pictures import TeacherPictures, chunks_to_write, image_count  # noqa: E402
from src.data.images import normalise_and_pad  # noqa: E402
from src.data.loader import open_dataset  # noqa: E402
from src.data.workers import Workers  # noqa: E402
from src.modeling.build_sam import build_sam  # noqa: E402
from src.modeling.native_kernels import use_native_kernels  # noqa: E402
from src.modeling.precision import set_precision  # noqa: E402
from src.runtime import init_runtime  # noqa: E402
from train import training_size  # noqa: E402

LOG = logging.getLogger("tinysam")
SECONDS_PER_LINE = 30  # between lines of progress where stderr is not a terminal


def build_teacher(config: Config) -> Tuple[Any, CacheMeta]:
    """The teacher with its weights, and the meta of what it will store."""
    model, settings = config.model, config.embeddings
    if model.teacher == "none" or not model.teacher_checkpoint:
        raise ValueError(f"model.teacher is '{model.teacher}', model.teacher_checkpoint '{model.teacher_checkpoint}'; "
                         "embeddings need a teacher and its weights: give both")
    teacher = build_sam(model.teacher, model.teacher_image_size or training_size(model), draw_weights=False)
    load_network(teacher, model.teacher_checkpoint)
    use_native_kernels(set_precision(teacher, config.runtime.precision).set_train(False))
    return teacher, meta_of(teacher, model.teacher_checkpoint, settings.dtype, settings.flips)


def check_space(folder: Path, meta: CacheMeta, images: int, missing: int) -> str:
    """One line that says what will be written, before anything is; ValueError where it does not fit on the disk.
    `missing` of the records of `images` images are not stored yet."""
    there = folder
    while not there.exists():
        there = there.absolute().parent
    free, total = shutil.disk_usage(there).free, meta.total_bytes(images)
    left = missing * meta.record_bytes
    shape = " x ".join(map(str, meta.shape))
    plan = (f"{images} images{' and their flips' if meta.flips else ''}, {shape} {meta.dtype}: {total / 1e9:.3f} GB in "
            f"{folder}, {left / 1e9:.3f} GB of it still to write, {free / 1e9:.1f} GB free")
    if left > free:
        raise ValueError(f"{plan}: it does not fit; choose another embeddings.output_dir, dtype=int8 or flips=false")
    return plan


def encode_batch(encoder: Any, pictures: Sequence[Any], batch_size: int, image_size: int) -> np.ndarray:
    """Embeddings [n, C, h, w] float32 of n <= batch_size pictures; places without a picture (text) are encoded as 0.
    The batch is filled up to batch_size, so one compilation serves all."""
    inputs = np.zeros((batch_size, 3, image_size, image_size), np.float32)
    for place, picture in enumerate(pictures):
        if not isinstance(picture, str):
            inputs[place] = normalise_and_pad(picture, image_size)
    return encoder(Tensor(inputs)).asnumpy()[:len(pictures)].astype(np.float32)


def write_embeddings(config: Config, rank: int, size: int) -> Dict[int, str]:
    """Store this rank's share -> image id and reason of every picture that could not be read."""
    settings, data = config.embeddings, config.data
    folder = Path(settings.output_dir)
    teacher, meta = build_teacher(config)
    dataset = open_dataset(data.format, data.paths, data.image_roots, data.image_ids, data.synthetic_images,
                           config.runtime.seed, teacher.image_size, data.min_mask_pixels)
    done = done_keys(folder)
    missing = len(chunks_to_write(dataset, meta.flips, 1, 0, 1, done))
    print(check_space(folder, meta, image_count(dataset), missing), flush=True)
    chunks = chunks_to_write(dataset, meta.flips, settings.batch_size, rank, size, done)
    reader = TeacherPictures(dataset, teacher.image_size)
    workers = Workers(reader.chunk, data.workers) if data.workers else None
    writer = EmbeddingWriter(folder, meta, rank, settings.shard_images * (2 if meta.flips else 1))
    skipped: Dict[int, str] = {}
    tasks = ((chunk,) for chunk in chunks)
    read = workers.map(tasks) if workers else (reader.chunk(*task) for task in tasks)
    said = time.monotonic()
    try:
        with tqdm(total=sum(map(len, chunks)), unit="embedding", disable=None, dynamic_ncols=True) as bar:
            for number, (chunk, pictures) in enumerate(zip(chunks, read), 1):
                embeddings = encode_batch(teacher.image_encoder, pictures, settings.batch_size, teacher.image_size)
                for (_, image_id, flip), picture, embedding in zip(chunk, pictures, embeddings):
                    if isinstance(picture, str):
                        skipped[image_id] = picture
                    elif (image_id, flip) not in done:
                        writer.write(image_id, flip, embedding, picture)
                bar.update(len(chunk))
                if bar.disable and (time.monotonic() - said > SECONDS_PER_LINE or number == len(chunks)):
                    said = time.monotonic()
                    LOG.info("%d of %d batches", number, len(chunks))
        writer.write_skipped(skipped)
    finally:
        writer.close()
        if workers:
            workers.close()
    return skipped


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Exit code: 0 stored, 2 refused with one line on stderr."""
    try:
        config = load_config(argv, __doc__)
        runtime = init_runtime(config.runtime)
        if runtime.size > 1:
            rank, size = runtime.rank, runtime.size
        else:
            rank, size = config.embeddings.part, config.embeddings.parts
        skipped = write_embeddings(config, rank, size)
    except (ValueError, OSError) as error:
        print(f"make_teacher_embeddings.py: {error}", file=sys.stderr)
        return 2
    if skipped:
        image_id, reason = next(iter(skipped.items()))
        print(f"left out {len(skipped)} images that cannot be read, first: id {image_id}: {reason}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
