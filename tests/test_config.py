"""Flags and presets: Table A row by row, every preset whole, every mistake answered with a sentence."""

import json

import elements
import pytest

from genreward_jax import config as config_lib
from genreward_jax import methods, parts, report
from genreward_jax.envs.metaworld import TASKS
from genreward_jax.errors import UserError
from genreward_jax.rewarding import Rewarding

# Table A of the paper, as printed: row, our flag, value. Discount 0.997 is upstream's horizon 1 / (1 - 0.997).
TABLE_A = [
    ("reward weight alpha", "reward.alpha", 1e-2),
    ("reward weight beta", "reward.beta", 1e-5),
    ("FB train steps", "fb.train_steps", 1e5),
    ("observation dimension", None, 384),
    ("feature dim d", "fb.dim", 512),
    ("hidden dim", "fb.hidden", 512),
    ("FB learning rate", "fb.lr", 1e-4),
    ("target network soft-update rate", "fb.target_rate", 0.01),
    ("replay capacity", "replay.size", 1e6),
    ("batch size", "batch_size", 16),
    ("batch length", "batch_length", 64),
    ("train ratio", "run.train_ratio", 512),
    ("intrinsic reward interval", "reward.interval", 128),
    ("deterministic latent dimensions", "agent.dyn.rssm.deter", 512),
    ("stochastic latent dimensions", "agent.dyn.rssm.stoch", 32),
    ("discrete latent classes", "agent.dyn.rssm.classes", 32),
    ("RSSM number of units", "agent.dyn.rssm.hidden", 512),
    ("world model learning rate", "agent.opt.lr", 1e-4),
    ("reconstruction loss scale", "agent.loss_scales.rec", 1.0),
    ("dynamics loss scale", "agent.loss_scales.dyn", 0.5),
    ("representation loss scale", "agent.loss_scales.rep", 0.1),
    ("imagination horizon", "agent.imag_length", 15),
    ("discount", "agent.horizon", round(1 / (1 - 0.997))),
    ("lambda-target, imagination", "agent.imag_loss.lam", 0.95),
    ("lambda-target, replay", "agent.repl_loss.lam", 0.95),
    ("actor and critic learning rate", "agent.actor_critic_lr", 3e-5),
]


@pytest.mark.parametrize(("row", "flag", "value"), TABLE_A, ids=[row for row, _, _ in TABLE_A])
def test_the_paper_preset_is_table_a(row, flag, value):
    if flag is None:  # fixed by the networks: DINOv3 ViT-S gives that many
        from genreward_jax.fb.networks import STATE_DIM

        assert STATE_DIM == value
        return
    assert config_lib.parse(["--preset", "paper"]).flat[flag] == value


def test_the_paper_preset_beyond_table_a():
    config = config_lib.parse(["--preset", "paper"])
    assert config.run.steps == 1e6 and config.run.prefill == 5000 and config.run.envs == 1
    for part in (config.agent.enc.simple, config.agent.dec.simple):  # the encoder of the published code
        assert part.strided and part.kernel == 4 and tuple(part.mults) == (1, 2, 4, 8) and part.depth == 32
    assert config.env.metaworld.length == 256 and config.env.metaworld.sparse_every == 64
    assert config.env.metaworld.repeat == 1 and tuple(config.env.metaworld.size) == (64, 64)
    assert config.eval.episodes == 10 and config.eval.every == 1e4


def test_the_cpu_preset_reaches_what_it_promises():
    """Arithmetic only: at least 4,000 steps, 500 train steps, 20 reward steps, 10 of them with r_FB."""
    config = config_lib.parse(["--preset", "cpu"])
    rows_until_training = config.batch_size * config.batch_length + config.batch_length + 1
    trained = (config.run.steps - rows_until_training) * config.run.train_ratio
    assert config.run.steps >= 4000
    assert trained / (config.batch_size * config.batch_length) >= 500
    assert config.run.steps // config.reward.interval >= 20
    assert (config.run.steps - config.fb.train_steps) // config.reward.interval >= 10


