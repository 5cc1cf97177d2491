"""Sentences about episodes and frames, out of the words in ``configs/captions.yaml``."""

import functools

from genreward_jax.config import read_yaml

# What a frame shows, in the order in which an expert's episode passes through them.
PHASES = ("away", "near", "held", "done")
ARMS = ("a robot arm", "the robot arm", "a robotic arm", "the robot", "a robot")

_PHASE_OF_ANY_TASK = {
    "away": ("the gripper is away from the object", "the task has not begun"),
    "near": ("the gripper is near the object", "the gripper reaches the object"),
    "held": ("the gripper holds the object", "the object is grasped"),
    "done": ("the task is done", "the goal is reached", "the robot arm has finished the task"),
}
_PHASE_OF_TASK = {
    "away": ("the gripper is away from the {object}", "the robot arm has not touched the {object} yet"),
    "near": ("the gripper is near the {object}", "the robot arm reaches the {object}"),
    "held": ("the gripper holds the {object}", "the robot arm has grasped the {object}"),
    "done": ("{done}", "the task is done: {done}"),
}
_NOT_DONE = ("the task is not done", "the goal is not reached yet", "the robot arm is still at work")


def episode_captions(task: str) -> list[str]:
    """Every wording of what the arm does in a whole successful episode of a task."""
    words = _words()[task]
    return [f"{arm} {does}" for does in words["does"] for arm in ARMS]


def phase_captions(task: str, phase: str) -> list[str]:
    """Every wording of what one frame of a task shows, naming the task's own objects.

    Args:
        task: Underscore name.
        phase: One of :data:`PHASES`.
    """
    words = _words()[task]
    return [
        template.format(object=words["object"], done=done)
        for template in _PHASE_OF_TASK[phase]
        for done in (words["done"] if "{done}" in template else [""])
    ]


def any_task_captions(phase: str) -> list[str]:
    """Every wording of a phase that fits whichever task."""
    return list(_PHASE_OF_ANY_TASK[phase])


def not_done_captions() -> list[str]:
    """Every wording that fits all phases but 'done'."""
    return list(_NOT_DONE)


def vocabulary(tasks: tuple[str, ...]) -> list[str]:
    """All words of the captions of the given tasks, sorted; what a tokenizer trained on them knows."""
    sentences = [text for task in tasks for text in episode_captions(task)]
    sentences += [text for task in tasks for phase in PHASES for text in phase_captions(task, phase)]
    sentences += [text for phase in PHASES for text in any_task_captions(phase)] + not_done_captions()
    return sorted({word for text in sentences for word in text.lower().replace(":", " : ").replace(",", " , ").split()})


@functools.cache
def _words() -> dict:
    return read_yaml("captions")
