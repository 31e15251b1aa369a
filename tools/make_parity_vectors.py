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
"""Reference vectors for tests/parity: SAM (arXiv 2304.02643) and MobileSAM's TinyViT run in PyTorch on made-up weights.

    python tools/make_parity_vectors.py --output tests/parity [--case vit_l_small ...]

Needs torch and the packages segment-anything and mobilesam-mirror; what the tests import from here needs NumPy only.
Every weight is a function of its name and shape, every input a function of its shape, so no weight file is stored. Each
case becomes one .npz of plain float32 arrays: sampled image embeddings and mask logits with their positions, all IoUs.
"""
import argparse
import os
import sys
import zlib
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np

SAMPLED_EMBEDDINGS = 4096  # positions per image embedding
SAMPLED_PIXELS = 192  # positions per mask


class Case(NamedTuple):
    """A network to compare; `vit` is (embed_dim, depth, num_heads, global_attn_indexes), None for a TinyViT.

    `tinyvit` is (embed_dims, depths, num_heads, window_sizes); width and mlp are the transformer's.
    """

    image_size: int
    batch: int
    vit: Optional[tuple] = None
    tinyvit: tuple = ((64, 128, 160, 320), (2, 2, 6, 2), (2, 4, 5, 10), (7, 7, 14, 7))
    width: int = 256
    mlp: int = 2048


CASES = {
    "tinyvit_5m_1024": Case(1024, 1),
    "tinyvit_5m_320": Case(320, 2),
    "nano_256": Case(256, 2, None, ((64, 128, 160), (2, 2, 4), (2, 4, 5), (8, 8, 16)), 128, 512),
    "vit_b_1024": Case(1024, 1, (768, 12, 12, (2, 5, 8, 11))),
    # ViT-L and ViT-H cut to their first global block and to narrower heads; heads, window and pattern are theirs
    "vit_l_small": Case(256, 2, (256, 6, 16, (5,))),
    "vit_h_small": Case(256, 2, (320, 8, 16, (7,))),
}

# Tables of vectors that are used as they are; other weights of two or more dimensions multiply an input.
EMBEDDING_TABLES = (
    "prompt_encoder.point_embeddings.", "prompt_encoder.not_a_point_embed.", "prompt_encoder.no_mask_embed.",
    "mask_decoder.iou_token.", "mask_decoder.mask_tokens.",
)

# Prompts: name -> (points (x, y, label), box (x0, y0, x1, y1) or None, with mask input), in pixels of a 1024 input.
PROMPTS = {
    "click": ([(500.5, 375.25, 1)], None, False),
    "click_and_negative": ([(300, 620, 1), (701.75, 180, 0)], None, False),
    "box": ([], (120, 200.5, 830, 940), False),
    "box_and_click": ([(420, 610, 1)], (64, 96, 700, 1000), False),
    "mask": ([], None, True),
    "click_and_mask": ([(850, 77, 1)], None, True),
    "box_negative_and_mask": ([(512, 512, 0)], (33, 240, 990, 760), True),
}


def noise(name, shape):
    """Uniform numbers of mean 0 and variance 1, a function of the name; RandomState's stream is frozen for good."""
    stream = np.random.RandomState(zlib.crc32(name.encode()))
    return (stream.random_sample(shape) * 2 - 1) * np.sqrt(3)


def reference_weight(name, shape):
    """Weight of the released checkpoint's parameter `name`: float32 of `shape`, scaled so that activations stay O(1).

    Norms and biases are away from 1 and 0, and biases of attention as large as its scores, so that each matters.
    """
    values = noise(name, shape)
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "running_var":
        values = 1 + 0.4 * values  # between 0.3 and 1.7
    elif leaf == "running_mean" or leaf == "bias":
        values = 0.2 * values
    elif leaf == "pos_embed":
        values = 0.5 * values
    elif leaf == "weight" and len(shape) == 1:
        values = 1 + 0.3 * values
    elif leaf in ("rel_pos_h", "rel_pos_w"):
        values = values / np.sqrt(shape[-1])
    elif leaf == "weight" and not name.startswith(EMBEDDING_TABLES):
        fan_in = shape[0] if "output_upscaling" in name else np.prod(shape[1:])
        values = values * np.sqrt(2 / fan_in)
    return values.astype(np.float32)


