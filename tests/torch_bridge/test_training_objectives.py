"""Objectives of the embedded CLIP and DINO, and the views that they are trained on, against plain NumPy."""

import numpy as np
import pytest
import torch
from torch import nn

from torch_bridge.repairs import repair_torchvision
from torch_bridge.training import augment, clip


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


class TwoTowers(nn.Module):
    """A CLIP whose embeddings are looked up, so that the expected loss can be counted by hand."""

    def __init__(self, images, texts):
        super().__init__()
        self.images, self.texts = nn.Parameter(torch.tensor(images)), nn.Parameter(torch.tensor(texts))
        self.logit_scale = nn.Parameter(torch.tensor(np.log(5.0), dtype=torch.float32))

    def encode_image(self, index):
        return self.images[index]

    def encode_text(self, tokens):
        return self.texts[tokens[:, 0]]


def counted(logits, fits):
    """Cross-entropy to the uniform distribution over what fits, less that distribution's entropy."""
    losses = []
    for row, right in zip(logits, fits, strict=True):
        if right.any():
            p = np.exp(row - row.max())
            p /= p.sum()
            losses.append(-np.log(p[right]).mean() - np.log(right.sum()))
    return np.mean(losses)


def test_matching_is_the_cross_entropy_to_all_that_fits():
    rng = np.random.default_rng(0)
    images, texts = (rng.normal(size=(n, 8)).astype(np.float32) for n in (6, 5))
    truth = np.zeros((5, 2, 4), bool)  # caption, task, phase
    truth[0, :, 3] = True  # of any task: done
    truth[1, 0, 0] = truth[2, 1, 0] = truth[3, 1, 3] = True
    truth[4, :, :3] = True  # of any task: not done
    tokens = np.arange(5)[:, None]
    model = TwoTowers(images, texts)
    objective = clip.Matching(model, tokens, truth, unknown=99, first_word=100)  # no token is a word: none is blanked
    task, phase = np.array([0, 0, 1, 1, 0, 1]), np.array([0, 3, 0, 3, 1, 2])
    batch = {"images": torch.arange(6), "task": torch.tensor(task), "phase": torch.tensor(phase)}
    batch["captions"] = torch.arange(5)
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
    logits = 5.0 * unit(images) @ unit(texts).T
    fits = np.array([[truth[c, t, p] for c in range(5)] for t, p in zip(task, phase, strict=True)])
    made = objective(batch)
    np.testing.assert_allclose(made["to_text"].item(), counted(logits, fits), rtol=1e-5)
    np.testing.assert_allclose(made["to_image"].item(), counted(logits.T, fits.T), rtol=1e-5)


def test_captions_of_whole_episodes_fit_what_has_come_about_only():
    known = {caption.text: caption for caption in clip.captions_of(("shelf_place", "push"))}
    done = known["a robot arm places the blue block on the shelf"]
    assert done.task == 0 and done.phases == {2, 3}
    assert known["the task is not done"].task == -1 and known["the task is not done"].phases == {0, 1, 2}


def test_only_words_are_blanked_and_about_as_many_as_asked():
    torch.manual_seed(0)
    tokens = torch.tensor([[1, 5, 6, 7, 2, 0]]).repeat(500, 1)
    made = clip.blank_words(tokens, unknown=3, first_word=4, share=0.2)
    assert (made[:, [0, 4, 5]] == tokens[:, [0, 4, 5]]).all()
    assert 0.15 < float((made[:, 1:4] == 3).float().mean()) < 0.25
    assert set(made[made != tokens].tolist()) == {3}


def test_a_crop_of_everything_is_the_picture_and_no_crop_is_mirrored():
    torch.manual_seed(0)
    ramp = torch.linspace(0, 1, 16).expand(1, 3, 16, 16)  # brighter to the right
    np.testing.assert_allclose(augment.random_crops(ramp, 16, (1.0, 1.0)), ramp, atol=1e-5)
    crops = augment.random_crops(ramp.repeat(32, 1, 1, 1), 8, (0.3, 0.9))
    assert crops.shape == (32, 3, 8, 8)
    assert (crops[..., -1] > crops[..., 0]).all()


def test_colours_stay_in_range_and_blur_keeps_the_mean():
    torch.manual_seed(0)
    images = torch.rand(16, 3, 16, 16)
    coloured = augment.colours(images, 0.4)
    assert coloured.min() >= 0 and coloured.max() <= 1 and not torch.allclose(coloured, images)
    blurred = augment.blur(images, 1.0)
    np.testing.assert_allclose(blurred.mean((1, 2, 3)), images.mean((1, 2, 3)), atol=0.02)
    assert blurred.var() < images.var()


def small_distillation(steps):
    repair_torchvision()
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    from torch_bridge.training.dino import SelfDistillation

    torch.manual_seed(0)
    config = DINOv3ViTConfig(
        image_size=32, patch_size=8, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    return SelfDistillation(DINOv3ViTModel(config), steps)


def test_the_student_learns_and_the_teacher_follows_without_gradients():
    objective = small_distillation(10)
    objective.train()
    assert not objective.teacher.training  # positions would be rescaled at random
    before = [p.clone() for p in objective.teacher.parameters()]
    terms = objective(torch.randint(0, 255, (8, 32, 32, 3), dtype=torch.uint8))
    terms["loss"].backward()
    assert all(p.grad is None for p in objective.teacher.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in objective.student.parameters())
    assert all((a == b).all() for a, b in zip(before, objective.teacher.parameters(), strict=True))
    with torch.no_grad():
        for p in objective.student.parameters():
            p.add_(1.0)
    objective.follow()
    pairs = zip(before, objective.teacher.parameters(), strict=True)
    moved = [float((b - a).abs().max()) for a, b in pairs if a.numel()]
    np.testing.assert_allclose(moved, 0.01, atol=1e-4)  # momentum 0.99 at the first step
    assert int(objective.step) == 1


def test_a_resumed_distillation_has_its_teacher_back(tmp_path):
    """The teacher has no optimiser: the checkpoint must keep it all the same."""
    from torch_bridge.training import loop

    def batch(rng):
        return rng.integers(0, 255, (4, 32, 32, 3)).astype(np.uint8)

    def trained(folder, stop):
        objective = small_distillation(4)
        kind = type(objective)
        for steps in stop:
            settings = loop.Settings(steps=steps, lr=1e-3, decay=0.0, warmup=1)
            loop.fit(objective, batch, settings, folder, "dino", after_step=kind.follow, say=lambda _: None)
            objective = small_distillation(4) if steps != stop[-1] else objective
        return objective

    whole, parts = trained(tmp_path / "a", [4]), trained(tmp_path / "b", [2, 4])
    for one, other in zip(whole.teacher.parameters(), parts.teacher.parameters(), strict=True):
        np.testing.assert_allclose(one.detach(), other.detach(), atol=1e-6)
