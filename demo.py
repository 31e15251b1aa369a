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
"""Segment what a click or a box points at, on one image, and draw it.

    python demo.py --image photo.jpg --point 320,240                           one object by a click
    python demo.py --image photo.jpg --point 320,240 --point 50,60,0           ... without what lies at (50, 60)
    python demo.py --image photo.jpg --box 40,30,300,420                       one object by its box
    python demo.py --image photo.jpg --box 40,30,300,420 --box 310,0,600,420   several objects
    python demo.py --image photo.jpg --point 320,240 --all-masks               the three candidates side by side

All coordinates are pixels of the image, upright as its EXIF flag says. The network predicts three masks of each prompt;
the one with the highest predicted IoU is kept (arXiv 2312.13789, section 4).
"""
import argparse
import sys
from pathlib import Path

import numpy as np

from src.config import build_config
from src.data.images import read_image
from src.inference.mask_records import mask_record, write_json
from src.inference.predictor import load_predictor, shipped_checkpoint
from src.inference.visualize import draw_overlay, side_by_side, write_png
from src.runtime import init_runtime


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", required=True, help="a picture file")
    parser.add_argument("--point", action="append", default=[], metavar="X,Y[,LABEL]",
                        help="a click, LABEL 1 (default) on the object, 0 beside it; repeat for more on one object")
    parser.add_argument("--box", action="append", default=[], metavar="X0,Y0,X1,Y1",
                        help="a box around an object; repeat for more objects")
    parser.add_argument("--checkpoint", help="weights; default: the checkpoint in checkpoints/")
    parser.add_argument("--output", help="the picture to write (PNG); default: output/demo/NAME_masks.png")
    parser.add_argument("--json", help="also write the masks as run lengths to this file")
    parser.add_argument("--all-masks", action="store_true", help="show all three candidates, not the best alone")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "ascend"))
    parser.add_argument("--mode", default="graph", choices=("graph", "pynative"))
    return parser.parse_args(argv)


def read_prompts(arguments):
    """(boxes [N, 4] or None, point_coords [1, K, 2] or None, point_labels [1, K] or None) of the command line."""
    def numbers(option, text, counts, pattern):
        try:
            values = [float(part) for part in text.split(",")]
        except ValueError:
            values = []
        if len(values) not in counts:
            raise ValueError(f"--{option} {text} is not understood; write --{option} {pattern}")
        return values

    points = [numbers("point", text, (2, 3), "X,Y or X,Y,LABEL") for text in arguments.point]
    boxes = [numbers("box", text, (4,), "X0,Y0,X1,Y1") for text in arguments.box]
    if not points and not boxes:
        raise ValueError("nothing to segment: give --point X,Y or --box X0,Y0,X1,Y1")
    if points and len(boxes) > 1:
        raise ValueError(f"points with {len(boxes)} boxes: whose are they? Give one box, or no points")
    if not points:
        return np.array(boxes), None, None
    return (np.array(boxes) if boxes else None, np.array([[point[:2] for point in points]]),
            np.array([[point[2] if len(point) == 3 else 1 for point in points]]))


def draw(image, masks, ious, boxes, points, labels, all_masks):
    """The picture of masks [N, 3, H, W] with ious [N, 3]: the best of each object, or all candidates in a row."""
    best = ious.argmax(axis=1)
    points, labels = (None, None) if points is None else (points[0], labels[0])
    rows = np.arange(len(masks))
    if not all_masks:
        return draw_overlay(image, masks[rows, best], ious[rows, best], points, labels, boxes)
    pictures = [draw_overlay(image, masks[:, k], ious[:, k], points, labels, boxes) for k in range(masks.shape[1])]
    titles = [f"candidate {k + 1}" + (" (best)" if (best == k).all() else "") for k in range(masks.shape[1])]
    return side_by_side(pictures, titles)


def main(argv=None):
    arguments = parse_arguments(argv)
    boxes, points, labels = read_prompts(arguments)
    image = read_image(arguments.image, apply_orientation=True)
    checkpoint = arguments.checkpoint or shipped_checkpoint()
    init_runtime(build_config({"runtime.device": arguments.device, "runtime.mode": arguments.mode}).runtime)
    predictor = load_predictor(checkpoint)
    predictor.set_image(image)
    masks, ious, _ = predictor.predict_batch(boxes, points, labels)

    records = []
    for index in range(len(masks)):
        best = int(ious[index].argmax())
        for candidate in range(masks.shape[1]) if arguments.all_masks else [best]:
            record = mask_record(masks[index, candidate], ious[index, candidate],
                                 None if points is None else points[0], None if points is None else labels[0],
                                 None if boxes is None else boxes[index])
            records.append({**record, "object": index, "candidate": candidate, "best": candidate == best})
            x, y, width, height = record["bbox"]
            print(f"object {index + 1}, candidate {candidate + 1}{' (best)' if candidate == best else ''}: "
                  f"predicted IoU {record['predicted_iou']:.3f}, area {record['area']} px, "
                  f"box {x},{y},{x + width},{y + height}")
    output = Path(arguments.output or Path("output", "demo", f"{Path(arguments.image).stem}_masks.png"))
    write_png(output, draw(image, masks, ious, boxes, points, labels, arguments.all_masks))
    print(f"wrote {output}")
    if arguments.json:
        height, width = image.shape[:2]
        write_json(arguments.json, {"image": arguments.image, "width": width, "height": height,
                                    "checkpoint": str(checkpoint), "masks": records})
        print(f"wrote {arguments.json}")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        print(f"demo.py: {error}", file=sys.stderr)
        sys.exit(2)
