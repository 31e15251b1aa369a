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
"""The walk over the images of an evaluation, the same for every protocol: skip what is done, count what cannot be read,
log each image when it is finished."""
import numpy as np
from tqdm import tqdm

from src.data.images import ImageError


def evaluate_images(dataset, image_ids, log, skipped, evaluate_image, title):
    """Evaluate the images that the log does not hold yet.

    Args:
        dataset: a CocoDataset, for the pictures.
        image_ids: the images that count.
        log: a ResultsLog; images that it holds are not evaluated again.
        skipped: SkipLog that counts unreadable images. They are not logged, so the next run tries them again.
        evaluate_image: function of (image_id, image [H, W, 3] uint8 RGB) that returns the record without `image_id`.
        title: of the progress bar.

    Returns:
        Records of all images that could be evaluated, now or earlier, in the order of `image_ids`.

    Raises:
        ValueError: no image could be read.
    """
    wanted = [image_id for image_id in image_ids if image_id not in log.records]
    for image_id in tqdm(wanted, desc=title, unit="image", disable=None):
        try:
            image = dataset.read_image(image_id)
        except ImageError as error:
            skipped.add("unreadable images", error)
            continue
        log.append({"image_id": image_id, **evaluate_image(image_id, image)})
    records = [log.records[image_id] for image_id in image_ids if image_id in log.records]
    if not records:
        raise ValueError(f"none of {len(image_ids)} images could be evaluated; {skipped}")
    return records


def seconds_per_image(timed):
    """{phase: {"mean", "median"}} of dicts {phase: seconds}, one per image; None where there is none.

    The protocols box and points compile a graph in the image that first needs its shape, which the mean feels and the
    median of many images does not; everything compiles all of them before its first image."""
    if not timed:
        return None
    return {phase: {"mean": float(np.mean([seconds[phase] for seconds in timed])),
                    "median": float(np.median([seconds[phase] for seconds in timed]))} for phase in timed[0]}
