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
"""Our side of tools/benchmark.py: the network in MindSpore, or its export in OpenVINO; started by tools/benchmark.py.

Every section runs what a user of the predictor, the generator and train.py runs. Counting multiply-accumulates reads
the exported graphs, so nothing that a graph does is forgotten.
"""
import dataclasses
import json
import math
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import mindspore as ms  # noqa: E402
from mindspore import ops  # noqa: E402

from src.checkpoint import load_network, read_weights, save_network, torch_name  # noqa: E402
from src.config import load_config  # noqa: E402
from src.distillation.distiller import NAMES, Distiller  # noqa: E402
from src.evaluation.box_prompted import segment_boxes  # noqa: E402
from src.evaluation.box_sources import BoxPrompt  # noqa: E402
from src.export.engines import cached_export  # noqa: E402
from src.export.engines import open_predictor as open_engine  # noqa: E402
from src.export.exported_predictor import ExportedPredictor  # noqa: E402
from src.export.graphs import graphs_of, write_graph  # noqa: E402
from src.export.mindir import TensorType, read_mindir  # noqa: E402
from src.inference.everything import EverythingGenerator, EverythingSettings  # noqa: E402
from src.inference.predictor import load_predictor  # noqa: E402
from src.modeling.build_sam import build_sam  # noqa: E402
from src.runtime import init_runtime  # noqa: E402
from src.training.optimizer import build_optimizer  # noqa: E402
from src.training.step import EXTRA_NAMES, TrainStep  # noqa: E402
from tools.benchmark_worker import (  # noqa: E402
    TRAIN_SLOTS,
    box_of,
    click_points,
    photographs,
    sampled,
    serve,
    training_batch,
)
from tools.make_parity_vectors import input_image, reference_weight  # noqa: E402


def open_predictor(options):
    """The predictor of the options' engine; OpenVINO's graphs are exported once into the folder of the weights."""
    if options["engine"] == "openvino":
        return ExportedPredictor(export(options), "openvino", options["threads"])
    if options["engine"] == "openvino_int8":
        return ExportedPredictor(export(options, options["scales"]), "openvino", options["threads"])
    return open_engine(options["engine"], options["checkpoint"], image_size=options["image_size"])


def export(options, scales=""):
    """Folder of the ONNX graphs that OpenVINO runs, quantized as the file `scales` says."""
    return cached_export(options["checkpoint"], options["cache"], image_size=options["image_size"],
                         decoders=options["decoders"], scales=scales)


def encoder(options):
    predictor = open_predictor(options)
    images = input_image(1, options["image_size"])

    def run():
        found = predictor._encode(images)
        return found if isinstance(found, np.ndarray) else found.asnumpy()

    return run, sampled


def decoder(options, prompts):
    predictor, size = open_predictor(options), options["image_size"]
    predictor.set_image(np.zeros((size, size, 3), np.uint8))
    predictor.image_embeddings = predictor._encode(input_image(1, size))
    predictor.wait()
    points = click_points(prompts, size, size)[:, None]
    labels = np.ones((prompts, 1))
    return lambda: predictor.predict_low_res(point_coords=points, point_labels=labels), lambda found: sampled(*found)


def box(options):
    predictor = open_predictor(options)
    picture = photographs(options)[0]

    def run():
        predictor.set_image(picture)
        return predictor.predict(box=box_of(*picture.shape[:2]))

    return run, lambda found: sampled(found[2], found[1])


def boxes(options):
    """options["boxes"] boxes of one photograph, to run lengths."""
    predictor, picture = open_predictor(options), photographs(options)[0]
    height, width = picture.shape[:2]
    centres, half = click_points(options["boxes"], height, width), 0.04 * np.array([width, height])
    corners = np.concatenate([centres - half, centres + half], axis=1)
    prompts = [BoxPrompt(tuple(corner), 1) for corner in corners]
    return lambda: segment_boxes(predictor, picture, prompts, 64), lambda found: sampled(found[1])


def everything(options, hierarchical):
    settings = EverythingSettings(**{**options["everything"], "hierarchical": hierarchical, "output_mode": "coco_rle"})
    generator = EverythingGenerator(open_predictor(options), settings)
    pictures = photographs(options)

    def warm_up():
        """All graphs that a run compiles, with as few points as fill a batch."""
        generator.settings = dataclasses.replace(settings, points_per_side=min(8, settings.points_per_side))
        generator.generate(pictures[0])
        generator.settings = settings

    def result(found):
        return {"records": [[record["segmentation"] for record in records] for records in found]}

    return lambda: [generator.generate(picture) for picture in pictures], result, warm_up


