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
"""Quantizers on values worked out by hand, and scales.json: what is written is read, what is broken is refused."""
import dataclasses
import json

import numpy as np
import pytest

from src.checkpoint.file_hash import file_sha256
from src.quantization.cost import cost_rows
from src.quantization.load import describe_scales
from src.quantization.scales_file import read_scales, write_scales
from src.quantization.spec import (
    CodeRange,
    LayerScales,
    Quantization,
    Quantizer,
    check_bits,
    largest_sum,
    signed_range,
    weight_codes,
)

X = np.array([-2.0, -0.25, -0.125, 0.0, 0.125, 0.375, 0.625, 5.0], np.float32)


def uniform(scale, low, high, bits=4):
    return Quantizer("uniform", bits, (CodeRange(scale, low, high),))


def test_signed_range_rounds_half_to_even_and_clips():
    quantizer = Quantizer("uniform", 4, (signed_range(0.25, 4),))
    (scale, codes), = quantizer.parts(X)  # x / 0.25 = -8, -1, -0.5, 0, 0.5, 1.5, 2.5, 20
    assert scale == 0.25 and codes.tolist() == [-8, -1, 0, 0, 0, 2, 2, 7]
    assert quantizer.dequantized(X).tolist() == [-2, -0.25, 0, 0, 0, 0.5, 0.5, 1.75]


def test_offset_range_has_a_zero_point_and_keeps_zero_exact():
    quantizer = uniform(0.125, -2, 13)
    assert quantizer.dequantized(X).tolist() == [-0.25, -0.25, -0.125, 0, 0.125, 0.375, 0.625, 1.625]
    assert quantizer.record() == {"kind": "uniform", "bits": 4, "signed": False, "zero_point": 2,
                                  "ranges": [{"scale": 0.125, "low": -2, "high": 13}]}
    assert Quantizer("uniform", 4, (signed_range(1, 4),)).record()["signed"] is True


def test_twin_at_zero_gives_each_sign_its_scale():
    quantizer = Quantizer("twin", 4, (CodeRange(0.0625, -8, 0), CodeRange(0.25, 0, 7)), 0.0)
    (_, below), (_, above) = quantizer.parts(X)
    assert below.tolist() == [-8, -4, -2, 0, 0, 0, 0, 0] and above.tolist() == [0, 0, 0, 0, 0, 2, 2, 7]
    assert quantizer.dequantized(X).tolist() == [-0.5, -0.25, -0.125, 0, 0, 0.5, 0.5, 1.75]


def test_split_softmax_adds_no_constant():
    """Clamping to [0, split] and to [split, 1] and adding would make every small value at least `split`."""
    split = 0.25
    quantizer = Quantizer("twin", 4, (CodeRange(split / 7, 0, 7), CodeRange(1 / 7, 0, 7)), split)
    x = np.array([0.0, 0.01, 0.2, 0.24, 0.25, 0.6, 1.0], np.float32)
    (_, small), (_, large) = quantizer.parts(x)
    assert small.tolist() == [0, 0, 6, 7, 0, 0, 0]
    assert large.tolist() == [0, 0, 0, 0, 2, 4, 7]  # 0.25 * 7 = 1.75, 0.6 * 7 = 4.2
    assert np.array_equal((small > 0) & (large > 0), np.zeros(7, bool))
    assert quantizer.dequantized(x)[0] == 0 and np.abs(quantizer.dequantized(x) - x).max() <= 0.5 / 7 + 1e-6


def test_log2_keeps_powers_and_drops_what_is_smaller():
    quantizer = Quantizer("log2", 3, (CodeRange(1.0, 0, 7),))
    x = np.array([1.0, 0.5, 0.3, 2.0**-6, 2.0**-7, 0.0], np.float32)  # -log2(0.3) = 1.74
    assert quantizer.dequantized(x).tolist() == [1, 0.5, 0.25, 2.0**-6, 0, 0]


def test_weight_codes_have_a_scale_per_channel():
    weight = np.array([[1.0, -3.0], [0.5, 0.25]], np.float32)
    assert weight_codes(weight, [1.0, 0.25], 3).tolist() == [[1, -3], [2, 1]]
    assert weight_codes(weight, [0.5, 0.25], 3).tolist() == [[2, -4], [2, 1]]


def test_largest_sum_knows_that_a_softmax_adds_up_to_one():
    quantizer = uniform(1 / 15, 0, 15)
    assert largest_sum(quantizer, 100) == 1500
    assert largest_sum(quantizer, 100, after_softmax=True) == pytest.approx(30)  # 2 / scale


