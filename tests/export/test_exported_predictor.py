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
"""An export as a predictor: the network's answers, prompts dealt to static shapes, refusals."""
import numpy as np
import pytest

from src.evaluation.box_prompted import segment_boxes
from src.evaluation.box_sources import BoxPrompt
from src.export import exported_predictor
from src.export.exported_predictor import ExportedPredictor, decoder_calls, open_graph
from src.inference.everything import EverythingGenerator, EverythingSettings
from src.inference.predictor import SamPredictor
from tests.export.conftest import BOXES, assert_same_answers

pytestmark = pytest.mark.usefixtures("pynative")


@pytest.fixture(scope="module")
def exported(small_export):
    return {engine: ExportedPredictor(small_export.folder, engine) for engine in ("mindir", "onnx")}


@pytest.mark.parametrize("engine", ["mindir", "onnx"])
def test_answers_are_the_network_s(small_export, exported, image, engine):
    """Answers are the network's; masks have the image's size."""
    network, predictor = SamPredictor(small_export.sam), exported[engine]
    assert (predictor.variant, predictor.image_size, predictor.engine, network.engine) == ("nano", 64, engine, None)
    for one in (network, predictor):
        one.set_image(image)
        one.wait()
    assert (predictor.input_size, predictor.original_size) == ((48, 64), (30, 40))
    assert_same_answers(network, predictor)


def test_records_tell_a_quantized_export_from_a_float_one(quantized_copy):
    for engine in ("mindir", "onnx"):
        assert ExportedPredictor(quantized_copy, engine).engine == f"{engine} w8a8 ascend, scales sha256 5a"


def test_protocols_run_on_an_export(exported, image):
    predictor = exported["onnx"]
    segmentations, ious, seconds = segment_boxes(predictor, image, [BoxPrompt(tuple(box), 1) for box in BOXES], 16)
    assert len(segmentations) == len(ious) == 5 and set(seconds) == {"encode", "decode", "post"}
    settings = EverythingSettings(points_per_side=2, points_per_batch=4, pred_iou_thresh=0.0, box_nms_thresh=1.0,
                                  stability_score_thresh=0.0, fast=True)
    records, counts = EverythingGenerator(predictor, settings).run(image)
    assert counts.points == 4 and counts.decoder_calls == 1 and counts.candidates == 12
    assert len(records) <= 12


def test_warming_up_loads_the_decoders_that_points_take(small_export, image, monkeypatch):
    predictor, loaded = ExportedPredictor(small_export.folder, "onnx"), []
    monkeypatch.setattr(exported_predictor, "open_graph",
                        lambda path, *more: (loaded.append(path), open_graph(path, *more))[1])
    settings = EverythingSettings(points_per_side=3, points_per_batch=5, pred_iou_thresh=0.0)
    generator = EverythingGenerator(predictor, settings)
    generator.warm_up(image)
    warm = list(loaded)
    assert warm and len(set(warm)) == len(warm)
    generator.run(image)
    assert loaded == warm


def test_prompts_are_dealt_to_static_shapes():
    shapes = [(1, 11), (16, 11), (64, 2)]
    # Two slots: 100 = 64, then 36 is under three quarters of 64: 16 + 16, then 4 is under those of 16: 1 each.
    assert decoder_calls(shapes, 100, 2, 64) == [(0, 64, 64, 2), (64, 16, 16, 11), (80, 16, 16, 11),
                                                 *((first, 1, 1, 11) for first in range(96, 100))]
    # 48 is three quarters of 64; with three slots the decoder of 64 does not fit.
    assert decoder_calls(shapes, 48, 2, 64) == [(0, 48, 64, 2)]
    assert decoder_calls(shapes, 12, 3, 64) == [(0, 12, 16, 11)]
    assert decoder_calls(shapes, 2, 11, 16) == [(0, 1, 1, 11), (1, 1, 1, 11)]
    assert decoder_calls(shapes, 64, 2, 16) == [(first, 16, 16, 11) for first in range(0, 64, 16)]
    # No decoder is as small as asked: the smallest, partly empty. Of equal prompts the one of fewest slots.
    assert decoder_calls([(16, 11), (16, 4), (64, 2)], 3, 2, 8) == [(0, 3, 16, 4)]
    assert decoder_calls(shapes, 0, 2, 64) == []


def test_what_no_decoder_takes_is_refused(exported, image):
    predictor = exported["onnx"]
    with pytest.raises(ValueError, match="a prompt of 5 slots: the decoders of this export have at most 4; "
                                         r"export one with more \(export.decoders\)"):
        decoder_calls([(4, 3), (1, 4)], 1, 5, 64)
    with pytest.raises(ValueError, match=r"prompt_batch \(0\) must be at least 1"):
        decoder_calls([(4, 3)], 1, 2, 0)
    predictor.reset_image()
    with pytest.raises(ValueError, match="no image is set"):
        predictor.wait()
    predictor.set_image(image)
    with pytest.raises(ValueError, match=r"an exported decoder takes no mask_input: leave it out \(eval.feed_mask"):
        predictor.predict_batch(boxes=BOXES[:1], mask_input=np.zeros((1, 1, 16, 16)))


@pytest.mark.parametrize("engine, name", [("mindir", "MindSpore"), ("onnx", "onnxruntime")])
def test_broken_graphs_are_named(small_export, tmp_path, engine, name):
    data = (small_export.folder / f"mask_decoder_p1_n4.{engine}").read_bytes()
    (tmp_path / f"half.{engine}").write_bytes(data[:len(data) // 2])
    with pytest.raises(ValueError, match=rf"half.{engine}: {name} cannot load it \(") as refused:
        open_graph(tmp_path / f"half.{engine}", engine)
    assert "\n" not in str(refused.value)
