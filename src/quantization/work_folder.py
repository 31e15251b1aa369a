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
"""What a calibration has done so far, on disk: every step is one file, so a killed run continues behind its last."""
import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np

from src.checkpoint.atomic import write_atomically


class WorkFolder:
    """Steps by name, arrays each. A folder of other settings is emptied.

    Args:
        path: the folder.
        settings: everything that the steps depend on, JSON values.
    """

    def __init__(self, path, settings):
        self.path = Path(path)
        text = json.dumps(settings, sort_keys=True)
        digest, mark = hashlib.sha256(text.encode()).hexdigest(), self.path / "settings.sha256"
        if self.path.exists() and (not mark.is_file() or mark.read_text(encoding="utf-8") != digest):
            shutil.rmtree(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        if not mark.is_file():
            write_atomically(mark, ".sha256", lambda part: part.write_text(digest, encoding="utf-8"))

    def has(self, step):
        """True if the step was saved."""
        return self._file(step).is_file()

    def save(self, step, arrays):
        """Save {name: array} as the step."""
        write_atomically(self._file(step), ".npz", lambda part: np.savez(part, **arrays))

    def open(self, step):
        """The step's arrays, read when asked for: a mapping. ValueError for a broken file."""
        try:
            return np.load(self._file(step))
        except (ValueError, OSError, zipfile.BadZipFile) as error:
            raise ValueError(f"{self._file(step)}: cannot be read ({error}); delete {self.path}") from None

    def _file(self, step):
        return self.path / f"{step}.npz"
