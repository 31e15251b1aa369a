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
"""Strict loading and atomic saving of networks: names, values, metadata, and every refusal word by word."""
import json
import struct

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn
from mindspore.train.checkpoint_pb2 import Checkpoint

from src.checkpoint import is_known_extra, load_network, read_metadata, read_weights, save_network, torch_name
from tests.checkpoint import torch_writer as tw


class Small(nn.Cell):
    """One of each cell whose parameters MindSpore names itself."""

    def __init__(self, width=3, variant="nano", image_size=64):
        super().__init__()
        self.dense = nn.Dense(2, width)
        self.norm = nn.LayerNorm((width,))
        self.bn = nn.BatchNorm2d(width)
        self.token = nn.Embedding(2, width)
        self.variant, self.image_size = variant, image_size

    def construct(self, x):
        return self.norm(self.dense(x))


NAMES = {"dense.weight": (3, 2), "dense.bias": (3,), "norm.weight": (3,), "norm.bias": (3,), "bn.weight": (3,),
         "bn.bias": (3,), "bn.running_mean": (3,), "bn.running_var": (3,), "token.weight": (2, 3)}


def numbers(seed=0):
    generator = np.random.default_rng(seed)
    return {name: generator.normal(size=shape).astype(np.float32) for name, shape in NAMES.items()}


def values(network):
    return {torch_name(name): parameter.asnumpy() for name, parameter in network.parameters_and_names()}


def assert_same(actual, expected):
    assert set(actual) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array)


def refusal(network, weights, **options):
    before = values(network)
    with pytest.raises(ValueError) as caught:
        load_network(network, weights, **options)
    assert_same(values(network), before)  # nothing was loaded
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("ours, released", [
    ("image_encoder.neck.1.gamma", "image_encoder.neck.1.weight"),
    ("image_encoder.neck.1.beta", "image_encoder.neck.1.bias"),
    ("image_encoder.patch_embed.seq.0.bn.moving_mean", "image_encoder.patch_embed.seq.0.bn.running_mean"),
    ("image_encoder.patch_embed.seq.0.bn.moving_variance", "image_encoder.patch_embed.seq.0.bn.running_var"),
    ("mask_decoder.mask_tokens.embedding_table", "mask_decoder.mask_tokens.weight"),
    ("mask_decoder.output_upscaling.0.weight", "mask_decoder.output_upscaling.0.weight"),
    ("image_encoder.gamma.pos_embed", "image_encoder.gamma.pos_embed"),
    ("gamma", "weight"),
])
def test_torch_name(ours, released):
    assert torch_name(ours) == released


@pytest.mark.parametrize("name, known", [
    ("image_encoder.head.weight", True), ("image_encoder.norm_head.bias", True),
    ("image_encoder.layers.0.blocks.0.conv1.bn.num_batches_tracked", True),
    ("image_encoder.layers.1.blocks.0.attn.attention_bias_idxs", True),
    ("image_encoder.heads.weight", False), ("mask_decoder.head.weight", False), ("num_batches_tracked", False),
])
def test_known_extras_are_these_and_no_others(name, known):
    assert is_known_extra(name) is known


def test_torch_file_loads_by_name_and_passes_over_known_extras(tmp_path):
    expected = numbers()
    extras = {"bn.num_batches_tracked": np.array(7), "image_encoder.head.weight": np.zeros((5, 2), np.float32)}
    path = tw.write_state_dict(tmp_path / "released.pth", {**extras, **expected})
    network = Small()
    assert load_network(network, path) == {}
    assert_same(values(network), expected)


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_saved_network_comes_back_with_its_metadata(suffix, tmp_path):
    network = Small()
    load_network(network, numbers())
    path = tmp_path / "new_folder" / f"nano{suffix}"
    given = {"learning_rate": 0.1, "steps": 1 << 40, "note": "two\nlines, \u00e9"}
    save_network(path, network, given)
    metadata = {"variant": "nano", "image_size": 64, **given}
    assert read_metadata(path) == metadata
    assert_same(read_weights(path), numbers())
    other = Small()
    assert load_network(other, path) == metadata
    assert_same(values(other), numbers())
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_ckpt_is_an_ordinary_mindspore_checkpoint(tmp_path):
    network = Small()
    load_network(network, numbers())
    save_network(tmp_path / "nano.ckpt", network)
    parameters = ms.load_checkpoint(str(tmp_path / "nano.ckpt"), crc_check=True)
    assert json.loads(parameters.pop("metadata")) == {"variant": "nano", "image_size": 64}
    np.testing.assert_array_equal(parameters["norm.gamma"].asnumpy(), numbers()["norm.weight"])
    assert ms.load_param_into_net(Small(), parameters) == ([], [])


