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
"""The distiller on tiny real networks: losses against NumPy, hard points, and a teacher that nothing moves."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from src.distillation.distiller import NAMES, Distiller, start_decoder_from_teacher
from src.modeling.sam import PromptDecoder


def named(outputs):
    return dict(zip(NAMES, (float(value) for value in outputs)))


def slow_iou(mask, target):
    union = np.logical_or(mask, target).sum()
    return np.logical_and(mask, target).sum() / max(union, 1)


def slow_label_losses(logits, targets, prediction):
    """(focal, dice, IoU) losses of one prompt; logits [4, h, w], targets [h, w], prediction [4]."""
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    p_t = np.where(targets == 1, p, 1 - p)
    focal = (np.where(targets == 1, 0.25, 0.75) * (1 - p_t) ** 2 * -np.log(p_t)).mean((1, 2))
    dice = 1 - (2 * (p * targets).sum((1, 2)) + 1) / (p.sum((1, 2)) + targets.sum() + 1)
    chosen = 1 + np.argmin((20 * focal + dice)[1:])
    ious = np.array([slow_iou(mask > 0, targets) for mask in logits])
    return (focal[0] + focal[chosen]) / 2, (dice[0] + dice[chosen]) / 2, np.abs(ious - prediction).mean()


def slow_losses(student_out, teacher_out, embeddings, gt_masks, valid, weighted):
    """All losses from the outputs of both networks, prompt by prompt."""
    losses = {"embedding_loss": np.abs(embeddings[0] - embeddings[1]).mean()}
    rows = []
    for b, m in zip(*np.nonzero(valid)):
        masks, ious, tokens = (value[b, m] for value in student_out)
        teacher_masks, teacher_ious, teacher_tokens = (value[b, m] for value in teacher_out)
        target = gt_masks[b, m]
        student_iou = slow_iou(masks[1 + ious[1:].argmax()] > 0, target)
        teacher_iou = slow_iou(teacher_masks[1 + teacher_ious[1:].argmax()] > 0, target)
        weight = 1 / (1 + np.exp(-(teacher_iou / (student_iou + 1e-6) - 1))) if weighted else 1.0
        rows.append((np.abs(tokens - teacher_tokens).mean(), weight * np.abs(masks - teacher_masks).mean(),
                     *slow_label_losses(masks, target, ious), student_iou))
    names = ("token_loss", "output_loss", "focal_loss", "dice_loss", "iou_loss", "mean_iou")
    losses.update(zip(names, np.mean(rows, 0)))
    losses["total_loss"] = sum(losses[f"{n}_loss"] for n in ("embedding", "token", "output", "dice", "iou"))
    losses["total_loss"] += 20 * losses["focal_loss"]
    return losses


@pytest.mark.parametrize("weighted", [True, False])
def test_losses_agree_with_numpy(pynative, tiny_sam, settings, batch, inputs_of, weighted):
    student, teacher = tiny_sam(1), tiny_sam(2)
    images, _, coords, labels = (Tensor(batch[n]) for n in ("images", "gt_masks", "point_coords", "point_labels"))
    outs, embeddings = [], []
    for network in (student, teacher):
        network.set_train(False)
        embeddings.append(network.image_encoder(images))
        outs.append([value.asnumpy() for value in PromptDecoder(network)(embeddings[-1], coords, labels)])
    want = slow_losses(*outs, [e.asnumpy() for e in embeddings], batch["gt_masks"], batch["mask_valid"], weighted)
    distiller = Distiller(student, teacher, settings(hard_mask_weighting=weighted))
    got = named(distiller(*inputs_of(batch, 0)))
    assert set(want) == set(NAMES)
    for name in NAMES:
        assert got[name] == pytest.approx(want[name], rel=1e-4, abs=1e-6), name
    stored = named(distiller(*inputs_of(batch, 0), embeddings[1]))  # the teacher's embeddings from a cache
    assert stored == pytest.approx(got, rel=1e-6)


def test_a_student_equal_to_its_teacher_has_nothing_to_distil(pynative, tiny_sam, settings, batch, inputs_of):
    distiller = Distiller(tiny_sam(1), tiny_sam(1), settings())
    distiller.set_train(False)
    got = named(distiller(*inputs_of(batch, 2)))
    assert (got["embedding_loss"], got["token_loss"], got["output_loss"]) == (0, 0, 0)
    assert got["focal_loss"] > 0


def test_prompts_that_are_not_valid_do_not_count(pynative, tiny_sam, settings, batch, inputs_of):
    distiller = Distiller(tiny_sam(1), tiny_sam(2), settings())
    distiller.set_train(False)
    before = named(distiller(*inputs_of(batch, 1)))
    batch["gt_masks"][1, 1] = 1  # prompt 1 of image 1 is the one that is not valid
    batch["point_coords"][1, 1, 0] = (3, 60)
    batch["point_labels"][1, 1, 0] = 0
    assert named(distiller(*inputs_of(batch, 1))) == pytest.approx(before, rel=1e-6)
    batch["mask_valid"][1, 1] = 1
    assert named(distiller(*inputs_of(batch, 1)))["focal_loss"] != pytest.approx(before["focal_loss"], rel=1e-3)


def test_hard_points_fall_into_the_error_of_the_round_before(pynative, tiny_sam, settings, batch, inputs_of):
    student = tiny_sam(1)
    student.set_train(False)
    distiller = Distiller(student, None, settings())
    images, gt, coords, labels, _, noise, _ = inputs_of(batch, 0)
    embeddings = student.image_encoder(images)
    coords, labels = distiller.mine_hard_points(embeddings, gt.astype(ms.float32), coords, labels, noise,
                                                Tensor(2, ms.int32))
    coords, labels = coords.asnumpy(), labels.asnumpy()
    assert (labels[:, :, 4] == -2).all()  # two rounds fill slots 2 and 3 of 0..4
    np.testing.assert_array_equal(labels[:, :, :2], batch["point_labels"][:, :, :2])
    np.testing.assert_array_equal(coords[:, :, :2], batch["point_coords"][:, :, :2])
    for slot in (2, 3):
        earlier = np.where(np.arange(5) < slot, labels, -2).astype(np.int32)
        masks, ious, _ = PromptDecoder(student)(embeddings, Tensor(coords), Tensor(earlier))
        masks, ious = masks.asnumpy(), ious.asnumpy()
        for b, m in np.ndindex(2, 2):
            predicted = masks[b, m, 1 + ious[b, m, 1:].argmax()] > 0
            x, y = ((coords[b, m, slot] + 0.5) / 4).astype(int)  # 4 pixels of the frame per pixel of the grid
            target = batch["gt_masks"][b, m, y, x]
            assert predicted[y, x] != target
            assert labels[b, m, slot] == target


def test_weight_0_switches_a_loss_off(pynative, tiny_sam, settings, batch, inputs_of):
    labels_only = Distiller(tiny_sam(1), None, settings(dice_weight=0.0, iou_weight=0.5))
    got = named(labels_only(*inputs_of(batch, 0)))
    assert [n for n in NAMES if got[n] == 0] == ["embedding_loss", "token_loss", "output_loss", "dice_loss"]
    assert got["total_loss"] == pytest.approx(20 * got["focal_loss"] + 0.5 * got["iou_loss"], rel=1e-5)
    tokens_only = Distiller(tiny_sam(1), tiny_sam(2), settings(
        embedding_weight=0.0, token_weight=3.0, output_weight=0.0, focal_weight=0.0, dice_weight=0.0, iou_weight=0.0))
    got = named(tokens_only(*inputs_of(batch, 0)))
    assert [n for n in NAMES if got[n] != 0] == ["total_loss", "token_loss", "mean_iou"]
    assert got["total_loss"] == pytest.approx(3 * got["token_loss"], rel=1e-6)


def test_without_distillation_weights_the_teacher_is_not_kept(tiny_sam, settings):
    distiller = Distiller(tiny_sam(1), tiny_sam(2), settings(embedding_weight=0.0, token_weight=0.0, output_weight=0.0))
    assert not any(p.name.startswith("teacher.") for p in distiller.get_parameters())


def test_names_and_gradients_belong_to_the_student_alone(tiny_sam, settings):
    student, teacher = tiny_sam(1), tiny_sam(2)
    names = [p.name for p in student.get_parameters()]
    distiller = Distiller(student, teacher, settings())
    assert [p.name for p in student.get_parameters()] == names
    assert names[0].startswith("image_encoder.")
    assert all(p.name.startswith("teacher.") for p in teacher.get_parameters())
    assert [p.name for p in distiller.trainable_params()] == [p.name for p in student.trainable_params()]


def test_no_mode_and_no_step_moves_the_teacher(pynative, tiny_sam, settings, batch, inputs_of):
    student, teacher = tiny_sam(1), tiny_sam(2)
    wrapper = ms.nn.SequentialCell(Distiller(student, teacher, settings()))
    before = {p.name: p.asnumpy().copy() for p in teacher.get_parameters()}
    statistics = {p.name: p.asnumpy().copy() for p in student.get_parameters() if "moving" in p.name}
    wrapper.set_train(True)
    wrapper[0](*inputs_of(batch, 1))
    for parameter in teacher.get_parameters():
        np.testing.assert_array_equal(parameter.asnumpy(), before[parameter.name])
    assert sum("moving" in name for name in before) > 0
    assert all((p.asnumpy() != statistics[p.name]).any() for p in student.get_parameters() if p.name in statistics)


def test_gradient_reaches_the_student_and_never_the_teacher(pynative, tiny_sam, settings, batch, inputs_of):
    student = tiny_sam(1)
    for parameter in student.get_parameters():  # TinyViT starts with its residual branches closed
        if parameter.name.endswith("conv3.bn.gamma"):
            parameter.set_data(ms.Tensor(np.ones(parameter.shape, np.float32)))
    distiller = Distiller(student, tiny_sam(2), settings())
    weights = student.trainable_params()
    teacher_embeddings = Tensor(np.random.default_rng(1).normal(size=(2, 16, 4, 4)).astype(np.float32))
    grad_fn = ms.value_and_grad(distiller, 7, weights, has_aux=True)
    _, (to_embeddings, to_weights) = grad_fn(*inputs_of(batch, 1), teacher_embeddings)
    assert not to_embeddings.asnumpy().any()
    still = {w.name for w, gradient in zip(weights, to_weights) if not gradient.asnumpy().any()}
    # No box and no mask is among the prompts; the hard clicks may all be of one label; softmax cancels a key's bias.
    spared = ("prompt_encoder.point_embeddings.", "prompt_encoder.mask_downscaling.", "attention_biases", "k_proj.bias")
    assert {name for name in still if not any(part in name for part in spared)} == set()


def test_one_graph_serves_all_rounds_as_pynative_does(tiny_sam, settings, batch, inputs_of):
    ms.set_context(mode=ms.GRAPH_MODE)
    distiller = Distiller(tiny_sam(1), tiny_sam(2), settings())
    distiller.set_train(False)
    graph = [named(distiller(*inputs_of(batch, rounds))) for rounds in (0, 1, 3)]
    assert len(distiller.compile_cache) == 1
    ms.set_context(mode=ms.PYNATIVE_MODE)
    eager = [named(distiller(*inputs_of(batch, rounds))) for rounds in (0, 1, 3)]
    ms.set_context(mode=ms.GRAPH_MODE)
    for ours, theirs in zip(graph, eager):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)
    assert graph[0]["token_loss"] != pytest.approx(graph[2]["token_loss"], rel=1e-4)


def test_networks_that_do_not_fit_are_refused(tiny_sam, settings):
    with pytest.raises(ValueError, match=r"^teacher big has grid_size 8 and student small has 4 \(cells per side of "
                                         r"the image embedding\); they must be equal: choose a matching pair"):
        Distiller(tiny_sam(1, "small"), tiny_sam(2, "big", image_size=128), settings())
    with pytest.raises(ValueError, match="^teacher wide has embed_dim 32 and student small has 16 "):
        Distiller(tiny_sam(1, "small"), tiny_sam(2, "wide", width=32), settings())


def test_a_decoder_that_starts_as_the_teachers(pynative, tiny_sam, settings, batch, inputs_of):
    student, teacher = tiny_sam(1, "small"), tiny_sam(2, "big")
    encoder = {name: value.asnumpy() for name, value in student.image_encoder.parameters_and_names()}
    assert start_decoder_from_teacher(student, teacher) == len(list(student.get_parameters())) - len(encoder)
    assert all((encoder[name] == value.asnumpy()).all() for name, value in student.image_encoder.parameters_and_names())
    prompts = [Tensor(batch[name][:, :, :2]) for name in ("point_coords", "point_labels")]
    embeddings = student.image_encoder(Tensor(batch["images"]))
    for ours, theirs in zip(PromptDecoder(student)(embeddings, *prompts), PromptDecoder(teacher)(embeddings, *prompts)):
        np.testing.assert_array_equal(ours.asnumpy(), theirs.asnumpy())
    Distiller(student, teacher, settings())  # names are still the student's own
    assert not any(parameter.name.startswith("teacher.") for parameter in student.get_parameters())
    with pytest.raises(ValueError, match="^teacher wide has embed_dim 32 and student small has 16 "):
        start_decoder_from_teacher(student, tiny_sam(2, "wide", width=32))


def test_nothing_to_train_on_is_refused(tiny_sam, settings):
    none = settings(focal_weight=0.0, dice_weight=0.0, iou_weight=0.0)
    with pytest.raises(ValueError, match="^there is no loss to train on: without a teacher, focal_weight, dice_weight"):
        Distiller(tiny_sam(1), None, none)
    none.embedding_weight = none.token_weight = none.output_weight = 0.0
    with pytest.raises(ValueError, match="^there is no loss to train on: every weight of 'distill' is 0; give one"):
        Distiller(tiny_sam(1), tiny_sam(2), none)


def test_prompts_without_room_for_the_rounds_are_refused(pynative, tiny_sam, settings, batch, inputs_of):
    with pytest.raises(ValueError, match=r"^prompts have 5 slots; distill.max_rounds \(4\) asks for 6"):
        Distiller(tiny_sam(1), None, settings(max_rounds=4))(*inputs_of(batch, 0, 4))
