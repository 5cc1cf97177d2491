"""Renders the data sets of the embedded models: one folder a task and quality, lossless mp4s beside metadata.jsonl.

    python -m genreward_jax.demonstrations.render --out DIR [--group training] [--workers 2]

What is already there is not rendered again, so it can be stopped and started at will. The folders follow the Hugging
Face video-folder convention (``file_name`` and ``text`` in ``metadata.jsonl``), so ``make finetune DATA=`` reads them.
"""

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genreward_jax.cache import make_once
from genreward_jax.demonstrations import captions, play, split
from genreward_jax.errors import UserError
from genreward_jax.video import write_frames
from genreward_jax.windows import sampled_steps

FORMAT = 1  # part of a cached data set's name: raise it when the same arguments come to mean other pictures
INTERVAL, WINDOW = 128, 16  # steps and sampled frames of a reward window (Table A, section 3.2)
STRIDE = 4  # simulator steps between two frames of the data
FPS = 10.0


@dataclass(frozen=True)
class Portion:
    """One task's episodes in one quality.

    Attributes:
        task: Underscore name.
        quality: 'fast' or 'full'.
        counts: Behaviour to number of episodes.
        first_seed: Seeds count up from here over all episodes of the portion.
        last_step: Simulator steps that are shown.
        stride: Simulator steps between two frames.
        windows: Show the frames of the paper's reward windows as well (16 of each 128 steps).
        same_seeds: Every behaviour plays the same seeds.
    """

    task: str
    quality: str
    counts: tuple[tuple[str, int], ...]
    first_seed: int
    last_step: int = 160
    stride: int = STRIDE
    windows: bool = False
    same_seeds: bool = False

    @property
    def name(self) -> str:
        return f"{self.task}-{self.quality}"

    @property
    def steps(self) -> list[int]:
        """Simulator steps that are drawn, ascending."""
        shown = set(range(0, self.last_step + 1, self.stride))
        if self.windows:
            sampled = sampled_steps(INTERVAL, WINDOW)
            shown |= {step for step in range(1, self.last_step + 1) if (step - 1) % INTERVAL + 1 in sampled}
        return sorted(shown)


# Seeds of the models' training; evaluation starts at 100,000 and the adapter's data at 200,000.
TRAINING_SEED, EVALUATION_SEED, EXPERTS_SEED = 0, 100_000, 200_000
_TRAINING = {
    "fast": (("expert", 26), ("noisy1", 4), ("noisy2", 4), ("stop25", 1), ("stop50", 2), ("stop75", 2), ("random", 4)),
    # The model's own quality is eight times slower to draw, and its scenes are the same: fewer suffice.
    "full": (("expert", 5), ("noisy2", 1), ("stop50", 1), ("random", 1)),
}
_EXPERTS = {"fast": (("expert", 20),), "full": (("expert", 5),)}


_JUDGED = ("expert", "stop50", "random")


def plan(group: str) -> list[Portion]:
    """The portions of a data set.

    'training' (40 tasks, all behaviours), 'experts' (the paper's five, experts only), or 'evaluation' (the ten tasks
    never trained on and ten of the 40, three behaviours on the same seeds, none of which any model was trained on).

    Raises:
        UserError: No such group.
    """
    if group == "evaluation":
        return _evaluation()
    if group not in ("training", "experts"):
        raise UserError(f"There is no data set '{group}'; there are training, experts and evaluation.")
    # Seeds of the two qualities do not meet.
    full_seeds = (("fast", 0), ("full", 1000))
    if group == "experts":  # as a goal video is: 17 frames over 128 steps, so that they need no sampling
        shown = dict(last_step=128, stride=8)
        return [
            Portion(task, quality, _EXPERTS[quality], EXPERTS_SEED + more, **shown)
            for quality, more in full_seeds
            for task in split.tasks_of("paper")
        ]
    return [
        Portion(task, quality, _TRAINING[quality], TRAINING_SEED + more, stride=STRIDE * (2 if more else 1))
        for quality, more in full_seeds
        for task in split.tasks_of("training")
    ]


