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
"""Names and shapes of the parameters of SAM ViT-B, ViT-L and ViT-H (arXiv 2304.02643) and of MobileSAM's TinyViT-5M, as
their PyTorch packages build them, for tests/parity.

    python tools/make_parameter_lists.py --output tests/parity/parameter_lists.json

Needs torch and the packages segment-anything and mobilesam-mirror; what the tests import from here needs neither. Of
each part of a network: how many tensors, how many numbers, and the SHA-256 of the sorted lines "name shape".
"""
import argparse
import hashlib
import json
import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.make_parity_vectors import Case, reference_parts  # noqa: E402

NETWORKS = {
    "tinyvit_5m": Case(1024, 1, None),
    "vit_b": Case(1024, 1, (768, 12, 12, (2, 5, 8, 11))),
    "vit_l": Case(1024, 1, (1024, 24, 16, (5, 11, 17, 23))),
    "vit_h": Case(1024, 1, (1280, 32, 16, (7, 15, 23, 31))),
}
# TinyViT's classifier and what it works out from its settings; counters of batches.
NOT_WEIGHTS = ("num_batches_tracked", "attention_bias_idxs")
CLASSIFIER = ("image_encoder.norm_head.", "image_encoder.head.")


def summaries(shapes):
    """{part: {"tensors", "numbers", "sha256"}} of {parameter name as released: shape}."""
    found = {}
    for part in sorted({name.split(".")[0] for name in shapes}):
        own = {name: tuple(shape) for name, shape in shapes.items() if name.startswith(part + ".")}
        lines = "".join(f"{name} {list(own[name])}\n" for name in sorted(own))
        found[part] = {"tensors": len(own), "numbers": sum(map(math.prod, own.values())),
                       "sha256": hashlib.sha256(lines.encode()).hexdigest()}
    return found


def reference_shapes(case):
    """{parameter name as released: shape} of a reference network."""
    import torch

    with torch.device("cpu" if case.vit is None else "meta"):  # ViT-H without its 2.5 GB; TinyViT reads numbers back
        parts = reference_parts(case)
    shapes = {f"{prefix}.{name}": tuple(tensor.shape)
              for prefix, part in parts.items() for name, tensor in part.state_dict().items()}
    return {name: shape for name, shape in shapes.items()
            if not name.endswith(NOT_WEIGHTS) and not name.startswith(CLASSIFIER)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", required=True, type=Path, help="the JSON to write")
    arguments = parser.parse_args()
    lists = {name: summaries(reference_shapes(case)) for name, case in NETWORKS.items()}
    arguments.output.write_text(json.dumps(lists, indent=1) + "\n", encoding="utf-8")
    print(f"{arguments.output}: {', '.join(lists)}")


if __name__ == "__main__":
    main()
