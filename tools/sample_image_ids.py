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
"""Draw a reproducible share of a set and write its image ids, one a line, for `data.image_ids` or `eval.image_ids` (the
paper trains on 1 % of SA-1B and gives no list, arXiv 2312.13789, section 4.1).

    python tools/sample_image_ids.py --share 0.01 --seed 1 --output sa1b/one_percent.txt sa1b/sa_*.tar
    python tools/sample_image_ids.py --share 0.06 --seed 7 --output val.txt --rest train.txt my_set/instances.json

Rule: image N is drawn when the first 8 bytes of sha256("SEED:N"), as a big-endian integer, are below SHARE * 2^64.
Every image is decided alone: whatever shards are at hand, and in whatever order, the same images of them are drawn, and
a larger share of the same seed holds the smaller one. The file says rule, seed and share in its first lines.
"""
import argparse
import hashlib
import sys
from pathlib import Path
from typing import Optional, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from src.checkpoint import write_atomically  # noqa: E402
from src.data.coco_json import load_coco_json  # noqa: E402
from src.data.sa1b import Sa1bDataset  # noqa: E402


def is_drawn(image_id: int, share: float, seed: int) -> bool:
    """Whether an image belongs to the share."""
    digest = hashlib.sha256(f"{seed}:{image_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def list_text(image_ids: Sequence[int], share: float, seed: int, rest: bool = False) -> str:
    """The file's text: rule, seed and share as comments, then the drawn ids (`rest`: those not drawn) in ascending
    order; ValueError if there are none."""
    drawn = [image_id for image_id in sorted(image_ids) if is_drawn(image_id, share, seed) != rest]
    if not drawn:
        raise ValueError(f"a share of {share} of {len(image_ids)} images {'leaves' if rest else 'holds'} none; "
                         f"{'lower' if rest else 'raise'} --share or give more images")
    side = "does not begin" if rest else "begins"
    head = [f'# {len(drawn)} of {len(image_ids)} images: those whose sha256("{seed}:ID") {side} below {share} * 2^64',
            f"# made by tools/sample_image_ids.py --share {share} --seed {seed}" + (" --rest" if rest else "")]
    return "\n".join([*head, *map(str, drawn)]) + "\n"


def image_ids_of(paths: Sequence[str]) -> Sequence[int]:
    """Image ids of COCO-format JSONs, or of SA-1B folders and shards; an id in several JSONs counts once."""
    jsons = [path.endswith(".json") for path in paths]
    if not any(jsons):
        return Sa1bDataset(paths).image_ids
    if not all(jsons):
        raise ValueError(f"{paths[jsons.index(False)]} is not a COCO-format JSON as {paths[jsons.index(True)]} is; "
                         "give one kind at a time")
    return sorted({image["id"] for path in paths for image in load_coco_json(path)["images"]})


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Write the list; 0 when done, 2 for paths or values that cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", help="SA-1B folders or tar shards, or COCO-format JSONs")
    parser.add_argument("--share", type=float, default=0.01, help="of all images, above 0 and at most 1 (default 0.01)")
    parser.add_argument("--seed", type=int, default=1, help="another seed draws others (default 1)")
    parser.add_argument("--output", required=True, help="text file to write")
    parser.add_argument("--rest", help="text file for the ids that were not drawn")
    arguments = parser.parse_args(argv)
    try:
        if not 0 < arguments.share <= 1:
            raise ValueError(f"--share is {arguments.share}; it must be above 0 and at most 1")
        image_ids = image_ids_of(arguments.paths)
        files = [(arguments.output, list_text(image_ids, arguments.share, arguments.seed))]
        if arguments.rest:
            files.append((arguments.rest, list_text(image_ids, arguments.share, arguments.seed, rest=True)))
        for name, text in files:
            _write(Path(name), text)
    except (ValueError, OSError) as error:
        print(f"sample_image_ids.py: {error}", file=sys.stderr)
        return 2
    for name, text in files:
        print(f"{name}: {text.count(chr(10)) - 2} of {len(image_ids)} images")
    return 0


def _write(path: Path, text: str) -> None:
    write_atomically(path, path.suffix, lambda part: Path(part).write_text(text, encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(main())
