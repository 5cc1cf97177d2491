"""The objective of the embedded CLIP: which captions fit which frames, of whole episodes and of their phases."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from genreward_jax.demonstrations import captions

OPEN_ENDED = ("held", "done")  # the phases in which a whole episode's caption fits: what it tells has come about


@dataclass(frozen=True)
class Caption:
    """A sentence and what it is true of: one task or any (-1), and some of the phases."""

    text: str
    task: int
    phases: frozenset[int]


def captions_of(tasks: tuple[str, ...]) -> list[Caption]:
    """Every caption about every task; tasks and phases by number. A sentence true of two tasks stands twice."""
    number = {phase: i for i, phase in enumerate(captions.PHASES)}
    made = []
    for phase in captions.PHASES:
        made += [Caption(text, -1, frozenset([number[phase]])) for text in captions.any_task_captions(phase)]
    unfinished = frozenset(number[phase] for phase in captions.PHASES if phase != "done")
    made += [Caption(text, -1, unfinished) for text in captions.not_done_captions()]
    for index, task in enumerate(tasks):
        for phase in captions.PHASES:
            made += [Caption(text, index, frozenset([number[phase]])) for text in captions.phase_captions(task, phase)]
        late = frozenset(number[phase] for phase in OPEN_ENDED)
        made += [Caption(text, index, late) for text in captions.episode_captions(task)]
    return made


class Matching(nn.Module):
    """Cross-entropy both ways between frames and captions, where a caption may fit several frames and the reverse.

    Contrastive training with one right answer a row would punish a caption for fitting its second frame as well.

    Args:
        clip: open_clip model.
        tokens: int64 (C, L): the captions as tokens.
        truth: bool (C, tasks, phases): what each is true of.
        unknown: Number of the token that stands for words not known; some words are replaced by it in training.
        first_word: Lowest token number that is a word.
    """

    def __init__(self, clip: nn.Module, tokens: np.ndarray, truth: np.ndarray, unknown: int, first_word: int) -> None:
        super().__init__()
        self.clip = clip
        self.register_buffer("tokens", torch.from_numpy(tokens), persistent=False)
        self.register_buffer("truth", torch.from_numpy(truth), persistent=False)
        self._unknown, self._first_word = unknown, first_word

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Loss of 'images' float (N, 3, S, S), 'task' and 'phase' int64 (N,), and 'captions' int64 (C,)."""
        tokens = blank_words(self.tokens[batch["captions"]], self._unknown, self._first_word, 0.1)
        images = F.normalize(self.clip.encode_image(batch["images"]).float(), dim=-1)
        texts = F.normalize(self.clip.encode_text(tokens).float(), dim=-1)
        logits = self.clip.logit_scale.exp().clamp(max=100) * images @ texts.T  # (N, C)
        fits = self.truth[batch["captions"]][:, batch["task"], batch["phase"]].T.float()  # (N, C)
        to_text, to_image = _soft_cross_entropy(logits, fits), _soft_cross_entropy(logits.T, fits.T)
        return {"loss": (to_text + to_image) / 2, "to_text": to_text, "to_image": to_image}


def _soft_cross_entropy(logits: torch.Tensor, fits: torch.Tensor) -> torch.Tensor:
    """Rows without any fitting column are left out."""
    count = fits.sum(1)
    rows = count > 0
    wanted = fits[rows] / count[rows, None]
    # Less the entropy of the wanted distribution: 0 is perfect, whatever the number of right answers.
    return (-(wanted * F.log_softmax(logits[rows], 1)).sum(1) - count[rows].log()).mean()


def blank_words(tokens: torch.Tensor, unknown: int, first_word: int, share: float) -> torch.Tensor:
    """Replaces a share of the words by the unknown token, so that it comes to mean 'some word or other'."""
    chosen = (torch.rand(tokens.shape, device=tokens.device) < share) & (tokens >= first_word)
    return torch.where(chosen, unknown, tokens)
