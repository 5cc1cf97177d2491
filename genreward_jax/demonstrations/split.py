"""Which tasks the embedded models may see, as ``configs/split.yaml`` says."""

from genreward_jax.config import read_yaml
from genreward_jax.envs.metaworld import TASKS

GROUPS = ("training", "paper", "held_out")


def tasks_of(group: str) -> tuple[str, ...]:
    """The group's tasks by underscore name: 'training' (40), 'paper' (5) or 'held_out' (5).

    Raises:
        KeyError: No such group.
    """
    split = read_yaml("split")
    if group == "training":
        kept = {*split["paper"], *split["held_out"]}
        return tuple(task for task in TASKS if task not in kept)
    return tuple({"paper": split["paper"], "held_out": split["held_out"]}[group])
