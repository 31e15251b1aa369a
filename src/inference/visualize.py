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
"""Pictures of masks: translucent colour, contour, the prompt's marks and the predicted IoU.

Everything is drawn in a unit that follows the picture's size, and small images are enlarged first, so marks and text
are as readable on 64 pixels as on 8000. Colours depend on the mask's place in the list alone. Memory: a mask takes no
more than a few bytes a pixel while it is drawn.
"""
import colorsys

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from src.checkpoint.atomic import write_atomically
from src.inference.mask_records import decode_mask, mask_box, rle_areas

SMALLEST_CANVAS = 960  # pixels of the longest side below which an image is enlarged before drawing
MASK_OPACITY = 0.45
UNITS_ACROSS = 40  # that the short side has at least, so that an outline of 5 stays an outline on a strip
WHITE, INK = (255, 255, 255), (24, 26, 30)
POSITIVE, NEGATIVE = (34, 197, 94), (239, 68, 68)
FIRST_HUE, GOLDEN_RATIO = 0.58, 0.618033988749895


def mask_color(index):
    """RGB of the index-th mask: hues step by the golden ratio, so neighbours differ however many there are."""
    hue = (FIRST_HUE + index * GOLDEN_RATIO) % 1
    saturation, value = ((0.82, 1.0), (0.62, 0.92), (0.95, 0.82))[(index // 5) % 3]
    return tuple(int(round(255 * part)) for part in colorsys.hsv_to_rgb(hue, saturation, value))


def draw_overlay(image, masks, iou_predictions=None, point_coords=None, point_labels=None, boxes=None):
    """An image with its masks.

    Args:
        image: [H, W, 3] uint8 RGB.
        masks: [N, H, W] bool; a later mask lies over an earlier one.
        iou_predictions: [N] written at each mask, or None.
        point_coords, point_labels: [K, 2] (x, y) pixels and [K]: a green star for 1, a red disc for 0.
        boxes: [M, 4] (x0, y0, x1, y1) pixels; with M = N each box has its mask's colour, else white.

    Returns:
        [h, w, 3] uint8 RGB, the image's size, or enlarged until its longest side has SMALLEST_CANVAS pixels.
    """
    scale, canvas = _enlarged(image)
    size, unit = canvas.shape[1::-1], _unit(canvas)
    anchors = [_draw_mask(canvas, mask, mask_color(index), unit) for index, mask in enumerate(masks)]
    boxes = [] if boxes is None else boxes
    for index, box in enumerate(boxes):
        _draw_box(canvas, np.asarray(box) * scale, mask_color(index) if len(boxes) == len(masks) else WHITE, unit)
    points = () if point_coords is None else zip(point_coords, point_labels)
    for (x, y), label in points:
        (_draw_star if label == 1 else _draw_disc)(canvas, x * scale, y * scale, unit)
    if iou_predictions is None:
        return canvas
    picture = Image.fromarray(canvas)
    for index, (anchor, iou) in enumerate(zip(anchors, iou_predictions)):
        text = f"IoU {iou:.2f}" if anchor is not None else f"IoU {iou:.2f}, empty mask"
        _draw_tag(picture, anchor or (size[0] / 2, (2 * index + 2) * 18 * unit), text, mask_color(index), unit)
    return np.asarray(picture)


def draw_everything(image, segmentations):
    """An image with many masks: each in its own colour, small ones over large ones, outlines thin.

    Args:
        image: [H, W, 3] uint8 RGB.
        segmentations: compressed RLEs of [H, W]; colours follow their order. One at a time is decoded.

    Returns:
        [h, w, 3] uint8 RGB, size as in `draw_overlay`.
    """
    scale, canvas = _enlarged(image)
    unit = _unit(canvas)
    areas = rle_areas(segmentations)
    for index in sorted(range(len(areas)), key=lambda index: -areas[index]):
        mask = decode_mask(segmentations[index])
        region = (slice(None), slice(None))
        if scale == 1:  # only the mask's surroundings, or large pictures take minutes
            x0, y0, x1, y1 = mask_box(mask)
            rim = _thickness(unit, 3)
            region = (slice(max(0, y0 - rim), y1 + rim), slice(max(0, x0 - rim), x1 + rim))
        if areas[index]:
            _draw_mask(canvas[region], mask[region], mask_color(index), unit, outlines=((None, 2.2),))
    return canvas


def draw_candidates(image, masks, iou_predictions, all_masks, point_coords=None, point_labels=None, boxes=None):
    """The picture of N prompts: the best mask of each, or with `all_masks` all candidates side by side.

    masks [N, C, H, W] bool, iou_predictions [N, C]; the rest as in `draw_overlay`.
    """
    best, rows = iou_predictions.argmax(axis=1), np.arange(len(masks))
    if not all_masks:
        return draw_overlay(image, masks[rows, best], iou_predictions[rows, best], point_coords, point_labels, boxes)
    pictures = [draw_overlay(image, masks[:, k], iou_predictions[:, k], point_coords, point_labels, boxes)
                for k in range(masks.shape[1])]
    titles = [f"candidate {k + 1}" + (" (best)" if (best == k).all() else "") for k in range(masks.shape[1])]
    return side_by_side(pictures, titles)


def side_by_side(pictures, titles):
    """Pictures of equal size in a row, each under its title: [h + title, sum of widths and gaps, 3] uint8."""
    height, width = pictures[0].shape[:2]
    unit = max(height, width) / 1000
    gap, head = max(1, round(12 * unit)), round(56 * unit)
    sheet = Image.new("RGB", (len(pictures) * (width + gap) + gap, height + head + gap), WHITE)
    draw = ImageDraw.Draw(sheet)
    for index, (picture, title) in enumerate(zip(pictures, titles)):
        left = gap + index * (width + gap)
        sheet.paste(Image.fromarray(picture), (left, head))
        draw.text((left + width / 2, head / 2), title, font=_font(26 * unit), fill=INK, anchor="mm")
    return np.asarray(sheet)


def write_png(path, picture):
    """Write a [H, W, 3] uint8 RGB picture, whole or not at all."""
    write_atomically(path, ".png", lambda part: Image.fromarray(picture).save(part, format="PNG"))


def _enlarged(image):
    """(scale, copy of the image whose longest side has at least SMALLEST_CANVAS pixels)."""
    scale = max(1.0, SMALLEST_CANVAS / max(image.shape[:2]))
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    return scale, cv2.resize(image, size, interpolation=cv2.INTER_CUBIC) if scale > 1 else image.copy()


def _font(size):
    return ImageFont.load_default(size=max(8, size))


def _unit(canvas):
    """A thousandth of the longest side, less on a picture so narrow that marks would be larger than it."""
    return min(max(canvas.shape[:2]) / 1000, min(canvas.shape[:2]) / UNITS_ACROSS)


def _thickness(unit, thousandths):
    return max(1, round(unit * thousandths))


def _draw_mask(canvas, mask, color, unit, outlines=((WHITE, 5), (None, 2.6))):
    """Blend one mask into the canvas in place; returns where its tag goes (x, y), or None for an empty mask.

    outlines: (colour, thickness in units) of its contours, None for the mask's own colour.
    """
    height, width = canvas.shape[:2]
    inside = np.asarray(mask, bool)
    if inside.shape != (height, width):
        # Linear weights enlarged with the picture keep the edge of a small mask smooth.
        inside = cv2.resize(inside.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR) >= 0.5
    if not inside.any():
        return None
    for channel, part in enumerate(color):
        # A table of 256 values: blending pixels as float64 takes 50 bytes each, gigabytes on a large picture.
        table = np.round(np.arange(256) * (1 - MASK_OPACITY) + part * MASK_OPACITY).astype(np.uint8)
        np.copyto(canvas[..., channel], cv2.LUT(canvas[..., channel], table), where=inside)
    contours, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    for outline, thickness in outlines:
        cv2.drawContours(canvas, contours, -1, outline or color, _thickness(unit, thickness), cv2.LINE_AA)
    top = int(np.flatnonzero(inside.any(axis=1))[0])
    return float(np.flatnonzero(inside[top]).mean()), float(top)


def _draw_box(canvas, box, color, unit):
    x0, y0, x1, y1 = (int(round(value)) for value in box)
    cv2.rectangle(canvas, (x0, y0), (x1, y1), INK, _thickness(unit, 5.5), cv2.LINE_AA)
    cv2.rectangle(canvas, (x0, y0), (x1, y1), color, _thickness(unit, 3), cv2.LINE_AA)


def _draw_star(canvas, x, y, unit):
    """A five-pointed star with a white rim, `x, y` its centre."""
    for radius, color in ((19 * unit, WHITE), (14 * unit, POSITIVE)):
        angles = np.pi * (np.arange(10) / 5 - 0.5)
        reach = np.where(np.arange(10) % 2 == 0, radius, radius * 0.48)
        corners = np.stack([x + reach * np.cos(angles), y + reach * np.sin(angles)], axis=1)
        # 4 binary digits after the point: OpenCV draws the star where it is, not on whole pixels.
        cv2.fillPoly(canvas, [np.round(corners * 16).astype(np.int32)], color, cv2.LINE_AA, shift=4)


def _draw_disc(canvas, x, y, unit):
    """A red disc with a white rim and a white bar, `x, y` its centre."""
    centre = (int(round(x * 16)), int(round(y * 16)))
    for radius, color in ((14.5 * unit, WHITE), (11.5 * unit, NEGATIVE)):
        cv2.circle(canvas, centre, max(16, int(round(radius * 16))), color, -1, cv2.LINE_AA, shift=4)
    reach = int(round(6 * unit * 16))
    cv2.line(canvas, (centre[0] - reach, centre[1]), (centre[0] + reach, centre[1]), WHITE, _thickness(unit, 3.4),
             cv2.LINE_AA, shift=4)


def _draw_tag(picture, anchor, text, color, unit):
    """Text in a rounded label that stands above `anchor`, moved inside the picture."""
    draw = ImageDraw.Draw(picture)
    font = _font(24 * unit)
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font, anchor="ls")
    pad = 9 * unit
    width, height = right - left + 2 * pad, 24 * unit + 1.2 * pad
    x = min(max(anchor[0] - width / 2, 2), max(2, picture.width - width - 2))
    y = min(max(anchor[1] - height - 10 * unit, 2), max(2, picture.height - height - 2))
    draw.rounded_rectangle((x, y, x + width, y + height), radius=height / 3, fill=INK, outline=color,
                           width=_thickness(unit, 3))
    draw.text((x + width / 2, y + height / 2), text, font=font, fill=WHITE, anchor="mm")
