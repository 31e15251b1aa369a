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
"""train.py with a student and a teacher made tiny, so that runs of several processes are quick. Arguments:
train.py's.

TINY_PAUSE in the environment: seconds that every batch takes, so that a test can interfere with a run in the middle.
"""
import os
import sys
import time
from pathlib import Path

from mindspore import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

import train  # noqa: E402
from src.data.loader import Batches  # noqa: E402
from src.modeling.build_sam import build_sam_around  # noqa: E402
from src.modeling.common import conv2d  # noqa: E402

WIDTH = 16


def make_tiny(image_size, variant, seed):
    """A SAM whose encoder is a patch embedding, a BatchNorm and a convolution."""
    def encoder(_):
        return nn.SequentialCell(conv2d(3, WIDTH, 16, stride=16), nn.BatchNorm2d(WIDTH), nn.ReLU(),
                                 conv2d(WIDTH, WIDTH, 3, padding=1))
    return build_sam_around(encoder, WIDTH, 32, image_size, variant, seed)


class SlowBatches(Batches):
    """Batches that take TINY_PAUSE seconds each."""

    def epoch(self, epoch, start=0):
        for batch in super().epoch(epoch, start):
            time.sleep(float(os.environ.get("TINY_PAUSE", "0")))
            yield batch


train.Batches = SlowBatches
train.build_student = lambda model, seed, precision: make_tiny(model.image_size, "tiny", seed)
train.build_teacher = lambda model, image_size, precision: make_tiny(image_size, "tiny_teacher", 77)

if __name__ == "__main__":
    sys.exit(train.main())
