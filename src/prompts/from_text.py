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
"""Prompts as they stand on a command line: "X,Y", "X,Y,LABEL" and "X0,Y0,X1,Y1", in pixels of the image."""
import numpy as np

PROMPT_OPTIONS = ("point", "box", "json", "all_masks")
GRID_OPTIONS = ("video", "every", "hierarchical", "full_grid", "points_per_side")


def parse_prompts(points, boxes):
    """Read the points of one object, or the boxes of several.

    Args:
        points: texts "X,Y" or "X,Y,LABEL", label 1 (on the object, the default) or 0.
        boxes: texts "X0,Y0,X1,Y1".

    Returns:
        (boxes [N, 4] or None, point_coords [1, K, 2] or None, point_labels [1, K] or None).

    Raises:
        ValueError: a text that is not understood, no prompt, or points with several boxes.
    """
    points = [_numbers("point", text, (2, 3), "X,Y or X,Y,LABEL") for text in points]
    boxes = [_numbers("box", text, (4,), "X0,Y0,X1,Y1") for text in boxes]
    if not points and not boxes:
        raise ValueError("nothing to segment: give --point X,Y or --box X0,Y0,X1,Y1, or --everything")
    if points and len(boxes) > 1:
        raise ValueError(f"points with {len(boxes)} boxes: whose are they? Give one box, or no points")
    if not points:
        return np.array(boxes), None, None
    return (np.array(boxes) if boxes else None, np.array([[point[:2] for point in points]]),
            np.array([[point[2] if len(point) == 3 else 1 for point in points]]))


def refuse_unused(options, settings):
    """Refuse what would change nothing: options of prompts beside --everything, options of a grid without it.

    Args:
        options: {name with underscores: value}, None, False or [] where it was not given; `everything` among them.
        settings: the rest of the command line, "--SECTION.NAME=VALUE".

    Raises:
        ValueError: names the first such option.
    """
    def given(names, prefix):  # 0 was given, though it equals False
        named = [f"--{name.replace('_', '-')}" for name in names if repr(options[name]) not in ("None", "False", "[]")]
        return named + [setting for setting in settings if setting.startswith(prefix)]

    if options["everything"]:
        if unused := given(PROMPT_OPTIONS, "--everything.hierarchical"):
            raise ValueError(f"{unused[0]} does not go with --everything: its points are a grid's (--hierarchical or "
                             "--full-grid), and each picture gets a JSON")
        if options["every"] is not None and not options["video"]:
            raise ValueError("--every goes with --video: it leaves out frames")
    elif unused := given(GRID_OPTIONS, "--everything."):
        raise ValueError(f"{unused[0]} goes with --everything alone, not with prompts")


def join_negative(argv):
    """The command line with `--point -4,5` and `--box -4,...` in one word each: argparse sees options in the values."""
    joined = []
    for word in argv:
        if joined and joined[-1] in ("--point", "--box") and word[:1] == "-" and word[1:2] in "0123456789.":
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _numbers(option, text, counts, pattern):
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in counts:
        raise ValueError(f"--{option} {text} is not understood; write --{option} {pattern}")
    return values
