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
"""Decoding of COCO segmentations, the refusals of damaged ones, and the log of what was skipped."""
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from src.data.records import Annotation, SegmentationError, SkipLog, decode_segmentation, encode_mask


def test_uncompressed_by_hand():
    # Column order, background first: 1 off, 2 on, 3 off -> columns (0, 1, 1) and (0, 0, 0).
    got = decode_segmentation({"size": [3, 2], "counts": [1, 2, 3]}, (3, 2))
    assert got.tolist() == [[False, False], [True, False], [True, False]]
    assert decode_segmentation({"size": [1, 2], "counts": [0, 2]}, (1, 2)).all()


def test_compressed_by_hand():
    # Runs 1 2 3 as characters 48 + value: "123". A fourth number is the difference to the second: "1210" is 1 2 1 2.
    assert decode_segmentation({"size": [3, 2], "counts": "123"}, (3, 2)).sum() == 2
    got = decode_segmentation({"size": [3, 2], "counts": b"1210"}, (3, 2))
    assert got.T.ravel().astype(int).tolist() == [0, 1, 1, 0, 1, 1]


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_compressed_agrees_with_pycocotools(share):
    rng = np.random.default_rng(0)
    for height, width in ((1, 1), (7, 300), (211, 97)):
        mask = rng.random((height, width)) < share
        mask[: height // 2] &= mask[0]  # long runs too
        rle = encode_mask(mask)
        assert isinstance(rle["counts"], str)
        np.testing.assert_array_equal(decode_segmentation(rle, (height, width)), mask)
        np.testing.assert_array_equal(coco_mask.decode({**rle, "counts": rle["counts"].encode()}).astype(bool), mask)


def test_polygons():
    # A square of corners (1, 1) and (4, 3) covers the pixels in between; the second polygon is united with it.
    got = decode_segmentation([[1, 1, 4, 1, 4, 3, 1, 3], [5, 0, 6, 0, 6, 1, 5, 1]], (4, 7))
    expected = np.zeros((4, 7), bool)
    expected[1:3, 1:4] = expected[0, 5] = True
    np.testing.assert_array_equal(got, expected)


GOOD = encode_mask(np.eye(12, dtype=bool))["counts"]


@pytest.mark.parametrize("segmentation, message", [
    ({"size": [12, 12], "counts": GOOD[:-2]}, "they add up to"),
    ({"size": [12, 12], "counts": GOOD + "5"}, "they add up to"),
    ({"size": [12, 12], "counts": ""}, "is empty, cut off, or holds foreign characters"),
    ({"size": [12, 12], "counts": "o"}, "is empty, cut off"),  # "o" promises another character
    ({"size": [12, 12], "counts": "1 2"}, "foreign characters"),
    ({"size": [12, 12], "counts": "12\u00e9"}, "foreign characters"),
    ({"size": [12, 12], "counts": "12\ud800"}, "foreign characters"),
    ({"size": [12, 12], "counts": "o" * 40 + "0"}, "more than 60 bits"),
    ({"size": [12, 12], "counts": "O1"}, "a negative run"),  # 48 + 31: five bits set, the sign too: -1
    ({"size": [12, 12], "counts": [-1, 145]}, "a negative run"),
    ({"size": [12, 12], "counts": [100, 43]}, r"they add up to 143 of 144 pixels"),
    ({"size": [12, 12], "counts": [1 << 63, 1 << 63, 144]}, "they add up to"),
    ({"size": [12, 12], "counts": [100.0, 44.0]}, r"counts are \[100\.0, 44\.0\], neither a string nor a list of"),
    ({"size": [12, 12]}, "counts are None"),
    ({"size": [12, 13], "counts": [156]}, r"run lengths of size \[12, 13\], the image is \[12, 12\]"),
    ({"counts": [144]}, r"run lengths of size None, the image is \[12, 12\]"),
    ([], r"segmentation is \[\], neither polygons nor run lengths"),
    ("GOOD", "segmentation is 'GOOD', neither"),
    ([[1, 1, 2, 2]], "is not a list of at least three x, y pairs"),
    ([[1, 1, 2, 2, 3, 3, 4]], "is not a list of at least three"),
    ([["a", 1, 2, 2, 3, 3]], "is not a list of at least three"),
    ([5, 6, 7], "polygon 5 is not a list"),
    ([[1, 1, 2, float("nan"), 3, 3]], "leaves the image of 12 x 12 pixels by far"),
    ([[1, 1, 2, 10**400, 3, 3]], "is not a list of at least three x, y pairs"),
    ([[1, 1, 2, float("inf"), 3, 3]], "leaves the image of 12 x 12 pixels by far"),
    ([[1, 1, 2, 1e9, 3, 3]], "leaves the image of 12 x 12 pixels by far"),
])
def test_damaged_is_refused(segmentation, message):
    with pytest.raises(SegmentationError, match=message) as caught:
        decode_segmentation(segmentation, (12, 12))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


def test_annotation_names_itself():
    with pytest.raises(SegmentationError, match=r"^annotation 17: run lengths of size \[2, 2\], the image is \[3, 3"):
        Annotation(17, 1, {"size": [2, 2], "counts": [4]}, (3, 3)).mask()


def test_skip_log_counts_and_keeps_the_first_example():
    log, other = SkipLog(), SkipLog()
    assert str(log) == "skipped nothing" and len(log) == 0
    log.add("broken masks", "annotation 3")
    other.add("broken masks", "annotation 9")
    other.add("crowd annotations", count=3)
    log.merge(other)
    assert str(log) == "skipped 5: 3 crowd annotations; 2 broken masks (first: annotation 3)" and len(log) == 5
