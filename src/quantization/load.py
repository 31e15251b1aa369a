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
"""From a scales.json and the checkpoint it was made from to the quantized network."""
from src.checkpoint.file_hash import file_sha256
from src.quantization.cells import quantize_network
from src.quantization.scales_file import read_scales


def apply_scales(sam, scales, checkpoint):
    """Quantize a `Sam` that holds a checkpoint's weights, in place and for inference.

    Args:
        sam: the network.
        scales: path of a scales.json.
        checkpoint: path of the file that the weights came from.

    Returns:
        str of `describe_scales`.

    Raises:
        ValueError: a file that is missing or broken, or scales of another checkpoint; one line.
    """
    quantize_network(sam, read_scales(scales), file_sha256(checkpoint), str(scales))
    return describe_scales(scales)


def describe_scales(scales):
    """Text that names a scales.json in records: preset, bits, the file's hash, and that it is a simulation where no
    integer product computes it all (log2). ValueError as `read_scales`."""
    quantization = read_scales(scales)
    return (f"w{quantization.weight_bits}a{quantization.activation_bits} {quantization.preset}, scales sha256 "
            f"{file_sha256(scales)}{quantization.simulation()}")
