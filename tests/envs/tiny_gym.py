"""Gymnasium environments for tests, registered by importing this module: ``tests.envs.tiny_gym:Square-v0``."""

import gymnasium
import numpy as np
from gymnasium import spaces

HEIGHT, WIDTH = 48, 32


class Square(gymnasium.Env):
    """A white square that three actions move along a wide picture; at the right edge is success, and the end.

    Observes a picture, the place as a number and as a class; draws a brighter picture in ``render()``.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, render_mode=None, width=WIDTH, pictures=True):
        self.render_mode, self.width, self.pictures = render_mode, width, pictures
        parts = {
            "place": spaces.Box(-np.inf, np.inf, (2, 1), np.float64),
            "Side!": spaces.Discrete(2, start=5),
        }
        if pictures:
            parts |= {"camera": spaces.Box(0, 255, (HEIGHT, width, 3), np.uint8)}
        self.observation_space = spaces.Dict(parts)
        self.action_space = spaces.Discrete(3, start=-1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = int(self.np_random.integers(0, 8))
        return self._observe(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.place = int(np.clip(self.place + action, 0, 12))
        done = self.place == 12
        return self._observe(), float(self.place), done, False, {"success": done}

    def draw(self, ground=0):
        picture = np.full((HEIGHT, self.width, 3), ground, np.uint8)
        picture[16:32, 2 * self.place : 2 * self.place + 8] = 255
        return picture

    def render(self):
        return self.draw(ground=40)

    def _observe(self):
        seen = {"place": np.array([[self.place], [1.5]]), "Side!": np.int64(5 + (self.place > 6))}
        return {**seen, "camera": self.draw()} if self.pictures else seen


class Blind(gymnasium.Env):
    """Numbers in, numbers out, nothing to see; says no word of success, and runs for ever."""

    observation_space = spaces.Box(-1, 1, (3,), np.float32)

    def __init__(self, kind="box"):
        low, high = np.array([-2.0, 0.0, -np.inf], np.float32), np.array([4.0, 1.0, np.inf], np.float32)
        self.action_space = {
            "box": spaces.Box(low, high, dtype=np.float32),
            "binary": spaces.MultiBinary(3),
            "many": spaces.MultiDiscrete([4, 4]),
            "odd": spaces.MultiDiscrete([4, 5]),
        }[kind]
        self.given = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(3, np.float32), {}

    def step(self, action):
        self.given.append(action)
        return np.full(3, 0.1, np.float32), 1.0, False, False, {}


gymnasium.register("Square-v0", entry_point=Square, max_episode_steps=20)
gymnasium.register("Blind-v0", entry_point=Blind)
