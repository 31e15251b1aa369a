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
"""Draw a small segmentation set to disk in COCO format, so that everything runs where no data set is at hand.

    python tools/make_synthetic_set.py --output output/synthetic --train 400 --val 40

writes OUTPUT/train and OUTPUT/val, each with images/ and instances.json. Equal seeds give equal files.
"""
import argparse
import sys
from pathlib import Path
from typing import Optional, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from src.data.synthetic import write_coco  # noqa: E402


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Write both parts; 0 when done, 2 for values that cannot be drawn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True, help="folder to write to; made when absent")
    parser.add_argument("--train", type=int, default=400, help="pictures to train on (default 400)")
    parser.add_argument("--val", type=int, default=40, help="pictures to evaluate on (default 40)")
    parser.add_argument("--size", type=int, default=256, help="longest side in pixels (default 256)")
    parser.add_argument("--seed", type=int, default=1, help="another seed draws another set (default 1)")
    arguments = parser.parse_args(argv)
    try:
        for part, count, seed in (("train", arguments.train, 2 * arguments.seed),
                                  ("val", arguments.val, 2 * arguments.seed + 1)):
            write_coco(Path(arguments.output) / part, count, arguments.size, seed)
            print(f"{Path(arguments.output) / part}: {count} pictures and instances.json")
    except (ValueError, OSError) as error:
        print(f"make_synthetic_set.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
