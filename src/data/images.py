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
"""Pictures in: reading, SAM's resizing of the longest side, normalising and padding (arXiv 2304.02643).

Pillow reads and resizes. Its reader refuses truncated files, which OpenCV decodes half grey without a word; its
bilinear filter is antialiased, and it is the one behind the released SAM, so inputs agree to the bit.
"""
import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

PIXEL_MEAN = np.array([123.675, 116.28, 103.53], np.float32)  # RGB, 0-255
PIXEL_STD = np.array([58.395, 57.12, 57.375], np.float32)
SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I")
MAX_PIXELS = 2 * Image.MAX_IMAGE_PIXELS  # of a picture; Pillow refuses more (about 179 million)
ORIENTATION_TAG = 0x0112
TURNS = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
         5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
         8: Image.Transpose.ROTATE_90}  # what makes a picture of each flag upright; Pillow turns anticlockwise


class ImageError(ValueError):
    """A picture that cannot be read; the message is one line that names it."""


def read_image(source, apply_orientation=False, name=None):
    """Decode a picture file.

    Args:
        source: a path, or the file's bytes.
        apply_orientation: turn the picture as its EXIF flag says, where that can be read; off for data sets, which
            annotate stored pixels.
        name: what to call the picture in an error; default: the path, or "image of N bytes".

    Returns:
        [H, W, 3] uint8 RGB, contiguous. Grey, palette, alpha (dropped) and 16-bit pictures are converted.

    Raises:
        ImageError: missing, empty, truncated, or not a picture.
    """
    in_memory = isinstance(source, (bytes, bytearray, memoryview))
    name = name or (f"image of {len(source)} bytes" if in_memory else str(source))
    if not in_memory and not Path(source).is_file():
        raise ImageError(f"{name}: no such image file")
    try:
        with Image.open(io.BytesIO(source) if in_memory else source) as picture:
            picture.load()
            if apply_orientation:
                picture = _upright(picture)
            return _to_rgb(picture)
    except UnidentifiedImageError:
        raise ImageError(f"{name}: not an image, or of a format that Pillow does not read") from None
    except Exception as error:  # a broken header surfaces as almost any, depending on the format
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{name}: truncated or broken image ({reason})") from None


def _upright(picture):
    """The picture turned as its EXIF flag says. That one tag is read: a damaged tag beside it, over which Pillow's own
    exif_transpose falls, loses neither the flag nor the picture."""
    try:
        with warnings.catch_warnings():  # Pillow's about other tags, with the line of its source
            warnings.simplefilter("ignore")
            turn = TURNS.get(picture.getexif().get(ORIENTATION_TAG))
    except Exception:  # EXIF that cannot be read at all; its pixels are whole
        turn = None
    return picture if turn is None else picture.transpose(turn)


def _to_rgb(picture):
    if picture.mode in SIXTEEN_BIT_MODES:  # Pillow would clip at 255 instead of scaling
        grey = np.clip(np.asarray(picture, np.int64) >> 8, 0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    return np.array(picture.convert("RGB"))


def longest_side_size(height, width, image_size):
    """(h, w) of a picture whose longest side becomes `image_size`, rounded as SAM rounds; at least one pixel each."""
    scale = image_size / max(height, width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def resize_image(image, size):
    """Resize [H, W, 3] uint8 to size = (h, w) with Pillow's antialiased bilinear filter -> [h, w, 3] uint8.

    Along rows first, then along columns: which goes first decides roundings, and left alone Pillow takes columns first
    for some tall pictures, which ones depends on its version.
    """
    if image.shape[:2] == tuple(size):
        return image
    rows = Image.fromarray(image).resize((size[1], image.shape[0]), Image.BILINEAR)
    return np.array(rows.resize((size[1], size[0]), Image.BILINEAR))


def resize_longest_side(image, image_size):
    """Resize [H, W, 3] uint8 so that its longest side has `image_size` pixels -> [h, w, 3] uint8."""
    return resize_image(image, longest_side_size(image.shape[0], image.shape[1], image_size))


def normalise_and_pad(image, image_size):
    """Make the network's input of a picture that fits into image_size x image_size.

    Args:
        image: [h, w, 3] uint8 RGB, h and w at most image_size.
        image_size: S.

    Returns:
        [3, S, S] float32: (value - mean) / std, then 0 at the bottom and right.

    Raises:
        ValueError: the picture is larger than S x S.
    """
    height, width = image.shape[:2]
    if height > image_size or width > image_size:
        raise ValueError(f"image of {height} x {width} pixels does not fit image_size ({image_size}); resize it first")
    padded = np.zeros((3, image_size, image_size), np.float32)
    for channel in range(3):  # plane by plane and in place: a tenth of the time of the one-line form
        plane = padded[channel, :height, :width]
        np.subtract(image[:, :, channel], PIXEL_MEAN[channel], out=plane)
        plane /= PIXEL_STD[channel]
    return padded


def scale_points(points, original_size, input_size):
    """Map [..., 2] (x, y) pixels of a picture of original_size (h, w) into its resized version of input_size (h, w).

    SAM's rule: coordinates times the ratio of the sides, each axis on its own. Boxes: pass them as [..., 2, 2] corners.
    """
    ratio = np.array([input_size[1] / original_size[1], input_size[0] / original_size[0]])
    return (np.asarray(points, np.float64) * ratio).astype(np.float32)
