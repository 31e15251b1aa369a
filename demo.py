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
"""Segment what a click or a box points at, or everything, and draw it.

    python demo.py --image photo.jpg --point 320,240                           one object by a click
    python demo.py --image photo.jpg --point 320,240 --point 50,60,0           ... without what lies at (50, 60)
    python demo.py --image photo.jpg --box 40,30,300,420                       one object by its box
    python demo.py --image photo.jpg --box 40,30,300,420 --box 310,0,600,420   several objects
    python demo.py --image photo.jpg --point 320,240 --all-masks               the three candidates side by side
    python demo.py --image photo.jpg --everything --config configs/nano_everything.yaml             all objects
    python demo.py --image folder/ --everything --full-grid --config configs/nano_everything.yaml   of a folder
    python demo.py --video clip.mp4 --every 10 --everything --config configs/nano_everything.yaml   every tenth frame

All coordinates are pixels of the image, upright as its EXIF flag says; of a prompt's three masks the one of the highest
predicted IoU is kept (arXiv 2312.13789, section 4). Settings of --everything: those of the weights that ship are in
configs/nano_everything.yaml; for others --everything.pred_iou_thresh=0.8, ...
"""
import argparse
import dataclasses
import sys
from pathlib import Path

from src.config import load_config
from src.data.images import read_image
from src.export.engines import ENGINES, is_export, open_predictor
from src.inference.chosen_checkpoint import choose_checkpoint
from src.inference.everything import EverythingGenerator, EverythingSettings
from src.inference.everything_files import make_folder, read_frames, read_pictures, segment_files
from src.inference.mask_records import prompt_records, write_json
from src.inference.visualize import draw_candidates, write_png
from src.prompts.from_text import join_negative, parse_prompts, refuse_unused
from src.runtime import init_runtime


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     allow_abbrev=False)
    parser.add_argument("--image", help="a picture file; with --everything also a folder")
    parser.add_argument("--video", help="a video file, with --everything")
    parser.add_argument("--every", type=int, metavar="N", help="every N-th frame of the video; default: 1")
    parser.add_argument("--scales", default="", help="quantize the checkpoint as this scales.json of quantize.py says")
    parser.add_argument("--point", action="append", default=[], metavar="X,Y[,LABEL]",
                        help="a click, LABEL 1 (default) on the object, 0 beside it; repeat for more on one object")
    parser.add_argument("--box", action="append", default=[], metavar="X0,Y0,X1,Y1", help="repeat for more objects")
    parser.add_argument("--checkpoint", help="weights, or the folder of an export; default: the one in checkpoints/")
    parser.add_argument("--engine", default=ENGINES[0], choices=ENGINES, help="what runs the network")
    parser.add_argument("--output", help="the PNG to write (output/demo/NAME_masks.png); with --everything the folder")
    parser.add_argument("--json", help="also write the masks as run lengths to this file")
    parser.add_argument("--all-masks", action="store_true", help="show all three candidates, not the best alone")
    parser.add_argument("--everything", action="store_true", help="segment everything, without prompts")
    plan = parser.add_mutually_exclusive_group()
    plan.add_argument("--hierarchical", action="store_true", help="few points first, more where needed (default)")
    plan.add_argument("--full-grid", action="store_true", help="all points of the grid")
    parser.add_argument("--points-per-side", type=int, metavar="N", help="of the grid; default: 32")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "ascend"))
    parser.add_argument("--mode", default="graph", choices=("graph", "pynative"))
    return parser.parse_known_args(join_negative(sys.argv[1:] if argv is None else argv))


def open_network(arguments, config):
    """(path of the weights or of the export, predictor)."""
    if arguments.checkpoint and is_export(arguments.checkpoint):  # says itself what it holds
        chosen = arguments.checkpoint, None, config.model.image_size or None
    else:
        chosen = choose_checkpoint(arguments.checkpoint, config.model)
    init_runtime(config.runtime)
    return chosen[0], open_predictor(arguments.engine, *chosen, config.runtime.threads, scales=arguments.scales)


def everything(arguments, config):
    """Segment everything on a picture, a folder or a video."""
    grid = {} if arguments.points_per_side is None else {"points_per_side": arguments.points_per_side}
    settings = EverythingSettings(**{**dataclasses.asdict(config.everything), "output_mode": "coco_rle",
                                     "hierarchical": not arguments.full_grid, **grid})
    broken = []
    images = (read_frames(arguments.video, 1 if arguments.every is None else arguments.every) if arguments.video else
              read_pictures(arguments.image, lambda line: (broken.append(line), print(f"skipped {line}"))))
    folder = make_folder(arguments.output or Path("output", "demo"))
    generator = EverythingGenerator(open_network(arguments, config)[1], settings)
    if not (count := segment_files(generator, images, folder, print)):
        raise ValueError(f"{arguments.image}: none of {len(broken)} pictures can be read")
    print(f"{count} images segmented, {len(broken)} skipped")


def main(argv=None):
    arguments, rest = parse_arguments(argv)
    config = load_config([f"--runtime.device={arguments.device}", f"--runtime.mode={arguments.mode}", *rest])
    if bool(arguments.image) == bool(arguments.video):
        raise ValueError("give one of --image and --video")
    refuse_unused(vars(arguments), rest)
    if arguments.everything:
        return everything(arguments, config)
    output = Path(arguments.output or Path("output", "demo", f"{Path(arguments.image).stem}_masks.png"))
    if output.suffix.lower() != ".png":
        raise ValueError(f"--output ({output}) must end in .png")
    boxes, points, labels = parse_prompts(arguments.point, arguments.box)
    image = read_image(arguments.image, apply_orientation=True)
    checkpoint, predictor = open_network(arguments, config)
    predictor.set_image(image)
    masks, ious, _ = predictor.predict_batch(boxes, points, labels)
    records = prompt_records(masks, ious, boxes, points, labels, arguments.all_masks)
    for record in records:
        x, y, width, height = record["bbox"]
        print(f"object {record['object'] + 1}, candidate {record['candidate'] + 1}{' (best)' * record['best']}: "
              f"predicted IoU {record['predicted_iou']:.3f}, area {record['area']} px, "
              f"box {x},{y},{x + width},{y + height}")
    write_png(output, draw_candidates(image, masks, ious, arguments.all_masks, None if points is None else points[0],
                                      None if labels is None else labels[0], boxes))
    print(f"wrote {output}")
    if arguments.json:
        write_json(arguments.json, {"image": arguments.image, "width": image.shape[1], "height": image.shape[0],
                                    "checkpoint": str(checkpoint), "masks": records})
        print(f"wrote {arguments.json}")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        print(f"demo.py: {error}", file=sys.stderr)
        sys.exit(2)
