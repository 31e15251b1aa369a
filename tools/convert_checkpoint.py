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
"""Convert weights between released torch files, MindSpore checkpoints and safetensors, without torch.

Released files are those of SAM (vit_b, vit_l, vit_h), MobileSAM and TinySAM (both tinyvit_5m). Their pickles are read
by a small interpreter that accepts tensors and nothing else (src/checkpoint/torch_pickle.py); no code of the file runs.
Every parameter of the network must be in the file and fit, or nothing is written.
"""
import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from src.checkpoint import (  # noqa: E402
    WeightMismatch,
    is_known_extra,
    load_network,
    read_metadata,
    read_weights,
    save_network,
)
from src.checkpoint.file_hash import file_sha256  # noqa: E402
from src.modeling.build_sam import VARIANTS, build_sam  # noqa: E402

EXAMPLES = """examples:
  python tools/convert_checkpoint.py --variant vit_b sam_vit_b_01ec64.pth sam_vit_b.ckpt
  python tools/convert_checkpoint.py --variant tinyvit_5m mobile_sam.pt mobile_sam.ckpt
  python tools/convert_checkpoint.py --variant tinyvit_5m tinysam_42.3.pth tinysam.ckpt
  python tools/convert_checkpoint.py sam_vit_b.ckpt sam_vit_b.safetensors
  python tools/convert_checkpoint.py sam_vit_b.safetensors sam_vit_b.ckpt

Files that this repository wrote name their variant themselves. Exit status: 0 converted, 2 refused, nothing written."""


def parse_arguments(arguments=None):
    """Command line -> namespace."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help=".pth, .pt (torch >= 1.6), .safetensors or .ckpt")
    parser.add_argument("target", type=Path, help="file to write: .ckpt or .safetensors")
    parser.add_argument("--variant", help=f"{', '.join(VARIANTS)}; default: what the file says of itself")
    parser.add_argument("--image-size", type=int, metavar="PIXELS",
                        help="input side the weights were made for; default: what the file says, else the variant's")
    return parser.parse_args(arguments)


def convert(source, target, variant=None, image_size=None):
    """Read `source`, check it against the variant's own parameters, write `target`.

    Returns (parameters, numbers in them, names of the released file that were left out). Raises ValueError when the
    variant is unknown or the weights do not fit it, OSError when a file cannot be read or written.
    """
    if target.suffix not in (".ckpt", ".safetensors"):
        raise ValueError(f"{target}: can write .ckpt and .safetensors only")
    metadata = read_metadata(source)
    variant = variant or metadata.get("variant")
    if not variant:
        raise ValueError(f"{source} does not say which network it is for; add --variant ({', '.join(VARIANTS)})")
    if image_size is None and variant == metadata.get("variant"):
        image_size = metadata.get("image_size")
    network = build_sam(variant, image_size, draw_weights=False)
    weights = read_weights(source)
    load_network(network, weights, source=str(source), metadata=metadata)
    kept = {key: value for key, value in metadata.items() if key not in ("variant", "image_size", "contents")}
    save_network(target, network, kept)
    parameters = network.get_parameters()
    sizes = [parameter.size for parameter in parameters]
    return len(sizes), sum(sizes), sorted(name for name in weights if is_known_extra(name))


def main(arguments=None):
    """Command line program; returns the exit status."""
    options = parse_arguments(arguments)
    try:
        count, numbers, left_out = convert(options.source, options.target, options.variant, options.image_size)
    except WeightMismatch as error:
        for name in error.names:
            print(name)
        print(error, file=sys.stderr)
        return 2
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{count} parameters, {numbers} numbers: all of the network's, all found")
    print(f"{len(left_out)} known extras left out" + (f", first {left_out[0]}" if left_out else ""))
    for path in (options.source, options.target):
        print(f"sha256 {file_sha256(path)}  {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
