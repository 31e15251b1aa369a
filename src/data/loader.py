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
"""Fixed-shape training batches (docs/design.md, "Batches"), prepared by worker processes.

Sample i of epoch e follows from numpy.random.default_rng([seed, e, i]) alone: neither the number of workers, nor the
rank, nor where a run was resumed changes it.
"""
import hashlib
import logging

import numpy as np

from src.data.coco import CocoDataset
from src.data.images import normalise_and_pad
from src.data.records import SkipLog
from src.data.sa1b import Sa1bDataset
from src.data.sample_maker import SampleMaker
from src.data.synthetic import SyntheticDataset
from src.data.transforms import MASK_STRIDE
from src.data.workers import Workers

LOG = logging.getLogger(__name__)
ORDER_STREAM = 1  # keeps the generator of an epoch's order apart from those of its samples


def open_dataset(format, paths=(), image_roots=(), image_ids="", synthetic_images=1000, seed=1, image_size=1024,
                 min_mask_pixels=0):
    """The data set that the `data` section of the configuration names.

    Args:
        format: "sa1b", "coco" or "synthetic".
        paths, image_roots, image_ids, synthetic_images, min_mask_pixels: see default_config.yaml.
        seed: of the synthetic pictures.
        image_size: longest side of the synthetic pictures in pixels.

    Returns:
        A data set: len(), `read(index)` -> Sample, `skipped`.

    Raises:
        ValueError: an unknown format, or a data set that cannot be used.
    """
    keep_ids = read_image_ids(image_ids) if image_ids else None
    if format == "coco":
        return CocoDataset(paths, image_roots, keep_ids, min_mask_pixels)
    if format == "sa1b":
        return Sa1bDataset(paths, keep_ids)
    if format == "synthetic":
        return SyntheticDataset(synthetic_images, image_size, seed)
    raise ValueError(f"data.format ({format!r}) must be one of sa1b, coco, synthetic")


def read_image_ids(path):
    """Set of image ids from a text file, one a line; "sa_123" and "sa_123.jpg" count as 123."""
    ids = set()
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            digits = text[3:] if text.startswith("sa_") else text
            digits = digits[: -len(".jpg")] if digits.endswith(".jpg") else digits
            if not digits.isascii() or not digits.isdigit():
                raise ValueError(f"{path}, line {number}: {text[:40]!r} is not an image id")
            ids.add(int(digits))
    if not ids:
        raise ValueError(f"{path}: no image ids in it")
    return ids


def collate(samples, image_size):
    """Stack samples into a batch; pictures [h, w, 3] uint8 are normalised and padded to [3, S, S] float32, stored
    embeddings become float32."""
    batch = {name: np.stack([sample[name] for sample in samples]) for name in samples[0] if name != "images"}
    if "teacher_embeddings" in batch:
        batch["teacher_embeddings"] = batch["teacher_embeddings"].astype(np.float32)
    return {"images": np.stack([normalise_and_pad(sample["images"], image_size) for sample in samples]), **batch}


