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
"""Prompts of a command line; what is refused is tested with demo.py."""
import numpy as np

from src.prompts.from_text import parse_prompts


def test_points_belong_to_one_object_and_are_foreground_by_default():
    boxes, points, labels = parse_prompts(["3,4", "5.5,6,0"], [])
    assert boxes is None
    np.testing.assert_array_equal(points, [[[3, 4], [5.5, 6]]])
    np.testing.assert_array_equal(labels, [[1, 0]])


def test_boxes_are_an_object_each_and_one_may_have_points():
    boxes, points, labels = parse_prompts([], ["1,2,3,4", "5,6,7.5,8"])
    np.testing.assert_array_equal(boxes, [[1, 2, 3, 4], [5, 6, 7.5, 8]])
    assert points is None and labels is None
    boxes, points, _ = parse_prompts(["1,1"], ["1,2,3,4"])
    assert boxes.shape == (1, 4) and points.shape == (1, 1, 2)
