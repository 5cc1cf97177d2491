"""The ``fb`` section: what its flags may be, and what their 'auto' stands for."""

from collections.abc import Mapping
from typing import Any

from genreward_jax.config import nearest
from genreward_jax.errors import UserError
from genreward_jax.goals import FEATURES

STATES = ("tokens", "dino", "deter")
CHOICES = {
    "objective": ("paper", "measure"),
    "next_action": ("auto", "replay", "agent", "actor"),
    "forward_state": ("auto", *STATES),
    "backward_state": ("auto", *STATES),
    "dino": ("auto", "pooled", "regions"),
    "goal": ("auto", "key", "end"),
    "reward_norm": ("none", "running"),
    "pays_from": ("frozen", "start"),
    "z": ("backward", "psi"),
    "map": ("trained", "fixed"),
    "encoder": ("live", "frozen"),
}
# What the literature does belongs to `measure`; `paper` stays as it is printed and published.
AUTO = {
    "paper": {
        "next_action": "replay",
        "forward_state": "tokens",
        "backward_state": "tokens",
        "dino": "pooled",
        "goal": "key",
        "z_mix": 0.0,
        "discount": 0.98,
    },
    "measure": {
        "next_action": "actor",
        "forward_state": "tokens",
        "backward_state": "dino",
        "dino": "regions",
        "goal": "end",
        "z_mix": 0.5,
        "discount": 0.98,
    },
}


def resolve(config: Mapping[str, Any]) -> dict[str, Any]:
    """The section checked, each 'auto' (-1 for a number) replaced by what it stands for under its objective.

    Raises:
        UserError: A value that cannot be.
    """
    config = dict(config)
    for key, choices in CHOICES.items():
        if config[key] not in choices:
            raise UserError(f"--fb.{key} is '{config[key]}': {nearest(str(config[key]), list(choices))}")
    wants_end = config["goal"] == "end"
    for key, value in AUTO[config["objective"]].items():
        if config[key] in ("auto", -1):
            config[key] = value
    if config["backward_state"] != "dino":  # beside such states psi is one vector, of the key frame
        if wants_end:
            raise UserError("--fb.goal end needs --fb.backward_state dino: beside other states the goal is one frame.")
        config["goal"] = "key"
    if not 0 <= config["z_mix"] <= 1:
        raise UserError(f"--fb.z_mix is {config['z_mix']:g}; it is a share from 0 to 1, or -1 for the objective's own.")
    if not 0 <= config["discount"] < 1:
        raise UserError(f"--fb.discount is {config['discount']:g}; it lies from 0 to below 1, or is -1 for 0.98.")
    for key in ("lr", "target_rate", "actor_noise"):
        if not config[key] > 0:
            raise UserError(f"--fb.{key} is {config[key]:g}; it must be more than 0.")
    if config["z"] == "psi" and config["dim"] < FEATURES:
        raise UserError(f"--fb.z psi needs --fb.dim of at least {FEATURES}; it is {config['dim']}.")
    if config["z"] == "psi" and config["backward_state"] == "dino":
        raise UserError("--fb.z psi is eq. 9 as printed, for --fb.backward_state tokens or deter; leave it backward.")
    state = config["forward_state"]
    if config["encoder"] == "frozen" and state != "tokens":
        raise UserError(f"--fb.encoder frozen keeps tokens, and --fb.forward_state is {state}: leave one as it was.")
    if state == "dino" and config["dino_every"] > 1:
        raise UserError(
            f"--fb.dino_every is {config['dino_every']}, but --fb.forward_state dino needs every frame: make it 0."
        )
    return config


def check_spaces(config: Mapping[str, Any], obs_space: Mapping[str, Any], act_space: Mapping[str, Any]) -> None:
    """Refuses a section, resolved, that cannot go with these observations and actions.

    Raises:
        UserError: pi_z where actions are classes, or embeddings where there is no image.
    """
    if config["next_action"] == "actor" and any(space.discrete for space in act_space.values()):
        raise UserError("--fb.next_action actor acts in numbers, and these actions are classes: take agent or replay.")
    if "dino" in (config["forward_state"], config["backward_state"]) and "image" not in obs_space:
        raise UserError(
            "FB on DINOv3 embeddings needs observations that are images: take --fb.objective paper, or "
            "--fb.backward_state and --fb.forward_state of tokens or deter."
        )
