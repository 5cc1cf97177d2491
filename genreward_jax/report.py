"""What a run tells: the block before the start and the one at its end."""

from pathlib import Path
from typing import Any

import elements

from genreward_jax import generating, loggers, parts, suites
from genreward_jax.config import method_flags
from genreward_jax.device import cores
from genreward_jax.evaluation.episodes import said_success
from genreward_jax.methods import load_method
from genreward_jax.progress import amount, block, clock
from genreward_jax.rewarding import Rewarding

# Seconds of a train step and of an environment step with its policy call, measured on 2 cores (docs/performance.md).
MEASURED = {"cpu": (0.45, 0.02), "smoke": (0.10, 0.02)}


def check_goal_source(config: elements.Config) -> None:
    """Refuses a goal video that cannot be read or generated, before anything is made."""
    if not load_method(config.method, dict(config.reward)) and generating.has_no_goal(config):
        return  # and none is needed
    generating.check(config)
    if config.goal.source not in ("generated", "expert"):
        from genreward_jax.video import read_video

        read_video(config.goal.source)


def estimate(config: elements.Config, steps: int) -> str:
    """How long ``steps`` more steps take, as far as that was ever measured."""
    if config.preset not in MEASURED or config.jax.platform != "cpu":
        return "unknown here before it runs; the bar will tell"
    train_s, step_s = MEASURED[config.preset]
    updates = steps * config.run.train_ratio / (config.batch_size * config.batch_length)
    return f"about {clock(updates * train_s + steps * step_s + 60)} (measured on 2 cores; others differ)"


def start_block(config: elements.Config, rewarding: Rewarding, started_at: int) -> str:
    """Task, method, goal, models, device, memory, disk and time, before the start."""
    suite, task = parts.split_task(config.task)
    steps = int(config.run.steps) - started_at
    rows = min(int(config.replay.size), int(config.run.steps))
    memory = rows * parts.row_bytes(config, bool(parts.dino_every(config, rewarding.terms)))
    env = config.env[suite]
    lines = [
        ("task", f"{task} ({suite}), {env.reward} reward, {_episode(config, suite)}"),
        ("method", _method_line(config, rewarding)),
        ("goal", _goal_line(rewarding)),
        ("models", _models_line(rewarding)),
        ("device", f"{config.jax.platform} ({cores()} cores), {config.run.envs} environment(s)"),
        ("agent", f"DreamerV3, preset {config.preset}, batch {config.batch_size}x{config.batch_length}"),
        ("replay", f"up to {amount(memory)} of memory, about {amount(0.5 * memory)} of disk, for {rows:,} steps"),
        ("run", f"{config.logdir}{f' (continued at step {started_at:,})' if started_at else ''}"),
        ("time", f"{estimate(config, steps)} for {steps:,} steps"),
    ]
    if parts.uses_fb(rewarding.terms) and config.fb.pays_from == "frozen" and config.run.steps <= config.fb.train_steps:
        text = f"FB learns for {config.fb.train_steps:,.0f} steps and pays afterwards: in this run it never will"
        lines.append(("note", text))
    return "\n" + block(lines) + "\n"


def _method_line(config: elements.Config, rewarding: Rewarding) -> str:
    """The method, its weights, and the flags it sets, with the values that are in force."""
    text = f"{config.method}{''.join(f', {t.name} x {t.weight:g}' for t in rewarding.terms)}"
    flags = method_flags(config.method)
    return f"{text}; with {', '.join(f'{flag} {config.flat[flag]}' for flag in flags)}" if flags else text


def _episode(config: elements.Config, suite: str) -> str:
    """How long episodes are, and what draws them."""
    env = config.env[suite]
    if suite == "metaworld":
        return f"{env.length} steps an episode, {env.quality} rendering"
    limit = env.length or -(-suites.gym_look(config).limit // env.repeat)
    seen = ", ".join(suites.observed(suites.gym_look(config).obs))
    return f"{f'at most {limit}' if limit else 'unlimited'} steps an episode; it sees {seen}"


def _goal_line(rewarding: Rewarding) -> str:
    text = rewarding.goal_source
    if rewarding.goal is not None:
        text += f"; key frame {rewarding.goal.key_index + 1} of {len(rewarding.goal.video)}"
    return text


def _models_line(rewarding: Rewarding) -> str:
    if rewarding.bridge is None:
        return "none needed"
    info = rewarding.bridge.describe()
    text = f"{info['family']} on {info['device']}, {info['dtype']}, frames of {rewarding.bridge.frame_size} pixels"
    if not info.get("trained", True):
        text += "; RANDOM weights, so the reward's values mean nothing yet: they show that the line works"
    return text


def end_block(run: Any, stopped: str, seconds: float) -> str:
    """What the run reached and where its pictures are."""
    folder, step = Path(run.config.logdir), int(run.step)
    evaluations = [row for row in loggers.read_scores(folder) if "eval/score" in row]
    stats = run.rewarding.shaper.stats()
    lines = [("steps", f"{step:,} environment steps, {int(run.updates):,} train steps in {clock(seconds)}")]
    if evaluations:
        last = evaluations[-1]
        lines.append(
            (
                "evaluation",
                f"return {last['eval/score']:.1f}{said_success(last['eval/success'])} over "
                f"{last['eval/episodes']:.0f} episodes at step {last['step']:,}",
            )
        )
    if run.rewarding.terms:
        share = run.latest.get("reward/share", 0.0)
        lines.append(
            (
                "rewards",
                f"{stats['paid']:.0f} paid, {share:.2%} of the last episode's reward by size; "
                f"the loop waited {stats['waited_s']:.1f} s for them",
            )
        )
    lines += [("warning", text) for text in run.watch.warnings.values()]
    names = ("videos/episode_beside_goal.mp4", "plots/learning_curve.png", "goal/similarity.png")
    lines += [("look at", str(folder / name)) for name in names if (folder / name).exists()]
    again = "the same command goes on from here" if stopped or step < run.config.run.steps else "raise STEPS= to go on"
    title = f"Stopped by {stopped} and saved; {again}." if stopped else f"Done; {again}."
    return f"\n{title}\n{block(lines)}\n"
