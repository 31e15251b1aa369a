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
"""Weights in and out: released torch files, MindSpore checkpoints, safetensors, and the state of a training run.

Strict in both directions: every name and shape fits or nothing is loaded; a file is whole or it is not there.
"""
from src.checkpoint.atomic import write_atomically
from src.checkpoint.names import is_known_extra, torch_name
from src.checkpoint.networks import WeightMismatch, load_network, save_network
from src.checkpoint.training_state import load_state, newest_state, read_state, save_state
from src.checkpoint.weights import read_metadata, read_weights

__all__ = ["WeightMismatch", "is_known_extra", "load_network", "load_state", "newest_state", "read_metadata",
           "read_state", "read_weights", "save_network", "save_state", "torch_name", "write_atomically"]
