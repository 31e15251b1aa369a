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
"""TinyViT image encoder (arXiv 2207.10666) as TinySAM's student has it (arXiv 2312.13789), without the classifier.

One stage of inverted-residual convolutions and three of window attention, then SAM's neck. The third merging layer
keeps its resolution, so the embedding has stride 16, with and without the fourth stage. Names follow the released
checkpoint, so weights load by name.
Inside the attention stages an image is a list of tokens [B, L, C] in raster order.
"""
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import initializer

from src.modeling.common import GELU, check_encoder_sizes, conv2d, layer_norm, linear, sam_neck, to_image, to_tokens
from src.modeling.windows import WindowHeads

MERGE_STRIDES = (2, 2, 1)  # of the merging layer behind stages 0, 1, 2


class Conv2dBN(nn.Cell):
    """Convolution without bias, then BatchNorm: [B, in, H, W] -> [B, out, H', W']."""

    def __init__(self, in_channels, out_channels, kernel_size=1, stride=1, padding=0, groups=1, gamma_init="ones"):
        super().__init__()
        self.c = conv2d(in_channels, out_channels, kernel_size, stride, padding, groups)
        self.bn = nn.BatchNorm2d(out_channels, eps=1e-5, momentum=0.9, gamma_init=gamma_init)

    def construct(self, x):
        return self.bn(self.c(x))


