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
"""Exported graphs against the network: MindIR reloaded to 1e-5, ONNX in onnxruntime to 1e-4, float16, TinyViT-5M."""
import mindspore as ms
import numpy as np
import onnx
import pytest

from src.export.exported_predictor import open_graph
from src.export.exporter import ExportSettings, export_model
from src.export.graphs import graphs_of, parse_decoders, write_graph
from src.export.onnx_graph import convert_mindir, write_onnx
from src.inference.chosen_checkpoint import shipped_checkpoint
from src.inference.predictor import load_predictor
from src.modeling.build_sam import build_sam, build_sam_around
from src.modeling.image_encoder import ImageEncoderViT
from src.modeling.sam import PromptDecoder

pytestmark = pytest.mark.usefixtures("pynative")


def images(side, seed=0):
    return np.random.default_rng(seed).standard_normal((1, 3, side, side)).astype(np.float32)


def network_results(sam, picture, point_coords, point_labels):
    """(image_embeddings, low_res_masks, iou_predictions) of the network itself."""
    sam.set_train(False)
    embeddings = sam.image_encoder(ms.Tensor(picture))
    masks, ious, _ = PromptDecoder(sam)(embeddings, ms.Tensor(point_coords), ms.Tensor(point_labels))
    return embeddings.asnumpy(), masks.asnumpy(), ious.asnumpy()


def largest_error(got, wanted):
    """Largest difference, as a share of the largest value where that is above 1."""
    return max(np.abs(a.astype(np.float64) - b).max() / max(1, np.abs(b).max()) for a, b in zip(got, wanted))


@pytest.fixture(scope="module")
def expected(small_export, prompts):
    ms.set_context(mode=ms.PYNATIVE_MODE)
    return network_results(small_export.sam, images(64), *prompts)


@pytest.mark.parametrize("engine, tolerance", [("mindir", 1e-5), ("onnx", 1e-4)])
def test_reloaded_graphs_equal_the_network(small_export, prompts, expected, engine, tolerance):
    encoder = open_graph(small_export.folder / f"image_encoder.{engine}", engine)
    decoder = open_graph(small_export.folder / f"mask_decoder_p4_n3.{engine}", engine)
    embeddings, = encoder(images(64))
    masks, ious = decoder(embeddings, *prompts)
    assert (masks.shape, ious.shape) == ((1, 4, 4, 16, 16), (1, 4, 4))
    assert np.abs(expected[1]).max() > 0.05  # the masks are not all but zero
    assert largest_error((embeddings, masks, ious), expected) < tolerance


def test_a_training_step_before_the_export_changes_nothing(tmp_path, small_export, stirred, prompts, expected):
    """Export is forward only: neither set_train(True) nor the cells' own backward pass reach the file."""
    sam = stirred(build_sam("nano", image_size=64, seed=5))
    sam.set_train(True)
    graph = graphs_of(sam, ((4, 3),))[1]
    write_graph(graph, tmp_path / "decoder.mindir")
    masks, ious = open_graph(tmp_path / "decoder.mindir", "mindir")(expected[0], *prompts)
    assert largest_error((masks, ious), expected[1:]) < 1e-5
    assert b"bprop" not in (small_export.folder / "image_encoder.mindir").read_bytes()


def test_float16_graphs_take_and_give_float16(tmp_path, stirred, prompts, expected):
    sam = stirred(build_sam("nano", image_size=64, seed=5))
    graphs = graphs_of(sam, ((4, 3),), "float16")
    for graph in graphs:
        write_graph(graph, tmp_path / f"{graph.name}.mindir")
        write_onnx(convert_mindir(tmp_path / f"{graph.name}.mindir", [spec.name for spec in graph.outputs]),
                   tmp_path / f"{graph.name}.onnx")
    found = [node.op_type for node in onnx.load(str(tmp_path / "image_encoder.onnx")).graph.node]
    assert (found.count("Erf"), found.count("Sigmoid")) == (17, 0)
    for engine in ("mindir", "onnx"):
        embeddings, = open_graph(tmp_path / f"image_encoder.{engine}", engine)(images(64).astype(np.float16))
        masks, ious = open_graph(tmp_path / f"mask_decoder_p4_n3.{engine}", engine)(embeddings, *prompts)
        assert [array.dtype for array in (embeddings, masks, ious)] == [np.float16] * 3
        assert largest_error((masks, ious), expected[1:]) < 0.02, engine


