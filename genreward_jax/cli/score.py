"""``score``: judges rewards on fixed episodes before GPU days are spent on them."""

import math
import time
from argparse import Namespace
from pathlib import Path

import elements

from genreward_jax import config as config_lib
from genreward_jax import provenance
from genreward_jax.arguments import Parser
from genreward_jax.errors import UserError

USAGE = (
    "--task metaworld_<task> [--rewards video,fb_measure,module:Class] [--episodes 8] [--run RUN] [--data FOLDER] "
    "[--tasks a,b|none] [--out FOLDER] [--across FOLDER] [--goal.source generated|expert|FILE]"
)


def run(argv: list[str]) -> int:
    """Writes score.json, score.png and score.html into ``--out`` (default: scores/<task>, or <run>/score).

    Of rewards with a forward-backward term also actions_<reward>.png: r_FB over the actions in one state.

    All other flags are those of ``train``: goal, model, bridge, environment and weights are what a run with them has.
    """
    parser = _parser()
    if {"-h", "--help"} & set(argv):
        parser.print_help()
        print(f"\n{run.__doc__.strip()}\nSee docs/score.md; all other flags: configs/defaults.yaml.")
        return 0
    args, rest = parser.parse_known_args(argv)
    args.task_given = bool(args.run) or any(flag.partition("=")[0] == "--task" for flag in rest)
    if args.across:
        return _across(Path(args.across))
    if args.episodes < 1:
        raise UserError(f"--episodes is {args.episodes}; it must be 1 or more.")
    configs = _Configs(rest, args.run)
    out = _out(args, configs(""))
    from genreward_jax.envs.metaworld import check_task
    from genreward_jax.score.names import make_scorers, with_mixed

    if args.tasks not in ("", "none"):  # before minutes of drawing
        [check_task(task) for task in _split(args.tasks)]
        if not _makes_goals(configs("")):
            raise UserError(
                f"--tasks {args.tasks} (TASKS=) asks for other tasks' goals, but GOAL={configs('').goal.source} names "
                "one video: leave one of them out."
            )
    scorers = make_scorers(with_mixed(_split(args.rewards), configs.run_objective), configs)
    if args.data and not args.task_given and configs("").goal.source in ("generated", "expert"):
        raise UserError(
            "The episodes of --data have no task and no goal: name their task (TASK=), or give a goal video (GOAL=file "
            "and --goal.prompt 'what it shows')."
        )
    wants_task = [scorer.name for scorer in scorers if scorer.reads_networks]
    if args.data and not args.task_given and wants_task:
        raise UserError(
            f"{', '.join(wants_task)} (REWARDS=) trains networks on random episodes of a task, and the episodes of "
            "--data have none: name their task (TASK=), or leave it out."
        )
    return _score(args, configs, scorers, out, argv)


def _parser() -> Parser:
    from genreward_jax.score.names import CONTROLS, DEFAULT, FB, VIDEO

    parser = Parser("score", USAGE, description=__doc__, add_help=False)
    about = (
        f"{', '.join((*VIDEO, *FB))}, a method, or module:Class; the controls {', '.join(CONTROLS)} are always there"
    )
    parser.add_argument("--rewards", default=",".join(DEFAULT), help=about)
    parser.add_argument(
        "--episodes", type=int, default=8, help="seeds that each behaviour plays, and episodes of a run"
    )
    parser.add_argument("--run", default="", help="a run directory: its settings, goal, networks and own episodes")
    parser.add_argument("--data", default="", help="a folder of your own episodes: mp4, npz, or a LeRobot data set")
    parser.add_argument("--camera", default="", help="of a LeRobot data set with several")
    parser.add_argument("--tasks", default="", help="whose goals the experts are judged for too; none, or a,b,...")
    parser.add_argument(
        "--across", default="", help="scores nothing: one table of the scores in this folder, a task each"
    )
    parser.add_argument("--out", default="", help="folder for score.json, score.png, score.html and actions_*.png")
    return parser


class _Configs:
    """The configuration that a run with a method would have; '' is the command's own.

    Args:
        argv: Flags as of train.
        run: A run directory whose configuration lies under them, or ''.
    """

    def __init__(self, argv: list[str], run: str) -> None:
        from genreward_jax.rundir import run_config

        self._argv, self._base = argv, run_config(run) if run else None
        self._made: dict[str, elements.Config] = {}

    def __call__(self, method: str) -> elements.Config:
        if method not in self._made:
            self._made[method] = self._make([*self._argv, *(["--method", method] if method else [])])
        return self._made[method]

    @property
    def run_objective(self) -> str:
        """What the run's own forward-backward networks are trained on; '' where there is no run or it has none."""
        from genreward_jax import parts

        return "" if self._base is None else parts.fb_objective(self._base)

    def _make(self, argv: list[str]) -> elements.Config:
        from genreward_jax import parts
        from genreward_jax.envs.metaworld import check_task
        from genreward_jax.envs.rendering import resolve_quality

        config = config_lib.parse(argv, base=self._base)
        config = config.update(task=f"metaworld_{check_task(config.task)}")
        parts.check(config)
        if self._base is not None and argv == self._argv:
            _check_run_s_own(self._base, config, bool(self.run_objective))
        return config.update({"env.metaworld.quality": resolve_quality(config.env.metaworld.quality)})


