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
"""The reference's side of tools/benchmark.py: MobileSAM's TinyViT and SAM's decoder (arXiv 2304.02643) in PyTorch.

Started by tools/benchmark.py in the environment that TINYSAM_REFERENCE_PYTHON names: torch for CPUs, pycocotools, the
package mobilesam-mirror. Its networks, predictor and mask generator are used as they are. What it lacks is written here
against them: the hierarchical plan of points (arXiv 2312.13789, section 3.3), and a training step with the losses of
src/distillation/losses.py.
"""
import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from src.prompts.grids import coarse_points  # noqa: E402
from tools.benchmark_worker import (  # noqa: E402
    box_of,
    click_points,
    photographs,
    sampled,
    serve,
    training_batch,
)
from tools.make_parity_vectors import import_reference, input_image  # noqa: E402

GENERATOR_SETTINGS = ("points_per_side", "points_per_batch", "pred_iou_thresh", "stability_score_thresh",
                      "stability_score_offset", "box_nms_thresh")


class Encoder(torch.nn.Module):
    """TinyViT of any size and width: the package's own ends at 64 x 64 cells of 256 channels."""

    def __init__(self, modeling, spec, size):
        super().__init__()
        self.img_size, self.grid = size, size // 16
        tinyvit = modeling.TinyViT(img_size=size, embed_dims=spec["embed_dims"], depths=spec["depths"],
                                   num_heads=spec["num_heads"], window_sizes=spec["window_sizes"], drop_path_rate=0.0)
        tinyvit.layers[2].downsample.conv2.c.stride = (1, 1)  # the package knows the last merging by its width
        width, norm = spec["transformer_dim"], type(tinyvit.neck[1])
        tinyvit.neck = torch.nn.Sequential(
            torch.nn.Conv2d(spec["embed_dims"][-1], width, 1, bias=False), norm(width),
            torch.nn.Conv2d(width, width, 3, padding=1, bias=False), norm(width))
        self.patch_embed, self.layers, self.neck = tinyvit.patch_embed, tinyvit.layers, tinyvit.neck

    def forward(self, images):
        x = self.patch_embed(images)
        for layer in self.layers:
            x = layer(x)
        return self.neck(x.reshape(len(x), self.grid, self.grid, -1).permute(0, 3, 1, 2))


def build(options, size=None):
    """The package's Sam with the weights of the options, in evaluation mode."""
    torch.set_num_threads(options["threads"])
    modeling, spec = import_reference("mobile_sam"), options["spec"]
    if hasattr(import_reference, "library"):
        sys.modules["torchvision.ops.boxes"].nms = nms
    size = size or options["image_size"]
    width, grid = spec["transformer_dim"], size // 16
    sam = modeling.Sam(
        Encoder(modeling, spec, size), modeling.PromptEncoder(width, (grid, grid), (size, size), 16),
        modeling.MaskDecoder(transformer_dim=width, iou_head_hidden_dim=width,
                             transformer=modeling.TwoWayTransformer(2, width, 8, spec["mlp_dim"])))
    with np.load(options["weights"]) as weights, torch.no_grad():
        for name, tensor in sam.state_dict().items():
            if not name.endswith("num_batches_tracked") and not name.startswith("pixel_"):
                tensor.copy_(torch.from_numpy(weights[name]))
    sam.train()  # leaving evaluation mode and entering it again refreshes what TinyViT caches from its weights
    return sam.eval()


def nms(boxes, scores, threshold):
    """torchvision's, one box against all others, for installations without its compiled part."""
    kept, order = [], torch.sort(scores, descending=True, stable=True).indices
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        overlap = (torch.minimum(boxes[best, 2:], boxes[order, 2:])
                   - torch.maximum(boxes[best, :2], boxes[order, :2])).clamp(min=0).prod(1)
        order = order[overlap <= threshold * (areas[best] + areas[order] - overlap)]
    return torch.stack(kept) if kept else torch.zeros(0, dtype=torch.int64)


def encoder(options):
    sam = build(options)
    images = torch.from_numpy(input_image(1, options["image_size"]))
    return lambda: sam.image_encoder(images), lambda found: sampled(found.numpy())


def decoder(options, prompts):
    sam, size = build(options), options["image_size"]
    embeddings = sam.image_encoder(torch.from_numpy(input_image(1, size)))
    points = torch.from_numpy(click_points(prompts, size, size).astype(np.float32))[:, None]
    labels = torch.ones((prompts, 1), dtype=torch.int64)

    def run():
        sparse, dense = sam.prompt_encoder(points=(points, labels), boxes=None, masks=None)
        return sam.mask_decoder(
            image_embeddings=embeddings, image_pe=sam.prompt_encoder.get_dense_pe(), sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense, multimask_output=True)

    return run, lambda found: sampled(*(part.numpy() for part in found))


def box(options):
    sam = build(options)  # imports the package
    predictor = sys.modules["mobile_sam"].SamPredictor(sam)
    picture = photographs(options)[0]

    def run():
        predictor.set_image(picture)
        return predictor.predict(box=box_of(*picture.shape[:2]))

    return run, lambda found: sampled(found[2], found[1])


def everything(options, hierarchical):
    settings = options["everything"]
    sam = build(options)
    package = sys.modules["mobile_sam"].SamAutomaticMaskGenerator
    kind = hierarchical_generator(package, settings) if hierarchical else package
    generator = kind(sam, output_mode="coco_rle", **{name: settings[name] for name in GENERATOR_SETTINGS})
    pictures = photographs(options)

    def result(found):
        return {"records": [[record["segmentation"] for record in records] for records in found]}

    return (lambda: [generator.generate(picture) for picture in pictures], result,
            lambda: generator.predictor.set_image(pictures[0]))


