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
"""Log of results: what a run leaves, the next one continues, unless it asks for something else."""
import hashlib

import pytest

from src.checkpoint.file_hash import file_sha256
from src.evaluation.results_log import ResultsLog

SETTINGS = {"protocol": "box", "prompt_batch": 16, "boxes_sha256": None}


def test_second_run_finds_the_records(tmp_path):
    path = tmp_path / "new" / "per_image.jsonl"
    with ResultsLog(path, SETTINGS) as log:
        log.append({"image_id": 7, "masks": [1]})
    with ResultsLog(path, SETTINGS) as log:
        assert log.records == {7: {"image_id": 7, "masks": [1]}}
        log.append({"image_id": 9, "masks": []})
    with ResultsLog(path, SETTINGS) as log:
        assert list(log.records) == [7, 9]


def test_line_cut_off_by_a_kill_is_dropped(tmp_path):
    path = tmp_path / "per_image.jsonl"
    with ResultsLog(path, SETTINGS) as log:
        log.append({"image_id": 7})
        log.append({"image_id": 8})
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with ResultsLog(path, SETTINGS) as log:
        assert list(log.records) == [7]
        log.append({"image_id": 8})
    assert path.read_bytes() == whole
    path.write_bytes(whole[:10])  # not even the settings
    with ResultsLog(path, SETTINGS) as log:
        assert log.records == {}
    with ResultsLog(path, SETTINGS) as log:
        assert log.records == {}


def test_other_settings_are_refused(tmp_path):
    path = tmp_path / "per_image.jsonl"
    with ResultsLog(path, SETTINGS):
        pass
    message = r"per_image.jsonl: holds results of other settings \(prompt_batch was 16, now 8\); remove it or choose " \
              "another output_dir"
    with pytest.raises(ValueError, match=message):
        ResultsLog(path, {**SETTINGS, "prompt_batch": 8})


@pytest.mark.parametrize("content", [b"no json\n", b"[1]\n", b'{"protocol": "box"}\n{"other": 1}\n', b"\xff\xfe\n"])
def test_other_files_are_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "per_image.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a log of results; remove it or choose another output_dir"):
        ResultsLog(path, SETTINGS)
    assert path.read_bytes() == content


def test_hash_is_of_the_content(tmp_path):
    (tmp_path / "a").write_bytes(b"abc" * 1000000)
    assert file_sha256(tmp_path / "a") == hashlib.sha256(b"abc" * 1000000).hexdigest()
