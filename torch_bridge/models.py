"""The models of one family, loaded by class: only those that the asked-for capabilities need. Imports torch."""

import importlib
import importlib.metadata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from genreward_jax.errors import UserError
from torch_bridge.families import MODEL_OF, OWN, Family, digest, model_folder, replaced_sources, resolve
from torch_bridge.generation import model_digest
from torch_bridge.memory import check_memory
from torch_bridge.repairs import repair_torchvision

_CLASS = {  # kind to its module and what makes the model of a folder
    "vae": ("torch_bridge.cogvideox", "VideoEncoder"),
    "clip": ("torch_bridge.openclip", "TextImageEncoder"),
    "dino": ("torch_bridge.dinov3", "StateEncoder"),
    "video_text": ("torch_bridge.video_text", "load"),
    "diffusion": ("torch_bridge.denoiser", "ImageDenoiser"),
}
_IMAGE_PARTS = ("unet", "vae", "text_encoder")
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_PACKAGES = ("torch", "diffusers", "transformers", "open_clip_torch", "numpy")


class ModelSet:
    """Loaded models by kind ('vae', 'clip', 'dino') and their capabilities as functions of batched arrays."""

    def __init__(
        self,
        family: str,
        capabilities: Iterable[str],
        dtype: str = "float32",
        device: str = "auto",
        revision: str = "",
        say: Callable[[str], None] = print,
        models: dict[str, str] | None = None,
    ) -> None:
        """Loads what the capabilities need.

        Args:
            models: Kind to a folder or hub id that stands in place of the family's own.

        Raises:
            UserError: Unknown capability, dtype or device; a model that is not there, broken, or too large for the
                free memory.
        """
        if dtype not in _DTYPES:
            raise UserError(f"unknown dtype {dtype!r} for the models: float32 or bfloat16")
        self.device, self.dtype = choose_device(device), dtype
        replaced = replaced_sources(models or {})
        self._asked = (family, revision)
        self.family: Family = resolve(family, revision, say)
        self.family.sources |= replaced
        self._say = say
        self.folders: dict[str, Path] = {}
        self.models: dict[str, Any] = {}
        repair_torchvision()
        # cuDNN's TF32 convolutions, on by default, keep 10 bits: float32 is to mean float32.
        torch.backends.cudnn.allow_tf32 = False
        torch.set_float32_matmul_precision("highest")
        self.load(capabilities)

    def load(self, capabilities: Iterable[str]) -> None:
        """Loads what is not loaded yet of the models behind ``capabilities``."""
        for name in sorted(set(capabilities)):
            if name not in MODEL_OF:
                raise UserError(f"unknown capability {name!r}: the bridge serves {', '.join(MODEL_OF)}")
            self._load(name)

    def _load(self, capability: str) -> None:
        kind = MODEL_OF[capability]
        if kind in self.models:
            return
        source = self.family.sources.get(kind)
        if source is None and kind in OWN:
            self._load_own(kind)
            return
        if source is None:
            raise UserError(f"the model family {self.family.name} has no {kind}, which {capability} needs")
        folder = model_folder(kind, source, capability, self._say)
        module, name = _CLASS[kind]
        make = getattr(importlib.import_module(module), name)
        self.folders[kind] = folder
        try:
            parts = {name: folder / name for name in _IMAGE_PARTS} if kind == "diffusion" else {kind: folder}
            check_memory(parts, self.dtype, self.device)
            self.models[kind] = make(folder, self.device, _DTYPES[self.dtype])
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UserError(f"{folder} could not be loaded as the {kind} of {self.family.name}: {first}") from error

    def _load_own(self, kind: str) -> None:
        """What stands in for a model that the family does not name: made of its CLIP, or of its pipeline."""
        if kind == "video_text":
            from torch_bridge.video_text import MeanOfFrames

            self._load("embed_image")
            self.models[kind], self.folders[kind] = MeanOfFrames(self.models["clip"]), self.folders["clip"]
            return
        from torch_bridge.denoiser import VideoDenoiser

        whole = resolve(*self._asked, self._say, generates=True)  # the reward's own models need less of it
        self.models[kind] = VideoDenoiser(whole, self.device)
        self.folders[kind] = self.family.pipeline

    def call(self, capability: str, argument: Any) -> Any:
        """One model call; shapes as the capability's own docstring says, with a batch axis for videos.

        The diffusion model's take and give lists.
        """
        kind = MODEL_OF[capability]
        if kind not in self.models:
            raise UserError(f"{capability} was not asked for when the bridge started, or has been released")
        return getattr(self.models[kind], capability)(argument)

    def release(self, keep: Iterable[str]) -> None:
        """Drops the models that no kept capability needs, and their memory."""
        kept = {MODEL_OF[name] for name in keep}
        for kind in set(self.models) - kept:
            del self.models[kind]
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def describe(self) -> dict[str, Any]:
        """Names, sizes and versions, for the start block, doctor and the goal's cache key."""
        models = {}
        for kind, holder in self.models.items():
            models[kind] = {
                "class": type(holder.model).__name__,
                "folder": str(self.folders[kind]),
                "parameters": sum(p.numel() for p in holder.model.parameters()),
            }
        versions = {}
        for package in _PACKAGES:
            try:
                versions[package] = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                continue
        return {
            "family": self.family.name,
            "folder": str(self.family.folder),
            "frame_size": self._frame_size(),
            "trained": self.family.trained,
            "digest": digest([self.folders[kind] for kind in sorted(self.folders) if kind not in OWN]),
            "digests": {kind: self._digest(kind) for kind in self.folders},
            "dtype": self.dtype,
            "device": torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu",
            "models": models,
            "versions": versions,
        }

    def _frame_size(self) -> int:
        """Height and width of the frames that rewards are given: the family's, or more where a replacement wants more.

        Never more for a video encoder, whose answers depend on the size; other models bring frames to their own.
        """
        if "vae" in self.models:
            return self.family.frame_size
        return max(self.family.frame_size, *(getattr(self.models.get(kind), "size", 0) for kind in OWN))

    def _digest(self, kind: str) -> str:
        if kind != "diffusion":
            return digest([self.folders[kind]])
        if kind not in self.family.sources:
            return model_digest(self.family)
        return digest([self.folders[kind] / part for part in (*_IMAGE_PARTS, "scheduler")])


def choose_device(name: str) -> torch.device:
    """The device that a flag names: cpu, cuda, or auto for whichever is there.

    Raises:
        UserError: Another name, or cuda where torch sees no GPU.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise UserError(f"unknown bridge device {name!r}: auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "the bridge was told to use cuda, but torch sees no CUDA GPU: --bridge.device cpu, or a CUDA build"
        )
    return torch.device(name)
