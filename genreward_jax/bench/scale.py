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
        chunk: Environment steps between two looks at the clock of the training loop.
        rounds: Of the training loop, all variants in each.
        steps: Train steps in a round of item 2.
        step_rounds: Rounds of items 2 and 3.
        windows: Numbers of environments that ask for a reward at once.
        starts: Warm starts measured.
        flags: Laid over the preset.
    """

    name: str
    preset: str
    envs: tuple[int, ...]
    chunk: int
    rounds: int
    steps: int
    step_rounds: int
    windows: tuple[int, ...]
    starts: int
    flags: tuple[str, ...] = ()


# An agent that compiles in seconds; jax.debug: XLA leaves most of its optimizations out.
TINY = "--jax.debug True --agent.imag_length 2 --agent.*layers 1 --agent.*units 8 --run.prefill 40 --fb.dim 8".split()

SCALES = {
    "quick": Scale("quick", "smoke", (1,), 32, 1, 1, 1, (1, 2), 1, tuple(TINY)),
    "default": Scale("default", "cpu", (1, 4), 128, 3, 2, 6, (1, 4, 16), 2),
    "full": Scale("full", "cpu", (1, 4, 16), 256, 8, 4, 12, (1, 2, 4, 8, 16), 5),
}