@pytest.mark.parametrize("bits", [1, 9, True, "8", 7.5])
def test_bits_out_of_range(bits):
    with pytest.raises(ValueError, match=f"quantize.bits is {bits}; it must be an integer from 2 to 8"):
        check_bits("quantize.bits", bits)


@pytest.fixture
def quantization():
    rng = np.random.default_rng(0)
    linear = LayerScales("a.b", "linear", 4, 8, (uniform(0.1, -3, 252, 8),), 3, 12, 0.5,
                         np.array([0.1, 0.3], np.float32), rng.integers(-8, 8, (2, 3)).astype(np.int8),
                         np.array([0.7, -1], np.float32))
    twin = Quantizer("twin", 8, (CodeRange(0.01, 0, 127), CodeRange(0.25, 0, 127)), 0.125)
    matmul = LayerScales("a.mix", "matmul", 0, 8, (twin, uniform(0.3, -128, 127, 8)), 5)
    return Quantization("ab" * 32, "nano", 64, "paper", 4, 8, (linear, matmul), {"a.c": "because"}, {"a.c": 7},
                        ("a.b",), {"a.norm.gamma": np.array([1, 2], np.float32)}, {"metric": "mse"},
                        parameter_bytes=400)


def test_what_is_written_is_read(tmp_path, quantization):
    path, codes = write_scales(tmp_path / "scales.json", quantization)
    assert (path.name, codes.name) == ("scales.json", "scales_codes.npz")
    again = read_scales(path)
    assert again.record("x", "y") == quantization.record("x", "y")
    for name, array in quantization.arrays().items():
        assert np.array_equal(again.arrays()[name], array) and again.arrays()[name].dtype == array.dtype
    assert again.parameter_bytes == 400
    assert again.layers[1].inputs == quantization.layers[1].inputs
    assert again.layers[0].weight_scales.dtype == np.float32
    assert np.array_equal(again.layers[0].weight_scales, quantization.layers[0].weight_scales)


def change(path, edit):
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def operand(content, layer, place):
    return content["layers"][layer]["inputs"][place]


@pytest.mark.parametrize("edit, message", [
    (lambda c: c.pop("layers"), "not a whole scales.json (KeyError: 'layers')"),
    (lambda c: c.update(format=9), "format 9 is not 1"),
    (lambda c: c["layers"][0].update(weight_bits=12), "weight_bits of a.b is 12; it must be an integer from 2 to 8"),
    (lambda c: c.update(weight_bits=12), "weight_bits is 12; it must be an integer from 2 to 8"),
    (lambda c: c.update(activation_bits=1.5), "activation_bits is 1.5; it must be an integer from 2 to 8"),
    (lambda c: c["layers"][0].update(weight_bits=2), "a.b has the weight code 5; 2 bits hold -2..1"),
    (lambda c: c["layers"][0].update(activation_bits=0), "activation_bits of a.b is 0"),
    (lambda c: c["layers"][0].update(weight_scales=[1.0]), "a.b has 1 weight_scales for codes [2, 3] int8"),
    (lambda c: c["layers"][0].update(weight_scales=[0.1, float("nan")]), "weight scale 1 of a.b is nan; it must"),
    (lambda c: c["layers"][0].update(weight_scales=[0.0, 0.1]), "weight scale 0 of a.b is 0.0; it must be finite"),
    (lambda c: c["layers"][0].update(kind="matmul"), "a.b is a matmul with 1 quantizers; a matmul has two"),
    (lambda c: c["layers"][0].update(kind="other"), "a.b is a other with 1 quantizers"),
    (lambda c: c["layers"][1]["inputs"][0].update(kind="third"), "is not of a known kind"),
    (lambda c: operand(c, 1, 0).update(bits=9), "a.mix: bits of a quantizer is 9; it must be an integer from 2 to 8"),
    (lambda c: operand(c, 1, 1).update(bits=4), "a.mix: codes -128..127 are no range of a uniform quantizer of 4 bits"),
    (lambda c: operand(c, 0, 0).update(bits=9), "a.b: bits of a quantizer is 9"),
    (lambda c: c["layers"][0].update(activation_bits=7), "a.b has a quantizer of 8 bits, its activation_bits are 7"),
    (lambda c: operand(c, 1, 0)["ranges"][1].update(high=128), "a.mix: codes 0..128 are no range of a twin quant"),
    (lambda c: operand(c, 0, 0)["ranges"][0].update(low=-4), "a.b: codes -4..252 are no range of a uniform quant"),
    (lambda c: operand(c, 0, 0)["ranges"][0].update(low=3), "a.b: codes 3..252 are no range"),
    (lambda c: operand(c, 0, 0)["ranges"][0].update(low=-2.5), "a.b: codes -2.5..252 are no range"),
    (lambda c: operand(c, 0, 0)["ranges"][0].update(scale=-1.0), "a.b: scale of a quantizer is -1.0; it must be"),
    (lambda c: operand(c, 0, 0)["ranges"][0].update(scale=float("nan")), "a.b: scale of a quantizer is nan; it must"),
    (lambda c: operand(c, 1, 0).update(split=float("inf")), "a.mix: split of a quantizer is inf; it must be finite"),
    (lambda c: c.update(codes_file="other.npz"), "other.npz, is not beside it"),
    (lambda c: c.update(codes_sha256="0"), "scales_codes.npz is not the file it was written with"),
])
def test_a_broken_file_is_refused_in_one_line(tmp_path, quantization, edit, message):
    path, _ = write_scales(tmp_path / "scales.json", quantization)
    change(path, edit)
    with pytest.raises(ValueError) as caught:
        read_scales(path)
    assert message in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_log2_is_labelled_a_simulation(tmp_path, quantization):
    """In records and in the table of the cost, of networks that have it alone."""
    log2 = Quantizer("log2", 8, (CodeRange(1.0, 0, 255),))
    pair = quantization.layers[1]
    layers = {"": quantization.layers, ", simulation only (log2 softmax)": (
        quantization.layers[0], dataclasses.replace(pair, inputs=(log2, pair.inputs[1])))}
    for label, of_label in layers.items():
        labelled = dataclasses.replace(quantization, layers=of_label)
        path, _ = write_scales(tmp_path / "scales.json", labelled)
        assert describe_scales(path) == f"w4a8 paper, scales sha256 {file_sha256(path)}{label}"
        assert cost_rows(labelled)[-1].startswith(f"| W4A8, paper{label} |")


