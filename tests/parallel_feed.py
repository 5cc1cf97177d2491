"""Run by test_feeding.py in a process of its own: feeds a shaped replay by the driver or by upstream's parallel actor.

python parallel_feed.py driver|parallel OUT.npz at_once|late
"""

import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import elements
import numpy as np

from dreamerv3_patches.apply import apply

apply()

import embodied  # noqa: E402

from dreamerv3_patches.parallel import Actors  # noqa: E402
from genreward_jax.methods import Term  # noqa: E402
from genreward_jax.replay import ShapedReplay  # noqa: E402
from genreward_jax.rewards.base import Payment  # noqa: E402
from genreward_jax.shaping import RewardShaper  # noqa: E402

ENVS, LENGTH, INTERVAL, FRAMES, EPISODES = 2, 20, 8, 4, 3
ROWS = EPISODES * (LENGTH + 1)


class Env:
    """Images from the seed and the actions, so that a fixed policy makes one stream of rows."""

    obs_space = {
        "image": elements.Space(np.uint8, (4, 4, 3)),
        "reward": elements.Space(np.float32),
        "is_first": elements.Space(bool),
        "is_last": elements.Space(bool),
        "is_terminal": elements.Space(bool),
        "reward_env": elements.Space(np.float32),
        "log/success": elements.Space(np.float32),
    }
    act_space = {"action": elements.Space(np.float32, (2,), -1, 1), "reset": elements.Space(bool)}

    def __init__(self, index):
        self.index, self.episode, self.step_ = index, -1, 0

    def step(self, action):
        if action["reset"] or self.episode < 0:
            self.episode, self.step_ = self.episode + 1, 0
        else:
            self.step_ += 1
        rng = np.random.default_rng([self.index, self.episode, self.step_])
        reward = np.float32(rng.normal() + float(np.sum(action["action"])) if self.step_ else 0)
        return {
            "image": rng.integers(0, 256, (4, 4, 3), dtype=np.uint8),
            "reward": reward,
            "is_first": np.bool_(self.step_ == 0),
            "is_last": np.bool_(self.step_ == LENGTH),
            "is_terminal": np.bool_(False),
            "reward_env": reward,
            "log/success": np.float32(0),
        }

    def close(self):
        pass


class Agent:
    """A fixed policy with the outputs of ours: everything a function of the image."""

    def init_policy(self, count):
        return [np.zeros(1, np.float32) for _ in range(count)]

    def policy(self, carry, obs, mode="train"):
        mean = obs["image"].reshape(len(obs["image"]), -1).mean(1).astype(np.float32) / 255
        out = {"reward_fb": 10 * mean, "reward_fb_paid": np.ones(len(mean), bool)}
        return carry, {"action": np.stack([mean, -(mean**2)], 1)}, out


def make_replay(pay):
    settings = {"interval": INTERVAL, "frames": FRAMES}
    terms = [
        Term("video", "genreward_jax.rewards.genreward:VideoReward", 0.5, settings),
        Term("fb", "genreward_jax.rewards.genreward:ForwardBackwardReward", 0.25, settings),
    ]
    plain = embodied.replay.Replay(length=4, capacity=1000, chunksize=64)
    return ShapedReplay(plain, RewardShaper(terms, pay, frame_count=FRAMES))


def answer(window):
    return Payment([float(window.frames.astype(np.float64).mean())])


def at_once(name, window):
    future = Future()
    future.set_result(answer(window))
    return future


def late():
    pool, rng, lock = ThreadPoolExecutor(8), np.random.default_rng(0), threading.Lock()

    def pay(name, window):
        with lock:
            pause = float(rng.uniform(0, 0.1))
        return pool.submit(lambda: (time.sleep(pause), answer(window))[1])

    return pay


def by_driver(replay):
    driver = embodied.Driver([partial(Env, i) for i in range(ENVS)], parallel=False)
    driver.on_step(replay.add)
    driver.reset(Agent().init_policy)
    driver(Agent().policy, steps=ENVS * ROWS)
    replay.drain()


def by_parallel_actor(replay):
    """As in ``--script parallel``: upstream's actor and environments, each in a process of its own."""
    agent = ListAgent()
    makers = [partial(Env, i) for i in range(ENVS)]
    actors = Actors(makers, agent.init_policy, agent.policy, agent.policy, replay.add, batch=1)
    while min(counts(), default=0) < ROWS or len(counts()) < ENVS:
        actors.check()
        time.sleep(0.05)
    actors.close()


class ListAgent(Agent):
    """Carries as upstream's agents give them: lists, one entry an environment."""

    def init_policy(self, count):
        return [{"state": np.zeros(1, np.float32)} for _ in range(count)][:1] * count


SEEN: dict[int, list] = {}


def counts():
    return [len(rows) for rows in list(SEEN.values())]


def main(feeder, out, speed):
    replay = make_replay(at_once if speed == "at_once" else late())
    replay.on_row = lambda row, worker: SEEN.setdefault(worker, []).append(row)
    {"driver": by_driver, "parallel": by_parallel_actor}[feeder](replay)
    keys = ("image", "action", "reward", "reward_env", "reward_video", "reward_fb", "is_first", "is_last")
    arrays = {f"{w}/{k}": np.stack([row[k] for row in rows[:ROWS]]) for w, rows in SEEN.items() for k in keys}
    # What is compared is what was handed to the replay; that it holds as many rows is checked, too.
    held = [chunk for chunk in replay.replay.chunks.values() if chunk.length]
    arrays["held"] = np.array(sum(chunk.length for chunk in held) >= ENVS * ROWS)
    np.savez(out, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
