"""The one training loop: an objective, batches by step number, checkpoints that a later start goes on from.

accelerate is the engine, so its own launcher spreads a run over GPUs and machines. A batch depends on the seed, the
step and the process only, so a run that was stopped sees the batches that it would have seen.
"""

import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn


@dataclass
class Settings:
    """Numbers of one training run.

    Attributes:
        steps: Optimiser steps.
        lr: Highest learning rate.
        warmup: Steps over which it rises from 0.
        decay: Share of the steps, at the end, over which it falls to 0; 0 keeps it constant.
        betas, weight_decay, clip: Of AdamW and of the gradient's norm.
        ema: Decay of the averaged weights, which are what is saved at the end; 0 averages none.
        accumulate: Batches whose gradients make one step.
        seed: Of the batches and of the noise.
        save_every: Seconds between checkpoints.
        validate_every: Steps between validations, 0 for none but the last.
        validate_first: Also before the first step.
    """

    steps: int
    lr: float
    warmup: int = 100
    decay: float = 0.3
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 1e-4
    clip: float = 1.0
    ema: float = 0.0
    accumulate: int = 1
    seed: int = 0
    save_every: float = 120.0
    validate_every: int = 0
    validate_first: bool = False

    def rate(self, step: int) -> float:
        """Learning rate at a step, as a share of the highest."""
        rising = min(1.0, (step + 1) / max(1, self.warmup))
        falling = (self.steps - step) / max(1.0, self.decay * self.steps) if self.decay else 1.0
        return max(0.0, min(rising, falling))


def fit(
    objective: nn.Module,
    batch_of: Callable[[np.random.Generator], Any],
    settings: Settings,
    work: Path,
    name: str,
    precision: str = "no",
    validate: Callable[[int], dict[str, float]] | None = None,
    say: Callable[[str], None] = print,
    after_step: Callable[[nn.Module], None] | None = None,
) -> None:
    """Trains the parameters of ``objective`` that require gradients; its forward gives the loss or a dict with 'loss'.

    Args:
        objective: Called with a batch; its weights are the averaged ones afterwards where ``settings.ema`` is set.
        batch_of: Makes a batch out of a generator that belongs to the step.
        settings: How long and how fast.
        work: Folder of the checkpoint and of ``losses.jsonl``; a run that is there goes on.
        name: Shown beside the progress bar.
        precision: accelerate's mixed precision, 'no' or 'bf16'.
        validate: Called with the step; what it gives is logged.
        say: Told about a resumed run.
        after_step: Called with the objective after each step (a teacher that follows, say).

    Raises:
        KeyboardInterrupt: Ctrl-C or a polite kill; the step at hand was finished and saved.
        FloatingPointError: The loss is no number any more.
    """
    from accelerate import Accelerator
    from tqdm import tqdm

    accelerator = Accelerator(mixed_precision=precision, gradient_accumulation_steps=settings.accumulate)
    trained = [p for p in objective.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay, fused=True
    )
    model, optimizer = accelerator.prepare(objective, optimizer)
    average = [p.detach().clone() for p in trained] if settings.ema else []
    work.mkdir(parents=True, exist_ok=True)
    keeper = _Checkpoint(work / "checkpoint.safetensors", objective, optimizer, average)
    start = keeper.load()
    if start and accelerator.is_main_process:
        say(f"{name}: going on at step {start:,} of {settings.steps:,}.")
    log = _Log(work / "losses.jsonl", start) if accelerator.is_main_process else None
    bar = tqdm(
        total=settings.steps, initial=start, desc=name, disable=not accelerator.is_main_process,
        mininterval=1 if os.isatty(2) else 30,
    )  # fmt: skip
    saved, rank = time.monotonic(), accelerator.process_index

    def check(step: int) -> None:
        with _swapped(average, trained), torch.no_grad():
            model.eval()
            figures = validate(step)
            model.train()
        if log:
            log.validation(step, figures)
            bar.write(f"{name} step {step:,}: " + ", ".join(f"{k} {v:.4g}" for k, v in figures.items()))

    due = settings.validate_first if not start else settings.validate_every and start % settings.validate_every == 0
    if validate and due and log and not log.validated(start):  # after a stop, what it did not wait for
        check(start)
    asked = _Stop(accelerator)
    model.train()
    for step in range(start, settings.steps):
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * settings.rate(step)
        for part in range(settings.accumulate):
            torch.manual_seed(hash((settings.seed, step, rank, part)) % 2**63)
            batch = batch_of(np.random.default_rng([settings.seed, step, rank, part]))
            with accelerator.accumulate(model), accelerator.autocast():
                terms = model(_to(batch, accelerator.device))
                terms = terms if isinstance(terms, dict) else {"loss": terms}
                accelerator.backward(terms["loss"])
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(trained, settings.clip)
                optimizer.step()
                optimizer.zero_grad()
        _follow(average, trained, min(settings.ema, (step + 1) / (step + 10)))
        if after_step:
            after_step(objective)
        bar.update()
        if log:
            log.add(step, {key: float(value.detach()) for key, value in terms.items()})
            if step % 10 == 0:
                bar.set_postfix_str(log.line())
        last, stop = step + 1 == settings.steps, asked.now()
        if validate and not stop and (last or (settings.validate_every and (step + 1) % settings.validate_every == 0)):
            check(step + 1)
        if accelerator.is_main_process and (last or stop or time.monotonic() - saved > settings.save_every):
            keeper.save(step + 1)
            saved = time.monotonic()
        if stop and not last:
            bar.close()
            raise KeyboardInterrupt
    asked.restore()
    bar.close()
    for parameter, mean in zip(trained, average, strict=bool(average)) if average else ():
        parameter.data.copy_(mean)
    model.eval()
    accelerator.free_memory()


