"""Training, as the paper's algorithm 1: DreamerV3 on the environment's reward plus the generative one.

Read :func:`train_loop` for the algorithm; :func:`train` around it opens the run directory and makes the parts.
"""

import contextlib
import sys
import time
from functools import partial
from typing import Any

import elements
import embodied

from genreward_jax import loggers, parts, provenance, report
from genreward_jax.device import prepare_jax
from genreward_jax.errors import UserError
from genreward_jax.evaluation.episodes import Stopped
from genreward_jax.learner import Learner
from genreward_jax.making import make_rewarding_and_agent, make_run, overlaps, training_envs
from genreward_jax.prefill import Policy
from genreward_jax.progress import Progress
from genreward_jax.run import Run, evaluate, first_evaluation_envs, last_evaluation, log, open_loop_report
from genreward_jax.rundir import RunDirectory
from genreward_jax.startup import Startup
from genreward_jax.stopping import StopSignal


class Loop:
    """Lines 9 to 22 of algorithm 1: :meth:`advance` is one step of every environment, paid, stored and learned from.

    Args:
        run: The parts. Its agent, replay and counters go on from where they are.
        source: The training environments: a driver here, closed with the loop.
    """

    def __init__(self, run: Run, source: Any) -> None:
        config, agent = run.config, run.agent
        args = config.run
        self.run = run
        self.pause_at = int(args.steps)  # rows that come by themselves wait there until it is moved
        self.batch_steps = config.batch_size * config.batch_length
        self.should_train = elements.when.Ratio(args.train_ratio / self.batch_steps)
        self.train_agg, self.policy_fps, self.train_fps = elements.Agg(), elements.FPS(), elements.FPS()
        stream = parts.make_stream(config, run.replay, "train")
        self.batches = iter(agent.stream(stream, prefetch=not args.deterministic))
        self.carry = agent.init_train(config.batch_size)
        self.policy = Policy(agent, int(args.prefill), run.step, config.seed)
        self.overlaps = overlaps(config)
        self.learner = Learner(self.train_step, self.overlaps)
        self.learner.begin(agent.compile_train)  # while random steps fill the replay
        self.rows_from(source)

    def rows_from(self, driver: embodied.Driver) -> None:
        """What is done with each row of each environment."""
        run, self.driver = self.run, driver
        driver.on_step(lambda tran, worker: run.step.increment(int(not tran["is_first"])))  # a reset is no step
        driver.on_step(lambda tran, worker: self.policy_fps.step())
        driver.on_step(run.replay.add)  # lines 16 to 22: the shaper before the replay pays r_gen at reward steps
        driver.on_step(lambda tran, worker: self.learner.owe(self.due()))
        driver.reset(self.policy.init)

    def advance(self) -> None:
        """Lines 13 to 15 for each environment; what is due of lines 9 to 12 begins, beside the steps that follow."""
        self.driver(self.policy, steps=1)

    def due(self) -> int:
        """How many train steps a row that has just been added makes due."""
        run = self.run
        run.startup.mark("step")
        if run.step < run.config.run.prefill or len(run.replay) < self.batch_steps:
            return 0
        run.startup.mark("filled")
        return self.should_train(run.step)

    def settle(self) -> None:
        """Returns when no train step is under way: needed before what it changes is saved, read or judged."""
        self.learner.settle()

    @property
    def waited_s(self) -> float:
        """Seconds so far in which acting waited for a train step."""
        return self.learner.waited_s

    def train_step(self) -> None:
        """Lines 9 to 12: world model, behaviour and FB on one batch."""
        run = self.run
        self.carry, outs, metrics = run.agent.train(self.carry, next(self.batches))
        if "replay" in outs:
            run.replay.update(outs["replay"])
        run.updates.increment()
        self.train_fps.step(self.batch_steps)
        self.train_agg.add({k if k.startswith("fb/") else f"train/{k}": v for k, v in metrics.items()})
        if self.overlaps:
            run.agent.wait()
        run.startup.mark("train_step")

    def log(self) -> None:
        """Writes what has gathered since the last time; no train step may be under way."""
        fps = {"policy": self.policy_fps.result(), "train": self.train_fps.result()}
        log(self.run, self.train_agg.result(), fps, self.waited_s)

    def close(self) -> None:
        """Ends the learner and the environments."""
        self.learner.close()
        self.driver.close()


