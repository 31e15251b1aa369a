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
"""Make the weights that a student begins with: parts of other networks' weights, the rest fresh.

    python tools/inherit_weights.py --variant nano --output output/start.ckpt \\
        --take output/mobile_sam.ckpt image_encoder --take checkpoints/nano.safetensors prompt_encoder mask_decoder
    python train.py --config configs/distill_mobile_sam.yaml --model.student_checkpoint=output/start.ckpt ...

Of each file, parameters with the same name and shape in the parts named are taken; TinyViT's attention biases are
fitted to the window. Later files win. Exit status: 0 written, 2 refused, nothing written.
"""
import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from src.checkpoint import read_weights, save_network  # noqa: E402
from src.checkpoint.inherit import inherit_weights  # noqa: E402
from src.modeling.build_sam import VARIANTS, build_sam  # noqa: E402


def parse_arguments(arguments=None):
    """Command line -> namespace."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", required=True, help=", ".join(VARIANTS))
    parser.add_argument("--image-size", type=int, metavar="PIXELS", help="input side; default: the variant's own")
    parser.add_argument("--take", required=True, nargs="+", action="append", metavar=("FILE", "PART"),
                        help="a file of weights, and parts of it such as image_encoder; repeat for more files")
    parser.add_argument("--seed", type=int, default=0, help="of the fresh weights (default: 0)")
    parser.add_argument("--output", required=True, type=Path, help="file to write: .ckpt or .safetensors")
    return parser.parse_args(arguments)


def main(arguments=None):
    """Command line program; returns the exit status."""
    options = parse_arguments(arguments)
    try:
        if options.seed < 0:
            raise ValueError(f"--seed ({options.seed}) must be 0 or more")
        for path, *parts in options.take:
            if not parts:
                raise ValueError(f"--take {path} names no part; add one or more, such as image_encoder")
        if options.output.suffix not in (".ckpt", ".safetensors"):
            raise ValueError(f"{options.output}: can write .ckpt and .safetensors only")
        network = build_sam(options.variant, options.image_size, seed=options.seed)
        for path, *parts in options.take:
            taken, left = inherit_weights(network, read_weights(path), parts, source=path)
            print(f"{path}: {len(taken)} parameters taken into {', '.join(parts)}; {len(left)} stay as they were"
                  + (f", first {left[0]}" if left else ""))
        save_network(options.output, network)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"wrote {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
