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
"""Which rows of a product are kept while one image passes, and how: the same ones for inputs and for gradients.

Everything is brought to one form, groups first: linear and conv as A [G, n, K] with weights [G, K, O] and gradients
[G, n, O] (a convolution's rows are its patches, G its groups); a product of two activations as A [b, h, n, K],
B [b, h, K, M], gradients [b, h, n, M]. Windows of attention are kept whole.
"""
import zlib

import numpy as np

ROWS = 256  # of an image and layer
MOST_NUMBERS = 1 << 20  # of one operand of a product of two activations


def generator(seed, image, name):
    """The random state that picks positions of a layer in image number `image`."""
    return np.random.default_rng([seed, image, zlib.crc32(name.encode())])


def _some(rng, count, wanted):
    """`wanted` of `count` places, ascending, or all."""
    return np.arange(count) if count <= wanted else np.sort(rng.choice(count, wanted, replace=False))


def linear_rows(x, rng, rows=ROWS):
    """x [..., C] -> [1, n, C]."""
    flat = x.reshape(-1, x.shape[-1])
    return flat[_some(rng, len(flat), rows)][None]


def conv_places(out_shape, rng, rows=ROWS):
    """Sampled (image, y, x) of an output [B, O, H, W]: three arrays [n]."""
    batch, _, height, width = out_shape
    return np.unravel_index(_some(rng, batch * height * width, rows), (batch, height, width))


def conv_patches(x, conv, out_shape, rng, rows=ROWS):
    """Patches that a convolution reads of x [B, C, H, W] at the sampled places: [G, n, C/G * kh * kw]."""
    image, y, x_place = conv_places(out_shape, rng, rows)
    (top, bottom, left, right), (stride_y, stride_x) = _padding(conv), conv.stride
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, conv.kernel_size, (2, 3))
    patches = windows[image, :, y * stride_y, x_place * stride_x]  # [n, C, kh, kw]
    return patches.reshape(len(image), conv.group, -1).transpose(1, 0, 2)


def conv_gradients(gradient, groups, rng, rows=ROWS):
    """gradient [B, O, H, W] at the same places -> [G, n, O/G]."""
    image, y, x = conv_places(gradient.shape, rng, rows)
    return gradient[image, :, y, x].reshape(len(image), groups, -1).transpose(1, 0, 2)


def weights_by_group(weight, groups):
    """weight [O, ...] of a linear or conv -> [G, K, O/G]."""
    return weight.reshape(groups, weight.shape[0] // groups, -1).transpose(0, 2, 1)


def pair_places(shape_a, shape_b, rng, rows=ROWS):
    """Which items, rows and columns of A [b, h, N, K] and B [b, h, K, M] are kept: three index arrays."""
    items, heads, length, inner = shape_a
    columns = shape_b[-1]
    kept_rows = _some(rng, length, rows)
    kept_columns = _some(rng, columns, rows)
    numbers = heads * inner * max(len(kept_rows), len(kept_columns))
    wanted = max(1, min(rows // max(1, len(kept_rows)), MOST_NUMBERS // numbers))
    return _some(rng, items, wanted), kept_rows, kept_columns


def pair_samples(a, b, rng, rows=ROWS):
    """(A, B) at the kept places; a [b, h, N, K], b [b, h, K, M]."""
    items, kept_rows, columns = pair_places(a.shape, b.shape, rng, rows)
    return a[items][:, :, kept_rows], b[items][:, :, :, columns]


def pair_gradients(gradient, inner, rng, rows=ROWS):
    """gradient [b, h, N, M] at the same places; inner: K."""
    items, heads, length, columns = gradient.shape
    items, kept_rows, kept_columns = pair_places((items, heads, length, inner), (items, heads, inner, columns), rng,
                                                 rows)
    return gradient[items][:, :, kept_rows][:, :, :, kept_columns]


def four_axes(x, transpose=False):
    """[b, N, K] or [b, h, N, K] -> [b, h, N, K], the last two exchanged where `transpose` is true."""
    x = x[:, None] if x.ndim == 3 else x
    return x.swapaxes(2, 3) if transpose else x


def _padding(conv):
    padding = conv.padding
    return (padding,) * 4 if isinstance(padding, int) else tuple(padding)
