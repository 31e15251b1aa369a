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
"""Which parameters decay, and how fast each learns: layer-wise rate decay as TinyViT (arXiv 2207.10666) is fine-tuned.

The rate of an encoder's block is multiplied by layer_decay ^ (blocks above it): the last block learns at the full rate,
the first at the lowest. The patch embedding goes with the first block, a merging layer with the last block of its
stage. The neck, the prompt encoder and the mask decoder stand above all blocks and learn at the full rate.
"""
import re
from typing import List, Sequence

from mindspore import Parameter, nn

# Rows that are looked up or added and never multiply an activation: decay would only pull positions together.
TABLES = ("attention_biases", "rel_pos_h", "rel_pos_w", "pos_embed", "embedding_table")

_BLOCK = re.compile(r"image_encoder\.(?:layers\.(\d+)\.)?blocks\.(\d+)\.")  # a TinyViT's stage and block, a ViT's block
_MERGING = re.compile(r"image_encoder\.layers\.(\d+)\.downsample\.")
_STEM = ("image_encoder.patch_embed.", "image_encoder.pos_embed")


def decays(parameter: Parameter) -> bool:
    """True for weights of two or more dimensions that are no table; norms, biases and single scales do not decay."""
    return parameter.ndim >= 2 and parameter.name.rpartition(".")[2] not in TABLES


def batch_norm_statistics(network: nn.Cell) -> List[Parameter]:
    """Moving means and variances of a network, which the forward pass writes; a frozen teacher's are none of them."""
    return [p for p in network.get_parameters()
            if p.name.endswith(("moving_mean", "moving_variance")) and not p.name.startswith("teacher.")]


def rate_multipliers(network: nn.Cell, parameters: Sequence[Parameter], layer_decay: float) -> List[float]:
    """Factor on the learning rate of each parameter.

    Args:
        network: the whole network: all its blocks count, also those that are frozen.
        parameters: some of its parameters.
        layer_decay: factor from a block to the one below it; 1: every multiplier is 1.

    Raises:
        ValueError: a decay other than 1 and no block by the names of a TinyViT or a ViT.
    """
    if layer_decay == 1.0:
        return [1.0] * len(parameters)
    found = (_BLOCK.match(parameter.name) for parameter in network.get_parameters())
    blocks = sorted({_stage_and_block(match) for match in found if match})
    if not blocks:
        raise ValueError(f"optim.layer_decay is {layer_decay} but the student has no parameter named "
                         "image_encoder...blocks.N; set it to 1")
    return [layer_decay ** _blocks_above(parameter.name, blocks) for parameter in parameters]


def _stage_and_block(match: "re.Match[str]") -> tuple:
    return int(match.group(1) or 0), int(match.group(2))


def _blocks_above(name: str, blocks: List[tuple]) -> int:
    """Blocks of the encoder above the place of a parameter; 0 for the last block and everything behind it."""
    if name.startswith(_STEM):
        return len(blocks) - 1
    block, merging = _BLOCK.match(name), _MERGING.match(name)
    if block:
        return len(blocks) - 1 - blocks.index(_stage_and_block(block))
    if merging:
        return sum(stage > int(merging.group(1)) for stage, _ in blocks)
    return 0