def _split(names: str) -> list[str]:
    found = [name.strip() for name in names.split(",") if name.strip()]
    if not found:
        raise UserError("--rewards (REWARDS=) is empty; name one, as video.")
    return found


def _out(args: Namespace, config: elements.Config) -> Path:
    task = config.task.removeprefix("metaworld_")
    default = Path(args.run) / "score" if args.run else Path("scores") / task
    out = Path(args.out).expanduser() if args.out else default
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} (OUT=) is a file; name a folder.")
    return out


def _makes_goals(config: elements.Config) -> bool:
    """Whether each task has a goal of its own, and not all the video that was named."""
    return config.goal.source in ("generated", "expert")


def _other_tasks(args: Namespace, config: elements.Config, own: bool) -> tuple[str, ...]:
    """Whose goals the experts are judged for as well: by default the paper's, where goals can be made."""
    from genreward_jax.demonstrations.split import tasks_of
    from genreward_jax.envs.metaworld import check_task

    if args.tasks == "none" or not own or not _makes_goals(config):
        return ()
    named = _split(args.tasks) if args.tasks else tasks_of("paper")
    return tuple(task for task in map(check_task, named) if task != check_task(config.task))


def _score(args: Namespace, configs: _Configs, scorers: list, out: Path, argv: list[str]) -> int:
    from genreward_jax.progress import clock
    from genreward_jax.score import actions, report
    from genreward_jax.score.context import Context
    from genreward_jax.score.judging import judge

    config, start = configs(""), time.perf_counter()
    context = Context(config, args.run, _say, own_rewards=not all(scorer.ours for scorer in scorers))
    long = [text for scorer in scorers if (text := scorer.trains(context))]
    if long:
        _say("What takes minutes, and only drawing and embedding are kept for the next time:\n  " + "\n  ".join(long))
    try:
        for scorer in scorers:
            scorer.check(context)
        if not _makes_goals(config):
            context.goal()  # a video that cannot be read is said before minutes of drawing
        trajectories = _episodes(args, config, context, any(scorer.reads_networks for scorer in scorers))
        own = any(trajectory.behaviour == "expert" and trajectory.task for trajectory in trajectories)
        judged = judge(scorers, trajectories, context, _other_tasks(args, config, own), _say)
        goal = context.goal()
        score = report.Score(
            task=context.task if own else "",
            goal=goal.source,
            command=f"python -m genreward_jax score {' '.join(argv)}",
            commit=provenance.commit(),
            seeds=sorted({t.seed for t in trajectories if t.behaviour not in ("run", "given")}),
            trajectories=trajectories,
            values=judged.values,
            figures=judged.figures,
            discrimination=judged.discrimination,
            about=judged.about,
            notes=context.notes(),
            goal_frames=goal.video,
        )
        written = report.write(out, score)
        written += actions.draw(out, scorers, trajectories, context)
    finally:
        context.close()
    print(report.table(score))
    print(f"Scored in {clock(time.perf_counter() - start)}; look at {', '.join(str(path) for path in written)}")
    return 0


def _episodes(args: Namespace, config: elements.Config, context, with_networks: bool) -> list:
    from genreward_jax import suites
    from genreward_jax.score.forward_backward import check_given
    from genreward_jax.score.given import load
    from genreward_jax.score.runs import run_episodes
    from genreward_jax.score.trajectories import make_set

    start, found = time.perf_counter(), []
    if args.data:  # a mistake in it is said before minutes of drawing
        found += load(args.data, args.camera, size=context.bridge.frame_size)
        if with_networks:
            check_given(found, math.prod(suites.spaces(config)[1]["action"].shape))
    if args.run:
        found = run_episodes(args.run, context.task, args.episodes) + found
    if args.task_given or not args.data:
        found = make_set(config, args.episodes, _say, frame_size=context.bridge.frame_size) + found
    _say(f"{len(found)} episodes, ready after {time.perf_counter() - start:.0f} s.")
    return found


def _across(folder: Path) -> int:
    """Prints and writes what the scores of several tasks come to; gives the exit code."""
    from genreward_jax.score import across

    found = across.read(folder)
    written = across.write(folder, found)
    print(across.markdown(found))
    print(f"Look at {', '.join(str(path) for path in written)}")
    return 0


def _say(text: str) -> None:
    print(text, flush=True)


def _check_run_s_own(run: elements.Config, config: elements.Config, trained: bool) -> None:
    """Refuses flags that say what a run directory holds already: its goal is looked at, and its networks if any."""
    own = ("task", "method", "goal.", "model.", "reward.frames", *(("fb.",) if trained else ()))
    flat = {key: value for key, value in config.flat.items() if key.startswith(own)}
    lines = config_lib.differences({key: run.flat[key] for key in flat}, flat)
    if lines:
        raise UserError(
            f"RUN= is scored with its own task, method, goal, models and networks, and these are others: "
            f"{'; '.join(lines)}. Leave them out, or leave RUN= out."
        )
