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
"""OpenVINO in MindSpore's place: the network's answers, exports made once, root scripts, refusals."""
import functools
import json
import shutil
import sys

import numpy as np
import pytest
from mindspore import Tensor
from PIL import Image

import demo
import eval as evaluation
from src.checkpoint import file_hash
from src.checkpoint.file_hash import file_sha256
from src.config import ConfigError, load_config
from src.evaluation.box_prompted import segment_boxes
from src.evaluation.box_sources import BoxPrompt
from src.evaluation.points import click_rounds
from src.export import engines, openvino_engine
from src.export.engines import cached_export, open_predictor
from src.export.exported_predictor import open_graph
from src.export.exporter import ExportSettings, export_model
from src.export.onnx_graph import convert_mindir, write_onnx
from src.export.openvino_engine import product_precisions, why_int8_saturates
from src.export.qdq import QdqBuilder
from src.inference.everything import EverythingGenerator, EverythingSettings
from src.inference.mask_records import encode_masks
from src.inference.predictor import SamPredictor
from src.quantization.load import describe_scales
from src.quantization.scales_file import write_scales
from tests.export.conftest import BOXES, assert_same_answers
from tests.export.quantized_products import (
    OUTPUTS,
    SHA,
    Products,
    arrays,
    quantization,
    quantization_of_small_sam,
    write_products,
)
from tests.quantization.conftest import SIDE, small_sam

pytest.importorskip("openvino", reason="needs the package openvino: pip install -r requirements-edge.txt")
pytestmark = pytest.mark.usefixtures("pynative")

NEEDS_VNNI = pytest.mark.skipif(bool(why_int8_saturates()), reason="int8 sums saturate without VNNI")


@pytest.fixture(scope="module")
def predictor(small_export):
    return open_predictor("openvino", small_export.folder, threads=1)


def test_answers_are_the_network_s(small_export, predictor, image):
    """Answers are the network's, and embeddings outlive calls."""
    network = SamPredictor(small_export.sam)
    assert (predictor.engine, predictor.variant, predictor.image_size) == ("openvino", "nano", 64)
    predictor.set_image(image[::-1])
    mirrored = predictor.image_embeddings
    kept = mirrored.copy()
    for one in (network, predictor):
        one.set_image(image)
    np.testing.assert_array_equal(mirrored, kept)
    np.testing.assert_allclose(predictor.image_embeddings, network.image_embeddings.asnumpy(), atol=2e-5)
    assert_same_answers(network, predictor)


def test_float_graphs_stay_float32(small_export):
    """In bfloat16, which this processor may prefer, embeddings would be off by about 1 %."""
    images = np.random.default_rng(3).standard_normal((1, 3, 64, 64)).astype(np.float32)
    path = small_export.folder / "image_encoder.onnx"
    (wanted,), (found,) = open_graph(path, "onnx")(images), open_graph(path, "openvino", 1)(images)
    assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("side, hierarchical", [(2, False), (4, True)])
def test_everything_is_the_network_s(small_export, predictor, image, side, hierarchical):
    """4 points; and of 16 points 4, then those of the others that no confident mask covers."""
    settings = EverythingSettings(points_per_side=side, points_per_batch=4, pred_iou_thresh=0.0, box_nms_thresh=1.0,
                                  stability_score_thresh=0.0, hierarchical=hierarchical, coarse_ratio=0.5,
                                  high_score_thresh=0.1, output_mode="binary_mask")
    wanted, wanted_counts = EverythingGenerator(SamPredictor(small_export.sam), settings).run(image)
    found, counts = EverythingGenerator(predictor, settings).run(image)
    assert counts.points == wanted_counts.points and 4 <= counts.points < 16
    assert [record["point_coords"] for record in found] == [record["point_coords"] for record in wanted]
    for one, other in zip(found, wanted):
        assert np.mean(one["segmentation"] != other["segmentation"]) < 5e-3
        assert abs(one["predicted_iou"] - other["predicted_iou"]) < 1e-4


def test_protocols_are_the_network_s(small_export, predictor, image):
    network = SamPredictor(small_export.sam)
    prompts = [BoxPrompt(tuple(box), 1) for box in BOXES]
    wanted, found = (segment_boxes(one, image, prompts, 4) for one in (network, predictor))
    np.testing.assert_allclose(found[1], wanted[1], atol=1e-4)
    label = encode_masks((np.hypot(*np.mgrid[-15:15, -20:20]) < 9)[None])
    wanted, found = (click_rounds(one, label, 2, prompt_batch=1) for one in (network, predictor))
    assert found[1] == wanted[1] and np.allclose(found[0], wanted[0], atol=5e-3)


