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
"""Reading, resizing, normalising and padding of pictures."""
import io
import struct

import numpy as np
import pytest
from PIL import Image

from src.data.images import (
    ImageError,
    longest_side_size,
    normalise_and_pad,
    read_image,
    resize_image,
    resize_longest_side,
    scale_points,
)


def picture(height=40, width=64):
    """A smooth picture, so that JPEG keeps its values."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack((x * 3, y * 5, x + y), axis=2).astype(np.uint8)


def encoded(image, fmt="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, fmt, **options)
    return buffer.getvalue()


def test_reads_path_and_bytes(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(picture()))
    for source in (path, str(path), path.read_bytes()):
        image = read_image(source)
        np.testing.assert_array_equal(image, picture())
        assert image.flags.c_contiguous and image.flags.writeable


def test_other_pixel_formats():
    grey = picture()[:, :, 0]
    np.testing.assert_array_equal(read_image(encoded(grey)), np.repeat(grey[:, :, None], 3, axis=2))
    alpha = np.concatenate((picture(), np.full((40, 64, 1), 7, np.uint8)), axis=2)
    np.testing.assert_array_equal(read_image(encoded(alpha)), picture())
    deep = (np.arange(12, dtype=np.uint16) * 5000).reshape(3, 4)  # 16 bits: the upper byte is the picture
    np.testing.assert_array_equal(read_image(encoded(deep))[:, :, 1], deep >> 8)


def test_orientation_is_applied_on_request_only():
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side: upright is a quarter turn clockwise
    data = encoded(picture(), "PNG", exif=exif)
    np.testing.assert_array_equal(read_image(data), picture())
    np.testing.assert_array_equal(read_image(data, apply_orientation=True), np.rot90(picture(), -1))


def exif_bytes(*tags):
    """EXIF of tags (number, type, count, four bytes of value), in this order."""
    entries = b"".join(struct.pack("<HHI", *tag[:3]) + tag[3] for tag in tags)
    return b"Exif\x00\x00II*\x00" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


UPRIGHT_BY_QUARTER_TURN = (0x0112, 3, 1, b"\x06\x00\x00\x00")


@pytest.mark.parametrize("odd", [
    (0x0100, 2, 4, b"abc\x00"),  # the width as text
    (0x0111, 2, 4, b"abc\x00"),  # where strips begin, as text
    (0x8769, 2, 4, b"abc\x00"),  # the place of another directory, as text
    (0x8769, 4, 1, b"\xff\xff\xff\x7f"),  # ... beyond the end
    (0x8825, 4, 1, b"\x08\x00\x00\x00"),  # ... in itself
], ids=lambda tag: f"{tag[0]:#x} of type {tag[1]}")
@pytest.mark.parametrize("fmt", ["JPEG", "PNG"])
def test_an_odd_tag_beside_the_flag_changes_nothing(fmt, odd):
    image = np.repeat(picture()[:, :, :1], 3, axis=2)  # grey: JPEG keeps it nearly
    upright = read_image(encoded(image, fmt, exif=exif_bytes(odd, UPRIGHT_BY_QUARTER_TURN)), apply_orientation=True)
    assert upright.shape == (64, 40, 3)
    assert np.abs(upright.astype(int) - np.rot90(image, -1)).max() <= 12


@pytest.mark.parametrize("fmt", ["JPEG", "PNG"])
@pytest.mark.parametrize("exif", [
    b"Exif\x00\x00" + b"no TIFF header", b"Exif\x00\x00II*\x00", exif_bytes(UPRIGHT_BY_QUARTER_TURN)[:20],
    exif_bytes((0x0112, 2, 2, b"6\x00\x00\x00")), exif_bytes((0x0112, 3, 1, b"\x09\x00\x00\x00"))
], ids=["no header", "cut off", "cut in the tag", "text", "9"])
def test_a_picture_without_a_readable_flag_stays_as_it_is(fmt, exif):
    data = encoded(picture(), fmt, exif=exif)
    np.testing.assert_array_equal(read_image(data, apply_orientation=True), read_image(data))


@pytest.mark.parametrize("flag", range(1, 9))
def test_every_flag_turns_as_the_standard_says(flag):
    # What EXIF says of row 0 and column 0 of the stored picture, as a function of the picture shown upright.
    stored_as = {1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
                 5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a), 7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
                 8: lambda a: np.rot90(a, -1)}
    shown = picture(5, 8)
    stored = np.ascontiguousarray(stored_as[flag](shown))
    data = encoded(stored, exif=exif_bytes((0x0112, 3, 1, bytes([flag, 0, 0, 0]))))
    np.testing.assert_array_equal(read_image(data, apply_orientation=True), shown)


def test_no_damage_of_exif_loses_the_picture():
    rng, image = np.random.default_rng(5), picture()
    whole = exif_bytes((0x0100, 2, 4, b"abc\x00"), UPRIGHT_BY_QUARTER_TURN, (0x011A, 5, 1, b"\x32\x00\x00\x00"))
    for _ in range(200):
        exif = bytearray(whole)
        for place in rng.integers(6, len(exif), 3):
            exif[place] = rng.integers(256)
        assert read_image(encoded(image, exif=bytes(exif)), apply_orientation=True).size == image.size


@pytest.mark.parametrize("fmt", ["JPEG", "PNG"])
@pytest.mark.parametrize("share", [0.9, 0.5])
def test_truncated_file_is_refused(tmp_path, fmt, share):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(noise, fmt)
    path = tmp_path / "cut.jpg"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ImageError, match=r"cut\.jpg: truncated or broken image \(") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", b"<html>not found</html>", b"\x89PNG\r\n\x1a\n" + bytes(50)])
def test_what_is_no_image_is_refused(data):
    with pytest.raises(ImageError, match=r"^photo: (not an image|truncated or broken image)") as caught:
        read_image(data, name="photo")
    assert "\n" not in str(caught.value)


def test_every_cut_of_a_small_file_is_refused_cleanly():
    data = encoded(np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8), "JPEG")
    for length in range(0, len(data) - 64, 7):
        with pytest.raises(ImageError):
            read_image(data[:length])


def test_missing_file_and_folder_are_refused(tmp_path):
    for path in (tmp_path / "nowhere.jpg", tmp_path):
        with pytest.raises(ImageError, match=f"{path.name}: no such image file"):
            read_image(path)


def test_longest_side_rounds_as_sam():
    assert longest_side_size(426, 640, 1024) == (682, 1024)  # 426 * 1.6 = 681.6
    assert longest_side_size(640, 427, 512) == (512, 342)  # 427 * 0.8 = 341.6
    assert longest_side_size(5, 16, 8) == (3, 8)  # 2.5 goes up
    assert longest_side_size(1, 4000, 64) == (1, 64)  # never 0


def test_resizing_takes_rows_before_columns_whatever_the_shape():
    # Each pass rounds to 8 bits, so their order shows; a tall picture is one for which some versions of Pillow swap it.
    tall = np.random.default_rng(0).integers(0, 256, (300, 10, 3), dtype=np.uint8)
    rows = np.array(Image.fromarray(tall).resize((3, 300), Image.BILINEAR))
    rows_then_columns = np.array(Image.fromarray(rows).resize((3, 102), Image.BILINEAR))
    columns = np.array(Image.fromarray(tall).resize((10, 102), Image.BILINEAR))
    columns_then_rows = np.array(Image.fromarray(columns).resize((3, 102), Image.BILINEAR))
    resized = resize_image(tall, (102, 3))
    assert np.array_equal(resized, rows_then_columns)
    assert not np.array_equal(resized, columns_then_rows)


def test_resize_is_antialiased_bilinear():
    # Halving with a triangle filter two source pixels wide each side: weights 1/8 3/8 3/8 1/8 inside; at the border the
    # part outside is dropped: (3 a + 3 b + c) / 7. Row 0 7 0 0 0 0 0 0: pixel 0 = 21 / 7 = 3,
    # pixel 1 = 7 / 8, rounds to 1.
    row = np.zeros((1, 8, 3), np.uint8)
    row[0, 1] = 7
    assert resize_longest_side(row, 4)[0, :, 0].tolist() == [3, 1, 0, 0]
    same = picture(64, 64)
    np.testing.assert_array_equal(resize_longest_side(same, 64), same)


def test_normalise_and_pad():
    image = np.zeros((1, 2, 3), np.uint8)
    image[0, 1] = 124, 116, 104
    got = normalise_and_pad(image, 4)
    assert got.shape == (3, 4, 4) and got.dtype == np.float32
    np.testing.assert_allclose(got[:, 0, 0], [-123.675 / 58.395, -116.28 / 57.12, -103.53 / 57.375], rtol=1e-6)
    np.testing.assert_allclose(got[:, 0, 1], [0.325 / 58.395, -0.28 / 57.12, 0.47 / 57.375], rtol=1e-4)
    assert not got[:, 1:].any() and not got[:, :, 2:].any()  # padding is 0 after normalising
    with pytest.raises(ValueError, match=r"image of 1 x 2 pixels does not fit image_size \(1\)"):
        normalise_and_pad(image, 1)


def test_scale_points():
    # 640 x 426 -> 1024 x 682: x times 1.6, y times 682 / 426.
    got = scale_points([[[10, 0], [640, 426]]], (426, 640), (682, 1024))
    np.testing.assert_allclose(got, [[[16, 0], [1024, 682]]], rtol=1e-6)
