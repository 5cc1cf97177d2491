"""The other papers' rewards, each against its equation in plain NumPy; models are functions with known answers."""

from types import SimpleNamespace

import numpy as np
import pytest

from genreward_jax.config import read_yaml
from genreward_jax.errors import UserError
from genreward_jax.methods import load_method
from genreward_jax.rewards.base import Schedule, Window
from genreward_jax.rewards.likelihood import DiffusionReward, Viper
from genreward_jax.rewards.liv import Liv
from genreward_jax.rewards.roboclip import RoboClip
from genreward_jax.rewards.tadpole import Tadpole, symlog
from genreward_jax.rewards.vlm_rm import VlmRm

RNG = np.random.default_rng(3)
TEXTS = {
    text: RNG.normal(size=6) for text in ("close the drawer", "push the drawer shut", "a robot arm on a table", "")
}


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


class Models:
    """Embeddings that are linear in the pixels; a denoiser whose errors are known numbers."""

    def __init__(self):
        self.map, self.asked = RNG.normal(size=(12, 6)), []

    def embed_image(self, frames):
        return unit(frames.reshape(len(frames), -1) / 255 @ self.map).astype(np.float32)

    def embed_text(self, texts):
        return unit(np.stack([TEXTS[text] for text in texts])).astype(np.float32)

    def embed_video(self, frames):
        return (frames.reshape(len(frames), -1) / 255 @ self.map).mean(0).astype(np.float32)

    def embed_video_text(self, texts):
        return np.stack([TEXTS[text] for text in texts]).astype(np.float32)

    def denoise_error(self, asked):
        self.asked.append(asked)
        latent = (len(asked.frames) - 1) // 4 + 1
        return np.random.default_rng(asked.seed).uniform(0, 1, (len(asked.levels), latent, 3)).astype(np.float32)

    def next_frame_log_likelihood(self, asked):
        self.asked.append(asked)
        return -np.arange(1.0, (len(asked.frames) - 1) // 4 + 1).astype(np.float32)


@pytest.fixture
def models():
    return Models()


def pixels(*shape):
    return RNG.integers(0, 256, (*shape, 2, 2, 3), dtype=np.uint8)


def goal():
    return SimpleNamespace(
        prompts=("close the drawer", "push the drawer shut"), frames=pixels(4), key_frame=pixels(1)[0]
    )


def window(frames, ended=False):
    return Window(frames, np.zeros((1, 4)), np.zeros(1), {}, ended, 5)


def value(reward, frames, models):
    return reward(window(frames), models).values[0]


@pytest.mark.parametrize("toward", ["auto", "goal"])
def test_roboclip_is_the_dot_product_with_text_or_demonstration_at_the_end(models, toward):
    aim, frames = goal(), pixels(7)
    reward = RoboClip(aim, toward=toward, episode_frames=7)
    assert reward.schedule() == Schedule("end", frames=7)
    other = models.embed_video(aim.frames) if toward == "goal" else (TEXTS[aim.prompts[0]] + TEXTS[aim.prompts[1]]) / 2
    np.testing.assert_allclose(value(reward, frames, models), models.embed_video(frames) @ other, rtol=1e-5)


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_vlm_rm_is_goal_baseline_regularisation(models, strength):
    """The projection written as the matrix of the paper."""
    aim, frames = goal(), pixels(1)
    reward = VlmRm(aim, regularisation=strength)
    assert reward.schedule() == Schedule("every", 1, recent=1)
    x = models.embed_image(frames)[0]
    g = unit(np.mean([unit(TEXTS[text]) for text in aim.prompts], 0))
    d = g - unit(TEXTS["a robot arm on a table"])
    matrix = strength * np.outer(d, d) / (d @ d) + (1 - strength) * np.eye(6)
    np.testing.assert_allclose(value(reward, frames, models), 1 - 0.5 * np.sum(((x - g) @ matrix) ** 2), rtol=1e-5)
    with pytest.raises(UserError, match="regularisation is 1.5"):
        VlmRm(aim, regularisation=1.5)


@pytest.mark.parametrize("toward", ["auto", "text"])
def test_liv_is_the_difference_of_two_cosines_and_sums_up_to_the_way_made(models, toward):
    aim, frames = goal(), pixels(5)
    reward = Liv(aim, toward=toward)
    assert reward.schedule() == Schedule("every", 1, recent=2)
    if toward == "text":
        g = unit(np.mean([unit(TEXTS[text]) for text in aim.prompts], 0))
    else:
        g = models.embed_image(aim.key_frame[None])[0]
    cosines = models.embed_image(frames) @ g
    paid = [value(reward, frames[t : t + 2], models) for t in range(4)]
    np.testing.assert_allclose(paid, np.diff(cosines), atol=1e-6)
    np.testing.assert_allclose(sum(paid), cosines[-1] - cosines[0], atol=1e-6)


def test_a_direction_that_a_reward_does_not_know_is_refused():
    for cls in (Liv, RoboClip):
        with pytest.raises(UserError, match="--reward.toward is 'up'; it can be auto"):
            cls(goal(), toward="up")


def test_tadpole_adds_the_symlogs_of_alignment_and_reconstruction(models):
    frames = pixels(1)
    reward = Tadpole(goal(), level=0.5, draws=3, alignment=2000, reconstruction=200, noise_seed=7)
    errors = np.random.default_rng(7).uniform(0, 1, (3, 1, 3)).astype(np.float32).mean((0, 1), dtype=np.float64)
    with_text, without, gap = errors
    back = 200 * (without - with_text)
    want = np.log(1 + 2000 * gap) + np.sign(back) * np.log(1 + abs(back))
    np.testing.assert_allclose(value(reward, frames, models), want, rtol=1e-6)
    (asked,) = models.asked
    assert (asked.text, asked.levels, asked.history, asked.compare) == ("close the drawer", (0.5,) * 3, False, True)
    assert Tadpole(goal(), clip_frames=9, every=4).schedule() == Schedule("every", 4, recent=9)
    assert symlog(-np.e + 1) == pytest.approx(-1)


def test_viper_adds_a_bonus_to_the_log_likelihood(models):
    frames = pixels(9)
    reward = Viper(goal(), clip_frames=9, every=4, levels=4, exploration=0.5)
    assert reward.schedule() == Schedule("every", 4, recent=9)
    assert value(reward, frames, models) == -1.5  # nothing is known of novelty yet
    assert models.asked[0].levels == (0.125, 0.375, 0.625, 0.875) and models.asked[0].history
    for _ in range(64):
        reward.observe([{"image": frames[0]}])
    new = reward._novelty(frames[-1])
    assert new > 0
    reward.load(reward.state())
    paid = reward(window(frames), models)
    np.testing.assert_allclose(paid.values[0], paid.diagnostics["log_likelihood"] + 0.5 * paid.diagnostics["novelty"])


def test_diffusion_reward_standardises_the_entropy_of_the_frames_that_were_not_shown(models):
    """The running mean and spread, of everything up to the row, over five rows in plain NumPy."""
    clips, found, entropies = [pixels(9) for _ in range(5)], [], []
    reward = DiffusionReward(goal(), clip_frames=9, levels=2, share=0.25)
    for number, clip in enumerate(clips):
        reward.settings["seed"] = number  # other errors each time
        found.append(value(reward, clip, models))
        errors = np.random.default_rng(number).uniform(0, 1, (2, 3, 3)).astype(np.float32)
        entropies.append(errors[:, 1:, 0].mean(dtype=np.float64))
    for t in range(5):
        seen = -np.array(entropies[: t + 1])
        spread = seen.std() if t else 1.0
        np.testing.assert_allclose(found[t], 0.75 * (seen[-1] - seen.mean()) / spread, rtol=1e-6)


@pytest.mark.parametrize("cls", [Viper, DiffusionReward])
def test_the_bonus_learns_from_windows_where_rows_hold_no_picture(models, cls):
    clip, drawn, blind = pixels(5), cls(goal(), clip_frames=5), cls(goal(), clip_frames=5)
    drawn.observe([{"image": clip[0]}])
    for _ in range(40):
        blind.observe([{"reward": 0.0}])
        value(drawn, clip, models), value(blind, clip, models)
    assert int(blind.state()["updates"]) == 1 and int(drawn.state()["updates"]) == 0


def test_a_memory_survives_a_checkpoint(models):
    clip, rows = pixels(5), [{"image": image} for image in pixels(70)]
    first, second = (DiffusionReward(goal(), clip_frames=5) for _ in range(2))
    first.observe(rows)
    value(first, clip, models)
    second.load({key: np.array(array) for key, array in first.state().items()})
    for reward in (first, second):
        reward.observe(rows[:40])
    other = pixels(5)
    assert value(first, other, models) == value(second, other, models)
    assert first.state().keys() == second.state().keys()


@pytest.mark.parametrize("name", ["roboclip", "diffusion_reward", "tadpole", "tadpole_video", "vlm_rm", "liv", "viper"])
def test_each_is_a_method_that_says_where_its_numbers_are_from(name):
    """Its class can be made of the settings of methods.yaml, runs beside the models and has Table 1's properties."""
    entry = read_yaml("methods")[name]
    (term,) = load_method(name, dict(read_yaml("defaults")["reward"]))
    reward = term.reward_class()(goal(), **term.settings)
    assert reward.runs_in == "bridge" and reward.needs and reward.schedule().interval <= 128
    if name == "tadpole_video":  # a form of another, which has a row of the table
        assert "properties" not in entry
        return
    assert set(entry["properties"]) == {"generative", "expert_free", "action_aware", "goal", "model", "source"}
