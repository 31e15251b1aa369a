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
"""Folding, the list of products, sampled rows, and gradients at the quantized point."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from mindspore.train.mind_ir_pb2 import ModelProto

from src.modeling.mask_decoder import UpscaleRows
from src.modeling.sam import PromptDecoder
from src.quantization import sampling
from src.quantization.fold import fold_network
from src.quantization.losses import bernoulli_kl, model_distance
from src.quantization.observe import GradientProbe, Observer, RoundThrough, Statistics, channel_scales
from src.quantization.products import check_coverage, find_products, reason_to_keep
from src.quantization.spec import signed_range

pytestmark = pytest.mark.usefixtures("pynative")


def decode(sam, example):
    masks, ious, _ = PromptDecoder(sam).set_train(False)(
        sam.image_encoder(Tensor(example.image)), Tensor(example.point_coords), Tensor(example.point_labels))
    return masks.asnumpy(), ious.asnumpy()


def test_folding_changes_nothing_but_rounding(sam, examples):
    before = decode(sam, examples[0])
    fold_network(sam)
    for old, new in zip(before, decode(sam, examples[0])):
        np.testing.assert_allclose(new, old, atol=2e-5 * np.abs(old).max())
    assert not any(isinstance(cell, (nn.BatchNorm2d, UpscaleRows)) for _, cell in sam.cells_and_names())


def test_every_product_of_the_graph_is_listed(sam, examples, tmp_path):
    """Nodes of the exported graph that multiply matrices or convolve are as many as the list has, but for those of
    the mask branch, which needs a mask prompt, and an encoding that runs once for the grid and once for the points."""
    fold_network(sam)
    products = find_products(sam)
    example = examples[0]
    ms.set_context(mode=ms.GRAPH_MODE)
    ms.export(sam, Tensor(example.image), Tensor(example.point_coords), Tensor(example.point_labels),
              file_name=str(tmp_path / "sam"), file_format="MINDIR")
    model = ModelProto()
    model.ParseFromString((tmp_path / "sam.mindir").read_bytes())
    graphs = [model.graph, *model.functions]
    kinds = [node.op_type.split(":")[2] for graph in graphs for node in graph.node if "::" in node.op_type]
    found = [kind for kind in kinds if kind in ("MatMul", "BatchMatMul", "Conv2D", "Dense", "MatMulExt", "Conv2DExt",
                                                "BatchMatMulExt", "Conv2DTranspose", "Linear")]
    assert len(found) > 80
    listed = [product.name for product in products if "mask_downscaling" not in product.name]
    assert len(found) == len(listed) + 1, sorted(set(kinds))


def test_reasons_and_coverage(sam):
    products = find_products(fold_network(sam))
    kept = {product.name: reason_to_keep(product) for product in products if reason_to_keep(product)}
    assert set(kept) == {"prompt_encoder.pe_layer.matmul", *(f"prompt_encoder.mask_downscaling.{i}" for i in (0, 3, 6))}
    float_too = {p.name for p in products if reason_to_keep(p, decoder_attention=False)} - set(kept)
    assert {name.rpartition(".")[2] for name in float_too} == {"scores", "weighted_sum", "mask_product"}
    convolutions = {p.name for p in products if reason_to_keep(p, convolutions=False)} - set(kept)
    assert "image_encoder.neck.2" in convolutions and not any("qkv" in name for name in convolutions)
    rest = [product.name for product in products if product.name not in kept]
    check_coverage(products, rest, kept, "x.json")
    with pytest.raises(ValueError, match=f"x.json: {rest[0]} is listed neither as quantized nor as float .1 such"):
        check_coverage(products, rest[1:], kept, "x.json")
    with pytest.raises(ValueError, match="other is not a product of this network"):
        check_coverage(products, [*rest, "other"], kept, "x.json")
    with pytest.raises(ValueError, match=f"{rest[0]} is listed twice"):
        check_coverage(products, [*rest, rest[0]], kept, "x.json")


@pytest.mark.parametrize("groups, stride", [(1, 2), (6, 1)])
def test_patches_times_weights_are_the_convolution_at_the_same_places(groups, stride):
    rng = np.random.default_rng(0)
    conv = nn.Conv2d(6, 12, 3, stride=stride, pad_mode="pad", padding=1, group=groups)
    x = rng.standard_normal((2, 6, 10, 10)).astype(np.float32)
    out = conv(Tensor(x)).asnumpy()
    state = [7, 1]
    patches = sampling.conv_patches(x, conv, out.shape, np.random.default_rng(state), rows=20)
    there = sampling.conv_gradients(out, groups, np.random.default_rng(state), rows=20)
    assert patches.shape == (groups, 20, 54 // groups)
    np.testing.assert_allclose(patches @ sampling.weights_by_group(conv.weight.asnumpy(), groups), there, atol=1e-5)


def test_pairs_are_taken_at_the_same_places_and_windows_stay_whole():
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((30, 2, 16, 4), (30, 2, 4, 16)))
    kept_a, kept_b = sampling.pair_samples(a, b, np.random.default_rng(3), rows=64)
    assert kept_a.shape == (4, 2, 16, 4) and kept_b.shape == (4, 2, 4, 16)  # 64 rows are four whole windows of 16
    there = sampling.pair_gradients(a @ b, 4, np.random.default_rng(3), rows=64)
    np.testing.assert_allclose(kept_a @ kept_b, there, atol=1e-6)
    long = rng.standard_normal((2, 1, 500, 4)).astype(np.float32)
    kept_a, kept_b = sampling.pair_samples(long, b[:2, :1], np.random.default_rng(3), rows=64)
    assert kept_a.shape == (1, 1, 64, 4) and kept_b.shape == (1, 1, 4, 16)


def test_kl_by_hand_and_far_out():
    """P = 1/2, Q = 1/4: 0.5 log 2 + 0.5 log(2/3) = 0.1438410."""
    got = bernoulli_kl(Tensor([0.0], ms.float32), Tensor([-np.log(3.0)], ms.float32)).asnumpy()
    np.testing.assert_allclose(got, [0.1438410], rtol=1e-5)
    far = bernoulli_kl(Tensor([200.0, 3.0], ms.float32), Tensor([-200.0, 3.0], ms.float32)).asnumpy()
    np.testing.assert_allclose(far, [200.0, 0.0], atol=1e-5)


def test_gradient_is_zero_at_the_float_model_and_not_at_the_quantized_one():
    masks, ious = Tensor(np.full((1, 1, 4, 2, 2), 0.3), ms.float32), Tensor(np.full((1, 1, 4), 0.7), ms.float32)
    valid = Tensor(np.ones((1, 1)), ms.float32)
    gradient = ms.grad(lambda m, i: model_distance(masks, ious, m, i, valid), (0, 1))
    for there in gradient(masks, ious):
        assert np.abs(there.asnumpy()).max() < 1e-7
    for there in gradient(masks + 0.1, ious + 0.01):
        assert np.abs(there.asnumpy()).min() > 1e-4


def test_prompts_that_are_not_valid_do_not_count():
    rng = np.random.default_rng(0)
    masks, other = (Tensor(rng.standard_normal((1, 2, 4, 2, 2)), ms.float32) for _ in range(2))
    ious = Tensor(np.full((1, 2, 4), 0.5), ms.float32)
    first = model_distance(masks, ious, other, ious, Tensor([[1.0, 0.0]], ms.float32)).asnumpy()
    alone = model_distance(masks[:, :1], ious[:, :1], other[:, :1], ious[:, :1], Tensor([[1.0]], ms.float32)).asnumpy()
    assert first == pytest.approx(alone) and first > 0


def test_rounding_passes_the_gradient_and_the_probe_hands_it_out():
    kept = []
    rounding, probe = RoundThrough(signed_range(0.5, 3)), GradientProbe(kept.append)
    x = Tensor([0.3, 9.0, -0.9], ms.float32)
    assert rounding(x).asnumpy().tolist() == [0.5, 1.5, -1.0]
    gradient = ms.grad(lambda x: ops.sum(probe(rounding(x)) * Tensor([1.0, 2.0, 3.0], ms.float32)))(x)
    assert gradient.asnumpy().tolist() == [1, 2, 3] and kept[0].tolist() == [1, 2, 3]


def test_statistics_cover_all_pictures():
    statistics, other = Statistics(), Statistics()
    statistics.add(0, np.array([[1.0, -2.0]]), channels=True)
    other.add(0, np.array([[-3.0, 1.0]]), channels=True)
    statistics.merge(other.low, other.high, other.channel_max)
    assert (statistics.low[0], statistics.high[0]) == (-3, 1) and statistics.channel_max.tolist() == [3, 2]
    assert statistics.largest(0) == 3
    assert channel_scales(np.array([[4.0, -8.0], [0, 0]]), 4).tolist() == [1.0, 0.125]


def test_one_pass_observes_every_product_and_puts_the_network_back(sam, examples):
    fold_network(sam)
    before = decode(sam, examples[0])
    products = [product for product in find_products(sam) if not reason_to_keep(product)]
    observer = Observer(sam, PromptDecoder(sam).set_train(False), products, seed=1)
    observer.count_macs()
    samples, outputs = observer.float_pass(0, examples[0])
    assert np.array_equal(outputs[0], before[0])
    bits = {product.name: (4, 4) for product in products}
    gradients, distance = observer.gradient_pass(0, examples[0], outputs, bits)
    assert distance > 0 and set(samples) == set(gradients) == {product.name for product in products}
    for product in products:
        out = samples[product.name][0].shape[:-1]
        assert gradients[product.name].shape[:-1] == out and np.isfinite(gradients[product.name]).all()
        assert np.abs(gradients[product.name]).max() > 0, product.name
    assert all(np.array_equal(old, new) for old, new in zip(before, decode(sam, examples[0])))
    # 32 x 32 places, 3 x 3 of 3 channels, 4 of 8 channels.
    assert observer.macs["image_encoder.patch_embed.seq.0"] == 32 * 32 * 27 * 4
    broken = examples[1]._replace(image=np.where(np.arange(64) == 5, np.nan, examples[1].image).astype(np.float32))
    with pytest.raises(ValueError, match="receives values that are not finite on calibration picture 2"):
        observer.float_pass(1, broken)


@pytest.mark.parametrize("layer, what", [
    ("iou_prediction_head.layers.2", "IoUs"), ("output_hypernetworks_mlps.0.layers.2", "masks")])
def test_weights_that_are_not_finite_are_found_behind_the_last_product(sam, examples, layer, what):
    """No product receives what the last ones compute; masks come from a product of activations, not looked at here."""
    fold_network(sam)
    products = [product for product in find_products(sam) if not reason_to_keep(product, decoder_attention=False)]
    weight, = (p for p in sam.get_parameters() if p.name == f"mask_decoder.{layer}.weight")
    values = weight.asnumpy().copy()
    values[0, 0] = np.nan
    weight.set_data(Tensor(values))
    observer = Observer(sam, PromptDecoder(sam).set_train(False), products, seed=1)
    with pytest.raises(ValueError, match=f"^{what} of the float network are not finite on calibration picture 2: its "
                                         "weights or the picture are the cause; look at the checkpoint and at the pic"):
        observer.float_pass(1, examples[1])


def test_a_gradient_of_the_encoder_agrees_with_a_finite_difference(sam, examples):
    """A bias adds to every position, so the distance's derivative to it is the sum of the gradients of all 64: sampled
    rows and their channels are those of the product. With 20 bits rounding is too fine to be seen, and outputs
    that are not the network's keep the distance from its minimum."""
    fold_network(sam)
    products = [product for product in find_products(sam) if not reason_to_keep(product)]
    observer = Observer(sam, PromptDecoder(sam).set_train(False), products, seed=1)
    observer.count_macs()
    name = "image_encoder.layers.1.blocks.0.mlp.fc1"
    product, = (product for product in products if product.name == name)
    _, (masks, ious) = observer.float_pass(0, examples[0])
    outputs = masks + np.random.default_rng(0).standard_normal(masks.shape).astype(np.float32), 0.8 * ious
    gradients, value = observer.gradient_pass(0, examples[0], outputs, {p.name: (20, 20) for p in products})
    found = gradients[name].sum((0, 1))
    assert gradients[name].shape[:2] == (1, 64)
    bias, step = product.bias.copy(), 0.02

    def distance(channel, change):
        product.operation.bias.set_data(Tensor(bias + change * (np.arange(len(bias)) == channel).astype(np.float32)))
        new = decode(sam, examples[0])
        product.operation.bias.set_data(Tensor(bias))
        return float(model_distance(*map(Tensor, (*outputs, *new, examples[0].valid))).asnumpy())

    assert distance(0, 0.0) == pytest.approx(value, rel=1e-4)
    for channel in np.argsort(-np.abs(found))[:3]:
        slope = (distance(channel, step) - distance(channel, -step)) / (2 * step)
        assert found[channel] == pytest.approx(slope, rel=0.03) and slope != 0
