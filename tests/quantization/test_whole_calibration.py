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
"""A calibration from the pictures to a quantized network: resumed after a kill, with wider layers, with a proposal."""
import dataclasses
import json
import shutil
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from src.checkpoint import file_hash
from src.config import load_config
from src.modeling.build_sam import build_sam
from src.modeling.sam import PromptDecoder
from src.quantization.calibrate import Calibration
from src.quantization.cells import quantize_network, set_parameters
from src.quantization.cost import quantized_cost
from src.quantization.fold import fold_network
from src.quantization.layer_search import LayerSearch
from src.quantization.losses import model_distance
from src.quantization.products import find_products
from src.quantization.scales_file import read_scales, write_scales
from src.quantization.sensitivity import propose_wider, sensitivity_rows
from src.quantization.settings import QuantizeSettings, names_product
from src.quantization.work_folder import WorkFolder
from tests.quantization.conftest import small_examples, small_sam

ROOT = Path(__file__).resolve().parent.parent.parent
CONFIGS = ROOT / "configs"
SHA = "5a" * 32


class Killed(Exception):
    pass


def calibration(folder, progress=lambda stage, done, total: None, metric="mse", **settings):
    """A Calibration of the small network with few candidates."""
    settings = QuantizeSettings(candidates=6, rounds=1, metric=metric, **settings)
    return Calibration(small_sam(), settings, SHA, folder, progress)


