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
"""The run: resuming to the same numbers, checkpoints, signals, and what is refused. A toy loss cell keeps it quick."""
import csv
import dataclasses
import os
import signal

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops

from src.checkpoint import read_weights
from src.config import build_config
from src.distillation.distiller import NAMES
from src.training.loop import DivergedError, TrainLoop, count_steps, draw_noise
from src.training.optimizer import build_optimizer
from src.training.step import TrainStep

ROUNDS = 3
EPOCH = 3  # batches


class ToyLoss(nn.Cell):
    """Takes what a Distiller takes; every input moves the loss, so a wrong batch, noise or round shows."""

    def __init__(self):
        super().__init__()
        self.w = Parameter(Tensor(np.linspace(-1, 1, 4), ms.float32), name="w")
        self.image_size = 64

    def construct(self, images, gt_masks, point_coords, point_labels, mask_valid, noise, rounds,
                  teacher_embeddings=None, prompt_count=None):
        drawn = ops.mean(noise) + rounds.astype(ms.float32) + ops.mean(images)
        loss = ops.mean(ops.square(self.w * drawn - 1.0)) + 0.0 * ops.mean(point_coords)
        return loss, drawn, loss, loss, loss, loss, loss, loss


class ToyBatches:
    """EPOCH batches, each a function of epoch and index; `hook(epoch, index)` runs before each."""

    def __init__(self, hook=None, length=EPOCH):
        self.hook = hook or (lambda epoch, index: None)
        self.length = length
        self.batch_size = 2

    def __len__(self):
        return self.length

    def epoch(self, epoch, start=0):
        for index in range(start, self.length):
            self.hook(epoch, index)
            images = np.full((2, 3, 4, 4), 10 * epoch + index, np.float32) / 50
            yield {"images": images, "gt_masks": np.zeros((2, 1, 1, 1), np.uint8),
                   "point_coords": np.zeros((2, 1, 2 + ROUNDS, 2), np.float32),
                   "point_labels": np.zeros((2, 1, 2 + ROUNDS), np.int32), "mask_valid": np.ones((2, 1), np.float32)}


def settings(folder, **changes):
    train = build_config({"train.output_dir": str(folder), "train.epochs": 3, "train.log_every": 1,
                          "train.save_every": 4}).train
    return dataclasses.replace(train, **changes)


def make_loop(folder, batches=None, seed=1, around=None, **changes):
    student = ToyLoss()
    cell = around(student) if around else student
    train, batches = settings(folder, **changes), batches or ToyBatches()
    optim = build_config({"optim.learning_rate": 0.05, "optim.warmup_steps": 2}).optim
    optimizer = build_optimizer(cell, optim, count_steps(len(batches), train.epochs, train.max_steps))
    metadata = {"config": "", "code": "test"}
    return TrainLoop(TrainStep(cell, optimizer, 1.0), student, batches, train, seed, ROUNDS, metadata)


def rows(folder):
    """metrics.csv without the speed."""
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
        return [row[:-1] for row in csv.reader(file)]


def stop_before(epoch, index, number=signal.SIGTERM):
    """Batches during which the process receives a signal."""
    def hook(e, i):
        if (e, i) == (epoch, index):
            os.kill(os.getpid(), number)
    return ToyBatches(hook)


def test_count_steps():
    assert count_steps(100, 8, 0) == 800
    assert count_steps(100, 8, 30) == 30
    assert count_steps(100, 8, 900) == 800


def test_noise_follows_from_seed_and_step():
    noise, rounds = draw_noise(1, 7, 2, 3, 9)
    again, same = draw_noise(1, 7, 2, 3, 9)
    assert noise.shape == (2, 3, 9) and noise.dtype == np.float32
    np.testing.assert_array_equal(noise, again)
    assert rounds == same
    assert (draw_noise(1, 8, 2, 3, 9)[0] != noise).any()
    assert (draw_noise(2, 7, 2, 3, 9)[0] != noise).any()
    assert draw_noise(1, 7, 2, 3, 0)[0].shape == (2, 3, 1)