def input_image(batch, image_size):
    """Normalised images [B, 3, S, S] float32: waves and noise."""
    y, x = np.mgrid[:image_size, :image_size] / image_size
    waves = np.stack([np.sin(9 * x + 4 * y), np.cos(23 * x * y), np.sin(31 * y - 7 * x)])
    return (waves[None] + 0.5 * noise(f"image{image_size}", (batch, 3, image_size, image_size))).astype(np.float32)


def input_mask(image_size):
    """Mask input [1, 1, S/4, S/4] float32: logits of a disc with noise."""
    side = image_size // 4
    y, x = np.mgrid[:side, :side] / side - 0.5
    logits = 12 * (0.3 - np.hypot(x, y)) + noise(f"mask{image_size}", (side, side))
    return logits[None, None].astype(np.float32)


def sample_positions(name, total, count):
    """`count` fixed positions of a flattened array of `total` elements, int32, ascending."""
    stream = np.random.RandomState(zlib.crc32(name.encode()))
    return np.sort(stream.choice(total, count, replace=False)).astype(np.int32)


def import_reference(package):
    """Import a reference package; both import torchvision and use none of its compiled operators.

    Where torchvision lacks its compiled part, declaring the names it registers is enough to import it.
    """
    import torch

    if not hasattr(torch.ops.torchvision, "nms"):
        try:
            import torchvision  # noqa: F401
        except RuntimeError:
            for loaded in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
                del sys.modules[loaded]
            import_reference.library = torch.library.Library("torchvision", "DEF")
            for operator in ("nms", "qnms"):
                import_reference.library.define(f"{operator}(Tensor dets, Tensor scores, float threshold) -> Tensor")
    return __import__(package + ".modeling", fromlist=["modeling"])


def reference_parts(case):
    """The reference network of a case as it is built, {"image_encoder", "prompt_encoder", "mask_decoder": module}."""
    import torch

    if case.vit is None:
        modeling = import_reference("mobile_sam")
        encoder = modeling.TinyViT(
            img_size=case.image_size, embed_dims=case.tinyvit[0], depths=case.tinyvit[1], num_heads=case.tinyvit[2],
            window_sizes=case.tinyvit[3], num_classes=1000, drop_path_rate=0.0,
        )
        norm = type(encoder.neck[1])
        if case.width != 256:  # the package's neck has SAM's width alone
            encoder.neck = torch.nn.Sequential(
                torch.nn.Conv2d(case.tinyvit[0][-1], case.width, 1, bias=False), norm(case.width),
                torch.nn.Conv2d(case.width, case.width, 3, padding=1, bias=False), norm(case.width))
    else:
        modeling = import_reference("segment_anything")
        embed_dim, depth, num_heads, global_attn_indexes = case.vit
        encoder = modeling.ImageEncoderViT(
            img_size=case.image_size, embed_dim=embed_dim, depth=depth, num_heads=num_heads, window_size=14,
            global_attn_indexes=global_attn_indexes, use_rel_pos=True, mlp_ratio=4, qkv_bias=True, out_chans=256,
            norm_layer=lambda dim: torch.nn.LayerNorm(dim, eps=1e-6),
        )
    grid = case.image_size // 16
    return {
        "image_encoder": encoder,
        "prompt_encoder": modeling.PromptEncoder(case.width, (grid, grid), (case.image_size, case.image_size), 16),
        "mask_decoder": modeling.MaskDecoder(
            transformer_dim=case.width, transformer=modeling.TwoWayTransformer(2, case.width, 8, case.mlp),
            iou_head_hidden_dim=case.width,
        ),
    }


def build_reference(case):
    """The reference network of a case as (encoder, prompt_encoder, mask_decoder), filled and in evaluation mode."""
    import torch

    parts = reference_parts(case)
    for prefix, part in parts.items():
        state = part.state_dict()
        for name, tensor in state.items():
            if not name.endswith("num_batches_tracked"):
                tensor.copy_(torch.from_numpy(reference_weight(f"{prefix}.{name}", tuple(tensor.shape))))
        part.train()  # leaving evaluation mode and entering it again refreshes what TinyViT caches from its weights
        part.eval()
    return tuple(parts.values())


