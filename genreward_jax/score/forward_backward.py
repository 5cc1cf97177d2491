"""Where r_FB of a scored episode comes from: a run's own networks, or networks trained here on other episodes."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from tqdm import tqdm

from genreward_jax.errors import UserError
from genreward_jax.fb import settings as fb_settings
from genreward_jax.figures import fb_actions
from genreward_jax.score.trajectories import Trajectory
from genreward_jax.video import fit

if TYPE_CHECKING:
    from genreward_jax.score.context import Context

UPDATES = 2000


class Networks(Protocol):
    """Something that gives r_FB (eq. 9).

    Attributes:
        about: What it was trained on, in words.
        goal: Of what frames of the goal B is told: key or end, as ``--fb.goal``.
    """

    about: str
    goal: str

    def aim(self, task: str) -> None:
        """From here on the reward is for this task's goal; '' is the goal that is scored for."""

    def values(self, trajectory: Trajectory, normalised: bool = False) -> np.ndarray:
        """r_FB of the frame and the action of each row, float32 (T + 1,); row t's is earned at row t + 1.

        Args:
            trajectory: The episode.
            normalised: Less its mean, over its spread, as ``--fb.reward_norm running``; a run's own networks do what
                the run does.
        """

    def at(self, trajectory: Trajectory, step: int) -> fb_actions.Values | None:
        """r_FB of any actions (N, A) in the state that one row shows, float32 (N,).

        None where the row's frame is not the state that F sees.
        """


class RunNetworks:
    """The networks of a run's latest checkpoint."""

    def __init__(self, context: "Context") -> None:
        self._context, self._agent = context, context.agent
        self._fb = fb_settings.resolve(context.config.fb)
        self.goal = self._fb["goal"]
        self._aimed = ""  # the checkpoint holds the run's own goal
        self.about = f"the networks of {context.run}"

    def aim(self, task: str) -> None:
        if task != self._aimed:
            self._agent.set_goal(self._context.fb_goal(self._fb, task))
            self._aimed = task

    def values(self, trajectory: Trajectory, normalised: bool = False) -> np.ndarray:
        frames, features = self._seen(trajectory, slice(None))
        return np.asarray(self._agent.fb_values(frames, trajectory.actions, features), np.float32)

    def at(self, trajectory: Trajectory, step: int) -> fb_actions.Values | None:
        if self._fb["forward_state"] == "deter":  # made by all rows before, and after a reset the same for any frame
            return None
        frames, features = self._seen(trajectory, slice(step, step + 1))

        def values(actions: np.ndarray) -> np.ndarray:
            images, embeddings = (None if x is None else _repeated(x[0], len(actions)) for x in (frames, features))
            return np.asarray(self._agent.fb_values(images, actions, embeddings), np.float32)

        return values

    def _seen(self, trajectory: Trajectory, rows: slice) -> tuple[np.ndarray, np.ndarray | None]:
        """Those rows' frames at the agent's size, and their embeddings where F sees them."""
        _check_actions(trajectory, int(np.prod(self._agent.act_space["action"].shape)))
        size = self._agent.obs_space["image"].shape[0]
        frames = trajectory.frames[rows]
        frames = frames if frames.shape[1:3] == (size, size) else fit(frames, size)
        wanted = self._fb["forward_state"] == "dino"
        return frames, self._context.embed(trajectory, self._fb)[rows] if wanted else None


class OfflineNetworks:
    """F and B on DINOv3 embeddings, trained on episodes of other seeds than the scored ones.

    Args:
        context: Embeds frames.
        objective: paper or measure.
        mixed: Train on noisy and stopping experts as well as on random actions.
    """

    def __init__(self, context: "Context", objective: str, mixed: bool) -> None:
        from genreward_jax.fb import offline

        self._context = context
        episodes = context.fb_episodes(mixed)
        what = "random actions, noisy and stopping experts" if mixed else "random actions"
        self.about = f"{UPDATES} updates ({objective}) on {len(episodes)} episodes of other seeds: {what}"
        self._fb = offline_settings(context.config.fb, objective)
        self.goal = self._fb["goal"]
        self._features = context.embed_all(episodes, self._fb)
        self._actions = [episode.actions for episode in episodes]
        self._aimed, self._scale = "", None
        context.say(f"Training forward-backward networks: {self.about} ...")
        with tqdm(total=UPDATES, unit="update", desc=f"fb {objective}", mininterval=1) as bar:
            self._networks = offline.train(
                self._features,
                self._actions,
                context.fb_goal(self._fb),
                objective=objective,
                updates=UPDATES,
                seed=int(context.config.seed),
                progress=lambda done, _: bar.update(done - bar.n),
            )

    def aim(self, task: str) -> None:
        if task != self._aimed:
            self._networks = self._networks.with_goal(self._context.fb_goal(self._fb, task))
            self._aimed, self._scale = task, None

    def values(self, trajectory: Trajectory, normalised: bool = False) -> np.ndarray:
        _check_actions(trajectory, self._networks.actions)
        found = self._networks.values(self._context.embed(trajectory, self._fb), trajectory.actions)
        if not normalised:
            return found
        if self._scale is None:  # over the episodes of the training, as a run's is over its replay
            states, actions = (np.concatenate([x[:-1] for x in parts]) for parts in (self._features, self._actions))
            replayed = self._networks.values(states, actions)
            self._scale = float(replayed.mean()), max(float(replayed.std()), 1e-8)
        return (found - self._scale[0]) / self._scale[1]

    def at(self, trajectory: Trajectory, step: int) -> fb_actions.Values:
        _check_actions(trajectory, self._networks.actions)
        state = self._context.embed(trajectory, self._fb)[step]
        return lambda actions: self._networks.values(_repeated(state, len(actions)), actions)


def offline_settings(section: Mapping[str, Any], objective: str) -> dict[str, Any]:
    """The ``fb`` section as it holds here: F and B both on embeddings of every frame."""
    here = {"objective": objective, "forward_state": "dino", "backward_state": "dino", "dino_every": 0}
    return fb_settings.resolve({**section, **here, "z": "backward", "encoder": "live"})


def _repeated(row: np.ndarray, count: int) -> np.ndarray:
    """(count, ...) of the same row, without a copy."""
    return np.broadcast_to(row, (count, *row.shape))


def check_given(trajectories: list[Trajectory], wanted: int) -> None:
    """Refuses a user's own episodes without actions before minutes are spent on others."""
    for trajectory in trajectories:
        _check_actions(trajectory, wanted)


def _check_actions(trajectory: Trajectory, wanted: int) -> None:
    if trajectory.actions.shape[1:] != (wanted,):
        raise UserError(
            f"r_FB needs the {wanted} numbers of each action; those of the {trajectory.behaviour} episode "
            f"{trajectory.seed} have {trajectory.actions.shape[1]}: give actions with the episodes, or leave rewards "
            "with a forward-backward term out of REWARDS=."
        )


def networks_for(context: "Context", objective: str, mixed: bool = False) -> Networks:
    """The run's networks where it has some of this objective and no others are asked for, else offline ones.

    Args:
        context: Keeps what was made, so that rewards with the same networks share them.
        objective: paper or measure.
        mixed: Train on the larger set; then it is never a run's networks.
    """
    own = not mixed and context.run_objective == objective
    key = (objective, mixed, own)
    if key not in context.networks:
        context.networks[key] = RunNetworks(context) if own else OfflineNetworks(context, objective, mixed)
    return context.networks[key]
