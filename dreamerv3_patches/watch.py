"""Hashes of the upstream source that our patches lean on, so that a new upstream cannot slip under a patch unseen.

When :func:`changed` names something: read upstream's change, see whether the patch beside it is still right or can go,
then put the new hash here (``python -m dreamerv3_patches.watch`` prints all of them).
"""

import hashlib
import importlib
import inspect

# module:name -> (sha256 of its source, our patches that lean on it)
WATCHED = {
    "embodied.jax.transform:init": (
        "750fc53b629586ebd0af4b01dd84c4482927fe607be28135aaf5a426205a0c75",
        "repairs.repair_jit, initialising",
    ),
    "embodied.jax.transform:apply": (
        "0abe892238f9a7a0974895e1d41ec46755026ab85f1b7bb7a23955b8095381c5",
        "repairs.repair_jit, repairs.repair_shard_map, agent.Agent",
    ),
    "embodied.jax.internal": (
        "3d7c7feb748d1d4f89e4b607a7f4c90f9e56fa86e85d3d6192bd17256a0419fd",
        "repairs.repair_jit, agent.make_agent",
    ),
    "embodied.jax.agent:Agent": (
        "7159ed474339bb0802a1d2791ec8f116973d14526ca938355018cb5101a6bd59",
        "repairs.repair_jit, agent.Agent",
    ),
    "embodied.jax.agent:Options": (
        "346c2722c69504627c9a75362786db29d87ea9bfb9de28d8d6d03e24c4f045a9",
        "agent.make_agent",
    ),
    "embodied.jax.opt:Optimizer": (
        "70aad1dcf2d8974285b34294ab35cc21f3764da8d6f6a52e64821d2d68a7aa52",
        "model.Model, forward_backward.ForwardBackward, initialising",
    ),
    "embodied.jax.nets:Conv2D": ("c3bb36d5362e546ce6f6752b21250150152c11eef49609276274cc2381c887a8", "speedups"),
    "embodied.core.driver:Driver": (
        "c7f624730fd1b2e4f57c907f965feea244f4d98dd4db700faa8646ae38febe0c",
        "repairs.repair_driver",
    ),
    "embodied.core.streams:Prefetch": (
        "f5c32aafa301f1e7509e2a1841e566c14a6c4f9f6cd6c7f08a8b670e7f3c5a02",
        "agent.Agent.stream",
    ),
    "embodied.core.streams:Map": (
        "782843f369e8e088dc793b297ae7cd46c6cf2b095809a377762b7c6adf20f41d",
        "agent.Agent.stream",
    ),
    "embodied.run.train": (
        "f78eff7faadd8adae30efb6f629e0bd98db8b1139486ced6a690c751fc7cb7c0",
        "repairs.repair_run_scripts",
    ),
    "embodied.run.train_eval": (
        "8dd5f40dc8d8033513373478db13f9e491b301720ab5af56f0bd19bb32399a55",
        "repairs.repair_run_scripts",
    ),
    "embodied.run.eval_only": (
        "fcfe74cc475b754a3bb2b96a3344c8e26203b753388216d2136ae9761cd3de57",
        "repairs.repair_run_scripts",
    ),
    "embodied.run.parallel": (
        "54a22c171bfcd1e42e9eedd1240efe8b55102e82a66068d970c7d88d395cae84",
        "repairs.repair_run_scripts, parallel.Actors",
    ),
    "dreamerv3.agent:Agent": ("682154da5057c2d2934d9ecd1f798198ccbe95d0dcbf6ea147820d4c6bdf2055", "model.Model"),
    "dreamerv3.rssm:Encoder": ("abada19345d3c4dee671e35ff3d0e92f411341802f4bbf680a5c6acab10d5826", "model.Model"),
    "ninjax.ninjax:FromFlax": (
        "f63324a9feef5739ecdd28a48534ca884d33e9ef29e5de2a6907e1c759a150b7",
        "forward_backward.ForwardBackward",
    ),
    "ninjax.ninjax:grad": ("59eec50e228f223c7a465086e85289cf29733cd52039ed47dfa4c1898cf6a26c", "initialising"),
    "ninjax.ninjax:cond": (
        "a2c196f93e0da34757f9403838f3715ee1cb1604615f74d37dde8fcc5cdb5947",
        "model.Model, forward_backward.ForwardBackward",
    ),
    "portal.batching": ("262d7540452fc2f3d797f20cd2b86432711fc0c69da16a5d0e47f5204e524951", "parallel.Actors"),
    "portal.process:Process": (
        "f36161bc39fb273ff3b4a1a51597c3357c9e6576061c986f5ab1caa6d30e16c1",
        "repairs.repair_driver, repairs.repair_run_scripts",
    ),
    "elements.agg:Agg": ("c9ba06c425413cb2f6d8638c6722e781bf2dbf107eab0e939914a449d03bdc5b", "repairs.Agg"),
}


def digest(target: str) -> str:
    """sha256 of the source text of ``module:name``, or of a whole ``module``, as it is on the disk."""
    module, _, name = target.partition(":")
    found = importlib.import_module(module)
    for part in filter(None, name.split(".")):
        found = getattr(found, part)
    return hashlib.sha256(inspect.getsource(found).encode()).hexdigest()


def changed() -> list[str]:
    """One line for each piece of upstream that is not what the patches were written against."""
    return [
        f"{target} has changed under {patches}"
        for target, (known, patches) in WATCHED.items()
        if digest(target) != known
    ]


if __name__ == "__main__":
    for target in WATCHED:
        print(digest(target), target)
