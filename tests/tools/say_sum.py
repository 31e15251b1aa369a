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
"""The least that ranks can do together: print the sum of 1, 2, ... over them. For test_launch.py."""
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

import numpy as np  # noqa: E402

from src.config import load_config  # noqa: E402
from src.runtime import init_runtime  # noqa: E402
from src.training.ranks import RankMean  # noqa: E402

if __name__ == "__main__":
    from mindspore import Tensor

    place = init_runtime(load_config().runtime)
    mean = RankMean(place.size)(Tensor(np.float32([place.rank + 1]))).asnumpy()[0]
    print(f"rank {place.rank} of {place.size}: sum {mean * place.size:g}", flush=True)
    if os.environ.get("LEAVE_WITH") and place.rank == place.size - 1:
        print("ValueError: something is wrong here", flush=True)
        os._exit(int(os.environ["LEAVE_WITH"]))
