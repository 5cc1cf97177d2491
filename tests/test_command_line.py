"""The command line as a user meets it: exit codes, sentences, nothing written by mistake."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def call(*argv, cwd=ROOT):
    return subprocess.run(
        [sys.executable, "-m", "genreward_jax", *argv], cwd=cwd, capture_output=True, text=True, timeout=120
    )


MISTAKES = {
    "verb": (["trian"], "no verb 'trian'"),
    "flag": (["train", "--sed", "1"], "did you mean seed"),
    "task": (["train", "--task", "metaworld_shelfplace"], "shelf_place"),
    "method": (["train", "--method", "nonee"], "did you mean none"),
    "goal": (["train", "--goal.source", "no.mp4"], "no video at"),
    "model": (["train", "--preset", "smoke", "--model.family", "no/such/folder"], "no/such/folder"),
    "run": (["eval", "no_such_run"], "no run in 'no_such_run'"),
    "episodes": (["eval", "x", "--episodes", "some"], "invalid int value"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_sentence_and_code_2(name, tmp_path):
    argv, sentence = MISTAKES[name]
    logdir = tmp_path / "run"
    flags = ["--logdir", str(logdir)] if argv[0] == "train" else []
    done = call(*argv, *flags)
    assert done.returncode == 2, done.stdout + done.stderr
    assert sentence in done.stderr and "Traceback" not in done.stderr
    assert {file.name for file in logdir.rglob("*")} <= {"bridge.log"}  # nothing half-written


def test_empty_and_small_videos_are_refused(tmp_path):
    import numpy as np
    from PIL import Image

    empty = tmp_path / "frames"
    empty.mkdir()
    small = tmp_path / "small.gif"
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(small)
    unreadable = tmp_path / "bad.mp4"
    unreadable.write_bytes(b"this is no video")
    for goal in (empty, small, unreadable):
        done = call("train", "--preset", "smoke", "--goal.source", str(goal), "--logdir", str(tmp_path / "run"))
        assert done.returncode == 2 and str(goal) in done.stderr, done.stderr
        assert not (tmp_path / "run").exists()


def test_without_the_official_code_it_is_a_sentence(tmp_path):
    """The command that mends it, whichever verb was asked for."""
    for name in ("embodied", "dreamerv3"):
        (tmp_path / f"{name}.py").write_text(
            f"raise ModuleNotFoundError(name, name={name!r})".replace("(name,", "('gone',")
        )
    for argv in (["train", "--preset", "smoke"], ["eval", "x"]):
        code = (
            f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.argv = {['x', *argv]!r}\n"
            "from genreward_jax.__main__ import main; sys.exit(main())"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert done.returncode == 2 and "make setup" in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_help_lists_the_verbs():
    done = call("--help")
    assert done.returncode == 0 and "train" in done.stdout and "doctor" in done.stdout


def test_the_trainer_imports_no_torch():
    code = (
        "import sys, genreward_jax.train, genreward_jax.cli.train, genreward_jax.evaluation.policy\n"
        "found = {m.split('.')[0] for m in sys.modules} & {'torch', 'diffusers', 'transformers', 'open_clip'}\n"
        "assert not found, found"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
