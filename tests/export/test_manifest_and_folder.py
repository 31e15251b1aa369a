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
"""Manifest and folder of an export: what docs/export.md promises, whole or not at all, and every refusal."""
import hashlib
import json
import os
import shutil

import pytest

from src.checkpoint.file_hash import file_sha256
from src.export import exporter
from src.export.exporter import ExportSettings, check_export, export_model
from src.export.graphs import Graph
from src.export.manifest import read_export


def test_manifest_says_what_the_files_are(small_export):
    content = json.loads(small_export.manifest.read_text())
    assert (content["format"], content["version"]) == ("tinysam-export", 1)
    assert (content["variant"], content["image_size"], content["embed_dim"], content["dtype"]) == (
        "nano", 64, 128, "float32")
    assert content["checkpoint"] == {"name": "nano.ckpt", "sha256": "0" * 64}
    assert content["preprocessing"]["pixel_mean"] == [123.675, 116.28, 103.53]
    assert content["preprocessing"]["pixel_std"] == [58.395, 57.12, 57.375]
    assert content["prompts"]["labels"] == {"empty": -2, "not_a_point": -1, "background": 0, "foreground": 1,
                                            "box_top_left": 2, "box_bottom_right": 3}
    assert [(graph["role"], graph.get("prompts"), graph.get("slots")) for graph in content["graphs"]] == [
        ("image_encoder", None, None), ("mask_decoder", 4, 3), ("mask_decoder", 1, 4)]
    decoder = content["graphs"][1]
    assert decoder["inputs"] == [{"name": "image_embeddings", "shape": [1, 128, 4, 4], "dtype": "float32"},
                                 {"name": "point_coords", "shape": [1, 4, 3, 2], "dtype": "float32"},
                                 {"name": "point_labels", "shape": [1, 4, 3], "dtype": "int32"}]
    assert decoder["outputs"] == [{"name": "low_res_masks", "shape": [1, 4, 4, 16, 16], "dtype": "float32"},
                                  {"name": "iou_predictions", "shape": [1, 4, 4], "dtype": "float32"}]
    for graph in content["graphs"]:
        assert list(graph["files"]) == ["mindir", "onnx"]
        for file in graph["files"].values():
            data = (small_export.folder / file["name"]).read_bytes()
            assert (file["sha256"], file["bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))
    assert {path.name for path in small_export.folder.iterdir()} == {
        "manifest.json", *(f"{name}.{suffix}" for name in ("image_encoder", "mask_decoder_p4_n3", "mask_decoder_p1_n4")
                           for suffix in ("mindir", "onnx"))}
    assert [line.split()[0] for line in small_export.lines] == [
        file["name"] for graph in content["graphs"] for file in graph["files"].values()]


def test_export_is_read_back(small_export):
    for where in (small_export.folder, small_export.manifest):
        export = read_export(where, "onnx")
        assert (export.path, export.variant, export.image_size) == (small_export.manifest, "nano", 64)
        assert export.image_encoder.path == small_export.folder / "image_encoder.onnx"
        assert [(graph.prompts, graph.slots) for graph in export.mask_decoders] == [(4, 3), (1, 4)]


@pytest.fixture
def copy(small_export, tmp_path):
    """A copy of the export's MindIR half to break, and a function that changes its manifest."""
    folder = tmp_path / "copy"
    shutil.copytree(small_export.folder, folder)

    def change(edit):
        content = json.loads((folder / "manifest.json").read_text())
        edit(content)
        (folder / "manifest.json").write_text(json.dumps(content))

    return folder, change


@pytest.mark.parametrize("edit, message", [
    (lambda content: content.update(format="other"), "not the manifest of an export: its format is not 'tinysam-exp"),
    (lambda content: content.update(version=2), "version 2 of the manifest; this program reads 1"),
    (lambda content: content.pop("variant"), r"not a manifest that this version wrote \(KeyError: 'variant'\)"),
    (lambda content: content.update(graphs=[None]), "not a manifest that this version wrote"),
    (lambda content: content.update(graphs=content["graphs"][:1]), "names 1 image encoders and 0 mask decoders"),
    (lambda content: content["graphs"][1]["files"].pop("mindir"),
     "its mask_decoder of 4 x 3 was not written as mindir, only as onnx; export again with export.formats=mindir"),
    (lambda content: content["graphs"][0]["files"]["mindir"].update(name="../x.mindir"), "outside its folder"),
    (lambda content: content["graphs"][0]["files"]["mindir"].update(name="x.mindir"),
     "x.mindir: missing, though manifest.json names it; export again"),
    (lambda content: content["graphs"][0]["files"]["mindir"].update(sha256="0" * 64),
     "image_encoder.mindir: not the file that manifest.json describes: its size or hash differs"),
])
def test_manifests_that_do_not_fit_are_refused(copy, edit, message):
    folder, change = copy
    change(edit)
    with pytest.raises(ValueError, match=message) as refused:
        read_export(folder, "mindir")
    assert "\n" not in str(refused.value)


def test_changed_and_foreign_files_are_refused(copy, tmp_path):
    folder, _ = copy
    with open(folder / "image_encoder.mindir", "r+b") as file:
        file.truncate(1000)
    with pytest.raises(ValueError, match="image_encoder.mindir: not the file that manifest.json describes"):
        read_export(folder, "mindir")
    (folder / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match="manifest.json: not JSON"):
        read_export(folder, "mindir")
    with pytest.raises(ValueError, match="no manifest.json there; give the folder of an export"):
        read_export(tmp_path, "mindir")


def test_settings_that_cannot_be_are_refused(tmp_path):
    for settings, message in (
            (ExportSettings(formats=()), "export.formats is empty; give at least one of mindir, onnx, air"),
            (ExportSettings(formats=("tflite",)), "'tflite' is unknown; it must be one of mindir, onnx, air"),
            (ExportSettings(formats=("air",)), "air is written on an Ascend device only, and this runs on a CPU"),
            (ExportSettings(decoders=("x",)), "'x' must be prompts x slots")):
        with pytest.raises(ValueError, match=message):
            check_export(settings, tmp_path / "new", "CPU")
    check_export(ExportSettings(formats=("air",)), tmp_path / "new", "Ascend")


def test_only_an_export_is_replaced(copy, tmp_path):
    folder, _ = copy
    check_export(ExportSettings(), folder, "CPU")
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="copy: holds notes.txt, which no export wrote; the whole folder would be "
                                         "replaced: choose another export.output_dir"):
        check_export(ExportSettings(), folder, "CPU")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file: is a file; export.output_dir must name a folder"):
        check_export(ExportSettings(), tmp_path / "file", "CPU")
    (tmp_path / "empty").mkdir()
    check_export(ExportSettings(), tmp_path / "empty", "CPU")


@pytest.fixture
def quick_writer(monkeypatch):
    """Graphs are files of a few bytes: what matters is the folder. Returns {"fail": name of the graph that fails}."""
    behaviour = {"fail": None, "text": "new"}

    def write_graph(graph: Graph, path, file_format="MINDIR"):
        if graph.name == behaviour["fail"]:
            raise OSError("No space left on device")
        path.write_text(behaviour["text"])

    monkeypatch.setattr(exporter, "write_graph", write_graph)
    return behaviour


def export_small(small_export, folder, decoders=("1x2",)):
    return export_model(small_export.sam, folder, ExportSettings(decoders=decoders), {"name": "a", "sha256": "b"}, {},
                        say=lambda line: None)


def test_a_second_export_replaces_the_first_as_a_whole(small_export, tmp_path, quick_writer):
    folder = tmp_path / "deep" / "export"
    export_small(small_export, folder, ("1x2", "4x2"))
    assert len(list(folder.iterdir())) == 4
    quick_writer["text"] = "newer"
    manifest = export_small(small_export, folder)
    assert manifest == folder / "manifest.json"
    assert {path.name for path in folder.iterdir()} == {"image_encoder.mindir", "mask_decoder_p1_n2.mindir",
                                                        "manifest.json"}
    assert read_export(folder, "mindir").image_encoder.path.read_text() == "newer"
    assert [path.name for path in folder.parent.iterdir()] == ["export"]  # nothing is left beside it


def test_a_failed_export_leaves_the_old_one(small_export, tmp_path, quick_writer, monkeypatch):
    folder = tmp_path / "export"
    export_small(small_export, folder)
    before = {path.name: file_sha256(path) for path in folder.iterdir()}
    quick_writer.update(fail="mask_decoder_p1_n2", text="newer")
    with pytest.raises(OSError, match="No space left"):
        export_small(small_export, folder)
    quick_writer["fail"] = None
    replace = os.replace

    def no_second_replace(source, target):
        if os.path.basename(source) == "new":
            raise OSError("Device or resource busy")
        replace(source, target)

    monkeypatch.setattr(exporter.os, "replace", no_second_replace)
    with pytest.raises(OSError, match="busy"):
        export_small(small_export, folder)
    assert {path.name: file_sha256(path) for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["export"]
