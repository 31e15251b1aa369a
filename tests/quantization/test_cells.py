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
"""Quantized cells against int32 arithmetic in NumPy, bit for bit, in both modes and from a reloaded MindIR."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import nn, ops

from src.quantization.cells import QuantizedConv2d, QuantizedLinear, QuantizedMatMul
from src.quantization.exact import halves
from src.quantization.spec import CodeRange, LayerScales, Quantizer

RNG = np.random.default_rng(0)
SIGNED = Quantizer("uniform", 8, (CodeRange(0.0371, -128, 127),))
OFFSET = Quantizer("uniform", 8, (CodeRange(0.0123, -14, 241),))
TWIN_GELU = Quantizer("twin", 6, (CodeRange(0.0053, -32, 0), CodeRange(0.0817, 0, 31)), 0.0)
TWIN_SOFTMAX = Quantizer("twin", 8, (CodeRange(0.00024, 0, 127), CodeRange(1 / 127, 0, 127)), 0.03125)
QUANTIZERS = [SIGNED, OFFSET, TWIN_GELU]


def layer(kind, shape, quantizer, name="layer", bits=8):
    """A LayerScales with random codes of a weight of `shape`."""
    codes = RNG.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape).astype(np.int8)
    scales = RNG.uniform(0.001, 0.01, shape[0]).astype(np.float32)
    bias = RNG.standard_normal(shape[0]).astype(np.float32)
    return LayerScales(name, kind, bits, quantizer.bits, (quantizer,), int(np.prod(shape[1:])), weight_scales=scales,
                       weight_codes=codes, bias=bias)


def expected(spec, x, product, channels):
    """Sum over the ranges of int32 product -> float32 * factor, then the bias; channels: shape of a channel vector."""
    total = np.float32(0)
    for scale, codes in spec.inputs[0].parts(x):
        sums = product(codes.astype(np.int32), spec.weight_codes.astype(np.int32))
        assert sums.dtype == np.int32
        total = total + sums.astype(np.float32) * (scale * spec.weight_scales).reshape(channels)
    return total + spec.bias.reshape(channels)


def conv_int32(x, weight, stride, padding, groups):
    """Plain loops over the kernel: [B, C, H, W] and [O, C/groups, k, k] int32."""
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    size = (x.shape[2] - weight.shape[2]) // stride + 1
    out = np.zeros((x.shape[0], weight.shape[0], size, size), np.int32)
    per_out, per_in = weight.shape[0] // groups, weight.shape[1]
    for o in range(weight.shape[0]):
        first = o // per_out * per_in
        for dy in range(weight.shape[2]):
            for dx in range(weight.shape[3]):
                part = x[:, first:first + per_in, dy:dy + stride * size:stride, dx:dx + stride * size:stride]
                out[:, o] += np.einsum("bchw,c->bhw", part, weight[o, :, dy, dx])
    return out


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=["signed", "offset", "twin"])
def test_linear_equals_int32(pynative, quantizer):
    spec = layer("linear", (24, 96), quantizer)
    x = RNG.standard_normal((2, 50, 96)).astype(np.float32) * 2
    got = QuantizedLinear(spec)(ms.Tensor(x)).asnumpy()
    assert np.array_equal(got, expected(spec, x, lambda a, w: a @ w.T, (-1,)))


@pytest.mark.parametrize("groups, stride, quantizer", [(1, 2, SIGNED), (1, 1, TWIN_GELU), (16, 1, OFFSET)])
def test_convolution_equals_int32(pynative, groups, stride, quantizer):
    """A zero point does not reach the padding: codes of the padding are 0, as its values are."""
    conv = nn.Conv2d(16, 32, 3, stride=stride, pad_mode="pad", padding=1, group=groups)
    spec = layer("conv", (32, 16 // groups, 3, 3), quantizer)
    x = RNG.standard_normal((1, 16, 20, 20)).astype(np.float32)
    got = QuantizedConv2d(spec, conv.conv2d)(ms.Tensor(x)).asnumpy()
    assert np.array_equal(got, expected(spec, x, lambda a, w: conv_int32(a, w, stride, 1, groups), (1, -1, 1, 1)))


@pytest.mark.parametrize("transpose, first, second", [
    (True, SIGNED, OFFSET), (False, TWIN_SOFTMAX, SIGNED), (True, SIGNED, TWIN_GELU)])
def test_product_of_activations_equals_int32(pynative, transpose, first, second):
    spec = LayerScales("attn.mix", "matmul", 0, 8, (first, second), 40)
    a = RNG.standard_normal((2, 3, 7, 40)).astype(np.float32)
    if first is TWIN_SOFTMAX:
        a = np.exp(3 * a) / np.exp(3 * a).sum(-1, keepdims=True)
    b = RNG.standard_normal((2, 3, 9, 40) if transpose else (2, 3, 40, 9)).astype(np.float32)
    got = QuantizedMatMul(spec, ops.BatchMatMul(transpose_b=transpose))(ms.Tensor(a), ms.Tensor(b)).asnumpy()
    total = np.float32(0)
    for scale_a, codes_a in first.parts(a):
        for scale_b, codes_b in second.parts(b):
            codes_b = codes_b.swapaxes(2, 3) if transpose else codes_b
            sums = codes_a.astype(np.int32) @ codes_b.astype(np.int32)
            total = total + sums.astype(np.float32) * (scale_a * scale_b)
    assert np.array_equal(got, total)


def test_sums_beyond_2_24_are_cut_in_halves(pynative):
    """All codes at their ends: 2000 * 127 * 127 = 32e6 passes 2^24, each half does not."""
    spec = layer("linear", (2, 2000), SIGNED)
    spec.weight_codes[:] = 127
    spec.weight_codes[1, ::3] = 126
    assert halves(spec) == 1000
    x = np.full((1, 2000), 100.0, np.float32)
    got = QuantizedLinear(spec)(ms.Tensor(x)).asnumpy()
    assert np.array_equal(got, expected(spec, x, lambda a, w: a @ w.T, (-1,)))
    assert halves(layer("linear", (2, 100), SIGNED)) == 0
    longer = layer("linear", (2, 5000), SIGNED)
    longer.weight_codes[:] = 127
    with pytest.raises(ValueError, match="layer: sums of 5000 products of 8 by 8 bits pass 2.24.*; give it fewer bits"):
        halves(longer)
    with pytest.raises(ValueError, match="attn.scores: sums of 4096 products pass 2.24"):
        QuantizedMatMul(LayerScales("attn.scores", "matmul", 0, 8, (SIGNED, SIGNED), 4096), ops.BatchMatMul())


def test_a_convolution_in_groups_is_not_cut(pynative):
    """Halves of its channels would be read by the wrong groups: 2 groups of 1200 channels by 127 * 127 pass 2^24."""
    spec = layer("conv", (4, 1200, 1, 1), SIGNED)
    spec.weight_codes[:] = 127
    conv = nn.Conv2d(2400, 4, 1, group=2)
    with pytest.raises(ValueError, match="layer: sums of 1200 products pass 2.24, .* and a convolution in 2 groups can"
                                         "not be cut in halves; give it fewer bits, or float: quantize.wider=.layer."):
        QuantizedConv2d(spec, conv.conv2d)
    assert QuantizedConv2d(spec, nn.Conv2d(1200, 4, 1).conv2d).half == 600
    spec.weight_codes[1, ::3], spec.weight_codes[2] = 126, -128
    x = np.full((1, 1200, 3, 3), 100.0, np.float32)  # all codes at their end
    x[0, :, 1, 1] = -100.0
    x[0, ::7, 2, 2] = 1.0
    for kernel in (1, 3):  # 133 channels of 3 x 3: halves of 66 and 67
        weight = np.zeros((4, 1200 // kernel**2, kernel, kernel), np.int8)
        weight[:] = spec.weight_codes[:, :weight.shape[1]]
        wider = LayerScales("layer", "conv", 8, 8, spec.inputs, 1200, weight_scales=spec.weight_scales,
                            weight_codes=weight, bias=spec.bias)
        picture, padding = x[:, :weight.shape[1]], kernel // 2
        cut = QuantizedConv2d(wider, nn.Conv2d(weight.shape[1], 4, kernel, pad_mode="pad", padding=padding).conv2d)
        assert cut.half == weight.shape[1] // 2
        wanted = expected(wider, picture, lambda a, w, p=padding: conv_int32(a, w, 1, p, 1), (1, -1, 1, 1))
        assert np.array_equal(cut(ms.Tensor(picture)).asnumpy(), wanted) and wanted.std() > 1
    spec.weight_codes[:] = 3
    assert QuantizedConv2d(spec, conv.conv2d).half == 0


def test_log2_cell_is_near_its_simulation(pynative):
    log2 = Quantizer("log2", 6, (CodeRange(1.0, 0, 63),))
    spec = LayerScales("attn.mix", "matmul", 0, 6, (log2, SIGNED), 12)
    a = RNG.dirichlet(np.ones(12), (1, 1, 5)).astype(np.float32)
    b = RNG.standard_normal((1, 1, 12, 4)).astype(np.float32)
    got = QuantizedMatMul(spec, ops.BatchMatMul())(ms.Tensor(a), ms.Tensor(b)).asnumpy()
    np.testing.assert_allclose(got, log2.dequantized(a) @ SIGNED.dequantized(b), rtol=1e-5, atol=1e-6)


def chain_layers():
    """Layers of a Chain."""
    return (layer("conv", (8, 4, 3, 3), OFFSET, "conv"), layer("linear", (8, 8), TWIN_GELU, "linear"),
            LayerScales("mix", "matmul", 0, 8, (TWIN_SOFTMAX, SIGNED), 36))


class Chain(nn.Cell):
    """A convolution, a linear layer and a product of activations, all quantized: [1, 4, 6, 6] -> [1, 36, 8]."""

    def __init__(self, layers):
        super().__init__()
        conv = nn.Conv2d(4, 8, 3, pad_mode="pad", padding=1)
        self.conv = QuantizedConv2d(layers[0], conv.conv2d)
        self.linear = QuantizedLinear(layers[1])
        self.mix = QuantizedMatMul(layers[2], ops.BatchMatMul())
        self.softmax = ops.Softmax(-1)

    def construct(self, x):
        tokens = self.linear(self.conv(x).reshape(1, 8, 36).transpose(0, 2, 1))  # [1, 36, 8]
        return self.mix(self.softmax(ops.bmm(tokens, tokens.transpose(0, 2, 1))), tokens)


def test_graph_and_reloaded_mindir_equal_pynative(tmp_path):
    chain = Chain(chain_layers()).set_train(False)
    x = ms.Tensor(RNG.standard_normal((1, 4, 6, 6)).astype(np.float32))
    ms.set_context(mode=ms.PYNATIVE_MODE)
    eager = chain(x).asnumpy()
    ms.set_context(mode=ms.GRAPH_MODE)
    assert np.array_equal(chain(x).asnumpy(), eager)
    ms.export(chain, x, file_name=str(tmp_path / "chain"), file_format="MINDIR")
    reloaded = nn.GraphCell(ms.load(str(tmp_path / "chain.mindir")))
    assert np.array_equal(reloaded(x).asnumpy(), eager) and np.abs(eager).max() > 0
