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
"""Which checkpoints stay, which is the best, and which are not gone on from."""
import json
import logging

import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn

from src.checkpoint import read_metadata
from src.config import build_config
from src.training.run_checkpoints import FIXED_KEYS, FREE_KEYS, FREE_SECTIONS, RunCheckpoints, changed_keys


class Cell(nn.Cell):
    def __init__(self, name):
        super().__init__()
        self.w = Parameter(Tensor(np.float32([1])), name=name)
        self.variant, self.image_size = "nano", 64


def config(**changes):
    return build_config({key.replace("__", "."): value for key, value in changes.items()}).to_yaml()


def make(folder, text=None, keep_last=2, writes=True, **metadata):
    about = {"config": config() if text is None else text, "code": "v1", "seed": 1, "image_size": 64, "global_batch": 2,
             "steps_per_epoch": 5, "total_steps": 50, **metadata}
    return RunCheckpoints(folder, {"student": Cell("w"), "optimizer": Cell("m")}, about, keep_last, writes)


def names(folder):
    return sorted(path.name for path in folder.glob("step_*"))


def train(checkpoints, losses, save_every=2, start=0):
    for step, loss in enumerate(losses, start + 1):
        checkpoints.count_loss(loss)
        if step % save_every == 0:
            checkpoints.save(step)


def test_the_last_and_the_best_stay(tmp_path):
    # Means of the stretches: 5, 2, 3, 4, 6: step 4 is the best.
    train(make(tmp_path), [5, 5, 1, 3, 3, 3, 4, 4, 6, 6])
    assert names(tmp_path) == ["step_00000004.ckpt", "step_00000008.ckpt", "step_00000010.ckpt"]
    about = read_metadata(tmp_path / "step_00000010.ckpt")
    assert (about["best_step"], about["best_loss"]) == (4, 2.0)


def test_steps_that_are_not_finite_do_not_decide(tmp_path):
    train(make(tmp_path), [float("nan"), float("inf"), 3, 3])
    assert read_metadata(tmp_path / "step_00000004.ckpt")["best_step"] == 4
    assert "best_step" not in read_metadata(tmp_path / "step_00000002.ckpt")


def test_a_save_between_two_regular_ones_changes_nothing_of_the_best(tmp_path):
    losses = [5, 5, 1, 3, 3, 2]
    whole = make(tmp_path / "whole")
    train(whole, losses)
    first = make(tmp_path / "parts")
    train(first, losses[:3])
    first.save(3, regular=False)
    second = make(tmp_path / "parts")
    assert second.resume("auto") == 3
    train(second, losses[3:], start=3)
    assert (second.best_step, second.best_loss) == (whole.best_step, whole.best_loss) == (4, 2.0)
    assert (tmp_path / "parts" / "step_00000004.ckpt").exists()


def test_only_the_rank_that_writes_writes(tmp_path):
    quiet = make(tmp_path / "new", writes=False)
    train(quiet, [1, 1])
    assert not (tmp_path / "new").exists()
    assert quiet.best_step == 2  # it counts all the same


def test_what_a_kill_left_half_written_is_removed(tmp_path):
    left = tmp_path / ".step_00000002.ckpt.ab12"
    left.mkdir()
    (left / "part.ckpt").write_bytes(b"half")
    make(tmp_path, writes=False).resume("auto")
    assert left.exists()
    make(tmp_path).resume("auto")
    assert not left.exists()


def test_a_changed_setting_is_said(tmp_path, caplog):
    train(make(tmp_path), [1, 1])
    logging.getLogger("tinysam").propagate = True
    with caplog.at_level(logging.INFO, "tinysam"):
        text = config(optim__learning_rate=0.5, optim__clip_norm=3, data__workers=7, runtime__threads=1)
        assert make(tmp_path, text, code="v2").resume("auto") == 2
    assert "goes on with changed settings: optim.clip_norm was 1.0, is 3.0, optim.learning_rate was 0.001, is 0.5" \
        in caplog.messages
    assert "the checkpoint was made by version v1, this is v2" in caplog.messages
    assert not any("workers" in message for message in caplog.messages)


