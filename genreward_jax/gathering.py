"""What one term of the reward gathers of one environment, from the rows since it was last paid to its next window."""

from collections import defaultdict

import numpy as np

from genreward_jax.rewards.base import Reward, Schedule, Window
from genreward_jax.windows import frame_steps, looks_at, sample_indices


class Collector:
    """Gathers rows for one term and cuts windows of them.

    Args:
        reward: Says what it reads: frames, and which outputs of the policy.
        schedule: When it is paid and at which frames it looks, as :func:`genreward_jax.windows.resolved` gives it.

    Attributes:
        frames: Those that the term may still look at, by step since the reset.
    """

    def __init__(self, reward: Reward, schedule: Schedule) -> None:
        self.reward, self.schedule = reward, schedule
        self.frames: dict[int, np.ndarray] = {}
        self.actions: list[np.ndarray] = []
        self.rewards: list[np.ndarray] = []
        self.outputs: dict[str, list[np.ndarray]] = defaultdict(list)

    def reset(self) -> None:
        """Forgets everything: another episode begins."""
        self.frames = {}
        self._forget_rows()

    def see(self, step: int, frame: np.ndarray) -> None:
        """Keeps the frame of a step if the term will look at it.

        How long the episode will be is not known here, so a term that is paid at its end keeps every frame it is given.
        """
        if self.reward.wants_frames and looks_at(self.schedule, step):
            self.frames[step] = frame

    def add(self, row: dict[str, np.ndarray], before: dict[str, np.ndarray]) -> None:
        """Adds a row's reward, and the action and the policy's outputs of the row before, which led to it."""
        self.actions.append(before["action"])
        self.rewards.append(row["reward"])
        for key in self.reward.outputs:
            if key in before:
                self.outputs[key].append(before[key])

    def due(self, step: int, is_last: bool) -> bool:
        """Whether the row of a step is one that pays."""
        return is_last if self.schedule.kind == "end" else step % self.schedule.interval == 0

    def cut(self, step: int, ended: bool) -> Window | None:
        """The window that ends at a step; what later windows do not look at is forgotten.

        Returns:
            None where the policy did not yet return what the term reads: random actions of the prefill.
        """
        window = None
        if all(self.outputs[key] for key in self.reward.outputs):
            window = Window(
                frames=self._sampled(step) if self.reward.wants_frames else None,
                actions=np.stack(self.actions),
                rewards=np.asarray(self.rewards, np.float32),
                outputs={key: np.stack(self.outputs[key]) for key in self.reward.outputs},
                ended=ended,
                step=step,
            )
        behind = (self.schedule.recent - 1) * self.schedule.stride if self.schedule.recent else -1
        self.frames = {seen: frame for seen, frame in self.frames.items() if seen >= step - behind}
        self._forget_rows()
        return window

    def _sampled(self, step: int) -> np.ndarray:
        steps = frame_steps(self.schedule, step)
        if self.schedule.kind == "end" and not self.schedule.recent:  # where frames were chosen before, of those given
            kept = sorted(self.frames)
            steps = [kept[i] for i in sample_indices(len(kept), self.schedule.frames)]
        return np.stack([self.frames[seen] for seen in steps])

    def _forget_rows(self) -> None:
        self.actions.clear()
        self.rewards.clear()
        self.outputs.clear()
