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
"""Every variant side by side: the only place with variant numbers (TinySAM, arXiv 2312.13789; SAM, arXiv 2304.02643).

`tinyvit_5m` is the paper's student, `vit_*` are SAM's encoders, `nano` and `nano_teacher` are ours for work on a CPU:
they share grid and embedding width, so one distils into the other. `nano` is as wide as `tinyvit_5m` and less deep, so
it can begin with a trained TinyViT-5M's weights (src/checkpoint/inherit.py).
"""
import contextlib
import difflib
from typing import NamedTuple

import numpy as np
from mindspore.nn.utils import no_init_parameters

from src.modeling.image_encoder import ImageEncoderViT
from src.modeling.mask_decoder import MaskDecoder
from src.modeling.prompt_encoder import PromptEncoder
from src.modeling.sam import Sam
from src.modeling.tiny_vit import TinyViT
from src.modeling.transformer import TwoWayTransformer

PATCH_SIZE = 16  # pixels of the input per cell of the image embedding
IMAGE_SIZE_STEP = 64


class TinyViTVariant(NamedTuple):
    """A TinyViT encoder per stage, and the width and default input (pixels) of the SAM around it."""

    embed_dims: tuple[int, ...]
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    window_sizes: tuple[int, ...]
    transformer_dim: int
    mlp_dim: int
    image_size: int

    def image_encoder(self, image_size):
        """The encoder for square inputs of image_size pixels."""
        return TinyViT(image_size=image_size, embed_dims=self.embed_dims, depths=self.depths, num_heads=self.num_heads,
                       window_sizes=self.window_sizes, out_chans=self.transformer_dim)


class ViTVariant(NamedTuple):
    """A ViT encoder with window attention but for some global blocks, and the SAM around it."""

    embed_dim: int
    depth: int
    num_heads: int
    window_size: int
    global_attn_indexes: tuple[int, ...]
    transformer_dim: int
    mlp_dim: int
    image_size: int

    def image_encoder(self, image_size):
        """The encoder for square inputs of image_size pixels."""
        return ImageEncoderViT(image_size=image_size, patch_size=PATCH_SIZE, embed_dim=self.embed_dim, depth=self.depth,
                               num_heads=self.num_heads, window_size=self.window_size,
                               global_attn_indexes=self.global_attn_indexes, out_chans=self.transformer_dim)


VARIANTS = {
    # SAM width is the columns transformer_dim and mlp_dim; the last column is image_size
    #                               embed_dims           depths        num_heads      window_sizes   SAM width  image
    "tinyvit_5m": TinyViTVariant((64, 128, 160, 320), (2, 2, 6, 2), (2, 4, 5, 10), (7, 7, 14, 7), 256, 2048, 1024),
    "nano_teacher": TinyViTVariant((64, 128, 160, 320), (2, 2, 6, 2), (2, 4, 5, 10), (8, 8, 16, 8), 128, 512, 512),
    "nano": TinyViTVariant((64, 128, 160), (2, 2, 4), (2, 4, 5), (8, 8, 16), 128, 512, 512),
    #                   embed_dim, depth, num_heads, window_size, global_attn_indexes, SAM width, image
    "vit_b": ViTVariant(768, 12, 12, 14, (2, 5, 8, 11), 256, 2048, 1024),
    "vit_l": ViTVariant(1024, 24, 16, 14, (5, 11, 17, 23), 256, 2048, 1024),
    "vit_h": ViTVariant(1280, 32, 16, 14, (7, 15, 23, 31), 256, 2048, 1024),
}


def spec_of(variant):
    """The row of VARIANTS; ValueError with the nearest name where there is none."""
    if variant not in VARIANTS:
        near = difflib.get_close_matches(str(variant), VARIANTS, n=1, cutoff=0.0)
        raise ValueError(f"unknown variant '{variant}'; did you mean '{near[0]}'? (all: {', '.join(VARIANTS)})")
    return VARIANTS[variant]


def build_sam(variant, image_size=None, seed=None, draw_weights=True):
    """Build a network, with fresh weights unless it is told that a file will bring them.

    Args:
        variant: a key of `VARIANTS`.
        image_size: side of the square input in pixels, a multiple of 64; None: the variant's own.
        seed: non-negative integer; equal seeds give equal weights. None: drawn from NumPy's global state.
        draw_weights: False leaves every weight to `load_network`; drawing those of ViT-H takes two minutes.

    Returns:
        Sam

    Raises:
        ValueError: unknown variant, or an image_size that is not a positive multiple of 64.
    """
    spec = spec_of(variant)
    image_size = spec.image_size if image_size is None else image_size
    with contextlib.nullcontext() if draw_weights else no_init_parameters():
        return build_sam_around(spec.image_encoder, spec.transformer_dim, spec.mlp_dim, image_size, variant, seed)


def build_sam_around(image_encoder, transformer_dim, mlp_dim, image_size, variant, seed=None):
    """SAM around an image encoder of any kind; `build_sam` for what `VARIANTS` does not list.

    Args:
        image_encoder: function of image_size that makes the encoder, [B, 3, S, S] -> [B, transformer_dim, S/16, S/16].
        transformer_dim: width of embeddings and tokens.
        mlp_dim: hidden width of the two-way transformer's MLP.
        image_size, variant, seed: as in `build_sam`; variant may be any name.
    """
    if not isinstance(image_size, int) or image_size <= 0 or image_size % IMAGE_SIZE_STEP:
        raise ValueError(f"image_size ({image_size}) must be a positive multiple of {IMAGE_SIZE_STEP}")
    # The framework's initializers draw from NumPy's global state: seed it for the build only.
    state = np.random.get_state()
    try:
        if seed is not None:
            np.random.seed(seed)
        prompt_encoder = PromptEncoder(transformer_dim, image_size // PATCH_SIZE, image_size)
        transformer = TwoWayTransformer(depth=2, embed_dim=transformer_dim, num_heads=8, mlp_dim=mlp_dim)
        mask_decoder = MaskDecoder(transformer, transformer_dim, iou_head_hidden_dim=transformer_dim)
        return Sam(image_encoder(image_size), prompt_encoder, mask_decoder, image_size, variant)
    finally:
        if seed is not None:
            np.random.set_state(state)