def test_rounds_are_uniform_and_reach_both_ends():
    # 4000 draws of 0..9: 400 of each expected, standard deviation 19.
    counts = np.bincount([draw_noise(1, step, 1, 1, 9)[1] for step in range(4000)], minlength=10)
    assert len(counts) == 10
    assert counts.min() > 310 and counts.max() < 490


@pytest.mark.parametrize("stop_at", [(0, 1), (1, 2)])
def test_a_stopped_run_resumes_to_the_same_numbers(tmp_path, stop_at):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    uninterrupted = make_loop(whole)
    assert uninterrupted.run() == 0
    stopped = make_loop(parts, stop_before(*stop_at))
    assert stopped.run() == signal.SIGTERM
    assert stopped.step == 3 * stop_at[0] + stop_at[1] + 1  # the step during which the signal came is finished
    assert not (parts / "student.ckpt").exists()
    resumed = make_loop(parts, resume="auto")
    assert resumed.step == stopped.step
    assert resumed.run() == 0
    assert rows(parts) == rows(whole)
    assert len(rows(whole)) == 1 + 9
    np.testing.assert_array_equal(resumed.student.w.asnumpy(), uninterrupted.student.w.asnumpy())
    assert (parts / "student.ckpt").exists()
    start = read_weights(parts / "student_start.ckpt")["w"]
    np.testing.assert_array_equal(start, np.linspace(-1, 1, 4, dtype=np.float32))


class ToyAdapter(nn.Cell):
    def __init__(self):
        super().__init__(auto_prefix=False)
        self.factor = Parameter(Tensor(1.5, ms.float32), name="embedding_adapter.factor")

    def construct(self, loss):
        return loss * ops.square(self.factor)


class AdaptedToyLoss(ToyLoss):
    """A ToyLoss with something that learns beside the student."""

    def __init__(self, student):
        super().__init__()
        self.w, self.adapter = student.w, ToyAdapter()

    def construct(self, *inputs):
        losses = super().construct(*inputs)
        return (self.adapter(losses[0]),) + losses[1:]


def test_what_learns_beside_the_student_is_resumed_and_stays_out_of_its_weights(tmp_path):
    def loop(folder, batches=None, **changes):
        return make_loop(folder, batches, around=AdaptedToyLoss, **changes)
    whole = loop(tmp_path / "whole")
    assert whole.run() == 0
    loop(tmp_path / "parts", stop_before(1, 2)).run()
    resumed = loop(tmp_path / "parts", resume="auto")
    assert resumed.run() == 0 and rows(tmp_path / "parts") == rows(tmp_path / "whole")
    factors = [run.train_step.loss_cell.adapter.factor.asnumpy() for run in (whole, resumed)]
    assert factors[0] == factors[1] != 1.5
    assert set(read_weights(tmp_path / "parts" / "student.ckpt")) == {"w"}


def test_resuming_further_back_repeats_the_rows_and_drops_what_came_later(tmp_path):
    make_loop(tmp_path, keep_last=9, save_every=2).run()
    before = rows(tmp_path)
    loop = make_loop(tmp_path, stop_before(1, 1), resume=str(tmp_path / "step_00000004.ckpt"), keep_last=2)
    assert loop.step == 4
    assert loop.run() == signal.SIGTERM
    assert max(p.name for p in tmp_path.glob("step_*")) == "step_00000005.ckpt"
    make_loop(tmp_path, resume="auto").run()
    assert rows(tmp_path) == before


def test_only_the_last_checkpoints_are_kept(tmp_path):
    make_loop(tmp_path, keep_last=2, save_every=2).run()
    kept = sorted(p.name for p in tmp_path.glob("step_*"))
    assert kept[-2:] == ["step_00000008.ckpt", "step_00000009.ckpt"]
    assert len(kept) <= 3  # these and the best


