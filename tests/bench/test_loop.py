"""Rounds of the training loop: what they are made of, without an agent."""

from collections import deque
from types import SimpleNamespace

import elements
import pytest

from genreward_jax.bench import floor, loop, train_step
from genreward_jax.bench.figures import Item
from genreward_jax.bench.scale import SCALES


class Played(loop.Contestant):
    """Counts environments' steps and pays as the shaper does; ``pays`` off for a reward that never comes."""

    def __init__(self, envs, interval=8, step=3, pays=True):
        self.config = elements.Config(reward={"interval": interval}, run={"envs": envs})
        self.worker = SimpleNamespace(step=step)
        shaper = SimpleNamespace(workers=[self.worker], paid=0, waited_s=0.0, latency_ms=deque([999.0]))
        self.rewarding, self.pays, self.played = SimpleNamespace(shaper=shaper), pays, []

    def play(self, steps):
        self.played.append(steps)
        for _ in range(steps // self.config.run.envs):
            self.worker.step += 1
            if self.pays and self.worker.step % self.interval == 0:
                self.rewarding.shaper.paid += self.config.run.envs
                self.rewarding.shaper.latency_ms.append(5.0)
        return 10.0


@pytest.mark.parametrize("envs", [1, 4, 16])
def test_each_environment_is_paid_once_in_each_round(envs):
    contestant = Played(envs, step=7)
    contestant.warm()
    shaper = contestant.rewarding.shaper
    assert contestant.worker.step % contestant.interval == 2  # the next reward falls into the round, not at its end
    assert shaper.paid == envs and not shaper.latency_ms
    for number in (2, 3):
        contestant.round()
        assert shaper.paid == number * envs and contestant.played[-1] == 8 * envs


def test_nothing_is_played_where_the_rewards_already_fall_inside_the_rounds():
    contestant = Played(1, step=10)  # two steps after the reward at the eighth
    contestant.warm()
    assert not contestant.played and not contestant.rewarding.shaper.latency_ms


@pytest.mark.parametrize("pays", [True, False])
def test_rounds_without_a_reward_are_said(pays, monkeypatch):
    monkeypatch.setattr(loop, "_floor", lambda *a: loop.Figure("floor", "", [1.0]))
    item = Item("loop")
    contestants = {loop.PLAIN: Played(4, pays=False), loop.FROZEN: Played(4, pays=pays)}
    loop._compare(item, SCALES["default"], contestants, lambda text: None)
    assert any("paid no reward" in note for note in item.notes) != pays


def test_more_environments_have_fewer_rounds_but_more_than_one():
    rounds = {name: [scale.rounds_of(envs) for envs in (1, 4, 16)] for name, scale in SCALES.items()}
    assert rounds == {"quick": [1, 1, 1], "default": [3, 2, 2], "full": [8, 2, 2]}


def test_fb_is_frozen_before_anything_is_compiled(monkeypatch, tmp_path):
    """The loop's opening begins the compilation of the train step that the agent has then."""
    done, run = [], SimpleNamespace(updates=2, replay=SimpleNamespace(drain=lambda: None))
    agent = SimpleNamespace(freeze_fb=lambda: done.append("frozen"))
    opened = SimpleNamespace(settle=lambda: None)
    monkeypatch.setattr(loop.parts, "check", lambda config: [])
    monkeypatch.setattr(loop, "RunDirectory", lambda path: SimpleNamespace(path=path, open=lambda config: None))
    monkeypatch.setattr(loop, "prepare_jax", lambda config, bridge: config)
    monkeypatch.setattr(loop, "make_rewarding_and_agent", lambda *a: (None, agent))
    monkeypatch.setattr(loop, "make_run", lambda *a: run)
    monkeypatch.setattr(loop, "open_loop", lambda *a: done.append("opened") or opened)
    loop.Contestant(SimpleNamespace(logdir=tmp_path), freeze=True)
    assert done == ["frozen", "opened"]


def test_what_is_compared_lies_over_the_users_flags(tmp_path):
    flags = ["--method", "genreward", "--run.envs", "7", "--seed", "5"]
    config = loop.configuration(SCALES["quick"], "none", 2, tmp_path, flags)
    assert (config.method, config.run.envs, config.seed) == ("none", 2, 5)
    assert train_step.configuration("smoke", "none", flags).method == "none"


def test_a_smoke_compiles_two_train_steps_only(monkeypatch, tmp_path):
    class Fake:
        def median(self, what, calls):
            return lambda: 2.0

        def train_cost(self):
            return 1.0, 1.0

        policy_cost = train_cost

    asked = {}
    monkeypatch.setattr(train_step, "steppers", lambda made, *a: asked.update(made) or {name: Fake() for name in made})
    monkeypatch.setattr(floor.Best, "measured", classmethod(lambda cls, *a: cls(1.0, 1.0)))
    item = train_step.measure(SCALES["quick"], [], lambda text: None, tmp_path)
    assert {name: config.method for name, config in asked.items()} == {
        train_step.OURS: "none",
        train_step.FROZEN: "genreward",
    }
    names = [figure.name for figure in item.figures]
    ratio = f"speed of '{train_step.FROZEN}' by '{train_step.OURS}'"
    assert sum(ratio in name for name in names) == 2 and f"train step, {train_step.OURS}: floor" in names
