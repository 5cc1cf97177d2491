"""GenReward in JAX: reinforcement learning from pixels with rewards from a generated goal video."""

__version__ = "0.1.0"


def load(run: str):
    """Open the policy of a finished (or stopped) run; see :func:`genreward_jax.evaluation.policy.load`."""
    from dreamerv3_patches.apply import require

    require()
    from genreward_jax.evaluation.policy import load as load_policy

    return load_policy(run)