def _evaluation() -> list[Portion]:
    counts = {"paper": {"fast": 10, "full": 2}, "held_out": {"fast": 10}, "training": {"fast": 3}}
    shown = dict(last_step=256, stride=8, windows=True, same_seeds=True)
    return [
        Portion(
            task, quality, tuple((b, number) for b in _JUDGED), EVALUATION_SEED + 1000 * (quality == "full"), **shown
        )
        for group, of_quality in counts.items()
        for quality, number in of_quality.items()
        # Every fourth of the 40 stands for them.
        for task in split.tasks_of(group)[:: 4 if group == "training" else 1]
    ]


def render(
    out: Path, portions: list[Portion], workers: int, progress: Callable[[int, int, str], None] | None = None
) -> Path:
    """Fills ``out`` with the portions that are missing, and writes the whole's ``metadata.jsonl``.

    Args:
        out: Folder of the data set.
        portions: What belongs into it.
        workers: Processes that draw at once.
        progress: Told (portions done, portions in all, the name of the last one).
    """
    out.mkdir(parents=True, exist_ok=True)
    missing = [portion for portion in portions if not (out / portion.name).is_dir()]
    done = len(portions) - len(missing)
    if progress:
        progress(done, len(portions), "")
    if missing:
        with multiprocessing.get_context("spawn").Pool(max(1, min(workers, len(missing)))) as pool:
            for name in pool.imap_unordered(_render_portion, [(out, portion) for portion in missing], chunksize=1):
                done += 1
                if progress:
                    progress(done, len(portions), name)
    lines = []
    for portion in sorted(portions, key=lambda p: p.name):
        for line in (out / portion.name / "metadata.jsonl").read_text().splitlines():
            row = json.loads(line)
            lines.append(json.dumps({**row, "file_name": f"{portion.name}/{row['file_name']}"}))
    part = out / f".metadata-{os.getpid()}.jsonl"
    part.write_text("\n".join(lines) + "\n")
    part.replace(out / "metadata.jsonl")
    return out


def _render_portion(job: tuple[Path, Portion]) -> str:
    out, portion = job
    make_once(out / portion.name, lambda folder: _fill(folder, portion))
    return portion.name


def _fill(folder: Path, portion: Portion) -> None:
    stage = play.Stage(portion.task, portion.quality)
    rng = np.random.default_rng([portion.first_seed, 2])
    texts = captions.episode_captions(portion.task)
    lines, seed = [], portion.first_seed
    for behaviour, count in portion.counts:
        seed = portion.first_seed if portion.same_seeds else seed
        for index in range(count):
            episode = stage.play(seed, behaviour, portion.steps)
            name = f"{behaviour}-{index:03d}.mp4"
            write_frames(folder / name, episode.frames, FPS)
            lines.append(json.dumps({
                "file_name": name,
                "text": str(rng.choice(texts)),
                "task": portion.task,
                "quality": portion.quality,
                "behaviour": behaviour,
                "seed": seed,
                "stride": portion.stride,
                "steps": portion.steps,
                "success_step": episode.success_step,
                "phases": episode.phases,
            }))  # fmt: skip
            seed += 1
    stage.close()
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")


def main(argv: list[str] | None = None) -> int:
    """Renders a data set; the exit code is 2 where the user can mend what went wrong."""
    from tqdm import tqdm

    parser = argparse.ArgumentParser(prog="python -m genreward_jax.demonstrations.render")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--group", default="training", choices=("training", "experts", "evaluation"))
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args(argv)
    with tqdm(total=0, unit="task", desc=f"rendering {args.group}") as bar:

        def show(done: int, total: int, name: str) -> None:
            bar.total, bar.n = total, done
            bar.set_postfix_str(name)

        try:
            render(args.out, plan(args.group), args.workers, show)
        except UserError as error:
            print(error, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
