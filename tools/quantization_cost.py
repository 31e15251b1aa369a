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
"""What a quantized network would cost, counted without weights or pictures: float, 8 and 6 bits, side by side.

    python tools/quantization_cost.py --variant tinyvit_5m

One image and one click at --image_size (default: the variant's). Prints a table (Markdown) of bytes, of
multiply-accumulates (MACs) by the paper's rule (arXiv 2312.13789, table 1) and of bit operations, with convolutions and
with the decoder's products of two activations quantized or in float. A calibrated network's numbers are in its cost.md.
"""
import argparse
import itertools
import os
import sys
from pathlib import Path

import numpy as np

os.environ.setdefault("GLOG_v", "3")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from src.config import load_config  # noqa: E402
from src.modeling.build_sam import build_sam  # noqa: E402
from src.modeling.sam import PromptDecoder  # noqa: E402
from src.quantization.cost import cost_table, float_cost, quantized_cost  # noqa: E402
from src.quantization.fold import fold_network  # noqa: E402
from src.quantization.observe import Observer  # noqa: E402
from src.quantization.products import find_products, reason_to_keep  # noqa: E402
from src.quantization.spec import LayerScales, Quantization  # noqa: E402
from src.runtime import init_runtime  # noqa: E402

BITS = (8, 6)


class Counted:
    """A `Sam`, folded in place, with the MACs of its products; runs it once."""

    def __init__(self, sam):
        self.sam = fold_network(sam)
        self.products = find_products(sam)
        observer = Observer(sam, PromptDecoder(sam).set_train(False), self.products, seed=0)
        observer.count_macs()
        self.macs = observer.macs
        self.parameter_bytes = sum(parameter.nbytes for parameter in sam.get_parameters())

    def planned(self, bits, convolutions, decoder_attention):
        """A Quantization for its cost alone: scales and codes are zero."""
        reasons = {product.name: reason_to_keep(product, decoder_attention, convolutions) for product in self.products}
        layers = []
        for product in self.products:
            if reasons[product.name]:
                continue
            shape = None if product.kind == "matmul" else product.operation.weight.shape
            layers.append(LayerScales(
                product.name, product.kind, bits if shape else 0, bits, (), 0, self.macs.get(product.name, 0),
                weight_scales=shape and np.zeros(shape[0]), weight_codes=shape and np.zeros(shape, np.int8)))
        kept = {name: reason for name, reason in reasons.items() if reason}
        return Quantization("", self.sam.variant, self.sam.image_size, "", bits, bits, tuple(layers), kept,
                            {name: self.macs.get(name, 0) for name in kept}, parameter_bytes=self.parameter_bytes)

    def costs(self):
        """[(name, Cost)] of float and of every way of quantizing."""
        found = [("float32", float_cost(self.planned(BITS[0], True, True)))]
        for bits, convolutions, attention in itertools.product(BITS, (True, False), (True, False)):
            left = [name for name, quantized in (("convolutions", convolutions), ("decoder's attention", attention))
                    if not quantized]
            name = f"W{bits}A{bits}" + (f", {' and '.join(left)} float" if left else "")
            found.append((name, quantized_cost(self.planned(bits, convolutions, attention))))
        return found


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     allow_abbrev=False)
    parser.add_argument("--variant", default="tinyvit_5m", help="a student of src/modeling/build_sam.py")
    parser.add_argument("--image_size", type=int, help="pixels; default: the variant's own")
    arguments = parser.parse_args(argv)
    init_runtime(load_config(["--runtime.device=cpu"]).runtime)
    counted = Counted(build_sam(arguments.variant, image_size=arguments.image_size, seed=0))
    print("\n".join(cost_table(counted.costs())))


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        print(f"quantization_cost.py: {error}", file=sys.stderr)
        sys.exit(2)
