"""What a person sees while it runs: one block before the start, one bar, sentences when something happens."""

import sys
import time
from collections import deque

from tqdm import tqdm


def block(lines: list[tuple[str, str]]) -> str:
    """Lines of (name, what) as one aligned block."""
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"  {name:<{width}}  {what}" for name, what in lines)


def clock(seconds: float) -> str:
    """Seconds as a person says them: '40 s', '9 min', '3.2 h', '2.1 days'."""
    for size, unit, digits in ((86400, "days", 1), (3600, "h", 1), (60, "min", 0)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds:.0f} s"


def amount(number: float) -> str:
    """Bytes as a person says them."""
    for size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number / 1e3:.0f} kB"


def say(text: str) -> None:
    """A sentence for the user, above the bar if there is one."""
    tqdm.write(text, file=sys.stdout)
    sys.stdout.flush()


class Progress:
    """The bar: step, episode return, success, rewards, speeds, time left. Sentences go above it."""

    def __init__(self, total: int, initial: int, enabled: bool = True) -> None:
        self.bar = tqdm(
            total=total,
            initial=initial,
            unit="step",
            disable=not enabled,
            dynamic_ncols=True,
            smoothing=0.05,
            mininterval=0.5 if sys.stderr.isatty() else 15.0,  # a log file wants few lines
            bar_format="{percentage:3.0f}% {bar:10} {n_fmt}/{total_fmt}  {desc}  ETA {remaining}",
        )
        self.figures: dict[str, str] = {}
        self.seen: deque[tuple[float, int, int]] = deque()

    def show(self, step: int, updates: int, **figures: float | None) -> None:
        """Moves the bar to ``step``; speeds are those of the last half minute, a figure of None shows a dash."""
        now = time.monotonic()
        self.seen.append((now, step, updates))
        while now - self.seen[0][0] > 30:
            self.seen.popleft()
        then, first_step, first_updates = self.seen[0]
        if now > then:
            figures["steps/s"] = (step - first_step) / (now - then)
            figures["train steps/s"] = (updates - first_updates) / (now - then)
        for name, value in figures.items():
            self.figures[name] = "-" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
        self.bar.set_description_str("  ".join(f"{k} {v}" for k, v in self.figures.items()), refresh=False)
        self.bar.update(max(0, step - self.bar.n))

    def say(self, text: str) -> None:
        """A sentence above the bar."""
        say(text)

    def close(self) -> None:
        self.bar.close()
