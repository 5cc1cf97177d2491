"""Does the patched agent learn as the official one? CartPole-v1 from its state vector, a few seeds each.

    python -m benchmarks.learning_parity [--steps 6000] [--seeds 0 1 2] [--plot]

``official`` is upstream's own agent class with nothing but the repairs. ``ours`` is the agent of
``dreamerv3_patches.agent`` with the forward-backward representation training inside it (a state vector meets no
convolution, so the speed-ups have nothing to do here: tests/patches/test_speedups.py compares those); actor and
critic get upstream's single learning rate, so that the two differ in our patches only. Each run writes
``docs/data/learning_parity/<variant>-seed<k>.csv`` (one line an episode) when it is done and is skipped the next time;
then ``docs/images/learning_parity.png`` is drawn. A benchmark, not a test.
"""

import argparse
import csv
import time
from pathlib import Path
from typing import Any

import elements
import embodied
import gymnasium
import numpy as np
from ruamel.yaml import YAML

from dreamerv3_patches.agent import make_agent
from dreamerv3_patches.apply import apply

ROOT = Path(__file__).parent.parent
DATA, PICTURE = ROOT / "docs/data/learning_parity", ROOT / "docs/images/learning_parity.png"
VARIANTS = ("official", "ours")
BATCH, LENGTH, CONTEXT, TRAIN_RATIO, PREFILL = 8, 16, 1, 32, 300


class CartPole(embodied.Env):
    """CartPole-v1 (500 steps at most, 1 a step that the pole stands) as an embodied environment."""

    obs_space = {"state": elements.Space(np.float32, (4,)), "reward": elements.Space(np.float32)} | {
        key: elements.Space(bool) for key in ("is_first", "is_last", "is_terminal")
    }
    act_space = {"action": elements.Space(np.int32, (), 0, 2), "reset": elements.Space(bool)}

    def __init__(self, seed: int) -> None:
        self.env, self.seed, self.done = gymnasium.make("CartPole-v1"), seed, True

    def step(self, action: dict) -> dict:
        if action["reset"] or self.done:
            state, _ = self.env.reset(seed=self.seed)
            self.seed, self.done = None, False
            return self.row(state, 0.0, first=True)
        state, reward, terminal, timeout, _ = self.env.step(int(action["action"]))
        self.done = terminal or timeout
        return self.row(state, reward, last=self.done, terminal=terminal)

    def row(self, state: Any, reward: float, first: bool = False, last: bool = False, terminal: bool = False) -> dict:
        flags = {"is_first": np.bool_(first), "is_last": np.bool_(last), "is_terminal": np.bool_(terminal)}
        return {"state": np.asarray(state, np.float32), "reward": np.float32(reward), **flags}


def settings(seed: int) -> tuple[elements.Config, dict]:
    """A small agent at one learning rate for all; and the ``fb`` section, whose training never ends here."""
    defaults = elements.Config(YAML(typ="safe").load((ROOT / "configs/defaults.yaml").read_text()))
    small: dict[str, Any] = {key: 64 for key in defaults.agent.flat if key.endswith(".units")}
    small |= {"dyn.rssm.deter": 256, "dyn.rssm.hidden": 64, "dyn.rssm.stoch": 16, "dyn.rssm.classes": 8}
    small |= {"opt.lr": 3e-4, "actor_critic_lr": 3e-4, "opt.warmup": 100}
    config = elements.Config(
        **defaults.agent.update(small),
        logdir="unused",
        seed=seed,
        jax=defaults.jax.update(platform="cpu"),
        batch_size=BATCH,
        batch_length=LENGTH,
        replay_context=CONTEXT,
        report_length=LENGTH,
        replica=0,
        replicas=1,
    )
    return config, dict(defaults.fb)


def build(variant: str, seed: int) -> Any:
    """The agent of a variant."""
    config, fb = settings(seed)
    acts = {key: space for key, space in CartPole.act_space.items() if key != "reset"}
    if variant == "official":
        import dreamerv3.agent

        apply(fast_convs=False)
        return dreamerv3.agent.Agent(CartPole.obs_space, acts, config)
    apply(fast_convs=True)
    agent = make_agent(CartPole.obs_space, acts, config, fb=fb, reward_interval=128)
    agent.set_goal(np.random.default_rng(seed).normal(size=384))
    return agent


