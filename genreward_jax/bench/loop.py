"""Item 1: the whole training loop with and without the generative reward, in turns inside one process."""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import elements

from genreward_jax import config as config_lib
from genreward_jax import parts
from genreward_jax.bench import floor, timeline
from genreward_jax.bench.figures import Figure, Item, Ratio, in_turns, quotients
from genreward_jax.bench.scale import TASK, Scale
from genreward_jax.device import prepare_jax
from genreward_jax.envs.rendering import resolve_quality
from genreward_jax.making import make_rewarding_and_agent, make_run
from genreward_jax.rundir import RunDirectory
from genreward_jax.startup import Startup
from genreward_jax.stopping import StopSignal
from genreward_jax.train import open_loop

PLAIN, LEARNING, FROZEN = "none", "genreward, FB learning", "genreward, FB frozen"
GOAL = 0.97


def configuration(scale: Scale, method: str, envs: int, logdir: Path, flags: list[str]) -> elements.Config:
    """A run's own flags, without evaluation, bar and pictures."""
    argv = ["--preset", scale.preset, "--task", TASK, *flags, "--method", method, "--run.envs", str(envs)]
    argv += ["--logdir", str(logdir), "--run.progress", "False", "--run.plots", "False", "--eval.first_episodes", "0"]
    config = config_lib.parse(argv)
    changes = {"env.metaworld.quality": resolve_quality(config.env.metaworld.quality)}
    if scale.name != "quick":  # random steps, which cost no train steps, up to where rewards fall inside the rounds
        changes["run.prefill"] = (config.reward.interval + config.reward.interval // 4) * envs
    return config.update(changes)


class Contestant:
    """A training loop that is ready: its replay is filled, its programs are compiled.

    Args:
        config: Of the run; its folder must not exist.
        freeze: Freeze FB before the first train step, so that only the program without its update is compiled.
    """

    def __init__(self, config: elements.Config, freeze: bool) -> None:
        terms = parts.check(config)
        folder = RunDirectory(config.logdir)
        folder.open(config)
        self.config = prepare_jax(config, bridge=bool(terms))
        startup = Startup(folder.path)
        self.rewarding, agent = make_rewarding_and_agent(self.config, terms, folder, startup)
        self.run = make_run(self.config, folder, agent, self.rewarding, StopSignal(), startup)
        if freeze:
            agent.freeze_fb()
        self.loop = open_loop(self.run, 0)
        updates = self.run.updates
        while updates < 2:
            self.advance()
        self.settle()

    @property
    def interval(self) -> int:
        """Steps of an environment from one reward row to the next."""
        return int(self.config.reward.interval)

    def advance(self) -> None:
        """One step of every environment; Ctrl-C, which a run's own parts catch, ends the benchmark."""
        if self.run.stop():
            raise KeyboardInterrupt
        self.loop.advance()

    def settle(self) -> None:
        """Until neither a train step nor a reward is under way."""
        self.loop.settle()
        self.run.replay.drain()

    def play(self, steps: int) -> float:
        """Environment steps a second over ``steps`` steps, with all that they set going."""
        begun, first = time.perf_counter(), int(self.run.step)
        while self.run.step < first + steps:
            self.advance()
        self.settle()
        return (int(self.run.step) - first) / (time.perf_counter() - begun)

    def round(self, paid: int = 1) -> float:
        """Environment steps a second over so many steps that each environment is paid ``paid`` times."""
        return self.play(paid * self.interval * self.config.run.envs)

    def warm(self) -> None:
        """Plays past the next reward, unless the last is so long ago that those of later rounds fall inside them."""
        since = self.rewarding.shaper.workers[0].step % self.interval
        if not self.interval // 4 <= since <= self.interval // 2:
            self.play((self.interval - since + self.interval // 4) * self.config.run.envs)
        self.rewarding.shaper.latency_ms.clear()

    def close(self) -> None:
        self.loop.close()
        self.rewarding.close()


def measure(scale: Scale, flags: list[str], say: Callable[[str], None], out: Path) -> Item:
    """Environment steps a second of the loop, per number of environments; what its rewards waited for."""
    item = Item("training loop, environment steps/s")
    with tempfile.TemporaryDirectory(prefix="genreward-bench-") as scratch:
        for envs in scale.envs:
            _measure(item, scale, envs, Path(scratch), flags, say, out)
    item.notes.append(
        "the same seed, task, train ratio and agent; each environment is paid in each round; a round ends when the "
        "train step and the rewards that the steps set going are done; goal: the reward costs 3 % at most"
    )
    return item


def _measure(
    item: Item, scale: Scale, envs: int, scratch: Path, flags: list[str], say: Callable[[str], None], out: Path
) -> None:
    contestants = {}
    try:
        for name, method in ((PLAIN, "none"), (LEARNING, "genreward"), (FROZEN, "genreward")):
            if name == LEARNING and scale.name != "full":
                continue
            say(f"{envs} environment(s): making the run '{name}'")
            logdir = scratch / f"{envs}-{len(contestants)}"
            config = configuration(scale, method, envs, logdir, flags)
            contestants[name] = Contestant(config, freeze=name == FROZEN)
        if scale.name != "quick":
            [contestant.warm() for contestant in contestants.values()]
        _compare(item, scale, contestants, say)
        if envs == scale.envs[0] and scale.name != "quick":
            timeline.picture(contestants[FROZEN], out / "timeline.png", say)
    finally:
        [contestant.close() for contestant in contestants.values()]


def _compare(item: Item, scale: Scale, contestants: dict[str, Contestant], say: Callable[[str], None]) -> None:
    """Rounds in turns; speeds, ratios, the ceiling, and what the rewards of those rounds took."""
    envs = int(contestants[PLAIN].config.run.envs)
    waited_s = lambda: sum(one.rewarding.shaper.waited_s for one in contestants.values())
    before, paid = waited_s(), []

    def play(name: str) -> float:
        shaper = contestants[name].rewarding.shaper
        already = shaper.paid
        speed = contestants[name].round(scale.paid)
        paid.append(shaper.paid - already if name == FROZEN else 1)
        return speed

    speeds = in_turns({name: partial(play, name) for name in contestants}, scale.rounds_of(envs), say)
    item.figures += [Figure(f"{envs} env, {name}", "steps/s", values) for name, values in speeds.items()]
    for name, goal in ((FROZEN, GOAL), *([(LEARNING, None)] if LEARNING in speeds else [])):
        found = quotients(speeds[name], speeds[PLAIN])
        item.figures.append(Ratio(f"{envs} env, {name} / none", "", found, goal=goal))
    item.figures.append(_floor(contestants[PLAIN], envs, scale.name == "quick"))
    if 0 in paid:
        item.notes.append(
            f"{envs} env: {paid.count(0)} measured round(s) paid no reward, so their ratio lacks its cost"
        )
    item.figures += _rewards(contestants[FROZEN], speeds[FROZEN], waited_s() - before)


def _rewards(contestant: Contestant, speeds: list[float], waited: float) -> list[Figure]:
    """How long the loop waited for rewards, and how late they came."""
    envs, latency = contestant.config.run.envs, list(contestant.rewarding.shaper.latency_ms) or [0.0]
    steps = [ms / 1000 * sum(speeds) / len(speeds) for ms in latency]
    return [
        Figure(f"{envs} env, loop waited for rewards", "s", [waited], "in all rounds together"),
        Figure(f"{envs} env, age of a reward when it arrives", "ms", latency),
        Figure(f"{envs} env, the same in environment steps", "steps", steps),
    ]


def _floor(contestant: Contestant, envs: int, quick: bool) -> Figure:
    """Environment steps a second if train steps were all there is and ran at the machine's best."""
    config = contestant.config
    trains = config.run.train_ratio / (config.batch_size * config.batch_length)  # train steps for an environment step
    flops, moved = contestant.run.agent.train_cost()
    best = floor.Best.measured(config.jax.compute_dtype, quick).seconds(flops, moved) * trains
    note = f"{trains:.3g} train steps for each environment step, at their floor, and nothing else"
    return Figure(f"{envs} env, ceiling", "steps/s", [1 / best], note)