def train_loop(run: Run, started_at: int) -> None:
    """Algorithm 1, from line 7. Lines 1 to 6 are the parts' making and, once a user, the model's fine-tuning."""
    config, agent, step, args = run.config, run.agent, run.step, run.config.run
    should_log = elements.when.Clock(args.log_every, first=False)
    should_save = elements.when.Clock(args.save_every, first=False)
    # A report draws from the replay when the clock says so, which would make a run depend on time.
    reports = config.agent.report and args.report_every and not args.deterministic
    should_report = elements.when.Clock(args.report_every if reports else -1, first=False)
    next_evaluation = _next(last_evaluation(run), int(config.eval.every))
    has_fb = parts.uses_fb(run.rewarding.terms)
    loop = None
    try:
        loop = open_loop(run, started_at)
        loop.pause_at = next_evaluation or int(args.steps)
        while step < args.steps and not run.stop():
            loop.advance()
            freezes = has_fb and step >= config.fb.train_steps and not agent.fb_frozen
            evaluates = next_evaluation and next_evaluation <= step < args.steps
            logs, reports, saves = should_log(step), should_report(step) and len(run.replay), should_save(step)
            if not (freezes or evaluates or logs or reports or saves):
                continue
            loop.settle()  # what follows reads, keeps or changes what a train step changes
            if freezes:
                agent.freeze_fb()  # section 4.1: trained for the first steps, then frozen
                run.progress.say(f"Step {int(step)}: the forward-backward network is frozen; its reward is paid now.")
            if logs:
                loop.log()
            if reports:
                run.logger.add(open_loop_report(run), prefix="report")
            if evaluates:
                evaluate(run, config.eval.episodes)
                loop.pause_at = next_evaluation = _next(int(step), int(config.eval.every))
            if saves:
                run.checkpoint.save(int(step))
        loop.settle()
        run.replay.drain()
        run.checkpoint.save(int(step))
        if not run.stop():
            evaluate(run, config.eval.episodes)
            run.checkpoint.save(int(step))
        loop.log()
    except Stopped:
        run.checkpoint.save(int(step))
        if loop is not None:
            loop.log()
    finally:
        if loop is not None:
            loop.close()


def open_loop(run: Run, started_at: int) -> Loop:
    """Evaluates a run that begins, and opens its environments: for rows in turn, or for ``--script parallel``."""
    if run.config.script == "train":
        return Loop(run, first_evaluation_and_driver(run, started_at))
    from genreward_jax.parallel import ParallelLoop

    if run.step == 0:
        evaluate(run, run.config.eval.first_episodes)
        run.startup.mark("evaluation")
    return ParallelLoop(run, training_envs(run.config, run.rewarding, started_at))


def first_evaluation_and_driver(run: Run, started_at: int) -> embodied.Driver:
    """Evaluates a run that begins, and opens the training environments beside that, which takes seconds as well."""
    open_driver = partial(embodied.Driver, training_envs(run.config, run.rewarding, started_at))
    if run.config.run.debug:  # environments in this process draw on the thread that made them
        if run.step == 0:
            evaluate(run, run.config.eval.first_episodes)
        return open_driver(parallel=False)
    from dreamerv3_patches.drivers import Ahead

    with Ahead(open_driver) as opening:
        if run.step == 0:
            evaluate(run, run.config.eval.first_episodes)
            run.startup.mark("evaluation")
        return opening.take()


def _next(step: int, every: int) -> int:
    return (step // every + 1) * every if every > 0 else 0


def train(config: elements.Config) -> int:
    """Opens the run directory, makes the parts, trains, and says where to look; gives the exit code.

    Raises:
        UserError: whatever the user can mend; nothing is half-written then.
    """
    terms = parts.check(config)
    report.check_goal_source(config)
    folder = RunDirectory(config.logdir)
    continued = folder.open(config)
    stop, startup = StopSignal(), Startup(folder.path)
    startup.mark("imports")
    rewarding = run = ahead = None
    try:
        if not continued:
            folder.keep_config(config)
        config = prepare_jax(config, bridge=bool(terms))
        ahead = None if continued else first_evaluation_envs(config)
        rewarding, agent = make_rewarding_and_agent(config, terms, folder, startup)
        if rewarding.goal is not None:
            folder.check_goal(rewarding.goal.digest, config)
            rewarding.goal.save(folder / "goal")
        run = make_run(config, folder, agent, rewarding, stop, startup)
        run.evaluation_envs = ahead
        folder.keep_config(config)
        provenance.keep(folder.path)
        return go(run, continued)
    except BaseException as error:
        # A run that never began, or was refused before it had anything worth keeping, leaves no trace.
        if run is None or (isinstance(error, UserError) and run.checkpoint.latest() is None):
            folder.discard()
        raise
    finally:
        with contextlib.ExitStack() as closing:  # each, last first, whatever becomes of the others
            closing.callback(folder.close)
            if rewarding is not None:
                closing.callback(rewarding.close)
            if ahead is not None:
                closing.callback(ahead.close)


def go(run: Run, continued: bool) -> int:
    """Finds where the run is, says what will happen, trains, and says what did; gives the exit code."""
    config = run.config
    started_at = (run.checkpoint.load() or 0) if continued else 0
    loggers.drop_after(run.folder.path, started_at)
    print(report.start_block(config, run.rewarding, started_at), flush=True)
    if run.step >= config.run.steps and last_evaluation(run) >= int(run.step):
        print(f"This run is at step {int(run.step)} already: raise STEPS= to go on, or make eval RUN={config.logdir}.")
        return 0
    run.progress = Progress(int(config.run.steps), int(run.step), config.run.progress)
    if config.jax.platform == "cpu":
        run.progress.say("The first steps compile the agent (a minute or two on a CPU; the next start is short).")
    begun = time.time()
    try:
        train_loop(run, started_at)
    finally:
        run.progress.close()
    run.logger.close()
    for failure in run.artist.close():
        print(f"A picture could not be drawn: {failure}", flush=True)
    print(report.end_block(run, run.stop.name, time.time() - begun), flush=True)
    return 0


def main(config: elements.Config) -> None:
    """Runs :func:`train` and leaves with its exit code; for the command line."""
    try:
        sys.exit(train(config))
    except UserError as error:
        print(f"genreward_jax: {error}", file=sys.stderr)
        sys.exit(2)