def hierarchical_generator(package, settings):
    """The package's generator with two rounds of points: a coarse part of the grid; then of the others those that lie
    where no kept mask of the first round has a logit above `high_score_thresh`."""
    amg = sys.modules["mobile_sam.utils.amg"]

    class Hierarchical(package):
        def _process_crop(self, image, crop_box, crop_layer_idx, orig_size):
            x0, y0, x1, y1 = crop_box
            size = (y1 - y0, x1 - x0)
            self.predictor.set_image(image[y0:y1, x0:x1])
            points = self.point_grids[crop_layer_idx] * np.array(size)[::-1]
            first = coarse_points(round(len(points) ** 0.5), settings["coarse_ratio"])
            data, confident = amg.MaskData(), np.zeros(size, bool)
            for (batch,) in amg.batch_iterator(self.points_per_batch, points[first]):
                with KeptLogits(self, settings["high_score_thresh"]) as kept:
                    data.cat(self._process_batch(batch, size, crop_box, orig_size))
                confident |= kept.confident
            places = points.astype(int)
            rest = points[~first & ~confident[places[:, 1], places[:, 0]]]
            for (batch,) in amg.batch_iterator(self.points_per_batch, rest):
                data.cat(self._process_batch(batch, size, crop_box, orig_size))
            self.predictor.reset_image()
            boxes = data["boxes"].float()
            data.filter(nms(boxes, data["iou_preds"], self.box_nms_thresh))
            data["boxes"] = amg.uncrop_boxes_xyxy(data["boxes"], crop_box)
            data["points"] = amg.uncrop_points(data["points"], crop_box)
            data["crop_boxes"] = torch.tensor([crop_box for _ in range(len(data["rles"]))])
            return data

    class KeptLogits:
        """While open, looks at the logits that the predictor hands to the generator."""

        def __init__(self, generator, threshold):
            self.generator, self.threshold, self.confident = generator, threshold, False

        def __enter__(self):
            self.generator.predictor.predict_torch = self.predict
            return self

        def __exit__(self, *_):
            del self.generator.predictor.predict_torch

        def predict(self, *arguments, **options):
            generator = self.generator
            found = type(generator.predictor).predict_torch(generator.predictor, *arguments, **options)
            masks = found[0].flatten(0, 1)[found[1].flatten() > generator.pred_iou_thresh]
            stable = amg.calculate_stability_score(masks, 0.0, generator.stability_score_offset)
            masks = masks[stable >= generator.stability_score_thresh]
            self.confident = (masks > self.threshold).any(0).numpy()
            return found

    return Hierarchical


def train_step(options):
    sam = build(options, options["train_size"]).train()
    batch = {name: torch.from_numpy(array) for name, array in training_batch(options).items()}
    targets = batch["gt_masks"][0, :, None].float()  # [M, 1, h, w]
    points = (batch["point_coords"][0, :, :1], batch["point_labels"][0, :, :1])
    optimizer = torch.optim.Adam(sam.parameters(), lr=0.0, eps=1e-8)
    parameters = list(sam.parameters())

    def run():
        with torch.enable_grad():
            sparse, dense = sam.prompt_encoder(points=points, boxes=None, masks=None)
            masks, ious = sam.mask_decoder.predict_masks(
                image_embeddings=sam.image_encoder(batch["images"]), image_pe=sam.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse, dense_prompt_embeddings=dense)
            loss = label_loss(masks, ious, targets)
            optimizer.zero_grad()
            loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        return loss.item(), norm.item()

    return run, lambda found: {"values": list(found)}


def label_loss(logits, ious, targets):
    """20 focal + dice + IoU loss of M prompts with logits [M, 4, h, w], ious [M, 4] and targets [M, 1, h, w]; of masks
    1..3 the one of least loss counts, beside mask 0."""
    against = logits * (1 - 2 * targets)
    focal = ((0.75 - 0.5 * targets) * against.sigmoid() ** 2 * F.softplus(against)).mean((-2, -1))
    probabilities = logits.sigmoid()
    dice = 1 - (2 * (probabilities * targets).sum((-2, -1)) + 1) / (
        probabilities.sum((-2, -1)) + targets.sum((-2, -1)) + 1)
    loss = 20 * focal + dice
    found = (logits.detach() > 0).float()
    overlap = (found * targets).sum((-2, -1))
    real = overlap / (found.sum((-2, -1)) + targets.sum((-2, -1)) - overlap).clamp(min=1)
    return 0.5 * (loss[:, 0] + loss[:, 1:].min(1).values).mean() + (ious - real).abs().mean()


def product(options):
    torch.set_num_threads(options["threads"])
    side = options["product_size"]
    a, b = (torch.from_numpy(np.random.RandomState(seed).rand(side, side).astype(np.float32)) for seed in (0, 1))
    return lambda: a @ b, lambda found: sampled(found.numpy())


SECTIONS = {
    "product": product, "encoder": encoder, "box": box, "train_step": train_step,
    "everything_full": lambda options: everything(options, False),
    "everything_hierarchical": lambda options: everything(options, True),
    **{f"decoder_{count}": lambda options, count=count: decoder(options, count) for count in (1, 16, 64)},
}

if __name__ == "__main__":
    with torch.no_grad():
        serve(SECTIONS, json.loads(sys.argv[1]))
