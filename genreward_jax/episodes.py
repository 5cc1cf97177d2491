"""Statistics of training episodes, from the rows as they enter the replay."""

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from genreward_jax.shaping import Row


@dataclass
class _Episode:
    score: float = 0.0  # the environment's own dense return, whatever reward it trains on
    score_env: float = 0.0  # the return of the environment's reward as it is used (dense, sparse or none)
    total: float = 0.0
    added: float = 0.0
    success: float = np.nan  # where the environment does not say
    success_last: float = np.nan
    length: int = 0
    paid: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


class EpisodeStats:
    """Follows each environment's episode; gives its figures when it ends.

    Args:
        names: Names of the method's terms.
    """

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.episodes: dict[int, _Episode] = defaultdict(_Episode)

    def add(self, row: Row, worker: int) -> dict[str, float] | None:
        """Takes a shaped row; gives metrics by their full names if the row ends an episode, else None."""
        if row["is_first"]:
            self.episodes[worker] = _Episode()
        episode = self.episodes[worker]
        dense = row.get("log/reward_dense", row["reward_env"])
        episode.score += float(dense)
        episode.score_env += float(row["reward_env"])
        episode.total += abs(float(row["reward"]))
        episode.added += abs(float(row["reward"]) - float(row["reward_env"]))
        episode.success_last = float(row.get("log/success", np.nan))
        episode.success = float(np.fmax(episode.success, episode.success_last))
        episode.length += not row["is_first"]
        for name in self.names:
            value = float(row[f"reward_{name}"])
            if np.isfinite(value):
                episode.paid[name].append(value)
        return self._figures(episode) if row["is_last"] else None

    def _figures(self, episode: _Episode) -> dict[str, float]:
        figures = {
            "episode/score": episode.score,
            "episode/score_env": episode.score_env,
            "episode/success": episode.success,
            "episode/success_last": episode.success_last,
            "episode/length": episode.length,
            "reward/total": episode.total,
            "reward/share": episode.added / episode.total if episode.total else 0.0,
        }
        for name, values in episode.paid.items():
            figures[f"reward/{name}"] = float(np.mean(values))
        return figures
