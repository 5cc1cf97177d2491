"""Whether models fit before they are loaded: sizes from the safetensors' own headers against what is free.

Reading headers costs milliseconds, and finds files that a broken download cut off. Torch is imported only to ask a GPU.
"""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genreward_jax.errors import UserError
from torch_bridge.hub import gigabytes

_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
_FLOATS = ("F64", "F32", "BF16", "F16", "F8_E4M3", "F8_E5M2")
_INTEGERS = {"I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1}


class BrokenWeights(UserError, ValueError):
    """A safetensors file that is cut off, or none at all."""


def check_memory(folders: Mapping[str, Path], dtype: str, device: Any = "cpu", advice: str = "") -> int:
    """Refuses models that the free memory cannot hold; gives their bytes.

    Args:
        folders: What each model is called in the sentence, to its folder.
        dtype: 'float32', 'bfloat16' or 'float16': what the weights become.
        device: A torch device or its name; 'cuda' looks at the GPU's memory, else the machine's counts.
        advice: What mends it, where more can be done than here is known.

    Raises:
        UserError: Too little memory, or a weight file that is cut off or none.
    """
    sizes = {name: size_of(folder, dtype) for name, folder in folders.items()}
    needed, on_gpu = sum(sizes.values()), str(device).startswith("cuda")
    free = free_memory(device)
    if needed <= free:
        return needed
    each = ", ".join(f"{name} {gigabytes(size)}" for name, size in sizes.items())
    mends = [advice] if advice else []
    mends += ["--model.dtype bfloat16 halves it"] if _BYTES[dtype] > 2 else []
    mends += ["--bridge.device cpu leaves the GPU out"] if on_gpu else ["end other programs or take a larger machine"]
    raise UserError(
        f"the models need {gigabytes(needed)} of {'GPU ' if on_gpu else ''}memory as {dtype} ({each}), of which "
        f"{gigabytes(free)} are free: {', or '.join(mends)}"
    )


def size_of(folder: Path, dtype: str) -> int:
    """Bytes that a folder's weights take once they are of ``dtype``; whole numbers keep their own width.

    Raises:
        BrokenWeights: A file that is cut off or no safetensors.
    """
    return sum(_tensor_bytes(entry, dtype) for path in weight_files(folder) for entry in _header(path).values())


def weight_files(folder: Path) -> list[Path]:
    """The safetensors of a folder that a library would load: the pieces that an index names, or the only ones."""
    indices = sorted(folder.glob("*.safetensors.index.json"))
    if indices:
        return sorted({folder / name for name in json.loads(indices[0].read_text())["weight_map"].values()})
    files = sorted(folder.glob("*.safetensors"))
    own = [path for path in files if path.name.startswith("open_clip")]
    return own if own and (folder / "open_clip_config.json").is_file() else files


def free_memory(device: Any = "cpu") -> int:
    """Free bytes on the device; on the CPU those of the machine, or of the container that this runs in if less."""
    if str(device).startswith("cuda"):
        import torch

        return torch.cuda.mem_get_info(device)[0]
    import psutil

    free, group = psutil.virtual_memory().available, Path("/sys/fs/cgroup")
    try:
        limit, used = ((group / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        # Cached files are given up when memory is wanted.
        return free if limit == "max" else min(free, int(limit) - int(used) + int(stat["inactive_file"]))
    except (OSError, ValueError, KeyError):
        return free


def _tensor_bytes(entry: dict[str, Any], dtype: str) -> int:
    count = 1
    for side in entry["shape"]:
        count *= side
    return count * (_BYTES[dtype] if entry["dtype"] in _FLOATS else _INTEGERS.get(entry["dtype"], 8))


def _header(path: Path) -> dict[str, dict[str, Any]]:
    """Tensor name to dtype, shape and place in the file, checked against the file's size."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > size:
                raise ValueError("header longer than the file")
            entries = json.loads(file.read(length))
        entries.pop("__metadata__", None)
        whole = 8 + length + max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    except FileNotFoundError:
        raise BrokenWeights(f"{path} is missing, though the index beside it names it: fetch the model again") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise BrokenWeights(f"{path.name} is no safetensors file: delete {path.resolve()}, fetch it again") from error
    if size < whole:
        raise BrokenWeights(
            f"{path.name} is cut off ({gigabytes(size)} of {gigabytes(whole)}): delete {path.resolve()}, fetch it again"
        )
    return entries