def test_what_the_sign_trick_found_is_told_from_what_was_not_applied(tmp_path, quantization):
    """The file keeps the numbers, the table of the cost has a line; files of earlier versions have neither."""
    def lines(**settings):
        path, _ = write_scales(tmp_path / "scales.json", dataclasses.replace(quantization, settings=settings))
        return cost_rows(read_scales(path))

    assert lines(sign_trick=True, attentions=7, flipped_attentions=3)[-2:] == [
        "", "sign trick: keys of 3 of 7 attentions flipped"]
    assert lines(sign_trick=True, attentions=7, flipped_attentions=0)[-1].startswith("sign trick: keys of 0 of 7 att")
    for settings in ({"sign_trick": False, "attentions": 0, "flipped_attentions": 0}, {"sign_trick": True}, {}):
        assert lines(**settings)[-1].startswith("| W4A8, paper |")


@pytest.mark.parametrize("bits, code", [(6, 32), (6, -33), (8, None), (4, 8)])
def test_codes_end_where_their_bits_end(tmp_path, quantization, bits, code):
    """+32 is no code of 6 bits, although -32 is."""
    codes = np.array([[-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, 0], [1, 2, 3]], np.int8)
    layer = dataclasses.replace(quantization.layers[0], weight_bits=bits, weight_codes=codes)
    path = tmp_path / "scales.json"
    write_scales(path, dataclasses.replace(quantization, layers=(layer,)))
    assert np.array_equal(read_scales(path).layers[0].weight_codes, codes)
    if code is not None:
        codes[1, 1] = code
        write_scales(path, dataclasses.replace(quantization, layers=(layer,)))
        with pytest.raises(ValueError, match=f"a.b has the weight code {code}; {bits} bits hold -{2 ** (bits - 1)}"):
            read_scales(path)


def test_a_bias_has_a_finite_value_for_each_channel(tmp_path, quantization):
    for bias in ([1.0, 2.0, 3.0], [1.0, np.nan]):
        layer = dataclasses.replace(quantization.layers[0], bias=np.array(bias, np.float32))
        write_scales(tmp_path / "scales.json", dataclasses.replace(quantization, layers=(layer,)))
        with pytest.raises(ValueError, match=rf"bias of a.b is \[{len(bias)}\] for 2 channels, or not finite"):
            read_scales(tmp_path / "scales.json")


def test_no_file_and_no_json(tmp_path):
    with pytest.raises(ValueError, match="no such file; give the scales.json that quantize.py wrote"):
        read_scales(tmp_path / "none.json")
    (tmp_path / "text.json").write_text("[1")
    with pytest.raises(ValueError, match="text.json: cannot be read as scales.json"):
        read_scales(tmp_path / "text.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(ValueError, match="holds a list, not the object of a scales.json"):
        read_scales(tmp_path / "list.json")
