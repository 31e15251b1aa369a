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
"""The state of a run: exact resumption, whole files only, the newest whole one found."""
import logging
import os

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn, ops

from src.checkpoint import load_network, load_state, newest_state, read_state, read_weights, save_network, save_state


class Student(nn.Cell):
    """Named so that structural names and parameter names agree, as in the real network."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Dense(2, 2, weight_init="normal")
        self.norm = nn.LayerNorm((2,))
        self.variant, self.image_size = "nano", 64

    def construct(self, x):
        return self.norm(self.dense(x))


class MeanSquare(nn.Cell):
    """Mean of (output - 1)^2."""

    def __init__(self, network):
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, x):
        return ops.square(self.network(x) - 1).mean()


def new_run():
    student = Student()
    schedule = nn.CosineDecayLR(0.001, 0.1, 10)
    return student, nn.Adam(student.trainable_params(), learning_rate=schedule)


def train(student, optimizer, steps):
    inputs = ms.Tensor(np.float32([[1, 2], [3, -1], [0, 5]]))
    gradient = ms.value_and_grad(MeanSquare(student), None, optimizer.parameters)
    losses = []
    for _ in range(steps):
        loss, gradients = gradient(inputs)
        optimizer(gradients)
        losses.append(float(loss.asnumpy()))
    return losses


def saved(folder, name, step, **metadata):
    student, optimizer = new_run()
    save_state(folder / name, {"student": student, "optimizer": optimizer}, {"step": step, **metadata})
    return folder / name


def test_a_resumed_run_gives_the_losses_of_one_that_never_stopped(mode, tmp_path):
    student, optimizer = new_run()
    train(student, optimizer, 2)
    metadata = {"step": 2, "epoch": 0, "best": 0.1, "config": "optim:\n  name: adam\n"}
    save_state(tmp_path / "step.ckpt", {"student": student, "optimizer": optimizer}, metadata)
    expected = train(student, optimizer, 3)
    student, optimizer = new_run()
    loaded = load_state(tmp_path / "step.ckpt", {"student": student, "optimizer": optimizer})
    assert loaded == {**metadata, "variant": "nano", "image_size": 64}
    assert train(student, optimizer, 3) == expected
    assert int(optimizer.global_step.asnumpy()[0]) == 5


def test_every_parameter_is_stored_once_under_its_first_cell(tmp_path):
    arrays, metadata = read_state(saved(tmp_path, "step.ckpt", 4))
    names = {"dense.weight", "dense.bias", "norm.gamma", "norm.beta"}
    assert {name[8:] for name in arrays if name.startswith("student.")} == names
    assert {name[10:] for name in arrays if name.startswith("optimizer.")} == (
        {"global_step", "beta1_power", "beta2_power"} | {f"moment{i}.{name}" for i in (1, 2) for name in names})
    assert metadata == {"step": 4, "variant": "nano", "image_size": 64}


def test_weights_of_a_state_are_its_students(tmp_path):
    student, optimizer = new_run()
    save_state(tmp_path / "step.ckpt", {"student": student, "optimizer": optimizer}, {"step": 1})
    assert list(read_weights(tmp_path / "step.ckpt")) == ["dense.weight", "dense.bias", "norm.weight", "norm.bias"]
    other = Student()
    load_network(other, tmp_path / "step.ckpt")
    np.testing.assert_array_equal(other.dense.weight.asnumpy(), student.dense.weight.asnumpy())


def test_a_state_of_another_run_is_refused_and_changes_nothing(tmp_path):
    path = saved(tmp_path, "step.ckpt", 1)
    student = Student()
    momentum = nn.Momentum(student.trainable_params(), 0.1, 0.9)
    before = student.dense.weight.asnumpy()
    with pytest.raises(ValueError) as caught:
        load_state(path, {"student": student, "optimizer": momentum})
    message = str(caught.value)
    assert message.startswith(f"{path} does not continue this run: ") and "\n" not in message
    assert "parameters missing, first optimizer." in message and "unexpected, first optimizer." in message
    np.testing.assert_array_equal(student.dense.weight.asnumpy(), before)


def test_files_that_are_no_state(tmp_path):
    path = tmp_path / "student.ckpt"
    save_network(path, Student())
    with pytest.raises(ValueError) as caught:
        read_state(path)
    assert str(caught.value) == f"{path}: holds weights, not the state of a training run"
    path.write_bytes(b"")
    with pytest.raises(ValueError) as caught:
        read_state(path)
    assert str(caught.value) == f"{path}: the file is empty"
    with pytest.raises(ValueError) as caught:
        save_state(tmp_path / "student.safetensors", {"student": Student()}, {})
    assert str(caught.value) == f"{tmp_path / 'student.safetensors'}: a training state is written as .ckpt"


def test_a_file_cut_anywhere_is_refused(tmp_path):
    path = saved(tmp_path, "step.ckpt", 1)
    whole = path.read_bytes()
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError) as caught:
            read_state(path)
        message = str(caught.value)
        assert message.startswith(f"{path}: ") and "\n" not in message
        assert any(words in message for words in ("truncated", "checksum differs", "no MindSpore checkpoint")), message


def test_a_changed_byte_is_refused_wherever_it_is(tmp_path):
    path = saved(tmp_path, "step.ckpt", 1)
    whole = path.read_bytes()
    for position in range(0, len(whole), 3):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x10]) + whole[position + 1:])
        with pytest.raises(ValueError) as caught:
            read_state(path)
        assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    path.write_bytes(whole + b"\0")
    with pytest.raises(ValueError, match="checksum differs after .* records; the file is damaged"):
        read_state(path)


def test_the_newest_state_is_the_one_of_the_highest_step(tmp_path):
    assert newest_state(tmp_path) is None
    assert newest_state(tmp_path / "absent") is None
    last = saved(tmp_path, "a.ckpt", 300)
    first = saved(tmp_path, "b.ckpt", 20)
    os.utime(last, (1, 1))  # copying a folder may shuffle the times
    save_network(tmp_path / "student.ckpt", Student(), {"step": 999})
    (tmp_path / "notes.txt").write_text("not a checkpoint")
    assert newest_state(tmp_path) == last
    last.unlink()
    assert newest_state(tmp_path) == first


def test_broken_states_are_passed_over_and_named(tmp_path, caplog):
    whole = saved(tmp_path, "step_1.ckpt", 1)
    damaged = saved(tmp_path, "step_2.ckpt", 2)
    content = damaged.read_bytes()
    position = content.index(b"moment2.dense.weight")
    damaged.write_bytes(content[:position] + b"M" + content[position + 1:])
    cut = saved(tmp_path, "step_3.ckpt", 3)
    cut.write_bytes(cut.read_bytes()[:400])
    saved(tmp_path, "step_4.ckpt", 4).write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        assert newest_state(tmp_path) == whole
    messages = sorted(record.getMessage() for record in caplog.records)
    assert [message.startswith(f"skipped a broken checkpoint: {tmp_path / name}: ")
            for message, name in zip(messages, ("step_2.ckpt", "step_3.ckpt", "step_4.ckpt"))] == [True] * 3
    whole.unlink()
    assert newest_state(tmp_path) is None


def test_a_save_that_breaks_off_leaves_the_old_state(tmp_path, monkeypatch):
    path = saved(tmp_path, "last.ckpt", 1)

    def full_disk(_, name, **__):
        with open(name, "wb") as stream:
            stream.write(b"\n\x40half a file")
        raise OSError("no space left on device")

    monkeypatch.setattr("mindspore.save_checkpoint", full_disk)
    with pytest.raises(OSError, match="no space left"):
        saved(tmp_path, "last.ckpt", 2)
    assert read_state(path)[1]["step"] == 1
    assert newest_state(tmp_path) == path
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.ckpt"]
