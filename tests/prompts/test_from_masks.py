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
"""First clicks, boxes and slots from masks, worked by hand and by frequency."""
import numpy as np
import pytest

from src.prompts.from_masks import assemble_prompt, box_of_mask, jitter_box, sample_click

MASK = np.array([[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0]], bool)


def test_click_lands_on_pixel_middles_of_the_mask_evenly():
    # Foreground (x, y): (1, 1) (2, 1) (2, 2). With scale 4 their middles lie at 4 i + 1.5.
    rng = np.random.default_rng(0)
    clicks = [tuple(sample_click(MASK, rng, 4).tolist()) for _ in range(3000)]
    counts = {click: clicks.count(click) for click in set(clicks)}
    assert set(counts) == {(5.5, 5.5), (9.5, 5.5), (9.5, 9.5)}
    assert all(abs(count - 1000) < 110 for count in counts.values())  # 4 standard deviations of 25.8


def test_click_at_scale_one_is_the_pixel_index():
    single = np.zeros((5, 7), np.uint8)
    single[3, 6] = 1
    assert sample_click(single, np.random.default_rng(1)).tolist() == [6.0, 3.0]


def test_box_has_outer_edges():
    assert box_of_mask(MASK).tolist() == [1, 1, 3, 3]
    single = np.zeros((5, 7), bool)
    single[4, 6] = True
    assert box_of_mask(single).tolist() == [6, 4, 7, 5]


@pytest.mark.parametrize("function", [box_of_mask, lambda mask: sample_click(mask, np.random.default_rng(0))])
def test_empty_mask_is_refused(function):
    with pytest.raises(ValueError, match="empty mask of 3 x 4 pixels"):
        function(np.zeros((3, 4), bool))


def test_jitter_adds_a_share_of_each_side():
    # Sides 40 and 20, share 0.1: x moves by 4 times, y by 2 times a normal number, drawn in the order x0 y0 x1 y1.
    normal = np.random.default_rng(5).standard_normal(4)
    got = jitter_box([30, 30, 70, 50], np.random.default_rng(5), 0.1, (100, 100))
    np.testing.assert_allclose(got, np.array([30, 30, 70, 50]) + normal * [4, 2, 4, 2], rtol=1e-6)


def test_jitter_spread_limit_and_clipping():
    rng = np.random.default_rng(2)
    boxes = np.stack([jitter_box([100, 100, 200, 150], rng, 0.1, (400, 400)) for _ in range(2000)])
    np.testing.assert_allclose(boxes.std(axis=0), [10, 5, 10, 5], rtol=0.1)
    # A box of 1000 pixels: standard deviation 100, so nearly every move is cut at 20; the frame ends at 1005 and 990.
    boxes = np.stack([jitter_box([500, 500, 1500, 1500], rng, 0.1, (990, 1005)) for _ in range(300)])
    assert boxes[:, :2].min() == 480 and boxes[:, :2].max() == 520
    assert (boxes[:, 2] == 1005).all() and (boxes[:, 3] == 990).all()
    assert jitter_box([10, 12, 30, 50], rng, 0.0, (40, 40)).tolist() == [10, 12, 30, 40]


def test_jitter_never_turns_a_box_inside_out():
    rng = np.random.default_rng(3)
    boxes = np.stack([jitter_box([50, 50, 52, 51], rng, 2.0, (100, 100)) for _ in range(500)])
    assert (boxes[:, 2:] >= boxes[:, :2]).all()


def test_jitter_draws_the_same_count_whatever_the_share():
    rngs = np.random.default_rng(9), np.random.default_rng(9)
    for rng, share in zip(rngs, (0.0, 0.3)):
        jitter_box([0, 0, 9, 9], rng, share, (10, 10))
    assert rngs[0].random() == rngs[1].random()


def test_slots():
    coords, labels = assemble_prompt(4, box=[1, 2, 3, 4])
    assert coords.tolist() == [[1, 2], [3, 4], [0, 0], [0, 0]] and labels.tolist() == [2, 3, -2, -2]
    coords, labels = assemble_prompt(3, click=[5.5, 6.5])
    assert coords.tolist() == [[5.5, 6.5], [0, 0], [0, 0]] and labels.tolist() == [1, -1, -2]
    coords, labels = assemble_prompt(3)  # padding: exactly one slot that is attended to
    assert not coords.any() and labels.tolist() == [-1, -2, -2]
    assert coords.dtype == np.float32 and labels.dtype == np.int32


def test_slots_refuse():
    with pytest.raises(ValueError, match=r"num_slots \(1\) must be at least 2"):
        assemble_prompt(1, click=[0, 0])
    with pytest.raises(ValueError, match="a click or a box, not both"):
        assemble_prompt(2, click=[0, 0], box=[0, 0, 1, 1])
