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
"""Hashes of files and of our sources, which say in records what they were made from, and by which code."""
import hashlib
from pathlib import Path

SOURCES = Path(__file__).resolve().parent.parent  # src


def file_sha256(path):
    """Hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def sources_sha256(*rooms):
    """Hex SHA-256 of all modules of these rooms of src, by name and content: another one for any change of the code."""
    digest = hashlib.sha256()
    for source in sorted(path for room in rooms for path in (SOURCES / room).glob("*.py")):
        digest.update(f"{source.parent.name}/{source.name} {file_sha256(source)}\n".encode())
    return digest.hexdigest()