def test_a_checkpoint_that_mindspore_wrote_is_read(tmp_path):
    network = Small()
    load_network(network, numbers())
    ms.save_checkpoint(network, str(tmp_path / "plain.ckpt"))
    assert read_metadata(tmp_path / "plain.ckpt") == {}
    assert_same(read_weights(tmp_path / "plain.ckpt"), numbers())


def test_the_content_decides_and_not_the_suffix(tmp_path):
    network = Small()
    load_network(network, numbers())
    for suffix in (".ckpt", ".safetensors"):
        save_network(tmp_path / f"nano{suffix}", network)
        (tmp_path / f"nano{suffix}").rename(tmp_path / "nano.pth")
        assert_same(read_weights(tmp_path / "nano.pth"), numbers())


def test_bfloat16_and_half_become_the_parameters_type(tmp_path):
    cut = {name: (array.view(np.uint32) & 0xFFFF0000).view(np.float32) for name, array in numbers().items()}
    offsets = np.cumsum([0] + [2 * array.size for array in cut.values()]).tolist()
    header = {name: {"dtype": "BF16", "shape": list(array.shape), "data_offsets": offsets[i:i + 2]}
              for i, (name, array) in enumerate(cut.items())}
    text = json.dumps(header).encode()
    data = b"".join((array.view(np.uint32) >> 16).astype("<u2").tobytes() for array in cut.values())
    (tmp_path / "half.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    network = Small()
    load_network(network, tmp_path / "half.safetensors")
    assert_same(values(network), cut)
    load_network(network, {name: array.astype(np.float16) for name, array in numbers().items()})
    assert network.dense.weight.dtype == ms.float32
    np.testing.assert_array_equal(network.dense.weight.asnumpy(), numbers()["dense.weight"].astype(np.float16))


def test_loading_reaches_a_network_that_has_already_run(mode):
    network = Small()
    inputs = ms.Tensor(np.float32([[1, 2]]))
    network(inputs)
    load_network(network, numbers())
    given = numbers()
    dense = given["dense.weight"] @ [1, 2] + given["dense.bias"]
    expected = (dense - dense.mean()) / dense.std() * given["norm.weight"] + given["norm.bias"]
    np.testing.assert_allclose(network(inputs).asnumpy()[0], expected, rtol=1e-4, atol=1e-5)


def test_missing_unexpected_and_misshapen_names_are_counted():
    weights = numbers()
    del weights["norm.weight"], weights["norm.bias"]
    weights["neck.0.weight"] = weights["neck.1.weight"] = np.zeros(1, np.float32)
    weights["dense.weight"] = weights["dense.weight"].T
    weights["bn.bias"] = np.zeros(3, np.complex64)
    assert refusal(Small(), weights, source="tiny.pth") == (
        "tiny.pth does not fit variant nano (image_size 64): 2 of 9 parameters missing, first norm.weight; "
        "2 unexpected, first neck.0.weight; 1 of another shape, first dense.weight [2, 3] instead of [3, 2]; "
        "1 of another type, first bn.bias complex64 instead of float32")
    with pytest.raises(ValueError) as caught:
        load_network(Small(), weights)
    assert caught.value.names == [
        "missing: norm.weight", "missing: norm.bias", "unexpected: neck.0.weight", "unexpected: neck.1.weight",
        "shape: dense.weight [2, 3] instead of [3, 2]", "type: bn.bias complex64 instead of float32"]


def test_another_variant_is_named(tmp_path):
    path = tmp_path / "nano.ckpt"
    save_network(path, Small(image_size=512))
    message = refusal(Small(width=4, variant="tinyvit_5m", image_size=1024), path)
    assert message.startswith(f"{path} holds variant nano (image_size 512), not variant tinyvit_5m (image_size 1024): "
                              "9 of another shape, first ")
    assert refusal(Small(variant="nano_teacher"), path) == (
        f"{path} holds variant nano (image_size 512), not variant nano_teacher (image_size 64)")
    load_network(Small(image_size=1024), path)  # a network whose shapes do not depend on the size takes it


def test_another_image_size_is_named():
    weights = {"image_encoder.pos_embed": np.zeros((1, 64, 64, 3), np.float32)}
    network = nn.Cell()
    network.image_encoder = nn.Cell()
    network.image_encoder.pos_embed = ms.Parameter(ms.Tensor(np.zeros((1, 16, 16, 3), np.float32)), name="pos_embed")
    network.variant, network.image_size = "vit_b", 256
    assert refusal(network, weights, source="sam.pth") == (
        "sam.pth holds weights for image_size 1024 and does not fit variant vit_b (image_size 256): "
        "1 of another shape, first image_encoder.pos_embed [1, 64, 64, 3] instead of [1, 16, 16, 3]")


def test_two_names_that_become_one(tmp_path):
    records = [{"name": name, "data": ms.Tensor([1.0])} for name in ("norm.weight", "norm.gamma")]
    path = tmp_path / "twice.ckpt"
    ms.save_checkpoint(records, str(path))
    with pytest.raises(ValueError) as caught:
        read_weights(path)
    assert str(caught.value) == (f"{path}: two parameters are called norm.weight in torch's terms, "
                                 "one of them norm.gamma")


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_a_save_that_breaks_off_leaves_the_old_file_whole(suffix, tmp_path, monkeypatch):
    path, network = tmp_path / f"nano{suffix}", Small()
    load_network(network, numbers())
    save_network(path, network)

    def break_off(*arguments, **_):
        name = next(argument for argument in arguments if isinstance(argument, str))
        with open(name, "wb") as stream:
            stream.write(b"half a fi")
        raise KeyboardInterrupt

    monkeypatch.setattr("mindspore.save_checkpoint", break_off)
    monkeypatch.setattr("safetensors.numpy.save_file", break_off)
    load_network(network, numbers(seed=1))
    with pytest.raises(KeyboardInterrupt):
        save_network(path, network)
    assert_same(read_weights(path), numbers())
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_what_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(ValueError) as caught:
        save_network(tmp_path / "nano.pth", Small())
    assert str(caught.value) == (f"{tmp_path / 'nano.pth'}: weights are written as .ckpt or .safetensors; "
                                 "the name must end in one of them")
    with pytest.raises(ValueError) as caught:
        save_network(tmp_path / "nano.ckpt", Small(), {"sizes": [1, 2]})
    assert str(caught.value) == "metadata entry 'sizes' is list; str, int and float can be stored"
    with pytest.raises(ValueError, match=r"metadata of 2000\d\d characters; at most 131072 are kept"):
        save_network(tmp_path / "nano.ckpt", Small(), {"log": "x" * 200000})
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_safetensors_file(tmp_path):
    path = tmp_path / "nano.safetensors"
    save_network(path, Small())
    path.write_bytes(path.read_bytes()[:-1])
    assert refusal(Small(), path).startswith(f"{path}: broken safetensors file (")


@pytest.mark.parametrize("dims, kind, content, message", [
    ([3], "Float32", bytes(8), "w declares shape [3] of Float32 but holds 8 bytes"),
    ([2], "Float32", bytes(7), "w declares shape [2] of Float32 but holds 7 bytes"),
    ([-1, -2], "Float32", bytes(8), "w declares shape [-1, -2] of Float32 but holds 8 bytes"),
    ([1 << 40, 1 << 40], "Float32", bytes(8), f"w declares shape [{1 << 40}, {1 << 40}] of Float32 but holds 8 bytes"),
    ([2], "Int4", bytes(8), "w has type 'Int4', which is not read"),
])
def test_records_that_contradict_themselves(dims, kind, content, message, tmp_path):
    checkpoint = Checkpoint()
    value = checkpoint.value.add()
    value.tag, value.tensor.tensor_type, value.tensor.tensor_content = "w", kind, content
    value.tensor.dims.extend(dims)
    path = tmp_path / "odd.ckpt"
    path.write_bytes(checkpoint.SerializeToString())
    assert refusal(Small(), path) == f"{path}: {message}"


def test_a_parameter_in_several_records_is_joined(tmp_path):
    path = tmp_path / "large.ckpt"
    checkpoint = Checkpoint()
    for part in (np.float32([1, 2, 3]), np.float32([4])):  # MindSpore cuts parameters above 512 MB like this
        value = checkpoint.value.add()
        value.tag, value.tensor.tensor_type, value.tensor.tensor_content = "w", "Float32", part.tobytes()
        value.tensor.dims.extend([2, 2])
    path.write_bytes(checkpoint.SerializeToString())
    assert read_weights(path)["w"].tolist() == [[1, 2], [3, 4]]
