"""A small image environment for the wrappers' tests, and rewards as a user would write them."""

import gymnasium
import numpy as np
from gymnasium import spaces

from genreward_jax.rewards.base import Payment, Reward, Schedule


class Moving(gymnasium.Env):
    """A bright square that the action moves sideways over a textured ground; success at the right edge.

    Args:
        view: 'image', 'dict' (image beside a vector), 'vector' or 'float'.
        ends_at: Steps after which it terminates; 0 never.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}

    def __init__(self, view="image", ends_at=0, render_mode=None, height=48, width=64):
        self.render_mode, self._view, self._ends_at = render_mode, view, ends_at
        self._shape, self.drawn = (height, width, 3), 0
        image, vector = spaces.Box(0, 255, self._shape, np.uint8), spaces.Box(-1, 1, (2,), np.float32)
        self.observation_space = {
            "image": image,
            "dict": spaces.Dict({"camera": image, "place": vector}),
            "vector": vector,
            "float": spaces.Box(0, 1, self._shape, np.float32),
        }[view]
        self.action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._step, self._ground = 0, self.np_random.integers(0, 120, self._shape, dtype=np.uint8)
        self._place = float(self.np_random.uniform(0, 20))
        return self._observe(), {}

    def step(self, action):
        self._step += 1
        self._place = float(np.clip(self._place + 3 * action[0], 0, self._shape[1] - 8))
        success = self._place > 40
        reward = np.float64(0.1 * self._place)  # not a float32
        return self._observe(), reward, self._step == self._ends_at, False, {"success": float(success)}

    def picture(self):
        frame = self._ground.copy()
        frame[20:28, int(self._place) : int(self._place) + 8] = 255
        return frame

    def render(self):
        self.drawn += 1
        return self.picture()

    def _observe(self):
        vector = np.array([self._place / 64, 0], np.float32)
        return {
            "image": self.picture,
            "dict": lambda: {"camera": self.picture(), "place": vector},
            "vector": lambda: vector,
            "float": lambda: (self.picture() / 255).astype(np.float32),
        }[self._view]()


gymnasium.register("GenRewardToy-v0", entry_point="tests.toy_env:Moving", max_episode_steps=20)


class Actions(Reward):
    """Pays the sum of the window's actions and environment rewards; runs in the loop."""

    runs_in = "trainer"
    wants_frames = False

    def __call__(self, window, models):
        return Payment([float(window.actions.sum() + window.rewards.sum())])


class AtEnd(Reward):
    """Pays an episode's number of steps at its end."""

    needs = ("encode_video",)

    def schedule(self):
        return Schedule("end")

    def __call__(self, window, models):
        assert models.encode_video(window.frames).ndim == 4
        return Payment([float(window.step)])


class Watching(Reward):
    """Has a memory: pays the mean brightness of all rows that it has seen before."""

    def __init__(self, goal=None, **settings):
        super().__init__(goal, **settings)
        self.seen = []

    def observe(self, rows):
        self.seen += [float(row["image"].mean()) for row in rows]

    def __call__(self, window, models):
        return Payment([float(np.mean(self.seen))])


class NotFinite(Reward):
    """Pays what is no number, then nothing."""

    def __call__(self, window, models):
        return Payment([float("nan")] if window.ended else [])