class _Stop:
    """Ctrl-C and SIGTERM are kept until a step is done; a second one does not wait. All processes stop together."""

    def __init__(self, accelerator: Any) -> None:
        self._accelerator, self._asked, self._before = accelerator, False, {}
        if threading.current_thread() is threading.main_thread():  # elsewhere Python lets nobody listen
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)

    def _note(self, *_: Any) -> None:
        self._asked = True
        self.restore()

    def now(self) -> bool:
        """Whether this step is to be the last for now."""
        if self._accelerator.num_processes == 1:
            return self._asked
        flag = torch.tensor(float(self._asked), device=self._accelerator.device)
        return bool(self._accelerator.reduce(flag, "sum") > 0)

    def restore(self) -> None:
        """Lets signals act as before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}


def _to(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, dict):
        return {key: _to(value, device) for key, value in batch.items()}
    if isinstance(batch, np.ndarray):
        batch = torch.from_numpy(batch)
    return batch.to(device) if torch.is_tensor(batch) else batch


def _follow(average: list[torch.Tensor], trained: list[torch.Tensor], decay: float) -> None:
    if average:
        with torch.no_grad():
            torch._foreach_lerp_(average, [p.detach() for p in trained], 1 - decay)


class _swapped:
    """Within it the model holds the averaged weights."""

    def __init__(self, average: list[torch.Tensor], trained: list[torch.Tensor]) -> None:
        self._average, self._trained = average, trained

    def __enter__(self) -> None:
        self._kept = [p.detach().clone() for p in self._trained] if self._average else []
        for parameter, mean in zip(self._trained, self._average, strict=False):
            parameter.data.copy_(mean)

    def __exit__(self, *_: Any) -> None:
        for parameter, kept in zip(self._trained, self._kept, strict=False):
            parameter.data.copy_(kept)


class _Checkpoint:
    """Trained weights, their average and AdamW's moments in one safetensors file; nothing is unpickled."""

    def __init__(self, path: Path, objective: nn.Module, optimizer: Any, average: list[torch.Tensor]) -> None:
        self._path, self._objective, self._optimizer, self._average = path, objective, optimizer, average

    def _named(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in self._objective.named_parameters() if p.requires_grad]

    def _optimizer_state(self) -> dict:
        return getattr(self._optimizer, "optimizer", self._optimizer).state

    def _carried(self) -> dict[str, torch.Tensor]:
        """What changes without an optimiser: buffers, and frozen modules that the objective lists in ``follows``."""
        tensors = {f"buffer/{name}": value for name, value in self._objective.named_buffers()}
        for module in getattr(self._objective, "follows", ()):
            for name, value in getattr(self._objective, module).named_parameters():
                tensors[f"follows/{module}.{name}"] = value
        return tensors

    def save(self, step: int) -> None:
        from safetensors.torch import save_file

        named, state, tensors = self._named(), self._optimizer_state(), {}
        for index, (name, parameter) in enumerate(named):
            tensors[f"weight/{name}"] = parameter.detach()
            if self._average:
                tensors[f"average/{name}"] = self._average[index]
            for key, value in state.get(parameter, {}).items():
                tensors[f"{key}/{name}"] = value
        tensors.update(self._carried())
        tensors = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
        part = self._path.with_suffix(f".{os.getpid()}.part")
        save_file(tensors, part, metadata={"step": str(step)})
        part.replace(self._path)

    def load(self) -> int:
        """Puts back what was saved; the step to go on from, 0 without a checkpoint."""
        from safetensors import safe_open

        if not self._path.is_file():
            return 0
        with safe_open(self._path, "pt") as file, torch.no_grad():
            keys = set(file.keys())
            for index, (name, parameter) in enumerate(self._named()):
                parameter.copy_(file.get_tensor(f"weight/{name}"))
                if self._average:
                    self._average[index].copy_(file.get_tensor(f"average/{name}"))
                for key in ("step", "exp_avg", "exp_avg_sq"):
                    if f"{key}/{name}" in keys:
                        value = file.get_tensor(f"{key}/{name}").to(parameter.device)
                        self._optimizer_state()[parameter][key] = value
            for key, value in self._carried().items():
                if key in keys:
                    value.copy_(file.get_tensor(key))
            return int(file.metadata()["step"])