@pytest.mark.parametrize("change, said", [
    ({"model__student": "nano"}, "model.student was tinyvit_5m, is nano"),
    ({"model__teacher": "vit_b"}, "model.teacher was vit_h, is vit_b"),
    ({"runtime__seed": 9}, "runtime.seed was 1, is 9"),
    ({"data__format": "coco"}, "data.format was sa1b, is coco"),
])
def test_another_run_is_refused(tmp_path, change, said):
    train(make(tmp_path), [1, 1])
    with pytest.raises(ValueError, match=f"step_00000002.ckpt is not of this run: {said}; set them back, or start a "
                                         "new run from its weights with --model.student_checkpoint$"):
        make(tmp_path, config(**change)).resume("auto")


def test_another_batch_is_refused(tmp_path):
    train(make(tmp_path), [1, 1])
    with pytest.raises(ValueError, match="was made with global_batch 2, this run has 4; keep data.batch_size x "
                                         "train.accumulate_steps x ranks as it was$"):
        make(tmp_path, global_batch=4).resume("auto")


def test_another_input_is_refused(tmp_path):
    train(make(tmp_path), [1, 1])
    with pytest.raises(ValueError, match="was made with image_size 64, this run has 128; give both the same "
                                         "model.image_size$"):
        make(tmp_path, image_size=128).resume("auto")


def test_the_same_batch_divided_otherwise_goes_on(tmp_path):
    train(make(tmp_path, config(data__batch_size=2)), [1, 1])
    again = make(tmp_path, config(data__batch_size=1, train__accumulate_steps=2, runtime__devices=1))
    assert again.resume("auto") == 2


def test_weights_alone_are_no_state(tmp_path):
    from src.checkpoint import save_network
    save_network(tmp_path / "student.ckpt", Cell("w"), {})
    with pytest.raises(ValueError, match="holds weights, not the state of a training run; give it as "
                                         "--model.student_checkpoint to start from them$"):
        make(tmp_path / "new").resume(str(tmp_path / "student.ckpt"))


def test_a_file_from_elsewhere_does_not_cost_the_folders_run_its_checkpoints(tmp_path):
    train(make(tmp_path / "mine"), [1, 1])
    train(make(tmp_path / "other"), [5, 5, 1, 1, 1, 1])
    before = {path.name: path.read_bytes() for path in (tmp_path / "other").iterdir()}
    mine, other = tmp_path / "mine" / "step_00000002.ckpt", make(tmp_path / "other")
    with pytest.raises(ValueError) as refused:
        other.resume(str(mine))
    assert str(refused.value) == (
        f"{tmp_path / 'other'} holds checkpoints of an earlier run, newest step_00000006.ckpt, and {mine} is not among "
        "them; choose another --train.output_dir to go on from it")
    assert {path.name: path.read_bytes() for path in (tmp_path / "other").iterdir()} == before
    assert make(tmp_path / "new").resume(str(mine)) == 2  # a folder of its own
    # One of the folder's own, by whatever path, goes on: what came after it is replaced.
    assert other.resume(str(tmp_path / "mine" / ".." / "other" / "step_00000004.ckpt")) == 4
    other.save(5)
    assert names(tmp_path / "other") == ["step_00000004.ckpt", "step_00000005.ckpt"]


def test_changed_keys():
    assert changed_keys("a: {b: 1, c: 2}", "a: {b: 1, c: 3, d: 4}") == {
        "a.c": "a.c was 2, is 3", "a.d": "a.d was not there, is 4"}
    assert changed_keys("", "") == {}


def test_the_lists_name_keys_that_exist():
    known = changed_keys("", config())
    assert set(FIXED_KEYS + FREE_KEYS) <= set(known)
    assert set(FREE_SECTIONS) <= {key.split(".")[0] for key in known}
    assert json.dumps(sorted(known))
