"""``eval RUN``: plays a run's policy and writes returns, successes and videos."""

from functools import partial
from pathlib import Path

import numpy as np

from genreward_jax.arguments import Parser
from genreward_jax.errors import UserError


def run(argv: list[str]) -> int:
    """Plays and writes ``<out>/results.json`` and ``<out>/episode_<i>.mp4``; gives the exit code."""
    parser = Parser("eval", "RUN [--episodes N] [--seed K] [--out FOLDER] [--data FOLDER]", description=__doc__)
    parser.add_argument("run", help="a run directory")
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument(
        "--seed",
        type=int,
        default=-1,
        help="of the episodes; -1: those of the evaluations of a run with one environment",
    )
    parser.add_argument("--out", default="", help="'' is <run>/eval/<step>")
    parser.add_argument("--data", default="", help="a new folder: the episodes as a LeRobot data set as well")
    args = parser.parse_args(argv)
    if args.episodes < 1:
        raise UserError(f"--episodes is {args.episodes}; it must be 1 or more.")
    from dreamerv3_patches.apply import require

    require()
    from genreward_jax import suites
    from genreward_jax.artist import FPS, Artist
    from genreward_jax.datasets.lerobot_writer import check_target
    from genreward_jax.evaluation import episodes, recording
    from genreward_jax.evaluation.policy import load
    from genreward_jax.rundir import write_json

    if args.out and Path(args.out).exists() and not Path(args.out).is_dir():
        raise UserError(f"--out {args.out} is a file; name a folder.")
    data = Path(args.data).expanduser() if args.data else None
    if data is not None:
        check_target(data)
    policy = load(args.run)
    out = Path(args.out or Path(args.run) / "eval" / f"{policy.step:012d}")
    print(f"Playing {args.episodes} episodes of {policy.config.task} at step {policy.step:,} ...", flush=True)
    seed = suites.EVALUATION_SEED if args.seed < 0 else args.seed
    envs = episodes.open_envs(partial(suites.make_env, policy.config, seed=suites.seed_of(seed, 0), film=True))
    played = episodes.play(policy.agent, envs, args.episodes, film=args.episodes)
    artist = Artist()
    for index, episode in enumerate(played):
        if episode.frames:  # some environments show nothing
            artist.video(out / f"episode_{index:03d}.mp4", episode)
        said = "" if np.isnan(episode.success) else ", success" if episode.success else ", no success"
        print(f"  episode {index + 1:3d}: return {episode.score:8.1f}{said}", flush=True)
    for failure in artist.close():
        raise failure
    figures = episodes.summary(played)
    write_json(out / "results.json", _results(args.run, policy, seed, figures, played))
    success = episodes.said_success(figures["eval/success"])
    print(f"return {figures['eval/score']:.1f}{success}; results{' and videos' * bool(played[0].frames)} in {out}")
    if data is not None:
        recording.write(data, played, policy.config, round(FPS))
        print(f"A LeRobot data set of them: {data}")
    return 0


def _results(name: str, policy, seed: int, figures: dict, played: list) -> dict:
    number = lambda value: None if np.isnan(value) else value  # JSON knows no NaN
    kept = ("score", "score_env", "success", "success_last", "length")
    return {
        "run": name,
        "step": policy.step,
        "task": policy.config.task,
        "seed": seed,
        "mean": {key.removeprefix("eval/"): number(value) for key, value in figures.items()},
        "episodes": [{key: number(getattr(episode, key)) for key in kept} for episode in played],
    }