def test_a_checkpoint_is_exported_once(small_export, tmp_path, monkeypatch):
    made = []

    def export(sam, folder, settings, checkpoint, versions, say):
        made.append((folder, sam.variant, sam.image_size, settings.formats, settings.decoders, checkpoint["name"]))
        shutil.copytree(small_export.folder, folder, dirs_exist_ok=True)
        if settings.scales:
            content = json.loads((folder / "manifest.json").read_text())
            content["quantization"] = describe_scales(settings.scales)
            (folder / "manifest.json").write_text(json.dumps(content))

    monkeypatch.setattr(engines, "export_model", export)
    lines = []
    predictor = open_predictor("openvino", small_export.checkpoint, cache=tmp_path, say=lines.append)
    folder = made[0][0]
    assert made == [(folder, "nano", 64, ("onnx",), ("1x11", "16x11", "64x2"), "nano.ckpt")]
    assert folder.parent == tmp_path and lines == [f"exporting {small_export.checkpoint} to {folder}, once"]
    assert (predictor.engine, predictor.image_size) == ("openvino", 64)
    assert cached_export(small_export.checkpoint, tmp_path, say=lines.append) == folder and len(made) == 1
    # A damaged export is made again.
    (folder / "image_encoder.onnx").write_bytes(b"")
    assert cached_export(small_export.checkpoint, tmp_path, say=lines.append) == folder and len(made) == 2
    # Scales are part of the key and of what records say.
    scales = str(write_scales(tmp_path / "scales.json", quantization())[0])
    predictor = open_predictor("openvino", small_export.checkpoint, cache=tmp_path, scales=scales, say=lines.append)
    assert len(made) == 3 and made[2][0] not in (folder, tmp_path)
    assert predictor.engine == f"openvino w8a8 paper, scales sha256 {file_sha256(scales)}"
    # Other decoders, another size, other weights, other sources: other exports.
    keys = {engines._key("a", None, None, ("1x4",)), engines._key("a", None, 128, ("1x4",)),
            engines._key("a", None, None, ("4x4",)), engines._key("b", None, None, ("1x4",))}
    (tmp_path / "src" / "modeling").mkdir(parents=True)
    (tmp_path / "src" / "modeling" / "sam.py").write_text("# other")
    monkeypatch.setattr(file_hash, "SOURCES", tmp_path / "src")
    assert len(keys | {engines._key("a", None, None, ("1x4",))}) == 5


@NEEDS_VNNI
def test_quantized_products_run_in_int8(tmp_path):
    """Inputs lie well inside their codes, so what differs is the rounding of OpenVINO's own rescaling."""
    write_products(tmp_path / "products.mindir")
    builder = functools.partial(QdqBuilder, quantization=quantization())
    write_onnx(convert_mindir(tmp_path / "products.mindir", OUTPUTS, "products", builder), tmp_path / "products.onnx")
    wanted = Products().set_train(False)(*map(Tensor, arrays()))
    found = open_graph(tmp_path / "products.onnx", "openvino", threads=1)(*arrays())
    for name, a, b in zip(OUTPUTS, wanted, found):
        np.testing.assert_allclose(b, a.asnumpy(), atol=1e-5 * np.abs(a.asnumpy()).max(), err_msg=name)
    # Two convolutions, three linear layers (the halves of one are put together again) and a product of activations; the
    # other's second operand has a zero point, which OpenVINO's matrix product does not take.
    assert product_precisions(tmp_path / "products.onnx") == {"i8": 6, "f32": 1}


@NEEDS_VNNI
def test_a_quantized_network_is_the_same_in_three_engines(tmp_path):
    """Rounding flips codes at their borders, so outputs are compared by correlation."""
    scales = str(write_scales(tmp_path / "scales.json", quantization_of_small_sam())[0])
    settings = ExportSettings(("onnx",), ("1x3",), scales=scales)
    network = small_sam()
    export_model(network, tmp_path / "out", settings, {"name": "small", "sha256": SHA}, {}, say=lambda line: None)
    picture = np.random.default_rng(0).standard_normal((1, 3, SIDE, SIDE)).astype(np.float32)
    path = tmp_path / "out" / "image_encoder.onnx"
    found = [network.image_encoder(Tensor(picture)).asnumpy()]  # quantized by the export
    found += [open_graph(path, engine, threads=1)(picture)[0] for engine in ("onnx", "openvino")]
    assert np.corrcoef([embeddings.ravel() for embeddings in found]).min() > 0.99
    assert set(product_precisions(path)) == {"i8"}


@pytest.mark.parametrize("cpuinfo, warned", [
    ("flags\t\t: fpu avx2 avx512f\nflags\t\t: fpu avx2 avx512f\n", True), ("flags\t\t: fpu avx2 avx512_vnni\n", False),
    ("flags\t: avx2 avx_vnni\n", False), ("Features\t: fp asimd asimddp\n", False), (None, False)])
