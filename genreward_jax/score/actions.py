"""``actions_<reward>.png``: what a scored reward's forward-backward networks think of each action in one state."""

import re
from collections.abc import Sequence
from pathlib import Path

from genreward_jax.figures import fb_actions
from genreward_jax.score.context import Context
from genreward_jax.score.forward_backward import Networks
from genreward_jax.score.scorers import Scorer
from genreward_jax.score.trajectories import Trajectory


def draw(folder: Path, scorers: Sequence[Scorer], trajectories: list[Trajectory], context: Context) -> list[Path]:
    """Draws a picture for each networks object, named after the first reward that reads it.

    Args:
        folder: For the pictures.
        scorers: Prepared; those without networks have no picture.
        trajectories: The scored episodes; :func:`moment` chooses the state.
        context: Its goal is shown; it is told why there is no picture where F sees more than a frame.

    Returns:
        Of the pictures; none where an action has fewer than two numbers.
    """
    trajectory, step = moment(trajectories)
    if not fb_actions.pairs_of(trajectory.actions.shape[-1]):
        return []
    named: dict[int, tuple[str, Networks]] = {}
    for scorer in scorers:
        if scorer.networks is not None:
            named.setdefault(id(scorer.networks), (scorer.name, scorer.networks))
    written = [_picture(folder, name, networks, trajectory, step, context) for name, networks in named.values()]
    return [path for path in written if path is not None]


def moment(trajectories: Sequence[Trajectory]) -> tuple[Trajectory, int]:
    """The state that is asked about: an episode, and its row a third of the way to the first success.

    Of an episode without success, a third of the way to its end. The episode is the first expert's, or the first.
    """
    trajectory = next((t for t in trajectories if t.behaviour == "expert"), trajectories[0])
    reached = trajectory.success_step
    return trajectory, (reached if reached >= 0 else trajectory.length) // 3


def _picture(
    folder: Path, name: str, networks: Networks, trajectory: Trajectory, step: int, context: Context
) -> Path | None:
    networks.aim("")  # judging may have left them at another task's goal
    values = networks.at(trajectory, step)
    if values is None:
        context.say(
            f"{name}: no picture of its actions, as its F sees the world model's state (--fb.forward_state deter) and "
            "not a frame."
        )
        return None
    action = trajectory.actions[step]
    path = folder / f"actions_{re.sub(r'[^-.0-9A-Za-z_]', '_', name)}.png"  # a user's own is module:Class
    fb_actions.actions_picture(
        path,
        values,
        action,
        names=fb_actions.NAMES if trajectory.task else [f"number {i + 1}" for i in range(len(action))],
        frames=[
            (f"the state: step {step}", trajectory.frames[step]),
            ("the goal's key frame", context.goal().key_frame),
        ],
        title=f"F·B of the actions in one state: {name}, {trajectory.task.replace('_', ' ') or 'given episodes'}",
        note=_note(networks, trajectory, step),
    )
    return path


def _note(networks: Networks, trajectory: Trajectory, step: int) -> str:
    reached = f"first success at {trajectory.success_step}" if trajectory.success.any() else "no success"
    where = f"{trajectory.behaviour} episode of seed {trajectory.seed}, step {step} of {trajectory.length}, {reached}"
    told = "key frame" if networks.goal == "key" else "last frames"
    return f"{where}; B is told of the goal's {told}\n{networks.about}"
