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
"""Results of an evaluation, image by image, on disk: an evaluation that was cut off continues where it stopped.

The file holds one JSON object a line: first the settings, then one record for each image. Settings name files by the
hash of what they hold, so weights or labels that change under the same name are seen.
"""
import json
from pathlib import Path


class ResultsLog:
    """Records of finished images.

    Attributes:
        records: {image_id: record} of all images done so far, under these settings.

    Args:
        path: the JSONL file; made where it is missing.
        settings: flat dict of everything the results depend on.

    Raises:
        ValueError: the file holds results of other settings, or is no such file.
    """

    def __init__(self, path, settings):
        self._path = Path(path)
        self.records = {}
        settings = json.loads(json.dumps(settings))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        whole = self._whole_lines()
        if whole:
            self._compare(whole[0], settings)
            self.records = {record["image_id"]: record for record in whole[1:]}
        self._file = open(self._path, "a", encoding="utf-8")
        if not whole:
            self._write(settings)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()

    def append(self, record):
        """Add the record (a dict with `image_id`) of one finished image."""
        self.records[record["image_id"]] = record
        self._write(record)

    def _write(self, content):
        self._file.write(json.dumps(content) + "\n")
        self._file.flush()

    def _whole_lines(self):
        """Objects of the file's whole lines; a line that a kill cut off is removed from the file."""
        if not self._path.exists():
            return []
        content = self._path.read_bytes()
        end = content.rfind(b"\n") + 1
        try:
            lines = [json.loads(line) for line in content[:end].splitlines()]
        except ValueError:
            lines = [None]
        if not all(isinstance(line, dict) for line in lines) or not all("image_id" in line for line in lines[1:]):
            raise ValueError(f"{self._path}: not a log of results; remove it or choose another output_dir")
        if end < len(content):
            with open(self._path, "r+b") as file:
                file.truncate(end)
        return lines

    def _compare(self, found, settings):
        for key in sorted({*found, *settings}):
            if found.get(key) != settings.get(key):
                raise ValueError(f"{self._path}: holds results of other settings ({key} was {found.get(key)!r}, now "
                                 f"{settings.get(key)!r}); remove it or choose another output_dir")
