"""How long a train step takes with and without the speed-ups, in turns, so that a noisy machine harms both alike.

    python -m benchmarks.train_step [--steps 20] [--no-fb]

Sizes are those of the ``cpu`` preset's agent; prints the median wall and CPU seconds of a step and their ratio.
"""

import argparse
import time
from pathlib import Path

import elements
import embodied
import numpy as np
from ruamel.yaml import YAML

from dreamerv3_patches import agent as agents
from dreamerv3_patches.apply import apply

ROOT = Path(__file__).parent.parent


def settings(batch: int, length: int) -> tuple[elements.Config, dict]:
    """The defaults with a small agent: depth 4, 64 units, 512 recurrent units."""
    defaults = elements.Config(YAML(typ="safe").load((ROOT / "configs/defaults.yaml").read_text()))
    small = {key: 64 for key in defaults.agent.flat if key.endswith(".units")}
    small |= {key: 4 for key in defaults.agent.flat if key.endswith(".depth")}
    small |= {"dyn.rssm.deter": 512, "dyn.rssm.hidden": 64, "dyn.rssm.classes": 4}
    small |= {f"{part}.simple.mults": (2, 3, 4, 4) for part in ("enc", "dec")}
    config = elements.Config(
        **defaults.agent.update(small),
        logdir="/tmp",
        seed=0,
        jax=defaults.jax.update(platform="cpu", compilation_cache=False),
        batch_size=batch,
        batch_length=length,
        replay_context=1,
        report_length=length,
        replica=0,
        replicas=1,
    )
    return config, dict(defaults.fb)


def make(config: elements.Config, fb: dict | None, fast: bool):
    apply(fast_convs=fast)
    scalar, flag = elements.Space(np.float32), elements.Space(bool)
    obs = {"image": elements.Space(np.uint8, (64, 64, 3)), "reward": scalar}
    obs |= {key: flag for key in ("is_first", "is_last", "is_terminal")}
    agent = agents.make_agent(
        obs, {"action": elements.Space(np.float32, (4,), -1, 1)}, config, fb=fb, reward_interval=128
    )
    if fb is not None:
        agent.set_goal(np.ones(384, np.float32))
    return agent


def batches(agent, batch: int, length: int):
    rng = np.random.default_rng(0)
    data = {key: np.zeros((batch, length, *space.shape), space.dtype) for key, space in agent.spaces.items()}
    data["image"] = rng.integers(0, 256, data["image"].shape, np.uint8)
    return iter(agent.stream(embodied.streams.Stateless(lambda: dict(data)), prefetch=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--no-fb", action="store_true")
    args = parser.parse_args()
    batch, length = 8, 32
    config, fb = settings(batch, length)
    variants, times = {}, {}
    for name, own, fast in (("upstream", None, False), ("fast", None, True), ("fast+fb", fb, True)):
        if own is not None and args.no_fb:
            continue
        agent = make(config, own, fast)
        variants[name] = [agent, batches(agent, batch, length + 1), agent.init_train(batch)]
        times[name] = []
        step(variants[name])
    for _ in range(args.steps):
        for name, variant in variants.items():
            times[name].append(step(variant))
    base = np.median(times["upstream"], 0)
    for name, values in times.items():
        wall, cpu = np.median(values, 0)
        print(f"{name:10} wall {wall:.3f} s ({wall / base[0]:.2f})   CPU {cpu:.3f} s ({cpu / base[1]:.2f})")


def step(variant: list) -> tuple[float, float]:
    """One train step, waited for; wall and CPU seconds."""
    agent, stream, carry = variant
    data = next(stream)
    wall, cpu = time.perf_counter(), time.process_time()
    variant[2], _, _ = agent.train(carry, data)
    agent.params["enc/cnn0/kernel"].block_until_ready()
    return time.perf_counter() - wall, time.process_time() - cpu


if __name__ == "__main__":
    main()
