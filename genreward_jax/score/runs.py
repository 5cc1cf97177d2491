"""A run directory's own episodes, out of its replay."""

from pathlib import Path

import numpy as np

from genreward_jax.errors import UserError
from genreward_jax.replay_files import chains
from genreward_jax.score.trajectories import Trajectory

_COLUMNS = ("image", "action", "reward_env", "is_first", "is_last")


def run_episodes(run: str | Path, task: str, count: int) -> list[Trajectory]:
    """Whole episodes of a run's replay, spread evenly over its time, the latest among them.

    The replay does not keep whether an episode was a success, so none of them counts as one.

    Args:
        run: The run directory.
        task: Underscore name.
        count: At most so many.

    Returns:
        Trajectories of behaviour 'run', oldest first; their seed is their number in the replay.

    Raises:
        UserError: There is no replay, none of its episodes is whole, or it holds no pictures.
    """
    files = sorted((Path(run) / "replay").glob("*.npz"))
    if not files:
        raise UserError(f"The run in '{run}' has no replay; let it train until its first save.")
    episodes = [span for chain in chains(files) for span in _spans(chain)]
    if not episodes:
        raise UserError(f"The replay of '{run}' holds no whole episode yet; let it train on.")
    chosen = np.unique(np.linspace(0, len(episodes) - 1, min(count, len(episodes))).round().astype(int))
    return [_trajectory(episodes[number], task, int(number)) for number in chosen]


Span = list[tuple[Path, int, int]]  # parts of files that make up one episode: file, first row, row after the last


def _spans(chain: list[Path]) -> list[Span]:
    """Where the whole episodes of one environment lie; pictures are not read for it."""
    found, current = [], None
    for file in chain:
        with np.load(file, allow_pickle=False) as data:
            if "image" not in data.files:
                raise UserError(f"The replay in '{file.parent}' holds no pictures, which rewards are scored on.")
            first, last = data["is_first"], data["is_last"]
        begin = 0
        for row in range(len(first)):
            if first[row]:
                current, begin = [], row
            if last[row] and current is not None:
                found.append([*current, (file, begin, row + 1)])
                current = None
        if current is not None:
            current.append((file, begin, len(first)))
    return found


def _trajectory(span: Span, task: str, number: int) -> Trajectory:
    parts = []
    for file, begin, end in span:
        with np.load(file, allow_pickle=False) as data:
            parts.append({name: data[name][begin:end] for name in _COLUMNS})
    rows = {name: np.concatenate([part[name] for part in parts]) for name in _COLUMNS}
    actions = rows["action"].astype(np.float32)
    actions[-1] = 0
    return Trajectory(
        task=task,
        behaviour="run",
        seed=number,
        frames=rows["image"],
        actions=actions,
        rewards=rows["reward_env"].astype(np.float32),
        success=np.zeros(len(actions), bool),
    )
