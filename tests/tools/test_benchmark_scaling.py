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
"""tools/benchmark_scaling.py: what each value of a sweep asks for, what is written, refusals. The processes are faked:
tests/tools/test_benchmark.py runs them."""
import json

import numpy as np
import pytest

from tools import benchmark_scaling


class FakeSide:
    """Takes as many seconds as it has megapixels, points or boxes; 7 MiB beyond 5."""

    asked = []

    def __init__(self, engine, section, options):
        self.ready = {"first_seconds": 9.0, "model_bytes": 5 << 20}
        if section != "weights":
            picture = np.load(options["pictures"][0])
            self.asked.append((engine, section, picture.shape[:2], options["everything"]["points_per_side"],
                               options["everything"]["hierarchical"], options["boxes"]))

    def ask(self, question):
        return {"run": {"seconds": 0.5 * len(self.asked)}, "end": {"peak_bytes": 12 << 20}}[question]

    def end(self):
        return 0

    close = end


def test_sweeps(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(benchmark_scaling, "Side", FakeSide)
    monkeypatch.setattr(FakeSide, "asked", [])
    arguments = ["--variant", "nano", "--image-size", "64", "--megapixels", "0.03", "0.12", "--prompts", "3",
                 "--points-per-side", "4", "--repeats", "2", "--hierarchical", "--output", str(tmp_path)]
    assert benchmark_scaling.main(arguments) == 0, capsys.readouterr().err
    small, large = (150, 200), (300, 400)  # of 600 x 800: 0.03 and 0.12 megapixels
    assert FakeSide.asked == [("mindspore", "everything_hierarchical", small, 32, True, 0),
                              ("mindspore", "everything_hierarchical", large, 32, True, 0),
                              ("mindspore", "boxes", (600, 800), 32, True, 3),
                              ("mindspore", "everything_hierarchical", (600, 800), 4, True, 4)]
    content = json.loads((tmp_path / "scaling.json").read_text())
    assert content["sweeps"]["megapixels"][1] == {
        "value": 0.12, "seconds": 1.0, "first_seconds": 9.0, "extra_bytes": 7 << 20, "peak_bytes": 12 << 20,
        "pixels": [300, 400]}
    assert list(content["sweeps"]) == ["megapixels", "prompts", "points_per_side"]
    assert (tmp_path / "scaling.png").stat().st_size > 5000
    assert "points_per_side        4     2.000 s       7 MiB beyond the network" in capsys.readouterr().out


def test_a_picture_keeps_its_look_at_another_size():
    picture = np.zeros((60, 80, 3), np.uint8)
    picture[:, 40:] = 200
    large = benchmark_scaling.resized(picture, 0.48)
    assert large.shape == (600, 800, 3) and large[300, 100, 0] == 0 and large[300, 700, 0] == 200
    assert benchmark_scaling.resized(picture, 1e-6).shape == (1, 1, 3)


@pytest.mark.parametrize("arguments, message", [
    (["--repeats", "0"], "--repeats and --threads must be at least 1"),
    (["--image", "nowhere.jpg"], "nowhere.jpg: no such image file"),
    (["--variant", "vit_h"], "variant vit_h is measured by none of the sides; "),
])
def test_refusals_are_one_line(capsys, arguments, message):
    assert benchmark_scaling.main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"benchmark_scaling.py: {message}") and said.count("\n") == 1