@pytest.mark.parametrize("preset", config_lib.PRESETS)
@pytest.mark.parametrize("method", config_lib.read_yaml("methods"))
def test_every_preset_runs_with_every_method(preset, method):
    parts.check(config_lib.parse(["--preset", preset, "--method", method]))


def test_presets_compose_in_order_and_flags_win():
    config = config_lib.parse("--configs smoke genreward --reward.interval 16 --run.steps=1e3".split())
    assert (config.preset, config.method, config.reward.interval, config.run.steps) == ("smoke", "genreward", 16, 1000)
    assert config_lib.parse(["--preset=paper"]).preset == "paper"


@pytest.fixture
def methods_with(monkeypatch):
    """``methods_with(flags)`` adds a method 'mine' that sets them."""
    read = config_lib.read_yaml

    def add(flags):
        mine = {"about": "a test", "rewards": [], "with": flags}
        monkeypatch.setattr(config_lib, "read_yaml", lambda n: {**read(n), "mine": mine} if n == "methods" else read(n))

    return add


def test_genreward_plus_is_what_its_entry_says():
    config = config_lib.parse("--preset cpu --method genreward_plus --reward.alpha 0.5".split())
    assert (config.fb.objective, config.fb.reward_norm, config.reward.baseline) == ("measure", "running", "still")
    terms = parts.check(config)
    assert {term.name: term.weight for term in terms} == {"video": 0.5, "fb": 1e-2}
    assert parts.fb_interval(config) == 1 and parts.fb_interval(config.update({"reward.fb_interval": 0})) == 64
    assert parts.dino_every(config, terms) == 1  # the preset's
    config = config.update({"fb.dino_every": 0})
    assert [parts.dino_every(config.update({"jax.platform": name}), terms) for name in ("cpu", "cuda")] == [8, 1]
    assert parts.row_bytes(config, uses_dino=True) - parts.row_bytes(config) == 4 * 4 * 384 + 1


def test_what_a_method_sets_lies_over_presets_and_under_flags(methods_with):
    methods_with({"reward.interval": 16, "fb.dim": 48, "reward.beta": 1})
    config = config_lib.parse("--preset smoke --reward.beta 2 --method mine".split())
    assert (config.reward.interval, config.fb.dim, config.reward.beta) == (16, 48, 2.0)  # smoke: 32 and 32
    assert config_lib.parse("--preset smoke --method none".split()).reward.interval == 32
    assert "with reward.interval 16, fb.dim 48, reward.beta 2.0" in report._method_line(config, Rewarding([], None))


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ({"fb.objektive": "paper"}, "did you mean fb.objective"),
        ({"run.steps": 5}, "Method 'mine' sets 'run.steps'"),
        ({"fb.dim": "many"}, "Cannot convert 'many'"),
    ],
)
def test_a_method_that_sets_what_it_cannot_is_a_sentence(methods_with, flags, text):
    methods_with(flags)
    with pytest.raises(UserError, match=text):
        config_lib.parse("--preset smoke --method mine".split())


def test_the_preset_follows_the_device(monkeypatch):
    for gpu, preset in ((True, "paper"), (False, "cpu")):
        monkeypatch.setattr(config_lib, "has_gpu", lambda gpu=gpu: gpu)
        assert config_lib.parse([]).preset == preset
        assert config_lib.parse([], preset="smoke").preset == "smoke"