def train_step(options):
    student = build_sam(options["variant"], options["train_size"], draw_weights=False)
    load_network(student, {name: array for name, array in np.load(options["weights"]).items()})
    distill = SimpleNamespace(embedding_weight=0.0, embedding_adapter=False, token_weight=0.0, output_weight=0.0,
                              hard_mask_weighting=False,
                              focal_weight=20.0, dice_weight=1.0, iou_weight=1.0, max_rounds=0, hard_region="error")
    optim = SimpleNamespace(name="adam", learning_rate=1e-12, final_learning_rate=1e-12, warmup_steps=0,
                            weight_decay=0.0, layer_decay=1.0, ema_decay=0.0)
    step = TrainStep(Distiller(student, None, distill), build_optimizer(student, optim, 1000), clip_norm=1.0)
    batch = training_batch(options)
    prompts = batch["point_labels"].shape[1]
    assert batch["point_labels"].shape[2] == TRAIN_SLOTS
    inputs = [ms.Tensor(batch[name]) for name in ("images", "gt_masks", "point_coords", "point_labels")]
    inputs += [ms.Tensor(np.ones((1, prompts), np.float32)), ms.Tensor(np.zeros((1, prompts, 1), np.float32)),
               ms.Tensor(0, ms.int32)]
    norm = len(NAMES) + EXTRA_NAMES.index("grad_norm")
    return lambda: step(*inputs).asnumpy(), lambda found: {"values": [float(found[0]), float(found[norm])]}


def product(options):
    side = options["product_size"]
    a, b = (ms.Tensor(np.random.RandomState(seed).rand(side, side).astype(np.float32)) for seed in (0, 1))
    matmul = ops.MatMul()
    return lambda: matmul(a, b).asnumpy(), sampled


def macs(options):
    """Multiply-accumulates of the exported encoder and of decoders: {"values": [...]} in the order of MACS_OF."""
    sam = load_predictor(options["checkpoint"], image_size=options["image_size"]).sam
    graphs = graphs_of(sam, [(count, 2) for count in (1, 16, 64)])

    def run():
        with tempfile.TemporaryDirectory() as folder:
            counts = []
            for graph in graphs:
                write_graph(graph, f"{folder}/graph.mindir")
                counts.append(count_macs(read_mindir(f"{folder}/graph.mindir")))
            return counts

    return run, lambda found: {"values": found}


def count_macs(graph):
    """Multiply-accumulates of all matrix products and convolutions of a `MindirGraph`."""
    types = {**graph.inputs, **{name: TensorType(array.shape, array.dtype) for name, array in graph.weights.items()}}
    types.update({node.name: node.type for node in graph.nodes})
    total = 0
    for node in graph.nodes:
        if node.op in ("MatMul", "BatchMatMul"):  # every output element is a sum over the inner length
            first = types[node.inputs[0]].shape
            transposed = graph.constants[node.inputs[2]]
            total += math.prod(node.type.shape) * (first[-2] if transposed else first[-1])
        elif node.op == "Conv2D":
            total += math.prod(node.type.shape) * math.prod(types[node.inputs[1]].shape[1:])
    return total


def weights(options):
    """Write the weights of a run: options["checkpoint"], if it is not there from made-up ones, and the same as an .npz
    of released names, options["weights"]; with options["export"] also what OpenVINO will run, in int8 too where there
    are options["scales"]."""
    if not Path(options["checkpoint"]).is_file():
        sam = build_sam(options["variant"], options["image_size"], draw_weights=False)
        for parameter in sam.get_parameters():
            parameter.set_data(ms.Tensor(reference_weight(torch_name(parameter.name), parameter.shape)))
        save_network(options["checkpoint"], sam)
    np.savez(options["weights"], **read_weights(options["checkpoint"]))
    if options["export"]:
        export(options)
        if options.get("scales"):
            export(options, options["scales"])
    return lambda: None, lambda found: {"values": []}


SECTIONS = {
    "weights": weights, "macs": macs, "product": product, "encoder": encoder, "box": box, "boxes": boxes,
    "train_step": train_step,
    "everything_full": lambda options: everything(options, False),
    "everything_hierarchical": lambda options: everything(options, True),
    **{f"decoder_{count}": lambda options, count=count: decoder(options, count) for count in (1, 16, 64)},
}

if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    init_runtime(load_config([f"--runtime.threads={given['threads']}", "--runtime.device=cpu"]).runtime)
    serve(SECTIONS, given)
