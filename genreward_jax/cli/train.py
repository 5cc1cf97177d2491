"""``train``: flags to a configuration, then the run."""

import elements

from dreamerv3_patches.apply import require
from genreward_jax import config as config_lib


def run(argv: list[str]) -> int:
    """Parses the embodied command line and trains; gives the exit code."""
    if {"-h", "--help"} & set(argv):
        print((config_lib.configs_folder() / "defaults.yaml").read_text())
        print(
            f"# Presets: --preset {', '.join(config_lib.PRESETS)}; see configs/presets.yaml and configs/methods.yaml."
        )
        return 0
    require()
    from genreward_jax import parts
    from genreward_jax.rundir import RunDirectory, default_logdir

    config = config_lib.parse(argv)
    parts.check(config)
    config = config.update(logdir=config.logdir or default_logdir(config))
    saved = RunDirectory(config.logdir).saved_config()
    if saved is not None:
        config = config_lib.parse(argv, preset=saved.preset).update(logdir=config.logdir)
    from genreward_jax.train import train

    return train(_with_quality(config, saved) if config.task.startswith("metaworld_") else config)


def _with_quality(config: elements.Config, saved: elements.Config | None) -> elements.Config:
    """What a run was started with is what it goes on with."""
    from genreward_jax.envs.rendering import resolve_quality

    quality = config.env.metaworld.quality
    if quality == "auto":
        quality = saved.env.metaworld.quality if saved is not None else resolve_quality("auto")
    return config.update({"env.metaworld.quality": quality})
