"""What describes a bridge: plain data that trainer and bridge process both know."""

from dataclasses import dataclass, field
from typing import Any

from genreward_jax.errors import UserError


class BridgeError(UserError):
    """The bridge process failed: one readable sentence; the traceback is in the log that it names."""


@dataclass
class BridgeSpec:
    """Which models the bridge serves and how its process runs; the flags under --model and --bridge.

    ``models`` names models that stand in place of the family's own, kind to folder or hub id: 'video_text' (X-CLIP or
    S3D), 'diffusion' (Stable Diffusion). ``remember`` is how many bytes of encode_video's answers are kept, by the
    frames' content: for tools that show several rewards the same windows. Training, whose windows never come twice,
    keeps none. ``bare`` processes load no model before a reward needs one, and need no torch until then.
    """

    family: str = "embedded"
    dtype: str = "float32"
    revision: str = ""
    device: str = "auto"
    python: str = ""
    threads: int = 1
    timeout: float = 600.0
    log_path: str | None = None
    nice: int = 0
    remember: int = 0
    bare: bool = False
    models: dict[str, str] = field(default_factory=dict)


@dataclass
class RewardSpec:
    """A reward that runs beside the models: its class, its goal (a dataclass of arrays and strings), its settings."""

    path: str
    goal: Any = None
    settings: dict[str, Any] = field(default_factory=dict)
