"""The smallest agent that upstream's shapes allow, and rows to feed it with: compiles in seconds."""

from pathlib import Path
from typing import Any

import elements
import embodied
import numpy as np
from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent.parent
IMAGE = (16, 16, 3)
BATCH, LENGTH, CONTEXT = 2, 5, 1
FB = {"dim": 16, "hidden": 16}

SCALAR, FLAG = elements.Space(np.float32), elements.Space(bool)
OBS = {"image": elements.Space(np.uint8, IMAGE), "reward": SCALAR} | {
    key: FLAG for key in ("is_first", "is_last", "is_terminal")
}
ACT = {"action": elements.Space(np.float32, (4,), -1, 1)}


def defaults() -> elements.Config:
    return elements.Config(YAML(typ="safe").load((ROOT / "configs/defaults.yaml").read_text()))


def settings(logdir: Any = "unused", **agent: Any) -> elements.Config:
    """What upstream's Agent takes, with everything small; ``agent`` holds more changes, dots written as __."""
    config = defaults()
    small: dict[str, Any] = {key: 8 for key in config.agent.flat if key.endswith(".units")}
    small |= {key: 1 for key in config.agent.flat if key.endswith("layers")}
    small |= {f"dyn.rssm.{key}": value for key, value in dict(deter=16, hidden=8, stoch=4, classes=4, blocks=2).items()}
    for part in ("enc", "dec"):
        small |= {f"{part}.simple.depth": 2, f"{part}.simple.mults": (1, 2)}
    small |= {"dec.simple.bspace": 2, "imag_length": 2}
    small |= {key.replace("__", "."): value for key, value in agent.items()}
    return elements.Config(
        **config.agent.update(small),
        logdir=str(logdir),
        seed=0,
        jax=config.jax.update(platform="cpu", debug=True),  # debug: XLA compiles in half the time
        batch_size=BATCH,
        batch_length=LENGTH,
        replay_context=CONTEXT,
        report_length=LENGTH,
        replica=0,
        replicas=1,
    )


def fb_section(**changes: Any) -> dict[str, Any]:
    return {**defaults().fb, **FB, **changes}


def observation(rng: np.random.Generator, first: list[bool], last: list[bool] | None = None) -> dict[str, np.ndarray]:
    """A row for each environment, with two of the row's own keys that are no observations."""
    count = len(first)
    return {
        "image": rng.integers(0, 256, (count, *IMAGE), np.uint8),
        "reward": np.zeros(count, np.float32),
        "reward_env": np.zeros(count, np.float32),
        "frame_slot": np.full(count, -1, np.int32),
        "is_first": np.array(first),
        "is_last": np.array(last or [False] * count),
        "is_terminal": np.zeros(count, bool),
    }


def batch(agent: Any, seed: int = 0) -> dict[str, np.ndarray]:
    """A replay batch of random images and actions, without resets, with a key that the agent does not know."""
    rng = np.random.default_rng(seed)
    shape = (BATCH, LENGTH + CONTEXT)
    data = {key: np.zeros((*shape, *space.shape), space.dtype) for key, space in agent.spaces.items()}
    data["image"] = rng.integers(0, 256, data["image"].shape, np.uint8)
    data["action"] = rng.uniform(-1, 1, data["action"].shape).astype(np.float32)
    data["reward"] = rng.normal(size=shape).astype(np.float32)
    data["reward_env"] = data["reward"].copy()
    return data


def stream(agent: Any, data: dict[str, np.ndarray]) -> Any:
    return iter(agent.stream(embodied.streams.Stateless(lambda: dict(data)), prefetch=False))
