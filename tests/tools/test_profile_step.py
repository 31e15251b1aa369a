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
"""Time of a training step: the arithmetic of the split, the profiler's file, refusals, one run of a tiny network."""
import json
import sys
import time

import mindspore as ms
import pytest
from mindspore import Tensor, nn

from src.modeling.build_sam import build_sam_around
from src.modeling.common import conv2d

WIDTH = 16


@pytest.fixture(scope="module")
def tool():
    before = list(sys.path)
    from tools import profile_step
    yield profile_step
    sys.path[:] = before
    ms.set_context(mode=ms.GRAPH_MODE)


def test_the_split_by_hand(tool):
    times = {"encoder": 10.0, "rounds": 25.0, "teacher": 20.0, "losses": 50.0, "gradient": 90.0, "step": 100.0}
    assert tool.split(times) == {"encoder": 10, "hard rounds": 15, "teacher": 20, "final decode and losses": 5,
                                 "backward": 40, "update": 10}
    assert sum(tool.split(times).values()) == times["step"]
    del times["teacher"]
    assert tool.split(times)["teacher"] == 0 and tool.split(times)["final decode and losses"] == 25


def test_medians_of_calls_that_take_turns(tool, monkeypatch):
    """The first two calls of each, however long, do not count."""
    order, length = [], {"a": iter([900, 50, 1, 3, 2]), "b": iter([800, 70, 7, 7, 40])}
    monkeypatch.setattr(tool, "timed", lambda call: call())

    def call(name):
        order.append(name)
        value = next(length[name])
        return value, -2 * value

    assert tool.measure({name: lambda name=name: call(name) for name in "ab"}, 3) == (
        {"a": 2, "b": 7}, {"a": -4, "b": -14})
    assert "".join(order) == "aabb" + "ab" * 3


def test_a_call_is_timed_to_its_last_result(tool):
    asked = []

    class Late(Tensor):
        def asnumpy(self):
            asked.append(1)
            time.sleep(0.05)

    clock, cpu = tool.timed(lambda: ((Tensor([1.0]), None), (Tensor([2.0]), Late([3.0]))))
    assert asked == [1] and 50 <= clock and cpu < 50  # it slept
    assert tool.timed(lambda: (Tensor([1.0]), None))[0] >= 0  # inputs of a step may end in nothing


def test_the_profilers_file(tool, tmp_path):
    """Two steps: MatMul 6 ms over 4 calls, Mul 1.5 over 20, Sub 0.5 over 2 -> 3, 0.75 and 0.25 ms a step."""
    folder = tmp_path / "machine_1_ascend_ms" / "FRAMEWORK"
    folder.mkdir(parents=True)
    (folder / "cpu_op_detail_info_0.csv").write_text("op_side,op_type\nHost,Add\n")
    (folder / "cpu_op_type_info_0.csv").write_text(
        "op_type,type_occurrences,execution_frequency(per-step),total_compute_time,avg_time(ms),percent\n"
        "Sub,2,1,0.5,0.25,0.1\nMatMul,4,2,6.0,1.5,1\nMul,20,10,1.5,0.075,0.2\n")
    assert tool.read_operators(tmp_path, 2) == [
        {"operator": "MatMul", "calls": 2, "milliseconds": 3.0, "share": 0.75},
        {"operator": "Mul", "calls": 10, "milliseconds": 0.75, "share": 0.1875},
        {"operator": "Sub", "calls": 1, "milliseconds": 0.25, "share": 0.0625}]


def test_a_profiler_that_saw_nothing(tool, tmp_path):
    with pytest.raises(ValueError, match=r"no cpu_op_type_info_\*.csv below .*: the profiler saw no operator on a CPU"):
        tool.read_operators(tmp_path, 2)


@pytest.mark.parametrize("arguments, message", [
    (["--runtime.mode=pynative"], "runtime.mode is 'pynative'; the parts of a step are told apart as graphs"),
    (["--rounds", "3"], "--rounds is 3; it must be 0..2 (distill.max_rounds)"),
    (["--rounds", "-1"], "--rounds is -1; it must be 0..2 (distill.max_rounds)"),
    (["--repeats", "0"], "--repeats is 0; it must be at least 1"),
    (["--data.batch=2"], "command line: unknown key 'data.batch'"),
    (["--data.embedding_cache=x"], "a cache knows its teacher's checkpoint; give it"),
])
def test_refusals_take_one_line(tool, tmp_path, capsys, arguments, message):
    assert tool.main([*arguments, "--output", str(tmp_path / "new" / "p.json")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("profile_step.py: ") and message in said and said.count("\n") == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_tiny_step(tool, tmp_path, capsys, monkeypatch):
    def tiny(variant, image_size, seed):
        def encoder(_):
            return nn.SequentialCell(conv2d(3, WIDTH, 16, stride=16), nn.BatchNorm2d(WIDTH))
        return build_sam_around(encoder, WIDTH, 32, image_size, variant, seed)

    monkeypatch.setattr(tool, "build_student", lambda model, seed, _: tiny("tiny", model.image_size, seed))
    monkeypatch.setattr(tool, "build_sam", tiny)
    output = tmp_path / "new" / "p.json"
    assert tool.main(["--model.image_size=64", "--data.prompts_per_image=3", "--runtime.threads=1", "--repeats", "1",
                      "--distill.token_weight=0", "--distill.output_weight=0",  # compiles in half the time
                      "--rounds", "1", "--output", str(output)]) == 0
    found = json.loads(output.read_text())
    assert (found["batch_size"], found["prompts"], found["rounds"], found["image_size"]) == (2, 3, 1, 64)
    times, parts = found["graph_milliseconds"], found["split_milliseconds"]
    assert list(times) == ["encoder", "rounds", "teacher", "losses", "gradient", "step"]
    assert all(value > 0 for value in times.values()) and times["rounds"] > times["encoder"] < times["step"]
    assert times["step"] == pytest.approx(sum(parts.values()) - parts["data"])
    assert parts["data"] > 0 and found["split_cpu_milliseconds"].keys() == parts.keys()
    operators = {row["operator"]: row for row in found["operators"]}
    assert sum(row["share"] for row in operators.values()) == pytest.approx(1)
    assert operators["MatMul"]["calls"] > 50 and operators["Adam"]["milliseconds"] > 0
    # Adam runs once a parameter and step.
    assert operators["Adam"]["calls"] == len(tiny("tiny", 64, 1).trainable_params())
    said = capsys.readouterr().out
    assert "nano from nano_teacher, 64 px, batch 2, 3 prompts, hard rounds: 1; float32, 1 threads" in said
    assert f"{'all operators':<28}" in said and f"written: {output}" in said
