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
"""What is exported: image encoder, prompt decoders of static shapes, and the way from one of them to a MindIR file.

SAM (arXiv 2304.02643, section 3) encodes an image once and decodes prompts many times, hence two graphs. Shapes are
static, because that is what the compilers of edge devices take; docs/export.md is the contract with their programs.
"""
import os
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

import mindspore as ms
import numpy as np
from mindspore import nn

from src.export.classic_primitives import use_classic_primitives
from src.modeling.precision import set_precision
from src.modeling.sam import PromptDecoder

DTYPES = {"float32": ms.float32, "float16": ms.float16, "int32": ms.int32}
MAX_WEIGHT_BYTES = 1 << 30  # the framework splits larger graphs over several files, and ONNX ends at twice as much


class TensorSpec(NamedTuple):
    """An input or output of a graph; dtype is a key of `DTYPES`."""

    name: str
    shape: tuple[int, ...]
    dtype: str


class Graph(NamedTuple):
    """A cell with static inputs. role: image_encoder, mask_decoder or sam; prompts M and slots K, 0 for the encoder."""

    role: str
    name: str
    cell: nn.Cell
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    prompts: int = 0
    slots: int = 0


class ImageEncoderGraph(nn.Cell):
    """images [1, 3, S, S] -> image_embeddings [1, C, h, w], both of `dtype`; shares the parameters of `sam`."""

    def __init__(self, sam, dtype):
        super().__init__(auto_prefix=False)
        self.image_encoder = sam.image_encoder
        self.dtype = dtype

    def construct(self, images):
        return self.image_encoder(images.astype(ms.float32)).astype(self.dtype)


class MaskDecoderGraph(nn.Cell):
    """`PromptDecoder` without mask input and tokens; embeddings, masks and IoUs are of `dtype`.

    image_embeddings [1, C, h, w], point_coords [1, M, K, 2] float32, point_labels [1, M, K] int32 -> low_res_masks
    [1, M, 4, 4h, 4w], iou_predictions [1, M, 4].
    """

    def __init__(self, sam, dtype):
        super().__init__(auto_prefix=False)
        self.decoder = PromptDecoder(sam)
        self.dtype = dtype

    def construct(self, image_embeddings, point_coords, point_labels):
        masks, ious, _ = self.decoder(image_embeddings.astype(ms.float32), point_coords, point_labels)
        return masks.astype(self.dtype), ious.astype(self.dtype)


class SingleGraph(nn.Cell):
    """images, point_coords, point_labels -> low_res_masks, iou_predictions: both halves in one."""

    def __init__(self, sam, dtype):
        super().__init__(auto_prefix=False)
        self.image_encoder = sam.image_encoder
        self.decoder = PromptDecoder(sam)
        self.dtype = dtype

    def construct(self, images, point_coords, point_labels):
        masks, ious, _ = self.decoder(self.image_encoder(images.astype(ms.float32)), point_coords, point_labels)
        return masks.astype(self.dtype), ious.astype(self.dtype)


def parse_decoders(texts):
    """("16x11", ...) -> ((M, K), ...), prompts and slots, in the order given.

    Raises:
        ValueError: none given, one given twice, or one that is not two positive integers with K at least 2.
    """
    shapes = []
    for text in texts:
        prompts, _, slots = str(text).lower().partition("x")
        if not (prompts.isdecimal() and slots.isdecimal() and int(prompts) >= 1 and int(slots) >= 2):
            raise ValueError(f"export.decoders: '{text}' must be prompts x slots, such as 16x11: at least one prompt, "
                             "and two slots, which a click or a box takes")
        shapes.append((int(prompts), int(slots)))
    if not shapes:
        raise ValueError("export.decoders is empty; give at least one, such as [1x11]")
    if len(set(shapes)) < len(shapes):
        raise ValueError(f"export.decoders [{', '.join(map(str, texts))}] names a shape twice")
    return tuple(shapes)


def graphs_of(sam, shapes, dtype="float32", single_graph=False):
    """The graphs to export, image encoder first.

    Args:
        sam: a `Sam`. With dtype "float16" its products are exchanged for those of `set_precision` in place.
        shapes: ((M, K), ...) of `parse_decoders`.
        dtype: "float32" or "float16", of images, embeddings, masks and IoUs. float16 also means matrix products and
            convolutions in float16; norms, softmax and sums stay in float32, without which TinyViT overflows.
        single_graph: also one graph from the image to the masks for every shape.

    Returns:
        list of Graph, their cells switched to evaluation.

    Raises:
        ValueError: another dtype, or weights that do not go into one file.
    """
    if dtype not in ("float32", "float16"):
        raise ValueError(f"export.dtype ({dtype}) must be float32 or float16")
    size = sum(parameter.nbytes for parameter in sam.get_parameters())
    if size >= MAX_WEIGHT_BYTES:
        raise ValueError(f"variant {sam.variant} has {size / 2**30:.1f} GiB of weights; an exported graph holds less "
                         f"than {MAX_WEIGHT_BYTES / 2**30:.0f} GiB")
    set_precision(sam, "mixed_float16" if dtype == "float16" else "float32")
    side, grid = sam.image_size, sam.grid_size
    images = TensorSpec("images", (1, 3, side, side), dtype)
    embeddings = TensorSpec("image_embeddings", (1, sam.embed_dim, grid, grid), dtype)
    graphs = [Graph("image_encoder", "image_encoder", ImageEncoderGraph(sam, DTYPES[dtype]), (images,), (embeddings,))]
    for prompts, slots in shapes:
        prompt = (TensorSpec("point_coords", (1, prompts, slots, 2), "float32"),
                  TensorSpec("point_labels", (1, prompts, slots), "int32"))
        answer = (TensorSpec("low_res_masks", (1, prompts, 4, 4 * grid, 4 * grid), dtype),
                  TensorSpec("iou_predictions", (1, prompts, 4), dtype))
        graphs.append(Graph("mask_decoder", f"mask_decoder_p{prompts}_n{slots}", MaskDecoderGraph(sam, DTYPES[dtype]),
                            (embeddings, *prompt), answer, prompts, slots))
        if single_graph:
            graphs.append(Graph("sam", f"sam_p{prompts}_n{slots}", SingleGraph(sam, DTYPES[dtype]),
                                (images, *prompt), answer, prompts, slots))
    for graph in graphs:
        graph.cell.set_train(False)
    return graphs


def write_graph(graph, path, file_format="MINDIR"):
    """Write a graph, forward only, as the framework's MINDIR or AIR; an existing file is replaced."""
    inputs = [ms.Tensor(np.zeros(spec.shape), DTYPES[spec.dtype]) for spec in graph.inputs]
    # The framework refuses most characters in a path, appends its own suffix, and leaves files read-only.
    with tempfile.TemporaryDirectory() as folder:
        options = {"custom_func": use_classic_primitives} if file_format == "MINDIR" else {}
        ms.export(graph.cell, *inputs, file_name=os.path.join(folder, "graph"), file_format=file_format, **options)
        written = Path(folder) / f"graph.{file_format.lower()}"
        written.chmod(0o644)
        shutil.move(str(written), str(path))
