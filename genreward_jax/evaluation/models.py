"""How good a family of models is for the reward: figures out of the arrays that ``torch_bridge.measuring`` leaves."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genreward_jax.demonstrations import split

SHOWN = 8  # simulator steps between the frames judged one by one
# Figure, what it must reach on the paper's tasks with `embedded`, and how it is written.
WANTED = {
    "psnr": (28.0, "{:.1f} dB"),
    "auc_random": (0.95, "{:.3f}"),
    "auc_half": (0.85, "{:.3f}"),
    "key_frame": (0.8, "{:.0%}"),
    "generated": (0.8, "{:.0%}"),
}
GOALS = ("generated", "other", "still", "true")


@dataclass
class Expert:
    """What was measured on an expert's episode, and the rewards of all behaviours on its seed.

    Attributes:
        task, seed, quality: Which episode.
        success_step: First step with success, -1 if none.
        phases: Names of the phases at every :data:`SHOWN`-th step.
        goals: Kind of goal ('generated', 'still', 'true') to its latent, (D,).
        windows: Behaviour to the latents of its reward windows, (W, D).
        features, made_features: DINO's of the episode's and of the generated frames, (N, 384).
        similarity: CLIP's score of each shown frame, (N,).
        psnr: Of the autoencoder, in dB.
        made: The generated frames, uint8.
    """

    task: str
    seed: int
    quality: str
    success_step: int
    phases: list[str]
    goals: dict[str, np.ndarray]
    windows: dict[str, np.ndarray]
    features: np.ndarray
    made_features: np.ndarray
    similarity: np.ndarray
    psnr: float
    made: np.ndarray


def read(folder: Path) -> list[Expert]:
    """The experts of a measurement, in the order of the evaluation set."""
    from safetensors.numpy import load_file

    rows = json.loads((folder / "episodes.json").read_text())
    arrays = load_file(folder / "arrays.safetensors")
    windows: dict[tuple, dict[str, np.ndarray]] = {}
    for number, row in enumerate(rows):
        key = (row["task"], row["quality"], row["seed"])
        windows.setdefault(key, {})[row["behaviour"]] = arrays[f"{number}/windows"]
    experts = []
    for number, row in enumerate(rows):
        if row["behaviour"] != "expert":
            continue
        own = {key.split("/")[1]: value for key, value in arrays.items() if key.startswith(f"{number}/")}
        shown = [phase for phase, step in zip(row["phases"], row["steps"], strict=True) if step % SHOWN == 0]
        goals = {"generated": own["goal"], "still": own["still"], "true": own["true"]}
        beside = windows[row["task"], row["quality"], row["seed"]]
        kept = {name: own[name] for name in ("features", "made_features", "similarity", "made")}
        facts = (row["task"], row["seed"], row["quality"], row["success_step"], shown, goals, beside)
        experts.append(Expert(*facts, psnr=own["psnr"].item(), **kept))
    return experts


def auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Area under the ROC curve: how often a positive is above a negative, ties counted half."""
    above = positive[:, None] - negative[None]
    return float(((above > 0) + 0.5 * (above == 0)).mean())


