"""``goal``: makes a task's goal video, picks its key frame, and draws both."""

import json
import os
from pathlib import Path

import elements
import numpy as np

from genreward_jax import config as config_lib
from genreward_jax.arguments import Parser
from genreward_jax.errors import UserError

LOOKED_AT = 256  # pixels: a smaller video is enlarged, so that a browser shows more than a stamp


def run(argv: list[str]) -> int:
    """Writes goal.mp4, key_frame.png, goal.png and goal.json into ``--out`` (default: goals/<task>).

    All other flags are those of ``train``; only --task, --goal, --model, --bridge and the camera and quality of
    --env.metaworld matter.
    """
    if {"-h", "--help"} & set(argv):
        print(f"{__doc__}\n\n{run.__doc__.splitlines()[0]}\nFlags: configs/defaults.yaml, under task, goal and model.")
        return 0
    argv, out = _take_out(argv)
    config = config_lib.parse(argv)
    from genreward_jax.envs.metaworld import check_camera, check_task

    task = check_task(config.task)
    check_camera(config.env.metaworld.camera)
    folder = Path(out or Path("goals") / task).expanduser()
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder} (OUT=) is a file; name a folder.")
    from genreward_jax.envs.rendering import resolve_quality

    config = config.update({"env.metaworld.quality": resolve_quality(config.env.metaworld.quality)})
    goal, facts = _make(config)
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder, goal, facts)
    _tell(folder, goal, facts)
    return 0


def _take_out(argv: list[str]) -> tuple[list[str], str]:
    """Splits ``--out FOLDER`` off."""
    parser = Parser("goal", "--task metaworld_<task> [--out FOLDER] [--goal.prompt TEXT]", add_help=False)
    parser.add_argument("--out", default="")
    known, rest = parser.parse_known_args(argv)
    return rest, known.out


def _make(config: elements.Config) -> tuple:
    """The goal, and what is to be known about it."""
    from genreward_jax.cache import cache_dir
    from genreward_jax.generating import key_prompts, video_prompt
    from genreward_jax.goal_video import goal_video
    from genreward_jax.goals import make_goal
    from torch_bridge.client import Bridge, BridgeSpec

    video = goal_video(config)
    spec = BridgeSpec(
        family=config.model.family,
        dtype=config.model.dtype,
        revision=config.model.revision,
        device=config.bridge.device,
        python=config.bridge.python,
        threads=max(config.bridge.threads, (os.cpu_count() or 2) // 2),  # nothing else runs beside it
        timeout=config.bridge.timeout,
    )
    print("Starting the model process (torch) ...", flush=True)
    with Bridge(spec, {"embed_image", "embed_text", "embed_state"}) as bridge:
        models = bridge.describe()
        goal = make_goal(
            video.frames,
            video.fps,
            video.source,
            key_prompts(config),
            bridge,
            size=bridge.frame_size,
            frames=min(config.reward.frames, len(video.frames)),
            rank=config.goal.rank,
            cache_dir=cache_dir("goals"),
        )
    request = json.loads((video.folder / "request.json").read_text()) if video.folder else {}
    facts = {
        "task": config.task,
        "source": video.source,
        "prompt": request.get("prompt") or video_prompt(config),
        "key_prompts": list(goal.prompts),
        "family": models["family"],
        "trained": models["trained"],
        "generated": {**request, "video": str(video.folder / "video.mp4")} if video.folder else None,
    }
    goal.video = video.frames  # as it was made, to be looked at; the models see it at their own size
    return goal, facts


def _write(folder: Path, goal, facts: dict) -> None:
    from PIL import Image

    from genreward_jax.rundir import write_json
    from genreward_jax.video import write_video

    times = -(-LOOKED_AT // min(goal.video.shape[1:3]))
    write_video(folder / "goal.mp4", goal.video.repeat(times, 1).repeat(times, 2), goal.fps)
    part = folder / f".key_frame-{os.getpid()}.png"
    Image.fromarray(goal.key_frame).save(part)
    os.replace(part, folder / "key_frame.png")
    goal.draw(folder / "goal.png", facts["prompt"], _note(facts))
    best = np.argsort(-goal.similarity, kind="stable")[:3]
    facts |= {
        "frames": len(goal.video),
        "fps": goal.fps,
        "key_index": goal.key_index,
        "rank": goal.rank,
        "best": [{"frame": int(i), "score": round(float(goal.similarity[i]), 6)} for i in best],
        "scores": [round(float(s), 6) for s in goal.similarity],
    }
    write_json(folder / "goal.json", facts)


def _note(facts: dict) -> str:
    """Where the video came from, in a line below the picture."""
    made = facts["generated"]
    text = facts["source"]
    if made:
        text = f"{made['model']}, seed {made['seed']}, {made['frames']} frames, {made['steps']} steps"
    return text + ("" if facts["trained"] else "; RANDOM weights: neither video nor scores mean anything")


def _tell(folder: Path, goal, facts: dict) -> None:
    from genreward_jax.progress import block

    best = ", ".join(f"{b['frame'] + 1} ({b['score']:.4f})" for b in facts["best"])
    lines = [
        ("video", facts["source"]),
        ("key frame", f"{goal.key_index + 1} of {len(goal.video)}; the best by CLIP: {best}"),
        ("look at", str(folder / "goal.png")),
        ("", str(folder / "goal.mp4")),
    ]
    if not facts["trained"]:
        lines.insert(1, ("note", "RANDOM weights: neither video nor scores mean anything"))
    print(block(lines))
