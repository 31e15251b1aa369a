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
"""Sheets: what they show, that looking changes nothing, and when they are due."""
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor
from PIL import Image

from src.data.loader import Batches
from src.data.synthetic import SyntheticDataset
from src.distillation.distiller import Distiller
from src.distillation.preview import Preview
from src.modeling.build_sam import build_sam_around
from src.modeling.sam import PromptDecoder
from src.modeling.tiny_vit import TinyViT
from src.training.sheets import Row, Sheets, draw_sheet, photo_of, window_around

SETTINGS = SimpleNamespace(embedding_weight=1.0, embedding_adapter=False, token_weight=1.0, output_weight=1.0,
                           hard_mask_weighting=True,
                           focal_weight=20.0, dice_weight=1.0, iou_weight=1.0, max_rounds=2, hard_region="error")


def tiny_sam(seed):
    def encoder(size):
        return TinyViT(image_size=size, embed_dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2),
                       window_sizes=(4, 4, 4, 4), out_chans=16)
    return build_sam_around(encoder, 16, 32, 64, "tiny", seed)


@pytest.fixture
def pynative():
    ms.set_context(mode=ms.PYNATIVE_MODE)
    yield
    ms.set_context(mode=ms.GRAPH_MODE)


@pytest.fixture
def batch():
    with Batches(SyntheticDataset(5, 64, 3), 64, 3, 4, 5, seed=2) as batches:
        return next(batches.epoch(0))


def test_a_look_shows_hard_points_and_best_masks_and_changes_nothing(pynative, batch):
    student, teacher = tiny_sam(1), tiny_sam(2)
    preview = Preview(Distiller(student, teacher, SETTINGS))
    student.set_train(True)
    before = {p.name: p.asnumpy().copy() for p in student.get_parameters()}
    noise = np.random.default_rng(0).random((5, 3, 2), dtype=np.float32)
    inputs = [Tensor(batch[name]) for name in ("images", "gt_masks", "point_coords", "point_labels")]
    coords, labels, ours, theirs = (answer.asnumpy() for answer in preview.look(
        *inputs, Tensor(noise), Tensor(2, ms.int32)))
    assert student.training and student.image_encoder.patch_embed.training  # as before
    for name, value in before.items():  # BatchNorm's statistics too
        np.testing.assert_array_equal({p.name: p for p in student.get_parameters()}[name].asnumpy(), value)
    # First prompts stay; every hard point says what the label is at its place.
    np.testing.assert_array_equal(coords[:, :, :2], batch["point_coords"][:, :, :2])
    for i, j in np.argwhere(batch["mask_valid"] > 0):
        for (x, y), label in zip(coords[i, j, 2:], labels[i, j, 2:]):
            assert label == -2 or batch["gt_masks"][i, j, int(y // 4), int(x // 4)] == label
    assert (labels[:, :, 2:] >= 0).any()
    # Masks are those of the decoders at the final prompts.
    student.set_train(False)
    for network, found in ((student, ours), (teacher, theirs)):
        embeddings = network.image_encoder(inputs[0])
        masks, ious, _ = PromptDecoder(network)(embeddings, Tensor(coords), Tensor(labels))
        best = ious.asnumpy()[:, :, 1:].argmax(axis=2) + 1
        want = np.take_along_axis(masks.asnumpy(), best[:, :, None, None, None], axis=2)[:, :, 0]
        np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-4)


def test_a_sheet_is_written_when_due(pynative, batch, tmp_path):
    sheets = Sheets(Preview(Distiller(tiny_sam(1), None, SETTINGS)), tmp_path, 10, seed=4)
    assert [step for step in range(1, 31) if sheets.due(step)] == [10, 20, 30]
    assert not any(Sheets(None, tmp_path, 0, seed=4).due(step) for step in range(5))
    batch["mask_valid"][1, :] = [1, 0, 0]
    path = sheets.write(10, batch)
    assert path == tmp_path / "sheets" / "step_00000010.png"
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    with Image.open(path) as picture:
        picture.load()
        # 4 images of at most 2 prompts, one row each; without a teacher 3 columns of 310 pixels
        valid = int((batch["mask_valid"][:4, :2] > 0).sum())
        assert picture.size == (930, 320 * valid + 50)
    rows = sheets._rows(10, batch)
    assert len(rows) == valid and [row.image_id for row in rows].count(int(batch["image_ids"][1])) == 1
    again = sheets._rows(10, batch)
    assert all((a.point_coords == b.point_coords).all() for a, b in zip(rows, again))  # the noise follows from the step


def test_photo_undoes_normalising():
    image = np.zeros((3, 2, 2), np.float32)
    image[:, 0, 0] = [(255 - 123.675) / 58.395, (0 - 116.28) / 57.12, (104 - 103.53) / 57.375]
    photo = photo_of(image)
    assert photo[0, 0].tolist() == [255, 0, 104] and photo[1, 1].tolist() == [124, 116, 104]


def test_window_by_hand():
    # Grid pixels 4..7 are frame pixels 16..32; the longest side, 16, grows by 0.6 to 25.6 round the middle (24, 24).
    mask = np.zeros((32, 32), np.uint8)
    mask[4:8, 4:8] = 1
    np.testing.assert_allclose(window_around(mask, np.array([[20.0, 20.0]]), 128), (11.2, 11.2, 36.8, 36.8))
    # A point far away is shown, too: x from 16 to 100 is 84 wide, 134.4 is cut to the frame's 128.
    np.testing.assert_allclose(window_around(mask, np.array([[100.0, 20.0]]), 128), (0, 0, 128, 128))
    mask[:] = 0
    mask[0, 0] = 1  # a tiny mask in the corner is seen in an eighth of the frame, inside it
    np.testing.assert_allclose(window_around(mask, np.array([[1.5, 1.5]]), 128), (0, 0, 16, 16))


def test_panels_say_rounds_colours_and_scores():
    label = np.zeros((16, 16), np.uint8)
    label[4:8, 4:8] = 1
    student = label.astype(bool).copy()
    student[4:8, 8:12] = True  # twice the area: IoU 0.5
    row = Row(7, np.zeros((64, 64, 3), np.uint8), label, student, np.zeros((16, 16), bool),
              np.array([[21.5, 21.5], [0, 0], [37.5, 21.5], [0, 0]]), np.array([1, -1, 0, -2]))
    figure = draw_sheet([row], True, "step 3")
    assert [axes.get_title() for axes in figure.axes] == ["image 7", "label", "student, IoU 0.50", "teacher, IoU 0.00"]
    assert figure.axes[0].get_xlim() == (-0.5, 63.5) and figure.axes[0].get_ylim() == (63.5, -0.5)
    texts = [[text for text in axes.texts] for axes in figure.axes]
    assert [len(found) for found in texts] == [0, 1, 1, 0]  # round 1 only; round 2 found no error
    assert texts[2][0].get_text() == "1" and texts[2][0].get_position() == (37.5, 21.5)
    assert texts[2][0].get_bbox_patch().get_facecolor()[:3] == pytest.approx((0xDC / 255, 0x26 / 255, 0x26 / 255))
    assert draw_sheet([], False, "step 3").axes == []