class PatchEmbed(nn.Cell):
    """Two 3 x 3 convolutions of stride 2: [B, 3, S, S] -> [B, embed_dim, S/4, S/4]."""

    def __init__(self, embed_dim):
        super().__init__()
        self.seq = nn.SequentialCell(
            Conv2dBN(3, embed_dim // 2, 3, stride=2, padding=1),
            GELU(),
            Conv2dBN(embed_dim // 2, embed_dim, 3, stride=2, padding=1),
        )

    def construct(self, x):
        return self.seq(x)


class MBConv(nn.Cell):
    """Inverted residual with a GELU behind the sum: [B, dim, H, W] -> the same shape."""

    def __init__(self, dim, expand_ratio):
        super().__init__()
        hidden = int(dim * expand_ratio)
        self.conv1 = Conv2dBN(dim, hidden)
        self.conv2 = Conv2dBN(hidden, hidden, 3, padding=1, groups=hidden)
        self.conv3 = Conv2dBN(hidden, dim, gamma_init="zeros")
        self.act = GELU()

    def construct(self, x):
        hidden = self.act(self.conv1(x))
        hidden = self.act(self.conv2(hidden))
        return self.act(x + self.conv3(hidden))


class PatchMerging(nn.Cell):
    """Changes width, and resolution by `stride`: [B, dim, H, W] -> tokens [B, H/stride * W/stride, out_dim]."""

    def __init__(self, dim, out_dim, stride):
        super().__init__()
        self.conv1 = Conv2dBN(dim, out_dim)
        self.conv2 = Conv2dBN(out_dim, out_dim, 3, stride=stride, padding=1, groups=out_dim)
        self.conv3 = Conv2dBN(out_dim, out_dim)
        self.act = GELU()

    def construct(self, x):
        x = self.act(self.conv1(x))
        x = self.act(self.conv2(x))
        return to_tokens(self.conv3(x))


class Attention(nn.Cell):
    """Window attention with a learned bias per head and absolute offset (|dy|, |dx|): [B, L, dim] -> [B, L, dim].

    The grid is padded with zeros in front of the norm, so padding tokens are not zero but the norm's bias, and are
    attended to.
    """

    def __init__(self, dim, num_heads, side, window):
        super().__init__()
        head_dim = dim // num_heads
        self.norm = layer_norm(dim)
        self.qkv = linear(dim, 3 * dim)
        self.proj = linear(dim, dim)
        self.attention_biases = Parameter(initializer("zeros", (num_heads, window * window)))
        self.heads = WindowHeads(side, window, num_heads, head_dim, head_major=True)
        self.scale = head_dim**-0.5
        area = window * window
        y, x = np.divmod(np.arange(area), window)
        offsets = np.abs(y[:, None] - y) * window + np.abs(x[:, None] - x)
        self.bias_index = Tensor(offsets.reshape(-1).astype(np.int32))
        self.bias_shape = (num_heads, area, area)
        self.zero_row = Tensor(np.zeros((1, 1, dim), np.float32))
        self.gather = ops.Gather()
        self.scores = ops.BatchMatMul(transpose_b=True)
        self.mix = ops.BatchMatMul()
        self.softmax = ops.Softmax(-1)

    def construct(self, x):
        if self.heads.padded:
            x = ops.concat((x, ops.tile(self.zero_row, (x.shape[0], 1, 1))), 1)
        query, key, value = self.heads.split(self.qkv(self.norm(x)))  # [B * windows, heads, N, d]
        bias = self.gather(self.attention_biases, self.bias_index, 1).reshape(self.bias_shape)
        weights = self.softmax(self.scores(query * self.scale, key) + bias)
        return self.proj(self.heads.merge(self.mix(weights, value)))


class Mlp(nn.Cell):
    """Norm and two fully connected layers around GELU: [B, L, dim] -> [B, L, dim]."""

    def __init__(self, dim, hidden_dim):
        super().__init__()
        self.norm = layer_norm(dim)
        self.fc1 = linear(dim, hidden_dim)
        self.fc2 = linear(hidden_dim, dim)
        self.act = GELU()

    def construct(self, x):
        return self.fc2(self.act(self.fc1(self.norm(x))))


class TinyViTBlock(nn.Cell):
    """Window attention, a depthwise convolution across window borders, an MLP: [B, L, dim] -> [B, L, dim]."""

    def __init__(self, dim, num_heads, side, window, mlp_ratio, local_conv_size):
        super().__init__()
        self.side = side
        self.attn = Attention(dim, num_heads, side, window)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.local_conv = Conv2dBN(dim, dim, local_conv_size, padding=local_conv_size // 2, groups=dim)

    def construct(self, x):
        x = x + self.attn(x)
        x = to_tokens(self.local_conv(to_image(x, self.side)))
        return x + self.mlp(x)


class ConvLayer(nn.Cell):
    """Stage of MBConv blocks and a merging layer: [B, dim, H, W] -> tokens [B, H/stride * W/stride, out_dim]."""

    def __init__(self, dim, out_dim, depth, expand_ratio, merge_stride):
        super().__init__()
        self.blocks = nn.CellList([MBConv(dim, expand_ratio) for _ in range(depth)])
        self.downsample = PatchMerging(dim, out_dim, merge_stride)

    def construct(self, x):
        for block in self.blocks:
            x = block(x)
        return self.downsample(x)


class BasicLayer(nn.Cell):
    """Stage of attention blocks on a side x side grid, then a merging layer unless `out_dim` is None.

    Tokens [B, side * side, dim] -> [B, (side/stride)^2, out_dim], or the same shape without merging.
    """

    def __init__(self, dim, out_dim, depth, num_heads, side, window, mlp_ratio, local_conv_size, merge_stride):
        super().__init__()
        self.side = side
        self.blocks = nn.CellList(
            [TinyViTBlock(dim, num_heads, side, window, mlp_ratio, local_conv_size) for _ in range(depth)]
        )
        self.downsample = None if out_dim is None else PatchMerging(dim, out_dim, merge_stride)

    def construct(self, x):
        for block in self.blocks:
            x = block(x)
        if self.downsample is not None:
            x = self.downsample(to_image(x, self.side))
        return x


class TinyViT(nn.Cell):
    """Images [B, 3, S, S], normalised RGB -> image_embeddings [B, out_chans, S/16, S/16].

    `embed_dims`, `depths`, `num_heads`, `window_sizes` hold one number per stage (4 stages, or the first 3; heads and
    window of stage 0 are not used, as it convolves). `image_size` S in pixels, a multiple of 64.
    Raises ValueError when the sizes do not fit together.
    """

    def __init__(self, image_size, embed_dims, depths, num_heads, window_sizes, out_chans, mbconv_expand_ratio=4.0,
                 mlp_ratio=4.0, local_conv_size=3):
        super().__init__()
        stages = (embed_dims, depths, num_heads, window_sizes)
        count = len(embed_dims)
        if count not in (3, 4) or any(len(values) != count for values in stages):
            raise ValueError(f"embed_dims, depths, num_heads and window_sizes {stages} must have 3 or 4 entries each")
        for dim, heads in zip(embed_dims[1:], num_heads[1:]):
            check_encoder_sizes(image_size, dim, heads)
        self.image_size = image_size
        self.patch_embed = PatchEmbed(embed_dims[0])
        side = image_size // 4
        layers = [ConvLayer(embed_dims[0], embed_dims[1], depths[0], mbconv_expand_ratio, MERGE_STRIDES[0])]
        for stage in range(1, count):
            side //= MERGE_STRIDES[stage - 1]
            last = stage == count - 1
            layers.append(BasicLayer(
                embed_dims[stage], None if last else embed_dims[stage + 1], depths[stage], num_heads[stage], side,
                window_sizes[stage], mlp_ratio, local_conv_size, None if last else MERGE_STRIDES[stage],
            ))
        self.layers = nn.CellList(layers)  # all at once: CellList.append names parameters after the wrong cell
        self.side = side
        self.neck = sam_neck(embed_dims[-1], out_chans)

    def construct(self, images):
        x = self.patch_embed(images)
        for layer in self.layers:
            x = layer(x)
        return self.neck(to_image(x, self.side))
