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
"""Writing a file so that it is there whole or the old one still is."""
import os
import tempfile
from pathlib import Path


def write_atomically(path, suffix, write):
    """Let `write` fill a file beside `path`, then move it into place.

    write: function of a Path that ends in `suffix`, in a folder of its own next to `path`, so that whatever it or a
    library leaves there goes away with it. An exception in `write` leaves an older `path` untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        part = Path(folder) / f"part{suffix}"
        write(part)
        os.chmod(part, 0o644)  # mindspore.save_checkpoint leaves its files read-only, private to the owner
        _flush(part)
        os.replace(part, path)
    _flush(path.parent)


def _flush(path):
    """Force a file, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
