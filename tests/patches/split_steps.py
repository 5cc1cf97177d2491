"""Run by test_cpu_devices.py, a process each: trains the tiny agent over so many virtual devices.

python -m tests.patches.split_steps DEVICES OUT.npz
"""

import sys

import jax
import numpy as np

from dreamerv3_patches.agent import make_agent
from tests.patches.tiny_agent import ACT, BATCH, OBS, batch, fb_section, observation, settings, stream


def main(devices: int, out: str) -> None:
    config = settings()
    jax_section = config.jax.update(mock_devices=devices, train_devices=range(devices))
    agent = make_agent(OBS, ACT, config.update(jax=jax_section), fb=fb_section(), reward_interval=3)
    agent.set_goal(np.random.default_rng(5).normal(size=384).astype(np.float32))
    assert jax.device_count() == devices and len(agent.train_devices) == devices
    rng, play = np.random.default_rng(0), agent.init_policy(2)
    carry, feed, losses = agent.init_train(BATCH), stream(agent, batch(agent)), []
    for step in range(4):
        carry, _, metrics = agent.train(carry, next(feed))
        losses.append({key: value for key, value in metrics.items() if "loss" in key})
        play, acts, _ = agent.policy(play, observation(rng, [step == 0] * 2))
    agent.wait()
    rows = {f"{i}:{key}": value for i, row in enumerate(losses) for key, value in row.items()}
    np.savez(out, **rows, action=acts["action"])


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
