"""The objective of the embedded DINO: self-distillation without labels, with lightly's losses and heads."""

import copy

import torch
from torch import nn

from torch_bridge.training import augment

GLOBAL, LOCAL = (0.92, 1.0), (0.6, 0.85)  # shares of the picture's side that the two kinds of crop show
LOCALS = 2
OUTPUTS = 256
KOLEO_WEIGHT = 0.02
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # as torch_bridge.dinov3 feeds the model


class SelfDistillation(nn.Module):
    """A student that sees all crops learns what its teacher, its own average over time, says of the global ones.

    Args:
        vit: ``transformers.DINOv3ViTModel``; becomes the student. ``teacher`` is what one keeps.
        steps: Steps of the whole training, for the teacher's momentum and temperature.
    """

    follows = ("teacher", "teacher_head")  # kept in checkpoints

    def __init__(self, vit: nn.Module, steps: int) -> None:
        from lightly.loss import DINOLoss, KoLeoLoss
        from lightly.models.modules import DINOProjectionHead

        super().__init__()
        width = vit.config.hidden_size
        # All frames show one scene: without batch normalisation centring leaves nothing of their small differences,
        # and the loss stayed at the logarithm of the number of outputs.
        head = lambda: DINOProjectionHead(width, 512, 128, OUTPUTS, batch_norm=True)
        self.student, self.student_head = vit, head()
        # The head's normalised weights cannot be copied as they are.
        self.teacher, self.teacher_head = copy.deepcopy(self.student), head()
        self.teacher_head.load_state_dict(self.student_head.state_dict())
        self.teacher.requires_grad_(False).eval()
        self.teacher_head.requires_grad_(False)
        self.agreement = DINOLoss(OUTPUTS, teacher_temp=0.05, warmup_teacher_temp=0.04)
        self.spread = KoLeoLoss()
        self.register_buffer("step", torch.zeros((), dtype=torch.long))
        self._steps = steps
        self._size = int(vit.config.image_size)
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> "SelfDistillation":
        super().train(mode)
        self.teacher.eval()  # in training mode positions are rescaled at random
        self.teacher_head.train()  # its statistics are the batch's own
        return self

    def forward(self, frames: torch.Tensor) -> dict[str, torch.Tensor]:
        """Loss of frames, uint8 (N, H, W, 3)."""
        images = frames.permute(0, 3, 1, 2).float() / 255
        whole = [self._view(images, self._size, GLOBAL) for _ in range(2)]
        parts = [self._view(images, self._size // 2, LOCAL) for _ in range(LOCALS)]
        with torch.no_grad():
            wanted = self.teacher_head(self.teacher(pixel_values=torch.cat(whole)).pooler_output).float().chunk(2)
        seen = self.student(pixel_values=torch.cat(whole)).pooler_output
        near = self.student(pixel_values=torch.cat(parts)).pooler_output
        given = self.student_head(torch.cat([seen, near])).float().chunk(2 + LOCALS)
        temperature = 0.04 + 0.01 * min(1.0, float(self.step) / (0.3 * self._steps))
        with torch.autocast(frames.device.type, enabled=False):  # in bfloat16 what they differ by would be rounded off
            agreement = self.agreement(list(wanted), list(given), teacher_temp=temperature)
            spread = sum(self.spread(half.float()) for half in seen.chunk(2)) / 2
        return {"loss": agreement + KOLEO_WEIGHT * spread, "agreement": agreement, "koleo": spread}

    def _view(self, images: torch.Tensor, size: int, scale: tuple[float, float]) -> torch.Tensor:
        crops = augment.random_crops(images, size, scale)
        return (augment.blur(augment.colours(crops, 0.08), 0.3) - self.mean) / self.std

    @torch.no_grad()
    def follow(self) -> None:
        """Moves the teacher towards the student, ever more slowly; to be called after each step."""
        from lightly.models.utils import update_momentum
        from lightly.utils.scheduler import cosine_schedule

        momentum = cosine_schedule(int(self.step), self._steps, 0.99, 1.0)
        update_momentum(self.student, self.teacher, momentum)
        update_momentum(self.student_head, self.teacher_head, momentum)
        self.step += 1