class Batches:
    """The batches of a rank, epoch by epoch. Use as a context manager, or call close(), to end the workers.

    Args:
        dataset: len(), `read(index)` -> Sample; see `open_dataset`. It is sent to the workers, so it must pickle.
        image_size: S, a multiple of 4.
        prompts_per_image: M; of a picture with more masks M are drawn, of one with fewer the rest is mask_valid 0.
        slots: K >= 2.
        batch_size: B, per rank.
        box_share, box_jitter, flip_probability, scale_jitter, min_mask_pixels: see default_config.yaml.
        seed: integer >= 0.
        rank, size: this rank and how many there are; all get the same number of batches, no picture twice in an epoch.
        workers: processes that prepare batches; 0: prepared when asked for, in this process.
        repeat_masks: of a picture with fewer than M masks the rest is its masks once more, each time with another first
            prompt.
        ellipses: the last so many of the M prompts are boxes of random ellipses (src/data/ellipses.py).
        pasted_objects: so many objects of another picture are pasted into each (src/data/paste.py).
        embedding_cache: EmbeddingCache of the teacher; batches then hold `teacher_embeddings` [B, C, S/16, S/16]
            float32 of the pictures as they are shown, flipped or not. None: they do not.

    Attributes:
        skipped: SkipLog of what the data set left out when it was opened, and of the batches handed out so far.

    Raises:
        ValueError: fewer pictures than batch_size * size, a value out of range, or a cache that lacks pictures of the
            data set or is used with scale jitter.
    """

    def __init__(self, dataset, image_size, prompts_per_image, slots, batch_size, box_share=0.5, box_jitter=0.1,
                 flip_probability=0.5, scale_jitter=(1.0, 1.0), seed=1, rank=0, size=1, workers=0, min_mask_pixels=16,
                 embedding_cache=None, repeat_masks=False, ellipses=0, pasted_objects=0):
        if image_size < MASK_STRIDE or image_size % MASK_STRIDE:
            raise ValueError(f"image_size ({image_size}) must be a positive multiple of {MASK_STRIDE}")
        if min(prompts_per_image, batch_size) < 1 or slots < 2:
            raise ValueError(f"prompts_per_image ({prompts_per_image}) and batch_size ({batch_size}) must be at least "
                             f"1, slots ({slots}) at least 2")
        if not 0 <= ellipses <= prompts_per_image:
            raise ValueError(f"data.ellipses ({ellipses}) must lie in 0..data.prompts_per_image ({prompts_per_image})")
        if not 0 <= rank < size:
            raise ValueError(f"rank ({rank}) must lie in 0..{size - 1}")
        if len(dataset) < batch_size * size:
            raise ValueError(f"the data set has {len(dataset)} usable images, fewer than one batch of "
                             f"{batch_size * size} (batch_size {batch_size} x {size} ranks); lower data.batch_size")
        if embedding_cache is not None:
            if tuple(scale_jitter) != (1.0, 1.0):
                raise ValueError(f"data.scale_jitter ({list(scale_jitter)}) must be [1.0, 1.0] with "
                                 "data.embedding_cache: stored embeddings show every picture at its full size")
            if pasted_objects:
                raise ValueError(f"data.pasted_objects ({pasted_objects}) must be 0 with data.embedding_cache: stored "
                                 "embeddings show pictures as they are")
            embedding_cache.require((dataset.image_id(index) for index in range(len(dataset))), flip_probability > 0)
        self.dataset, self.batch_size, self.seed, self.rank, self.size = dataset, batch_size, seed, rank, size
        self.skipped = SkipLog()
        self.skipped.merge(dataset.skipped)
        self._maker = SampleMaker(dataset, image_size, prompts_per_image, slots, box_share, box_jitter,
                                  flip_probability, tuple(scale_jitter), seed, min_mask_pixels, repeat_masks,
                                  embedding_cache, ellipses, pasted_objects)
        self._workers = Workers(self._maker.batch, workers) if workers > 0 else None

    def __len__(self):
        """Batches of an epoch; the pictures that do not fill one on every rank are left out (others each epoch)."""
        return len(self.dataset) // (self.batch_size * self.size)

    def epoch(self, epoch, start=0):
        """Iterate over the batches of epoch `epoch` from batch `start` on (a resumed run starts where it stopped)."""
        tasks = ((epoch, indices) for indices in self._indices(epoch)[start:])
        results = self._workers.map(tasks) if self._workers else (self._maker.batch(*task) for task in tasks)
        for samples, skipped in results:
            self._report(skipped)
            yield collate(samples, self._maker.image_size)

    def close(self):
        """End the worker processes."""
        if self._workers:
            self._workers.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _indices(self, epoch):
        """[len(self), B] data set indices of this rank's batches."""
        order = np.random.default_rng([self.seed, epoch, 0, ORDER_STREAM]).permutation(len(self.dataset))
        whole = order[: len(self) * self.batch_size * self.size]
        return whole.reshape(len(self), self.size, self.batch_size)[:, self.rank].tolist()

    def _report(self, skipped):
        """Count, and log the first of each kind: one clear line, not one for every epoch."""
        for reason, example in skipped.examples.items():
            if example and reason not in self.skipped.counts:
                LOG.warning("skipping %s, first: %s", reason, example)
        self.skipped.merge(skipped)


def first_pictures(section, image_size, count, prompts_per_image, seed):
    """The first pictures of a data set's order under a seed, as they are and with prompts from their masks: what
    quantization calibrates with. Each comes once: in a batch an unusable picture is replaced by the next usable one,
    which has its own turn as well.

    Args:
        section: the `data` section of the configuration.
        image_size: S.
        count: so many pictures, or all where fewer differ; a line is logged of those left out.
        prompts_per_image: M.
        seed: of the order and of the prompts.

    Returns:
        list of batches of one picture each, K = 2.

    Raises:
        ValueError: as `open_dataset` and `Batches`, or no usable picture.
    """
    dataset = open_dataset(section.format, section.paths, section.image_roots, section.image_ids,
                           section.synthetic_images, seed, image_size, section.min_mask_pixels)
    with Batches(dataset, image_size, prompts_per_image, 2, 1, section.box_share, 0.0, 0.0, seed=seed,
                 min_mask_pixels=section.min_mask_pixels) as batches:
        distinct, repeats = {}, 0
        for batch in batches.epoch(0):
            key = hashlib.sha256(batch["images"].tobytes()).digest()
            repeats += key in distinct
            distinct.setdefault(key, batch)
            if len(distinct) == count:
                break
    if repeats:
        LOG.warning("%d pictures to calibrate with repeat others, some in the place of unusable ones, and are left "
                    "out; %d are taken", repeats, len(distinct))
    return list(distinct.values())