def cosines(windows: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Eq. 5 for several windows: (W, D) and (D,) to (W,)."""
    windows, goal = windows.astype(np.float64), goal.astype(np.float64)
    return windows @ goal / (np.linalg.norm(windows, axis=-1) * np.linalg.norm(goal))


def corrected(rewards: np.ndarray, baseline: float) -> np.ndarray:
    """What the still first frame already scores taken off, the rest rescaled to [0, 1]."""
    return np.clip((rewards - baseline) / max(1e-9, 1 - baseline), 0.0, 1.0)


def episode_reward(windows: np.ndarray, goal: np.ndarray, baseline: float | None = None) -> float:
    """r_video summed over an episode; baseline-corrected where a baseline is given."""
    rewards = cosines(windows, goal)
    return float((rewards if baseline is None else corrected(rewards, baseline)).sum())


def ranking(experts: list[Expert], kind: str, against: str, fixed: bool, correct: bool = False) -> float:
    """Area under the ROC curve of r_video's sum, expert against another behaviour, mean over the tasks given.

    Args:
        experts: Of one group and quality.
        kind: Goal: 'generated', 'still', 'true', or 'other' (what was generated for the next task of the group).
        against: 'random' or 'stop50'.
        fixed: One seed's goal for the episodes of all other seeds, as in training, mean over the seeds; else each
            episode is compared with the goal made from its own first frame.
        correct: Baseline-corrected, see :func:`corrected`.
    """
    tasks = list(dict.fromkeys(e.task for e in experts))
    areas = []
    for index, task in enumerate(tasks):
        own = [e for e in experts if e.task == task]
        others = [e for e in experts if e.task == tasks[(index + 1) % len(tasks)]] if kind == "other" else own
        pairs = []
        goals = [e.goals["generated" if kind == "other" else kind] for e in others]
        for number, goal in enumerate(goals[: len(own)]):
            stands = others[number].goals["still"]
            base = float(cosines(stands[None], goal)[0]) if correct else None
            rest = [e for i, e in enumerate(own) if (i != number) == fixed] or own
            pairs.append({b: [episode_reward(e.windows[b], goal, base) for e in rest] for b in ("expert", against)})
        if not fixed:  # each seed was compared with its own goal: the seeds make one sample
            pairs = [{b: [r for pair in pairs for r in pair[b]] for b in ("expert", against)}]
        areas += [auc(np.array(pair["expert"]), np.array(pair[against])) for pair in pairs]
    return float(np.mean(areas))


def key_frame_is_late(expert: Expert) -> bool | None:
    """Whether CLIP's choice lies in the last fifth from approach to success, or after; None without success."""
    if expert.success_step < 0:
        return None
    near = [i for i, phase in enumerate(expert.phases) if phase in ("near", "held")]
    approach = min(near[0] * SHOWN, expert.success_step) if near else 0
    chosen = int(expert.similarity.argmax()) * SHOWN
    return chosen >= expert.success_step - (expert.success_step - approach) / 5


def generated_is_nearer(expert: Expert, video: Expert | None = None) -> bool | None:
    """Whether a generated video ends nearer to the seed's true success frames than to its first frame.

    Nearness is DINO's cosine, to the success frames on average. (To the nearest of them it would say nothing: then the
    video made for another task passes as well.)

    Args:
        expert: Whose frames are compared with.
        video: Whose generated video; the expert's own by default, another task's for a control.
    """
    done = [i for i, phase in enumerate(expert.phases) if phase == "done"]
    if not done:
        return None
    last = (video or expert).made_features[-1]
    return bool(cosines(expert.features[done], last).mean() > cosines(expert.features[:1], last)[0])


def _beside(experts: list[Expert]) -> list[tuple[Expert, Expert]]:
    """Each expert with the one of the same rank of the group's next task."""
    tasks = list(dict.fromkeys(e.task for e in experts))
    by_task = {task: [e for e in experts if e.task == task] for task in tasks}
    following = dict(zip(tasks, tasks[1:] + tasks[:1], strict=True))
    return [pair for task in tasks for pair in zip(by_task[task], by_task[following[task]], strict=False)]


def share(answers: list[bool | None]) -> float:
    """Share of yes among the answers that there are."""
    given = [answer for answer in answers if answer is not None]
    return float(np.mean(given)) if given else float("nan")


def figures(experts: list[Expert]) -> dict[str, float]:
    """All figures of one group of tasks in one quality; names as in :data:`WANTED`, with their controls."""
    made: dict[str, float] = {
        "psnr": float(np.mean([e.psnr for e in experts])),
        "key_frame": share([key_frame_is_late(e) for e in experts]),
        "generated": share([generated_is_nearer(e) for e in experts]),
        "generated_other": share([generated_is_nearer(e, other) for e, other in _beside(experts)]),
        "videos": len(experts),
        "without_success": sum(e.success_step < 0 for e in experts),
    }
    for against, short in (("random", "random"), ("stop50", "half")):
        for fixed in (True, False):
            for kind in GOALS:
                name = f"auc_{short}" + ("" if fixed else "_own") + ("" if kind == "generated" else f"_{kind}")
                made[name] = ranking(experts, kind, against, fixed)
            name = f"auc_{short}" + ("" if fixed else "_own") + "_corrected"
            made[name] = ranking(experts, "generated", against, fixed, correct=True)
    return made


def all_figures(experts: list[Expert]) -> dict[str, Any]:
    """Figures by group ('paper', 'held_out', 'training', 'paper, full quality') and by task of the first two."""
    made: dict[str, Any] = {}
    for group in split.GROUPS:
        tasks = split.tasks_of(group)
        for quality in ("fast", "full"):
            chosen = [e for e in experts if e.task in tasks and e.quality == quality]
            if not chosen:
                continue
            name = group if quality == "fast" else f"{group}, full quality"
            made[name] = figures(chosen)
            if group != "training":
                by_task = {task: figures([e for e in chosen if e.task == task]) for task in tasks}
                made[name]["tasks"] = {
                    task: {k: v for k, v in of.items() if "_other" not in k} for task, of in by_task.items()
                }
    return made


def _of_one_task(experts: list[Expert], task: str) -> dict[str, float]:
    made = figures([e for e in experts if e.task == task])
    return {name: value for name, value in made.items() if "_other" not in name}  # there is no other task in it