MISTAKES = {
    "--rewrad.alpha 1": "no flag --rewrad.alpha: did you mean reward.alpha",
    "--seed": "--seed needs a value",
    "--seed x": "Expected int but got 'x'",
    "--run.envs 1.5": "Expected int but got '1.5'",
    "--seed 1 lost": "Expected a single value for key 'seed'",
    "--configs cpo": "no preset 'cpo': did you mean cpu",
    "--method genrewrad": "no method 'genrewrad': did you mean genreward",
    "--task metaworld_shelf_plaec": "shelf_place",
    "--task shelf": "write metaworld_<task>",
    "--env.metaworld.reward spars": "did you mean sparse",
    "--env.metaworld.quality best": "--env.metaworld.quality is 'best'",
    "--reward.interval 500": "paid every 500 steps but an episode has",
    "--reward.interval 0": "--reward.interval is 0; it must be 1 or more",
    "--fb.objective mesure": "--fb.objective is 'mesure': did you mean measure?",
    "--fb.next_action actr": "did you mean actor or",
    "--fb.z_mix 2": "--fb.z_mix is 2; it is a share from 0 to 1",
    "--fb.discount 1": "--fb.discount is 1; it lies from 0 to below 1",
    "--fb.actor_noise 0": "--fb.actor_noise is 0; it must be more than 0",
    "--fb.forward_state dino --fb.dino_every 8": "needs every frame",
    "--fb.forward_state deter --fb.encoder frozen": "--fb.encoder frozen keeps tokens",
    "--goal.rank 0": "--goal.rank is 0",
    "--seed -1": "--seed is -1; it must be 0 or more",
    "--reward.alpha nan": "--reward.alpha is nan",
    "--reward.weight inf": "--reward.weight is inf",
    "--env.metaworld.size 50 50": "each side must be a multiple of 16",
    "--env.metaworld.sparse_every 0": "--env.metaworld.sparse_every is 0",
    "--env.metaworld.camera corner9": "no camera 'corner9'",
    "--preset genreward": "no preset 'genreward'",
    "--bridge.memory_share 2": "--bridge.memory_share is 2",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_a_sentence(line):
    with pytest.raises(UserError) as caught:
        parts.check(config_lib.parse(["--preset", "cpu", *line.split()]))
    assert MISTAKES[line] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_goal_that_is_not_there_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match="no video at"):
        report.check_goal_source(config_lib.parse(["--goal.source", str(tmp_path / "none.mp4")]))


def test_every_task_has_words():
    words = config_lib.read_yaml("tasks")
    assert set(words) == set(TASKS)
    for task, entry in words.items():
        assert set(entry) == {"prompt", "key_frame"} and isinstance(entry["prompt"], str), task
        assert 2 <= len(entry["key_frame"]) <= 3 and all(isinstance(p, str) and p for p in entry["key_frame"]), task


def test_every_method_can_be_made():
    flags = dict(config_lib.parse(["--preset", "cpu"]).reward)
    for name, entry in config_lib.read_yaml("methods").items():
        assert entry["about"]
        for term in methods.load_method(name, flags):
            assert issubclass(term.reward_class(), __import__("genreward_jax.rewards.base", fromlist=["x"]).Reward)
    video, fb = methods.load_method("genreward", flags)
    assert [term.reward_class()(None, **term.settings).schedule().interval for term in (video, fb)] == [128, 128]
    video, fb = methods.load_method("genreward", {**flags, "fb_interval": 4})
    assert [term.reward_class()(None, **term.settings).schedule().interval for term in (video, fb)] == [128, 4]
    weights = {term.name: term.weight for term in methods.load_method("genreward", flags)}
    assert weights == {"video": 1e-2, "fb": 1e-5}  # eq. 10, Table A


def test_a_users_own_reward_that_is_not_there_is_a_sentence():
    with pytest.raises(UserError, match="name it as module:Class"):
        methods.import_reward("no_such_module:Thing")


def test_names_are_all_there_or_counted():
    assert config_lib.nearest("zzz", ["b", "a", "b"]) == "there are a, b."
    assert config_lib.nearest("zzz", [f"name{i:02}" for i in range(40)]).endswith("name29 and 10 more.")


def test_differences_name_what_changed():
    old = elements.Config({"a": 1, "b": {"c": [1, 2], "d": "x"}})
    new = old.update({"a": 2, "b.d": "y"})
    assert config_lib.differences(old.flat, new.flat, ignore=("b.d",)) == ["a: 1 -> 2"]
    assert config_lib.differences(old.flat, elements.Config(json.loads(json.dumps(dict(old)))).flat) == []
