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
"""Drawing image ids: the stored rule by hand, independence of shards and order, the file, refusals."""
import hashlib
import json
import tarfile

import pytest

from src.data.loader import read_image_ids
from tools.sample_image_ids import is_drawn, list_text, main


def make_shard(folder, image_ids):
    folder.mkdir(parents=True)
    for image_id in image_ids:
        (folder / f"sa_{image_id}.jpg").write_bytes(b"")  # only names are read
        (folder / f"sa_{image_id}.json").write_bytes(b"")
    return folder


def test_the_rule_by_hand():
    # sha256("1:72") begins with 031e0f79...: 0x031e0f79 / 2^32 = 0.012177
    assert hashlib.sha256(b"1:72").hexdigest().startswith("031e")
    assert is_drawn(72, 0.01218, 1) and not is_drawn(72, 0.01217, 1)
    assert [i for i in range(1, 401) if is_drawn(i, 0.0125, 1)] == [72, 208, 349]
    assert not is_drawn(72, 0.0125, 2)
    drawn = sum(is_drawn(i, 0.01, 1) for i in range(100000))
    assert 880 < drawn < 1120  # 1000, standard deviation 31
    assert all(is_drawn(i, 1.0, 1) for i in range(100))


def test_a_larger_share_holds_the_smaller():
    small, large = ({i for i in range(5000) if is_drawn(i, share, 3)} for share in (0.01, 0.05))
    assert small < large


def test_the_file_is_the_same_whatever_the_order_and_reads_back(tmp_path, capsys):
    first, second = make_shard(tmp_path / "a", range(1, 200)), make_shard(tmp_path / "b", range(200, 401))
    with tarfile.open(tmp_path / "sa_000000.tar", "w") as shard:
        for path in first.iterdir():
            shard.add(path, path.name)
    shared = ["--share", "0.0125", "--seed", "1"]
    assert main([*shared, "--output", str(tmp_path / "one.txt"), str(first), str(second)]) == 0
    assert main([*shared, "--output", str(tmp_path / "two.txt"), str(second), str(tmp_path / "sa_000000.tar")]) == 0
    assert (tmp_path / "one.txt").read_bytes() == (tmp_path / "two.txt").read_bytes()
    assert (tmp_path / "one.txt").read_text() == (
        '# 3 of 400 images: those whose sha256("1:ID") begins below 0.0125 * 2^64\n'
        "# made by tools/sample_image_ids.py --share 0.0125 --seed 1\n72\n208\n349\n")
    assert read_image_ids(tmp_path / "one.txt") == {72, 208, 349}
    assert capsys.readouterr().out.splitlines()[0] == f"{tmp_path}/one.txt: 3 of 400 images"
    # One shard of two: what it holds of the whole list.
    assert main([*shared, "--output", str(tmp_path / "part.txt"), str(second)]) == 0
    assert read_image_ids(tmp_path / "part.txt") == {208, 349}


@pytest.mark.parametrize("arguments, message", [
    (["--share", "0"], "sample_image_ids.py: --share is 0.0; it must be above 0 and at most 1"),
    (["--share", "1.5"], "sample_image_ids.py: --share is 1.5; it must be above 0 and at most 1"),
    (["--share", "1e-9"], "sample_image_ids.py: a share of 1e-09 of 4 images holds none; raise --share or give more"),
])
def test_values_that_cannot_be_used(tmp_path, capsys, arguments, message):
    folder = make_shard(tmp_path / "a", range(4))
    assert main([*arguments, "--output", str(tmp_path / "ids.txt"), str(folder)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(message) and said.count("\n") == 1
    assert not (tmp_path / "ids.txt").exists()


def test_a_path_that_is_not_there(tmp_path, capsys):
    assert main(["--output", str(tmp_path / "ids.txt"), str(tmp_path / "gone.tar")]) == 2
    assert capsys.readouterr().err == f"sample_image_ids.py: {tmp_path}/gone.tar: no such folder or tar shard\n"


def test_nothing_drawn_is_an_error():
    with pytest.raises(ValueError, match="a share of 0.0001 of 3 images holds none"):
        list_text([1, 2, 3], 0.0001, 1)


def test_a_coco_set_is_split_in_two(tmp_path, capsys):
    for name, ids in (("a.json", range(1, 101)), ("b.json", range(90, 401))):
        images = [{"id": i, "file_name": f"{i}.jpg", "height": 4, "width": 4} for i in ids]
        (tmp_path / name).write_text(json.dumps({"images": images, "annotations": [{"id": 1}], "categories": []}))
    paths = [str(tmp_path / "a.json"), str(tmp_path / "b.json")]
    files = ["--output", str(tmp_path / "val.txt"), "--rest", str(tmp_path / "train.txt")]
    assert main(["--share", "0.0125", "--seed", "1", *files, *paths]) == 0
    assert read_image_ids(tmp_path / "val.txt") == {72, 208, 349}
    assert read_image_ids(tmp_path / "train.txt") == set(range(1, 401)) - {72, 208, 349}
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path}/val.txt: 3 of 400 images", f"{tmp_path}/train.txt: 397 of 400 images"]
    assert main(["--share", "1", *files, *paths]) == 2
    assert "a share of 1.0 of 400 images leaves none; lower --share" in capsys.readouterr().err
    assert main(["--output", str(tmp_path / "x.txt"), paths[0], str(tmp_path)]) == 2
    assert f"{tmp_path} is not a COCO-format JSON as {paths[0]} is" in capsys.readouterr().err
