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
"""Torch files without torch: values of good files, one clear line for bad ones, and nothing of theirs ever runs."""
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest

from src.checkpoint import read_metadata, read_weights
from tests.checkpoint import torch_writer as tw


def refusal(path):
    with pytest.raises(ValueError) as caught:
        read_weights(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and len(message) < 600
    return message[len(f"{path}: "):]


def archive_with(tmp_path, value, storages=None, **extra):
    return tw.write_archive(tmp_path / "weights.pth", tw.program(value), storages, **extra)


@pytest.mark.parametrize("dtype", sorted(tw.STORAGE_TYPES))
def test_every_number_type_keeps_values_and_type(dtype, tmp_path):
    expected = {"a.weight": np.array([[0, 1, 1], [1, 0, 1]], dtype), "scalar": np.array(1, dtype)}
    weights = read_weights(tw.write_state_dict(tmp_path / "weights.pth", expected))
    assert list(weights) == ["a.weight", "scalar"]
    for name, array in expected.items():
        assert weights[name].dtype == array.dtype
        np.testing.assert_array_equal(weights[name], array)


def test_bfloat16_becomes_the_equal_float32(tmp_path):
    # bfloat16 keeps 8 significant bits: 1 + 2^-7 and -3 are exact, 1 + 2^-9 is cut to 1
    values = np.array([1 + 2 ** -7, -3, 1 + 2 ** -9, 1e30], np.float32)
    weights = read_weights(tw.write_state_dict(tmp_path / "weights.pth", {"w": values}, bfloat16=["w"]))
    assert weights["w"].dtype == np.float32
    np.testing.assert_array_equal(weights["w"][:3], [1 + 2 ** -7, -3, 1])
    np.testing.assert_allclose(weights["w"][3], 1e30, rtol=2 ** -7)


@pytest.mark.parametrize("wrapper", ["model", "state_dict", "model_state_dict"])
def test_wrapped_state_dict_is_unwrapped(wrapper, tmp_path):
    path = tw.write_state_dict(tmp_path / "weights.pt", {"w": np.float32([1, 2])}, wrapper=wrapper)
    weights = read_weights(path)
    assert list(weights) == ["w"] and weights["w"].tolist() == [1, 2]
    assert read_metadata(path) == {}


def test_strided_views_of_one_shared_storage(tmp_path):
    numbers = np.arange(6, dtype="<f4")
    value = tw.dict_of({
        "transposed": tw.tensor("0", "FloatStorage", 6, (3, 2), (1, 3)),  # of [[0, 1, 2], [3, 4, 5]]
        "tail": tw.tensor("0", "FloatStorage", 6, (2,), (1,), offset=4),
        "every_other": tw.tensor("0", "FloatStorage", 6, (3,), (2,), offset=1),
        "empty": tw.tensor("0", "FloatStorage", 6, (0, 5), (5, 1)),
    })
    weights = read_weights(archive_with(tmp_path, value, {"0": numbers.tobytes()}))
    assert weights["transposed"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert weights["tail"].tolist() == [4, 5]
    assert weights["every_other"].tolist() == [1, 3, 5]
    assert weights["empty"].shape == (0, 5)
    with pytest.raises(ValueError, match="read-only"):
        weights["tail"][0] = 7


def test_a_parameter_reads_as_its_tensor_and_memoised_names_resolve(tmp_path):
    inner = tw.tensor("0", "FloatStorage", 2, (2,), (1,))
    arguments = tw.tuple_of([inner, b"\x88", tw.EMPTY_ORDERED_DICT])
    parameter = tw.global_name("torch._utils", "_rebuild_parameter") + arguments + b"R"
    value = b"}(" + tw.text("w") + b"q\x05" + parameter + tw.text("v") + inner + b"u"
    weights = read_weights(archive_with(tmp_path, value, {"0": np.float32([3, 4]).tobytes()}))
    assert {name: array.tolist() for name, array in weights.items()} == {"w": [3, 4], "v": [3, 4]}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_foreign_class_is_refused_by_name_and_does_not_run(protocol, tmp_path):
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {marker}",)

    path = tw.write_archive(tmp_path / "evil.pth", pickle.dumps({"w": Evil()}, protocol=protocol))
    assert refusal(path) == f"pickle asks for {os.system.__module__}.system; only tensors are read"
    assert not marker.exists()


@pytest.mark.parametrize("module, name", [("builtins", "eval"), ("__main__", "Sam"), ("argparse", "Namespace"),
                                          ("torch", "load"), ("torch._utils", "_rebuild_device_tensor_from_numpy"),
                                          ("torch.storage", "_load_from_bytes"), ("collections", "Counter")])
def test_any_other_global_is_refused_by_name(module, name, tmp_path):
    path = archive_with(tmp_path, tw.global_name(module, name) + b")R")
    assert refusal(path) == f"pickle asks for {module}.{name}; only tensors are read"


@pytest.mark.parametrize("value, message", [
    (b")\x81", "pickle uses the opcode NEWOBJ; only tensors are read"),
    (b"\x82\x01", "pickle uses the opcode EXT1; only tensors are read"),
    (b"(i__main__\nSam\n", "pickle uses the opcode INST; only tensors are read"),
    (b"P0\n", "pickle uses the opcode PERSID; only tensors are read"),
    (tw.global_name("collections", "OrderedDict") + tw.tuple_of([tw.text("x")]) + b"R",
     "pickle calls collections.OrderedDict in a way that torch does not; only tensors are read"),
    (tw.global_name("torch", "FloatStorage") + b")R",
     "pickle calls torch.FloatStorage in a way that torch does not; only tensors are read"),
    (tw.text("x") + b")R", "pickle calls str in a way that torch does not; only tensors are read"),
    (tw.global_name("torch._utils", "_rebuild_tensor_v2") + b")R",
     "pickle calls torch._utils._rebuild_tensor_v2 in a way that torch does not; only tensors are read"),
    (tw.tensor("0", "FloatStorage", 4, (-1,), (1,)),
     "pickle calls torch._utils._rebuild_tensor_v2 in a way that torch does not; only tensors are read"),
    (b"u", "its pickle is broken (IndexError: pop from empty list)"),
    (b"h\x07", "its pickle is broken (KeyError: 7)"),
    (b"\x93", "its pickle is broken (IndexError: stack underflow)"),
    (tw.text("x") + b"Q", "its pickle is broken (TypeError: a persistent id that is not a storage)"),
    (b"}" + b"))" + b"s", "its pickle is broken (TypeError: a dict key of type tuple)"),
    (b")" + b"))" + b"s", "its pickle is broken (TypeError: items set on something that is not a dict)"),
    (b"))a", "its pickle is broken (TypeError: items appended to something that is not a list)"),
    (b"]}b", "its pickle is broken (TypeError: attributes set on something that is not a dict)"),
    (tw.text("os") + b")\x93", "its pickle is broken (TypeError: a global whose name is no text)"),
    (b"}", "holds an empty dict, not a dict of tensors"),
    (tw.tensor("0", "FloatStorage", 4, (4,), (1,)), "holds a tensor, not a dict of tensors"),
    (b"]", "holds a value of type list, not a dict of tensors"),
    (tw.dict_of({"epoch": tw.integer(3)}), "entry 'epoch' is a value of type int, not a tensor"),
])
def test_programs_that_are_not_state_dicts(value, message, tmp_path):
    assert refusal(archive_with(tmp_path, value)) == message


def test_a_pickle_that_stops_short(tmp_path):
    whole = tw.program(tw.dict_of({"w": tw.tensor("0", "FloatStorage", 1, (1,), (1,))}))
    for length in range(2, len(whole) - 1, 7):
        path = tw.write_archive(tmp_path / "weights.pth", whole[:length], {"0": bytes(4)})
        assert refusal(path).startswith("its pickle is broken (")


@pytest.mark.parametrize("tensor, message", [
    (tw.tensor("0", "FloatStorage", 4, (5,), (1,)), "w of size [5] at offset 0 does not fit its storage of 4 elements"),
    (tw.tensor("0", "FloatStorage", 4, (4,), (1,), offset=1),
     "w of size [4] at offset 1 does not fit its storage of 4 elements"),
    (tw.tensor("0", "FloatStorage", 4, (2, 2), (3, 1)),
     "w of size [2, 2] at offset 0 does not fit its storage of 4 elements"),
    (tw.tensor("0", "FloatStorage", 4, (1 << 40, 1 << 20), (0, 0)),
     f"w of size [{1 << 40}, {1 << 20}] at offset 0 does not fit its storage of 4 elements"),
    (tw.tensor("0", "FloatStorage", 1 << 50, (1 << 50,), (1,)),
     f"storage 0 declares {1 << 50} elements of 4 bytes but holds 16 bytes"),
    (tw.tensor("0", "DoubleStorage", 4, (4,), (1,)), "storage 0 declares 4 elements of 8 bytes but holds 16 bytes"),
    (tw.tensor("7", "FloatStorage", 4, (4,), (1,)), "no entry 'data/7' in the archive"),
    (tw.tensor("../0", "FloatStorage", 4, (4,), (1,)), "no entry 'data/../0' in the archive"),
])
def test_tensors_that_do_not_fit_their_storage(tensor, message, tmp_path):
    assert refusal(archive_with(tmp_path, tw.dict_of({"w": tensor}), {"0": bytes(16)})) == message


def test_a_truncated_archive(tmp_path):
    path = tw.write_state_dict(tmp_path / "weights.pth", {"w": np.ones(64, np.float32)})
    whole = path.read_bytes()
    for length in (4, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert refusal(path).startswith("truncated or damaged zip archive (")


def test_one_changed_byte_fails_the_crc(tmp_path):
    path = tw.write_state_dict(tmp_path / "weights.pth", {"w": np.full(64, 7, np.float32)})
    whole = path.read_bytes()
    start = whole.index(np.full(64, 7, np.float32).tobytes())
    path.write_bytes(whole[:start] + b"\xff" + whole[start + 1:])
    assert refusal(path) == "truncated or damaged zip archive (Bad CRC-32 for file 'archive/data/0')"


def test_a_compressed_bomb_is_not_unpacked(tmp_path):
    path = archive_with(tmp_path, tw.dict_of({"w": tw.tensor("0", "ByteStorage", 1 << 24, (1 << 24,), (1,))}),
                        {"0": bytes(1 << 24)}, compression=zipfile.ZIP_DEFLATED)
    assert refusal(path).endswith(f"bytes in a file of {path.stat().st_size}; torch stores its data uncompressed")


def test_other_containers_are_named(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"")
    assert refusal(path) == "the file is empty"
    path.write_bytes(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")  # the magic number of torch before 1.6
    assert refusal(path) == ("a bare pickle or the torch format before 1.6, which is not read; "
                             "save it again with torch >= 1.6")
    path.write_bytes(b"<html>404")
    assert refusal(path) == "not a weight file; .safetensors, .pth, .pt (torch >= 1.6) and .ckpt are read"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert refusal(path) == "a zip archive with 0 data.pkl, not a torch file"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", tw.program(b"}"))
        archive.writestr("a/byteorder", b"big")
    assert refusal(path) == "byte order b'big'; only little is read"


def test_random_damage_never_ends_in_another_kind_of_error(tmp_path):
    path = tw.write_state_dict(tmp_path / "weights.pth", {"w": np.ones(4, np.float32), "v": np.ones(2, np.int64)})
    whole, generator = path.read_bytes(), np.random.default_rng(0)
    read = 0
    for _ in range(400):
        damaged = bytearray(whole)
        for position in generator.integers(0, len(whole), 3):
            damaged[position] = generator.integers(256)
        path.write_bytes(damaged)
        try:
            weights = read_weights(path)
            read += 1  # the damage hit bytes that nobody reads, such as dates
            assert set(weights) == {"w", "v"}
        except ValueError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
    assert read < 200


def test_random_programs_never_end_in_another_kind_of_error(tmp_path):
    whole = tw.program(tw.dict_of({"w": tw.tensor("0", "FloatStorage", 4, (4,), (1,))}))
    generator = np.random.default_rng(1)
    for _ in range(400):
        damaged = bytearray(whole)
        for position in generator.integers(2, len(whole), 2):
            damaged[position] = generator.integers(256)
        path = tw.write_archive(tmp_path / "weights.pth", bytes(damaged), {"0": struct.pack("<4f", 1, 2, 3, 4)})
        try:
            read_weights(path)
        except ValueError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
