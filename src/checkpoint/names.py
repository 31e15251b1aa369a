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
"""Parameter names: MindSpore's own and those of the released SAM, MobileSAM and TinySAM files.

The networks follow the released names; only the last part differs where a MindSpore cell names its parameters itself.
"""

_SUFFIXES = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
    "embedding_table": "weight",
}

# What released files hold beyond the network's parameters. Everything else that a network does not know is an error.
_KNOWN_EXTRA_SUFFIXES = (
    ".num_batches_tracked",  # BatchNorm's step counter, unused with a fixed momentum
    ".attention_bias_idxs",  # TinyViT's constant table of relative positions, which the network computes itself
)
_KNOWN_EXTRA_PREFIXES = (
    "image_encoder.norm_head.",  # TinyViT's ImageNet classifier, never called in MobileSAM and TinySAM
    "image_encoder.head.",
)


def torch_name(parameter_name):
    """Released (torch) name of a MindSpore parameter.

    Only the last part changes: `image_encoder.neck.1.gamma` -> `image_encoder.neck.1.weight`. A name whose last part is
    not one of MindSpore's own stays as it is.
    """
    stem, dot, last = parameter_name.rpartition(".")
    return stem + dot + _SUFFIXES.get(last, last)


def is_known_extra(name):
    """True for an entry (torch name) of a released file that no network needs and that may be left out."""
    return name.endswith(_KNOWN_EXTRA_SUFFIXES) or name.startswith(_KNOWN_EXTRA_PREFIXES)
