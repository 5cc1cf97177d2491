"""What must be mended before torch's companions can be imported."""

import torch

_kept: list = []  # the schemas vanish with their library object


def repair_torchvision() -> None:
    """Declares the two operators that a torchvision built for another torch (the CUDA build beside a CPU torch) lacks.

    Without them ``import torchvision`` raises "operator torchvision::nms does not exist", and with it open_clip,
    transformers and diffusers fail. Can go when the registry's torchvision loads its operators beside a CPU torch.
    """
    import importlib.util

    if _kept or importlib.util.find_spec("torchvision") is None:
        return
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)
