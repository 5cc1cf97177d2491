"""Environments for the driver's processes: importable by name, so that a spawned child finds them."""

import os
import signal

import elements
import numpy as np


class Counter:
    """Rows whose observation is the number of steps since the reset, and the process it lives in."""

    def __init__(self, fail_at: int = -1, how: str = "raise", mark: str = "") -> None:
        self.count, self.fail_at, self.how, self.mark = -1, fail_at, how, mark

    obs_space = {"count": elements.Space(np.int32)}
    act_space = {"action": elements.Space(np.float32, (1,), -1, 1), "reset": elements.Space(bool)}

    def step(self, action: dict) -> dict:
        self.count = 0 if action["reset"] else self.count + 1
        if self.count == self.fail_at:
            if self.how == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OddError("the gripper fell off", 7)
        flag = np.bool_(False)
        flags = {"is_first": np.bool_(action["reset"]), "is_last": flag, "is_terminal": flag}
        return {"count": np.int32(self.count), "reward": np.float32(0), "log/pid": np.int32(os.getpid()), **flags}

    def close(self) -> None:
        if self.mark:
            open(self.mark, "w").close()


def dies_at_birth() -> None:
    os._exit(3)


class OddError(Exception):
    """Takes two arguments, as an environment's own error may."""
