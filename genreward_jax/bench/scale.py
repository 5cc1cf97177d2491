"""How large a benchmark is: a smoke, what fits ten minutes of two cores, or all there is."""

from dataclasses import dataclass

TASK = "metaworld_drawer_close"


@dataclass(frozen=True)
class Scale:
    """Sizes and rounds.

    Attributes:
        name: quick, default or full.
        preset: Of the agent.
        envs: Numbers of environments of the training loop.
        paid: Rewards that each environment is paid in a round of the training loop.
        rounds: Of the training loop with one environment, all variants in each; see :meth:`rounds_of`.
        steps: Train steps in a round of item 2.
        step_rounds: Rounds of item 2.
        other_rounds: Rounds of items 3 and 4.
        windows: Numbers of environments that ask for a reward at once.
        starts: Warm starts measured.
        flags: Laid over the preset.
    """

    name: str
    preset: str
    envs: tuple[int, ...]
    paid: int
    rounds: int
    steps: int
    step_rounds: int
    other_rounds: int
    windows: tuple[int, ...]
    starts: int
    flags: tuple[str, ...] = ()

    def rounds_of(self, envs: int) -> int:
        """Rounds of the training loop with that many environments: fewer for more, as each has more steps."""
        return min(self.rounds, max(2, self.rounds // envs))


# An agent that compiles in seconds (jax.debug: XLA leaves most of its optimizations out), on short batches, since the
# first train step waits for as many sequences in the replay.
TINY = (
    "--jax.debug True --agent.imag_length 2 --agent.*layers 1 --agent.*units 8 --agent.*mults 2 4 --fb.dim 8 "
    "--run.prefill 40 --batch_size 2 --batch_length 8"
).split()

SCALES = {
    "quick": Scale(
        "quick", "smoke", envs=(1,), paid=1, rounds=1, steps=1, step_rounds=1, other_rounds=1, windows=(1, 2), starts=1,
        flags=tuple(TINY),
    ),
    "default": Scale(
        "default", "cpu", envs=(1, 4), paid=1, rounds=3, steps=2, step_rounds=4, other_rounds=3, windows=(1, 4, 16),
        starts=1,
    ),
    "full": Scale(
        "full", "cpu", envs=(1, 4, 16), paid=2, rounds=8, steps=4, step_rounds=12, other_rounds=5,
        windows=(1, 2, 4, 8, 16), starts=5,
    ),
}  # fmt: skip