def test_without_vnni_a_quantized_network_is_warned_of(quantized_copy, small_export, tmp_path, monkeypatch, caplog,
                                                       cpuinfo, warned):
    """One line, of int8 alone; no processor's flags: none."""
    if cpuinfo is not None:
        (tmp_path / "cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr(openvino_engine.LOG, "propagate", True)  # root scripts end it
    monkeypatch.setattr(openvino_engine, "CPUINFO", tmp_path / "cpuinfo")
    for folder in (small_export.folder, quantized_copy):
        open_predictor("openvino", folder, threads=1)
    assert caplog.messages == warned * [
        f"{quantized_copy / 'manifest.json'} is quantized, and this processor lacks VNNI (avx512_vnni, avx_vnni): sums "
        "of int8 products may saturate at 16 bits and masks be wrong; use the engine mindspore, or weight_bits: 7"]


@pytest.mark.parametrize("isa, ours, warned", [
    ("AVX2", "AVX2", False), ("AVX2", "", True), ("avx512_core", "", True), ("AVX512_CORE_VNNI", "", False),
    ("ALL", "", False), ("SSE41", "AVX2", True), (None, "", False)])
def test_a_user_s_own_limit_of_instructions_is_warned_of(tmp_path, monkeypatch, caplog, isa, ours, warned):
    """Ours is hidden from OpenVINO, what the user has set stays: with AVX2 int8 sums saturate."""
    (tmp_path / "cpuinfo").write_text("flags : avx2 avx512_vnni\n")
    monkeypatch.setattr(openvino_engine.LOG, "propagate", True)
    monkeypatch.setattr(openvino_engine, "CPUINFO", tmp_path / "cpuinfo")
    for name, value in ((openvino_engine.ISA, isa), (openvino_engine.OUR_ISA, ours)):
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
    openvino_engine.warn_without_vnni("out")
    assert caplog.messages == warned * [
        f"out is quantized, and ONEDNN_MAX_CPU_ISA={isa} keeps OpenVINO from VNNI: sums of int8 products may saturate "
        "at 16 bits and masks be wrong; use the engine mindspore, or weight_bits: 7"]


def test_demo_and_eval_run_it(small_export, tmp_path, monkeypatch, capsys, image):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    Image.fromarray(image).save(tmp_path / "images" / "1.png")
    demo.main(["--image", "images/1.png", "--box", "3,4,30,20", "--engine", "openvino", "--device", "cpu",
               "--checkpoint", str(small_export.folder), "--json", "found.json"])
    network = SamPredictor(small_export.sam)
    network.set_image(image)
    best = network.predict(box=BOXES[0])[1].max()
    assert abs(json.loads((tmp_path / "found.json").read_text())["masks"][0]["predicted_iou"] - best) < 1e-4
    (tmp_path / "labels.json").write_text(json.dumps({
        "images": [{"id": 1, "file_name": "1.png", "height": 30, "width": 40}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [3, 4, 27, 16], "area": 432,
                         "segmentation": [[3, 4, 30, 4, 30, 20, 3, 20]]}],
        "categories": [{"id": 1, "name": "square"}]}))
    scores = {}
    for engine in ("openvino", "mindspore"):  # the second runs ONNX graphs in onnxruntime
        evaluation.main([f"--eval.onnx={small_export.folder}", "--engine", engine, "--eval.annotations=labels.json",
                         "--runtime.device=cpu", "--runtime.mode=pynative", f"--eval.output_dir={engine}"])
        scores[engine] = json.loads((tmp_path / engine / "results.json").read_text())
    assert scores["openvino"]["settings"]["engine"] == "openvino"
    assert scores["mindspore"]["settings"]["engine"] == "onnx"
    assert abs(scores["openvino"]["mean_iou"] - scores["mindspore"]["mean_iou"]) < 0.01


def test_refusals(small_export, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"engine \('tvm'\) must be one of mindspore, openvino"):
        open_predictor("tvm", small_export.checkpoint)
    with pytest.raises(ValueError, match="s.json quantizes a checkpoint, not the export .*; export.py --quantized wri"):
        open_predictor("openvino", small_export.folder, scales="s.json")
    with pytest.raises(FileNotFoundError, match="checkpoint none.ckpt does not exist"):
        open_predictor("openvino", "none.ckpt")
    (tmp_path / "half.onnx").write_bytes((small_export.folder / "image_encoder.onnx").read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"half.onnx: OpenVINO cannot load it \(") as refused:
        open_graph(tmp_path / "half.onnx", "openvino")
    assert "\n" not in str(refused.value)
    with pytest.raises(ConfigError, match="'eval.engine' is openvino, which runs no MindIR; give eval.onnx or a c"):
        load_config(["--eval.engine=openvino", "--eval.mindir=export"])
    with pytest.raises(ConfigError, match="'eval.engine' is openvino, which runs no results; "):
        load_config(["--eval.engine=openvino", "--eval.results=masks.json"])
    monkeypatch.setitem(sys.modules, "openvino", None)
    for use in (lambda: open_predictor("openvino", "none.ckpt"), lambda: open_graph("half.onnx", "openvino")):
        with pytest.raises(ValueError, match="the engine openvino needs the package openvino: pip install -r require"):
            use()