def encode_reference(case, encoder, images):
    """Image embeddings [B, C, S/16, S/16]; the packaged TinyViT fixes 64 x 64 at its end, so its parts are called."""
    if case.vit is not None:
        return encoder(images)
    x = encoder.patch_embed(images)
    for layer in encoder.layers:
        x = layer(x)
    grid = case.image_size // 16
    return encoder.neck(x.reshape(len(x), grid, grid, -1).permute(0, 3, 1, 2))


def decode_reference(case, prompt_encoder, mask_decoder, embedding, prompt):
    """Masks [4, S/4, S/4] (single, then multimask) and IoUs [4] for one image's embedding [1, C, h, w]."""
    import torch

    scale = case.image_size / 1024
    points, box, with_mask = prompt
    coords = torch.tensor([[point[:2] for point in points]], dtype=torch.float32) * scale
    labels = torch.tensor([[point[2] for point in points]])
    sparse, dense = prompt_encoder(
        points=(coords, labels) if points else None,
        boxes=None if box is None else torch.tensor([box], dtype=torch.float32) * scale,
        masks=torch.from_numpy(input_mask(case.image_size)) if with_mask else None,
    )
    outputs = [
        mask_decoder(image_embeddings=embedding, image_pe=prompt_encoder.get_dense_pe().double(),
                     sparse_prompt_embeddings=sparse.double(), dense_prompt_embeddings=dense.double(),
                     multimask_output=multimask)
        for multimask in (False, True)
    ]
    return torch.cat([masks[0] for masks, _ in outputs]), torch.cat([ious[0] for _, ious in outputs])


def reference_vectors(name):
    """What the reference gives for a case: dict of small arrays, ready for the .npz file.

    Encoder and decoder run in float64, since two float32 runs of the reference already differ by 4e-5 in the masks;
    the prompt encoder casts to float32 itself.
    """
    import torch

    case = CASES[name]
    with torch.no_grad():
        encoder, prompt_encoder, mask_decoder = build_reference(case)
        images = torch.from_numpy(input_image(case.batch, case.image_size)).double()
        embeddings = encode_reference(case, encoder.double(), images)
        mask_decoder.double()
        decoded = [
            decode_reference(case, prompt_encoder, mask_decoder, embedding[None], prompt)
            for embedding in embeddings for prompt in PROMPTS.values()
        ]
    masks = torch.stack([masks for masks, _ in decoded]).numpy().reshape(case.batch, len(PROMPTS), 4, -1)
    ious = torch.stack([ious for _, ious in decoded]).numpy().reshape(case.batch, len(PROMPTS), 4)
    embeddings = embeddings.numpy().reshape(case.batch, -1)
    embedding_positions = sample_positions(f"{name}.embeddings", embeddings.shape[1], SAMPLED_EMBEDDINGS // case.batch)
    mask_positions = sample_positions(f"{name}.masks", masks.shape[-1], SAMPLED_PIXELS)
    return {
        "embedding_positions": embedding_positions,
        "image_embeddings": embeddings[:, embedding_positions].astype(np.float32),
        "mask_positions": mask_positions,
        "low_res_masks": masks[..., mask_positions].astype(np.float32),
        "iou_predictions": ious.astype(np.float32),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", required=True, type=Path, help="folder of the .npz files")
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES), help="default: all")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name in arguments.case:
        vectors = reference_vectors(name)
        unfinished = arguments.output / f"{name}.part.npz"
        np.savez_compressed(unfinished, **vectors)
        target = arguments.output / f"{name}.npz"
        os.replace(unfinished, target)
        spread = ", ".join(f"{key} std {vectors[key].std():.3g}" for key in vectors if not key.endswith("positions"))
        print(f"{target}: {target.stat().st_size} bytes; {spread}")


if __name__ == "__main__":
    main()