def test_single_graph_is_both_halves(tmp_path, prompts, small_export, expected):
    graph = graphs_of(small_export.sam, ((4, 3),), single_graph=True)[2]
    assert graph.name == "sam_p4_n3" and [spec.name for spec in graph.inputs] == ["images", "point_coords",
                                                                                 "point_labels"]
    write_graph(graph, tmp_path / "sam.mindir")
    masks, ious = open_graph(tmp_path / "sam.mindir", "mindir")(images(64), *prompts)
    assert largest_error((masks, ious), expected[1:]) < 1e-5


def test_vit_with_padded_windows_and_a_global_block(tmp_path, stirred):
    """SAM's own encoder, tiny: a 4 x 4 grid in windows of 3, relative positions; in its MindIR and ONNX forms."""
    def encoder(image_size):
        return ImageEncoderViT(image_size, 16, 32, 2, 2, 3, (1,), 32)

    sam = stirred(build_sam_around(encoder, 32, 32, 64, "tiny", seed=3))
    graph = graphs_of(sam, ((1, 2),))[0]
    write_graph(graph, tmp_path / "vit.mindir")
    write_onnx(convert_mindir(tmp_path / "vit.mindir", ["image_embeddings"]), tmp_path / "vit.onnx")
    expected = sam.image_encoder(ms.Tensor(images(64))).asnumpy()
    for engine, tolerance in (("mindir", 1e-5), ("onnx", 1e-4)):
        assert largest_error(open_graph(tmp_path / f"vit.{engine}", engine)(images(64)), [expected]) < tolerance, engine


def export_and_compare(sam, folder):
    """Both halves, reloaded: the network's results to 1e-5 from MindIR and to 1e-4 from ONNX."""
    side = sam.image_size
    export_model(sam, folder, ExportSettings(formats=("mindir", "onnx"), decoders=("2x3",)),
                 {"name": "given", "sha256": "0" * 64}, {})
    point_coords = np.array([[[[0.3 * side, 0.4 * side], [0, 0], [0, 0]],
                              [[0.1 * side, 0.2 * side], [0.7 * side, 0.9 * side], [0.5 * side, 0.5 * side]]]],
                            np.float32)
    point_labels = np.array([[[1, -1, -2], [2, 3, 1]]], np.int32)
    expected = network_results(sam, images(side), point_coords, point_labels)
    for engine, tolerance in (("mindir", 1e-5), ("onnx", 1e-4)):
        embeddings, = open_graph(folder / f"image_encoder.{engine}", engine)(images(side))
        answer = open_graph(folder / f"mask_decoder_p2_n3.{engine}", engine)(embeddings, point_coords, point_labels)
        assert largest_error((embeddings, *answer), expected) < tolerance, engine


def test_the_weights_that_ship(tmp_path):
    export_and_compare(load_predictor(shipped_checkpoint()).sam, tmp_path / "export")


@pytest.mark.slow
@pytest.mark.parametrize("side", [128, 1024])
def test_tinyvit_5m(tmp_path, stirred, side):
    """The paper's student. At 128 pixels windows are padded, at 1024 as it is used."""
    export_and_compare(stirred(build_sam("tinyvit_5m", image_size=side, seed=5)), tmp_path / "export")


@pytest.mark.parametrize("texts, message", [
    (["16"], "export.decoders: '16' must be prompts x slots, such as 16x11: at least one prompt, and two slots, which "
             "a click or a box takes"),
    (["0x4"], "'0x4' must be prompts x slots"), (["1x1"], "'1x1' must be prompts x slots"),
    (["-1x4"], "'-1x4' must be prompts x slots"),
    ([], r"export.decoders is empty; give at least one, such as \[1x11\]"),
    (["1x4", "01X4"], r"export.decoders \[1x4, 01X4\] names a shape twice"),
])
def test_decoders_that_cannot_be(texts, message):
    with pytest.raises(ValueError, match=message):
        parse_decoders(texts)


def test_what_no_graph_can_hold_is_refused(small_export):
    assert parse_decoders(["16x11", "1X2"]) == ((16, 11), (1, 2))
    with pytest.raises(ValueError, match=r"export.dtype \(int8\) must be float32 or float16"):
        graphs_of(small_export.sam, ((1, 2),), "int8")
    with pytest.raises(ValueError, match=r"variant vit_h has 2\.4 GiB of weights; an exported graph holds less than 1"):
        graphs_of(build_sam("vit_h", draw_weights=False), ((1, 2),))