def distance_of(quantization, example):
    """KL to the float network on one picture."""
    prompt, outputs = (Tensor(example.point_coords), Tensor(example.point_labels)), []
    for sam in (small_sam(), quantize_network(small_sam(), quantization, SHA)):
        masks, ious, _ = PromptDecoder(sam).set_train(False)(sam.image_encoder(Tensor(example.image)), *prompt)
        outputs += [masks, ious]
    return float(model_distance(*outputs, Tensor(example.valid)).asnumpy())


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    """(Calibration, Quantization, folder of its steps) at 8 bits as the paper."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    folder = tmp_path_factory.mktemp("eight")
    made = calibration(folder)
    return made, made.run(small_examples()), folder


def same(a, b):
    return json.dumps(a.record("", "")) == json.dumps(b.record("", "")) and all(
        np.array_equal(x, y) for x, y in zip(a.arrays().values(), b.arrays().values()))


def test_a_killed_calibration_gives_the_same_file(eight, tmp_path, pynative):
    def die(stage, done, total):
        if (stage, done) == ("search", 4):
            raise Killed

    with pytest.raises(Killed):
        calibration(tmp_path, die).run(small_examples())
    assert (tmp_path / "layer_3.npz").is_file() and not (tmp_path / "layer_4.npz").exists()
    before = (tmp_path / "layer_3.npz").stat().st_mtime_ns
    seen = []
    resumed = calibration(tmp_path, lambda *step: seen.append(step)).run(small_examples())
    assert (tmp_path / "layer_3.npz").stat().st_mtime_ns == before and seen[-1][0] == "search"
    assert same(resumed, eight[1])


def test_steps_of_other_code_are_not_taken_over(tmp_path, monkeypatch, pynative):
    """A module that changed, or another MindSpore: the samples are made again. The same code goes on."""
    def die(stage, done, total):
        raise Killed

    def step_was_made():
        with pytest.raises(Killed):
            calibration(tmp_path / "steps", die).run(small_examples())
        return (tmp_path / "steps" / "inputs_0.npz").stat().st_mtime_ns

    first = step_was_made()
    assert step_was_made() == first
    shutil.copytree(ROOT / "src", tmp_path / "src")
    monkeypatch.setattr(file_hash, "SOURCES", tmp_path / "src")
    assert step_was_made() == first  # where the sources lie does not count
    for room in ("modeling", "quantization"):
        before = step_was_made()
        with open(tmp_path / "src" / room / "windows.py", "a", encoding="utf-8") as file:
            file.write("# changed\n")
        assert step_was_made() > before
    before = step_was_made()
    (tmp_path / "src" / "data" / "coco.py").write_text("# another room")
    assert step_was_made() == before
    monkeypatch.setattr(ms, "__version__", "2.10.1")
    assert step_was_made() > before


def test_every_product_is_listed_and_8_bits_are_near_the_float_network(eight, tmp_path, pynative):
    made, quantization, _ = eight
    names = {layer.name for layer in quantization.layers} | set(quantization.kept)
    assert len(names) == len(quantization.layers) + len(quantization.kept) == len(made.products) + len(made.kept)
    assert 0 < distance_of(quantization, small_examples()[0]) < 0.01
    cost = quantized_cost(quantization)
    kept = sum(quantization.kept_macs.values())
    assert cost.scaled_macs == pytest.approx(kept + (cost.macs - kept) / 4) and kept < 0.01 * cost.macs
    assert same(read_scales(write_scales(tmp_path / "scales.json", quantization)[0]), quantization)


@pytest.mark.parametrize("change, message", [
    ({"variant": "nano"}, "s.json is for nano at 64 px, the network is small at 64 px"),
    ({"image_size": 128}, "s.json is for small at 128 px, the network is small at 64 px"),
    ({"checkpoint_sha256": "0" * 64}, "s.json was made from the checkpoint with SHA-256 000000000000.., this one"),
    ({"parameters": {"image_encoder.norm": np.zeros(3, np.float32)}},
     r"s.json: parameter image_encoder.norm .3. is not one of the network")])
def test_scales_of_another_network_are_refused(eight, pynative, change, message):
    with pytest.raises(ValueError, match=message):
        quantize_network(small_sam(), dataclasses.replace(eight[1], **change), SHA, "s.json")


def test_a_layer_of_another_shape_is_refused(eight, pynative):
    first, *others = eight[1].layers
    narrow = dataclasses.replace(first, weight_codes=first.weight_codes[:, :1])
    with pytest.raises(ValueError, match=f"s.json: {first.name} is a conv of another shape than the network's"):
        quantize_network(small_sam(), dataclasses.replace(eight[1], layers=(narrow, *others)), SHA, "s.json")


def test_bytes_are_those_of_the_folded_network(eight):
    """Statistics of BatchNorm are gone, biases of the convolutions are there; the file keeps the number."""
    _, quantization, _ = eight
    sam = fold_network(small_sam())
    parameters = {parameter.name: parameter.nbytes for parameter in sam.get_parameters()}
    assert not any("moving" in name or ".bn." in name for name in parameters)
    assert quantization.parameter_bytes == sum(parameters.values())
    assert quantization.parameter_bytes < sum(parameter.nbytes for parameter in small_sam().get_parameters())
    saved = sum(3 * layer.weight_codes.size - 4 * len(layer.weight_scales) for layer in quantization.layers
                if layer.weight_codes is not None)
    assert quantized_cost(quantization).bytes == quantization.parameter_bytes - saved
    with pytest.raises(ValueError, match="the scales do not say how many bytes the parameters have; run quant"):
        quantized_cost(dataclasses.replace(quantization, parameter_bytes=None))


def test_sensitivity_names_the_layer_whose_rounding_costs_most(eight, pynative):
    """A layer whose codes are all 0 loses more than any other, and comes first in the proposal."""
    made, quantization, _ = eight
    few = tuple(dataclasses.replace(layer, weight_codes=0 * layer.weight_codes)
                if layer.name == "image_encoder.neck.0" else layer for layer in quantization.layers
                if layer.name.startswith(("image_encoder.neck", "mask_decoder.iou")))
    losses = propose_wider(made, dataclasses.replace(quantization, layers=few), small_examples(1))
    assert losses[0][0] == "image_encoder.neck.0" and losses[0][1] > 5 * losses[1][1] and len(losses) == len(few)
    assert sensitivity_rows(losses)[-1].startswith("proposal: --quantize.wider=[image_encoder.neck.0")


@pytest.mark.parametrize("variant", ["nano", "tinyvit_5m"])
def test_configurations_name_products(variant):
    names = {product.name for product in find_products(fold_network(build_sam(variant, image_size=64)))}
    for config in ("quantize_mixed.yaml", "quantize_int8.yaml"):
        wider = load_config(["--config", str(CONFIGS / config)]).quantize.wider
        assert [entry for entry in wider if not any(names_product(entry, name) for name in names)] == []


def test_some_layers_are_kept_wider(tmp_path, pynative):
    section = load_config(["--config", str(CONFIGS / "quantize_mixed.yaml")]).quantize
    made = calibration(tmp_path, wider=("image_encoder.patch_embed", "mask_decoder.mask_product"),
                       wide_bits=section.wide_bits, metric=section.metric, weight_bits=section.weight_bits,
                       activation_bits=section.activation_bits, gelu="offset", softmax="unsigned", reparametrise=True,
                       sign_trick=True, bias_correction=True, rounding="gptq")
    mixed = made.run(small_examples())
    bits = {layer.name: layer.activation_bits for layer in mixed.layers}
    attentions = [layer for layer in mixed.layers if layer.name.startswith("mask_decoder") and "scores" in layer.name]
    assert mixed.settings["attentions"] == len(attentions) == 7 and mixed.settings["flipped_attentions"] in range(8)
    assert set(mixed.wider) == {name for name, found in bits.items() if found == 8}
    assert bits["image_encoder.patch_embed.seq.0"] == bits["mask_decoder.mask_product"] == 8
    assert bits["image_encoder.layers.1.blocks.0.mlp.fc1"] == 6
    assert 0 < distance_of(mixed, small_examples()[0]) < 0.05


def test_gradients_of_the_network_decide_about_scales(eight, tmp_path, pynative):
    """The metric "hessian" weights differences, so it settles on other scales than "mse" almost everywhere."""
    weighted = calibration(tmp_path, metric="hessian").run(small_examples())
    other = [a.inputs != b.inputs or a.kind != "matmul" and not np.array_equal(a.weight_scales, b.weight_scales)
             for a, b in zip(weighted.layers, eight[1].layers)]
    assert [layer.name for layer in weighted.layers] == [layer.name for layer in eight[1].layers]
    assert np.mean(other) > 0.5
    assert 0 < distance_of(weighted, small_examples()[0]) < 0.01


def test_what_moves_between_layers_leaves_the_float_network_as_it_is(tmp_path, pynative):
    """Norms into linear layers, and the signs of keys: with both on, and weights in place but not rounded, outputs are
    the float network's. Biases of 4 and -4 give one attention keys of two modes, so that its signs flip."""
    sam, example = fold_network(small_sam()), small_examples()[0]
    cross = sam.mask_decoder.transformer.layers[0].cross_attn_token_to_image
    width = cross.k_proj.bias.shape[0]
    cross.k_proj.bias.set_data(Tensor(np.where(np.arange(width) % 3 == 0, 4, -4).astype(np.float32)))

    def outputs():
        embeddings = sam.image_encoder(Tensor(example.image))
        masks, ious, _ = PromptDecoder(sam).set_train(False)(embeddings, Tensor(example.point_coords),
                                                             Tensor(example.point_labels))
        return [embeddings.asnumpy(), masks.asnumpy(), ious.asnumpy()]

    before = outputs()
    settings = QuantizeSettings(metric="mse", reparametrise=True, sign_trick=True)
    made = Calibration(sam, settings, SHA, tmp_path)
    work = WorkFolder(tmp_path, {})
    made._count_macs()
    made._observe(work, small_examples())
    search = LayerSearch(made.observer, settings, work, 2)
    flipped = {name for name, signs in search._row_signs.items() if (signs < 0).any()}
    here = "mask_decoder.transformer.layers.0.cross_attn_token_to_image"
    assert {f"{here}.q_proj", f"{here}.k_proj"} <= flipped and f"{here}.scores" in search._key_signs
    norms = {name.rpartition(".")[0] for name in search.parameters}
    assert len(norms) == 2 * len([p for p in made.products if p.name.endswith("mlp.fc1")]) > 4
    changed = 0
    for product in made.products:
        if product.kind == "linear":
            weight, bias, *_ = search._prepared(product, np.zeros((1, 1, product.weight.shape[1]), np.float32))
            changed += not np.array_equal(weight, product.weight)
            product.operation.weight.set_data(Tensor(weight))
            if bias is not None:
                product.operation.bias.set_data(Tensor(bias))
    assert changed == len(norms) + len(flipped)
    half_way = outputs()  # weights without their norms: another network
    assert np.abs(half_way[0] - before[0]).max() > 0.1 * np.abs(before[0]).max()
    set_parameters(sam, search.parameters, "search")
    for wanted, found in zip(before, outputs()):
        np.testing.assert_allclose(found, wanted, atol=2e-5 * np.abs(wanted).max())