class _Log:
    """Smoothed losses: a line in ``losses.jsonl`` now and then, and words for the progress bar."""

    def __init__(self, path: Path, start: int) -> None:
        self._path, self._sums, self._count, self._validated = path, {}, 0, set()
        if path.is_file():  # lines after the checkpoint will be made again
            kept = [row for row in map(json.loads, path.read_text().splitlines()) if row["step"] <= start]
            path.write_text("".join(f"{json.dumps(row)}\n" for row in kept))
            self._validated = {row["step"] for row in kept if any(key.startswith("validation/") for key in row)}

    def add(self, step: int, terms: dict[str, float]) -> None:
        if not math.isfinite(terms["loss"]):
            raise FloatingPointError(f"the loss is {terms['loss']} at step {step}: a lower learning rate may mend it")
        for key, value in terms.items():
            self._sums[key] = self._sums.get(key, 0.0) + value
        self._count += 1
        if (step + 1) % 50 == 0:
            self._write({"step": step + 1, **self._means()})
            self._last, self._sums, self._count = self._means(), {}, 0

    def validation(self, step: int, figures: dict[str, float]) -> None:
        self._write({"step": step, **{f"validation/{key}": value for key, value in figures.items()}})

    def validated(self, step: int) -> bool:
        """Whether the run that is gone on with was validated at a step."""
        return step in self._validated

    def line(self) -> str:
        means = self._means() if self._count >= 10 or not hasattr(self, "_last") else self._last
        return " ".join(f"{key} {value:.4f}" for key, value in means.items())

    def _means(self) -> dict[str, float]:
        return {key: round(value / max(1, self._count), 6) for key, value in self._sums.items()}

    def _write(self, row: dict[str, float]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")
