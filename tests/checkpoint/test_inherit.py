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
"""Weights that a network takes over from another: which, with what values, and what is refused."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from src.checkpoint import read_weights, save_network
from src.checkpoint.inherit import inherit_weights, resized_biases
from src.modeling.build_sam import build_sam
from tools.inherit_weights import main


class Two(nn.Cell):
    """Two parts, of which the second may have another width."""

    def __init__(self, width):
        super().__init__()
        self.first = nn.Dense(2, 3)
        self.second = nn.Dense(3, width)


def values(network):
    return {parameter.name: parameter.asnumpy().copy() for parameter in network.get_parameters()}


def test_what_fits_is_taken_and_the_rest_stays():
    giver, taker = values(Two(4)), Two(5)
    before = values(taker)
    giver["second.bias"] = np.arange(5, dtype=np.float32)
    taken, left = inherit_weights(taker, giver, ["first", "second"])
    after = values(taker)
    assert (taken, left) == (["first.weight", "first.bias", "second.bias"], ["second.weight"])
    for name in taken:
        np.testing.assert_array_equal(after[name], giver[name])
    np.testing.assert_array_equal(after["second.weight"], before["second.weight"])


def test_only_the_parts_named_are_taken():
    giver, taker = values(Two(4)), Two(4)
    before = values(taker)
    assert inherit_weights(taker, giver, ["second.bias"]) == (["second.bias"], [])
    np.testing.assert_array_equal(values(taker)["first.weight"], before["first.weight"])


@pytest.mark.parametrize("part", ["third", "seco", "second.weight"])
def test_a_part_of_which_nothing_fits_is_refused_and_nothing_is_filled(part):
    giver, taker = values(Two(4)), Two(5)
    before = values(taker)
    with pytest.raises(ValueError, match=f"some.ckpt: nothing in {part} has the name and the shape"):
        inherit_weights(taker, giver, ["first", part], source="some.ckpt")
    np.testing.assert_array_equal(values(taker)["first.weight"], before["first.weight"])


def test_biases_of_another_window_by_hand():
    # one head, offsets (|dy|, |dx|) of a 2 x 2 window: [[0, 1], [2, 3]]
    np.testing.assert_array_equal(resized_biases(np.array([[0, 1, 2, 3]]), (1, 9)), [[0, 1, 1, 2, 3, 3, 2, 3, 3]])
    np.testing.assert_array_equal(resized_biases(np.array([[0, 1, 2, 3]]), (1, 1)), [[0]])
    two_heads = np.array([[0, 1, 2, 3], [4, 5, 6, 7]])
    assert resized_biases(two_heads, (1, 9)) is two_heads


def test_nano_begins_with_the_lower_stages_of_a_tinyvit_5m(tmp_path, capsys):
    giver = build_sam("tinyvit_5m", 64, seed=1)
    save_network(tmp_path / "big.ckpt", giver)
    save_network(tmp_path / "small.safetensors", build_sam("nano", 64, seed=2))
    assert main(["--variant", "nano", "--image-size", "64", "--seed", "3", "--output", str(tmp_path / "start.ckpt"),
                 "--take", str(tmp_path / "big.ckpt"), "image_encoder",
                 "--take", str(tmp_path / "small.safetensors"), "prompt_encoder", "mask_decoder"]) == 0
    assert "6 stay as they were, first image_encoder.neck.0.weight" in capsys.readouterr().out
    start, big, small = (read_weights(tmp_path / name) for name in ("start.ckpt", "big.ckpt", "small.safetensors"))
    fresh = {name: array for name, array in read_weights(tmp_path / "start.ckpt").items() if ".neck." in name}
    assert len(fresh) == 6
    for name, array in start.items():
        if name.endswith("attention_biases"):
            window = {64: 8, 256: 16}[array.shape[1]]
            old = big[name].reshape(len(array), 7 * window // 8, -1)  # windows of 7 and 14
            table = array.reshape(-1, window, window)
            np.testing.assert_array_equal(table[:, : old.shape[1], : old.shape[2]], old)
            np.testing.assert_array_equal(table[:, -1, -1], old[:, -1, -1])
        elif name not in fresh:
            np.testing.assert_array_equal(array, (big if name.startswith("image_encoder.") else small)[name])


@pytest.mark.parametrize("change, message", [
    (["--take", "missing.ckpt", "image_encoder"], "missing.ckpt"),
    (["--take", "small.ckpt"], "--take small.ckpt names no part; add one or more, such as image_encoder"),
    (["--take", "small.ckpt", "decoder"], "small.ckpt: nothing in decoder has the name and the shape"),
    (["--take", "small.ckpt", "mask_decoder", "--seed", "-1"], "--seed (-1) must be 0 or more"),
    (["--take", "small.ckpt", "mask_decoder", "--variant", "nan0"], "did you mean 'nano'?"),
    (["--take", "small.ckpt", "mask_decoder", "--output", "start.pth"], "start.pth: can write .ckpt and"),
])
def test_bad_input_is_one_line_and_code_2(change, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_network(tmp_path / "small.ckpt", build_sam("nano", 64, seed=2))
    assert main(["--variant", "nano", "--image-size", "64", "--output", "start.ckpt", *change]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error and not (tmp_path / "start.ckpt").exists()


def test_a_float16_file_fills_float32(tmp_path):
    taker = Two(4)
    inherit_weights(taker, {"first.weight": np.full((3, 2), 0.5, np.float16)}, ["first.weight"])
    assert taker.first.weight.dtype == ms.float32 and (taker.first.weight.asnumpy() == 0.5).all()