def run(variant: str, seed: int, steps: int) -> list[tuple[int, float]]:
    """Trains for ``steps`` environment steps; returns (step, return) of each finished episode."""
    agent, rng = build(variant, seed), np.random.default_rng(seed)
    replay = embodied.replay.Replay(length=LENGTH + CONTEXT, capacity=100_000, online=True, chunksize=1024, seed=seed)
    source = embodied.streams.Consec(
        embodied.streams.Stateless(replay.sample, BATCH, "train"), LENGTH, 1, CONTEXT, strict=True, contiguous=True
    )
    feed, carry = iter(agent.stream(source)), [agent.init_train(BATCH)]
    should_train = elements.when.Ratio(TRAIN_RATIO / (BATCH * LENGTH))
    count, total, episodes = [0], [0.0], []

    def policy(state: Any, obs: dict, mode: str = "train") -> tuple:
        state, acts, outs = agent.policy(state, obs, mode)
        if count[0] < PREFILL:
            acts = {"action": rng.integers(0, 2, acts["action"].shape, np.int32)}
        return state, acts, {key: value for key, value in outs.items() if not key.startswith("reward_fb")}

    def on_step(row: dict, worker: int) -> None:
        count[0] += 1
        total[0] = float(row["reward"]) + (0.0 if row["is_first"] else total[0])
        if row["is_last"]:
            episodes.append((count[0], total[0]))
        replay.add(row, worker)
        if count[0] < PREFILL:
            return
        for _ in range(should_train(count[0])):
            carry[0], outs, _ = agent.train(carry[0], next(feed))
            if "replay" in outs:
                replay.update(outs["replay"])

    driver = embodied.Driver([lambda: CartPole(seed)], parallel=False)
    driver.on_step(on_step)
    driver.reset(agent.init_policy)
    started = time.time()
    while count[0] < steps:
        driver(policy, steps=500)
        recent = np.mean([score for _, score in episodes[-10:]])
        print(f"{variant} seed {seed}: step {count[0]}, return {recent:.0f}, {time.time() - started:.0f} s", flush=True)
    driver.close()
    return episodes


def save(path: Path, episodes: list[tuple[int, float]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("w", newline="") as file:
        csv.writer(file).writerows([("step", "return"), *episodes])
    part.replace(path)


def plot(steps: int) -> None:
    """Thin lines: seeds (mean of the last 10 episodes at each step); thick: their mean."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    grid = np.arange(0, steps + 1, 50)
    for variant, color in zip(VARIANTS, ("tab:gray", "tab:blue"), strict=True):
        curves = []
        for path in sorted(DATA.glob(f"{variant}-seed*.csv")):
            rows = np.loadtxt(path, delimiter=",", skiprows=1)
            smooth = [rows[max(0, i - 9) : i + 1, 1].mean() for i in range(len(rows))]
            curves.append(np.interp(grid, rows[:, 0], smooth))
            axes.plot(grid, curves[-1], color=color, alpha=0.3, linewidth=1)
        if curves:
            label = {"official": "official code, repairs only", "ours": "ours: FB training inside"}[variant]
            axes.plot(grid, np.mean(curves, 0), color=color, linewidth=2.5, label=f"{label} ({len(curves)} seeds)")
    axes.set(xlabel="environment steps", ylabel="episode return (mean of 10)", title="CartPole-v1 from its state")
    axes.axhline(500, color="black", linewidth=0.8, linestyle=":")
    axes.legend(loc="upper left")
    axes.grid(alpha=0.3)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--plot", action="store_true", help="only draw what is there")
    args = parser.parse_args()
    for seed in [] if args.plot else args.seeds:
        for variant in VARIANTS:
            path = DATA / f"{variant}-seed{seed}.csv"
            if not path.exists():
                save(path, run(variant, seed, args.steps))
    plot(args.steps)


if __name__ == "__main__":
    main()