def test_the_log_holds_every_logged_step_and_the_picture_is_drawn(tmp_path):
    make_loop(tmp_path, log_every=4).run()
    table = rows(tmp_path)
    assert table[0][:2 + len(NAMES)] == ["step", "epoch", *NAMES]
    assert [row[:2] for row in table[1:]] == [["4", "1"], ["8", "2"], ["9", "2"]]  # every fourth, and the last
    noise, rounds = draw_noise(1, 3, 2, 1, ROUNDS)  # step 4 is the first batch of epoch 1, whose pictures are 10/50
    assert float(table[1][3]) == pytest.approx(noise.mean() + rounds + 0.2, abs=1e-5)
    assert (tmp_path / "losses.png").read_bytes()[:4] == b"\x89PNG"


def test_ctrl_c_stops_like_sigterm_and_handlers_are_put_back(tmp_path):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert make_loop(tmp_path, stop_before(0, 0, signal.SIGINT)).run() == signal.SIGINT
    assert (tmp_path / "step_00000001.ckpt").exists()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    def hook(epoch, index):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # the background job of a shell ignores Ctrl-C
    try:
        with pytest.raises(KeyboardInterrupt):
            make_loop(tmp_path, ToyBatches(hook)).run()
    finally:
        signal.signal(signal.SIGINT, before)


def test_twenty_steps_in_a_row_that_are_not_finite_end_the_run(tmp_path):
    class Broken(ToyBatches):
        def epoch(self, epoch, start=0):
            for batch in super().epoch(epoch, start):
                yield {**batch, "images": batch["images"] + np.inf}
    loop = make_loop(tmp_path, Broken(length=30))
    before = loop.student.w.asnumpy().copy()
    with pytest.raises(DivergedError, match="^20 steps in a row up to step 20 had a loss or gradient that is not "
                                            "finite; lower optim.learning_rate, or look at the data of these steps$"):
        loop.run()
    np.testing.assert_array_equal(loop.student.w.asnumpy(), before)


def test_a_folder_of_an_earlier_run_is_refused(tmp_path):
    make_loop(tmp_path).run()
    with pytest.raises(ValueError, match="holds checkpoints of an earlier run, newest step_00000009.ckpt; go on with "
                                         "--resume auto, or choose another --train.output_dir$"):
        make_loop(tmp_path)


def test_auto_starts_afresh_in_an_empty_folder(tmp_path):
    assert make_loop(tmp_path / "new", resume="auto").step == 0


def test_auto_takes_the_newest_whole_checkpoint(tmp_path):
    make_loop(tmp_path, save_every=4).run()
    newest = tmp_path / "step_00000009.ckpt"
    newest.write_bytes(newest.read_bytes()[:-40])
    assert make_loop(tmp_path, resume="auto").step == 8


def test_auto_among_broken_checkpoints_only_is_refused(tmp_path):
    (tmp_path / "step_00000009.ckpt").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="^no checkpoint in .* is whole, though step_00000009.ckpt is there; "):
        make_loop(tmp_path, resume="auto")


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    make_loop(tmp_path).run()
    with pytest.raises(ValueError, match="step_00000009.ckpt was made with seed 1, this run has 2; give both the same "
                                         "runtime.seed"):
        make_loop(tmp_path, seed=2, resume="auto")
    with pytest.raises(ValueError, match="was made with steps_per_epoch 3, this run has 4; "):
        make_loop(tmp_path, ToyBatches(length=4), resume="auto")
    with pytest.raises(ValueError, match=r"is at step 9, beyond this run's last step 5; raise train.epochs or "):
        make_loop(tmp_path, resume="auto", max_steps=5)


def test_a_resume_file_that_is_missing_is_refused(tmp_path):
    with pytest.raises((ValueError, OSError), match="none.ckpt"):
        make_loop(tmp_path, resume=str(tmp_path / "none.ckpt"))
