"""Fine-tuning by its command line, on tiny random pipelines of the real classes: what is learned, kept and refused."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from torch_bridge.repairs import repair_torchvision

repair_torchvision()
torch.set_num_threads(1)

from tests.torch_bridge import tiny_family, tiny_videos  # noqa: E402
from torch_bridge.families import resolve  # noqa: E402
from torch_bridge.generation import making  # noqa: E402
from torch_bridge.training import adapter, finetune, loop, transformer  # noqa: E402

QUICK = "--videos 0 --validation 2 --batch 4 --warmup 0".split()


@pytest.fixture(scope="module")
def family(tmp_path_factory) -> Path:
    return tiny_family.make(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    return tiny_videos.toy_set(tmp_path_factory.mktemp("data") / "toy")


@pytest.fixture(autouse=True)
def alone():
    """accelerate keeps one state a process; each run here is its own."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    signal.signal(signal.SIGINT, signal.default_int_handler)


def train(data: Path, model: Path | str, out: Path, *flags: str | int, code: int = 0) -> Path:
    argv = ["--data", data, "--model", model, "--out", out, *flags]
    assert finetune.main([str(argument) for argument in argv]) == code
    return out


def figures(out: Path, name: str = "loss") -> list[float]:
    rows = json.loads((out / "finetune.json").read_text())["figures"]
    return [row[f"validation/{name}"] for row in rows if f"validation/{name}" in row]


def prediction(model: torch.nn.Module) -> torch.Tensor:
    """What a transformer says about fixed input."""
    rng = torch.Generator().manual_seed(5)
    latents, text = torch.randn(1, 3, 8, 4, 4, generator=rng), torch.randn(1, 6, 16, generator=rng)
    with torch.no_grad():
        return model.eval()(latents, text, torch.tensor([400])).sample


def pipeline_of(folder: Path):
    """The family as goal videos are made with it."""
    from torch_bridge.pipeline import load_pipeline

    found = resolve(str(folder), generates=True)
    return load_pipeline(found, making(found), torch.device("cpu"))


@pytest.fixture(scope="module")
def trained(toy, family, tmp_path_factory):
    """A run of 60 steps, and what its transformer said when it was saved."""
    said, save = [], adapter.save
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adapter, "save", lambda model, *rest: (said.append(prediction(model)), save(model, *rest)))
        flags = "--steps 60 --lr 1e-2 --rank 8 --alpha 16 --validate-every 30 --videos-every 30 --videos 1".split()
        out = train(toy, family, tmp_path_factory.mktemp("run") / "new", *flags, "--validation", 2)
    return out, said[0]


class TestAdapter:
    def test_validation_loss_falls(self, trained):
        before, middle, after = figures(trained[0])
        assert after < middle < before and after < 0.9 * before

    def test_a_fresh_pipeline_predicts_the_same(self, trained, family):
        from diffusers import CogVideoXImageToVideoPipeline

        out, said = trained
        fresh = CogVideoXImageToVideoPipeline.from_pretrained(family, dtype=torch.float32)
        plain = prediction(fresh.transformer)
        fresh.load_lora_weights(str(out / "transformer_lora"))
        assert torch.allclose(prediction(fresh.transformer), said, atol=1e-4)
        assert not torch.allclose(plain, said, atol=1e-2)

    def test_it_is_a_family_that_makes_goal_videos(self, trained, family):
        out, said = trained
        assert json.loads((out / "family.json").read_text()) == {
            "name": "new",
            "base": str(family.resolve()),
            "adapter": "transformer_lora",
        }
        assert torch.allclose(prediction(pipeline_of(out).transformer), said, atol=1e-4)

    def test_what_lies_beside_it(self, trained):
        from PIL import Image

        out, _ = trained
        assert not (out / ".work").exists()
        steps = sorted(path.name for path in (out / "samples").iterdir())
        assert steps == ["step-000000", "step-000030", "step-000060"]
        assert (out / "samples/step-000060/video-0.mp4").stat().st_size > 500
        strip = Image.open(out / "samples/step-000060/video-0.png")
        assert strip.size == (9 * 128 + 8 * 4, 2 * 128 + 4)
        card = (out / "README.md").read_text()
        assert "6 videos of" in card and "2 held back" in card and "| 60 | 0." in card and "- lr: 0.01" in card
        assert "loss" in json.loads((out / "losses.jsonl").read_text().splitlines()[-1]).popitem()[0]

    def test_an_adapter_on_top_of_an_adapter(self, trained, toy, family, tmp_path, capsys):
        out = train(toy, trained[0], tmp_path / "second", "--steps", 2, "--validate-every", 1, *QUICK)
        assert figures(out)[0] == pytest.approx(figures(trained[0])[-1], rel=1e-3)  # it starts where the first ended
        assert resolve(str(out), generates=True).adapters == (
            trained[0] / "transformer_lora",
            out / "transformer_lora",
        )

    def test_done_already(self, trained, toy, family, capsys):
        before = (trained[0] / "finetune.json").stat().st_mtime_ns
        flags = "--steps 60 --lr 1e-2 --rank 8 --alpha 16 --validate-every 30 --videos-every 30 --videos 1".split()
        train(toy, family, trained[0], *flags, "--validation", 2)
        assert "is done already" in capsys.readouterr().out
        train(toy, family, trained[0], *flags, "--validation", 2, "--lr", "1e-3", code=2)
        assert "lr: 0.01 -> 0.001" in capsys.readouterr().err
        assert (trained[0] / "finetune.json").stat().st_mtime_ns == before


class TestResume:
    FLAGS = ["--steps", 7, "--validate-every", 3, *QUICK]

    def test_a_stopped_run_ends_as_one_that_was_not(self, toy, family, tmp_path, monkeypatch, capsys):
        from safetensors.torch import load_file

        whole = train(toy, family, tmp_path / "whole", *self.FLAGS)
        at = self.interrupt(monkeypatch, 4)  # in the fourth batch: the fourth step is finished and saved
        halved = tmp_path / "halved"
        train(toy, family, halved, *self.FLAGS, code=130)
        assert "python -m genreward_jax finetune --data" in capsys.readouterr().err
        assert not (halved / "family.json").exists()
        at.clear()
        self.reset()
        train(toy, family, halved, *self.FLAGS)
        assert "going on at step 4 of 7" in capsys.readouterr().out
        assert figures(halved) == figures(whole) and len(figures(whole)) == 4
        name = "transformer_lora/pytorch_lora_weights.safetensors"
        ours, theirs = load_file(halved / name), load_file(whole / name)
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)

    def test_stopped_where_a_validation_was_due(self, toy, family, tmp_path, monkeypatch):
        at = self.interrupt(monkeypatch, 3)
        out = tmp_path / "out"
        train(toy, family, out, *self.FLAGS, code=130)
        at.clear()
        self.reset()
        train(toy, family, out, *self.FLAGS)
        steps = [row["step"] for row in json.loads((out / "finetune.json").read_text())["figures"]]
        assert steps == [0, 3, 6, 7]

    def test_other_settings_or_data_are_refused_by_name(self, family, tmp_path, monkeypatch, capsys):
        data = tiny_videos.toy_set(tmp_path / "data", 4)
        self.interrupt(monkeypatch, 1)
        train(data, family, tmp_path / "out", *self.FLAGS, code=130)
        self.reset()
        train(data, family, tmp_path / "out", *self.FLAGS, "--rank", 4, code=2)
        said = capsys.readouterr().err
        assert "(alpha: 16 -> 4; rank: 16 -> 4)" in said and "another --out" in said
        text = (data / "metadata.jsonl").read_text().replace("down", "up")
        (data / "metadata.jsonl").write_text(text)
        self.reset()
        train(data, family, tmp_path / "out", *self.FLAGS, code=2)
        assert "videos and captions: " in capsys.readouterr().err

    def test_what_never_made_a_step_may_be_begun_with_other_settings(self, toy, family, tmp_path, capsys):
        train(toy, family, tmp_path / "out", *self.FLAGS, "--validation", 8, code=2)
        self.reset()
        out = train(toy, family, tmp_path / "out", *self.FLAGS, "--frames", 17)
        assert len(figures(out)) == 4 and "- frames: 17" in (out / "README.md").read_text()

    def test_latents_are_computed_once(self, toy, family, tmp_path, monkeypatch):
        loads, load = [], transformer.load_vae
        monkeypatch.setattr(transformer, "load_vae", lambda job: (loads.append(1), load(job))[1])
        at = self.interrupt(monkeypatch, 1)
        train(toy, family, tmp_path / "out", *self.FLAGS, code=130)
        at.clear()
        self.reset()
        train(toy, family, tmp_path / "out", *self.FLAGS)
        assert len(loads) == 1

    @staticmethod
    def interrupt(monkeypatch, number: int) -> set[int]:
        """Ctrl-C in one of the batches; clearing what it gives lets all pass."""
        from torch_bridge.training import precompute

        at, seen, make = {number}, [], precompute.sample_batch

        def batch(*arguments):
            seen.append(1)
            if len(seen) in at:
                os.kill(os.getpid(), signal.SIGINT)
            return make(*arguments)

        monkeypatch.setattr(precompute, "sample_batch", batch)
        return at

    @staticmethod
    def reset() -> None:
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(reset_partial_state=True)


class TestParts:
    def test_the_whole_transformer(self, toy, family, tmp_path):
        flags = ["--method", "full", "--steps", 20, "--lr", "3e-3", "--validate-every", 20, *QUICK]
        out = train(toy, family, tmp_path / "out", *flags)
        before, after = figures(out)
        assert after < 0.95 * before
        assert json.loads((out / "family.json").read_text())["folders"] == {"transformer": "transformer"}
        changed = (
            pipeline_of(out).transformer.patch_embed.proj.weight
            - pipeline_of(family).transformer.patch_embed.proj.weight
        )
        assert changed.abs().max() > 1e-3  # not only the attention

    def test_the_autoencoder(self, toy, family, tmp_path):
        flags = ["--part", "vae", "--steps", 15, "--lr", "3e-3", "--validate-every", 15, "--warmup", 0, "--batch", 2]
        out = train(toy, family, tmp_path / "out", *flags, "--videos", 1)
        before, after = figures(out, "psnr")
        assert after > before + 1
        found = resolve(str(out))
        assert found.sources["vae"] == out / "vae" and found.part("vae") == out / "vae"
        assert sorted((out / "samples").glob("*/*.png"))

    def test_an_autoencoder_alone_needs_no_transformer(self, toy, family, tmp_path):
        import shutil

        alone = tmp_path / "alone"
        shutil.copytree(family / "vae", alone / "vae")
        shutil.copy(family / "family.json", alone)
        train(toy, alone, tmp_path / "out", "--part", "vae", "--steps", 1, "--batch", 1, "--videos", 0)
        assert (tmp_path / "out/vae/config.json").is_file()

    def test_half_of_the_batch_at_once_and_in_bfloat16_with_checkpointing(self, toy, family, tmp_path):
        flags = "--steps 3 --validate-every 3 --micro 2 --precision bf16 --checkpointing on --text-dropout 0.3".split()
        out = train(toy, family, tmp_path / "out", *flags, *QUICK)
        assert all(np.isfinite(figures(out)))

    def test_other_frames_and_sizes_are_what_goals_are_made_with(self, family, tmp_path):
        data = tiny_videos.toy_set(tmp_path / "data", 3, size=(48, 48))
        flags = "--steps 1 --frames 17 --height 48 --width 64 --stride 2 --batch 2 --videos 1".split()
        out = train(data, family, tmp_path / "out", *flags)
        text = json.loads((out / "family.json").read_text())
        assert text["generation"] == {"frames": 17, "height": 48, "width": 64}
        made = making(resolve(str(out), generates=True))
        assert (made.frames, made.height, made.width, made.steps) == (17, 48, 64, 3)
        assert "- fit: pad" in (out / "README.md").read_text()


class TestRefusals:
    @pytest.fixture
    def data(self, tmp_path) -> Path:
        """Three good videos, one that is missing, and one that breaks off where only decoding notices."""
        folder = tiny_videos.toy_set(tmp_path / "data", 3)
        video = np.random.default_rng(0).integers(0, 255, (40, 32, 32, 3), np.uint8)
        whole = tiny_videos.write(folder / "cut.mkv", video).read_bytes()
        (folder / "cut.mkv").write_bytes(whole[: len(whole) // 2])
        with (folder / "metadata.jsonl").open("a") as file:
            for name in ("gone.mp4", "cut.mkv"):
                file.write(json.dumps({"file_name": name, "text": "move down"}) + "\n")
        return folder

    def test_bad_videos_are_listed_before_anything_is_loaded(self, data, tmp_path, capsys):
        train(data, "no/model", tmp_path / "out", code=2)
        said = capsys.readouterr().err
        assert "gone.mp4: is not there" in said and "--bad skip" in said and "Traceback" not in said
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("part", ["transformer", "vae"])
    def test_a_video_that_breaks_off_is_found_while_it_is_read(self, data, family, tmp_path, capsys, part, monkeypatch):
        flags = ["--steps", 1, "--videos", 0, "--batch", 1, "--validation", 1, "--part", part]
        from genreward_jax.datasets import clips

        # The container says how many frames it should have, as mp4 does.
        honest = clips.look
        monkeypatch.setattr(
            clips, "look",
            lambda path: clips.Look(40, 32, 32, 10.0, 4.0) if path.name == "cut.mkv" else honest(path),
        )  # fmt: skip
        lines = (data / "metadata.jsonl").read_text().splitlines()
        (data / "metadata.jsonl").write_text("\n".join(line for line in lines if "gone" not in line))
        train(data, family, tmp_path / "out", *flags, code=2)
        said = capsys.readouterr().err
        assert "1 bad video of 4" in said and "cut.mkv: ends after" in said
        TestResume.reset()
        train(data, family, tmp_path / "out", *flags, "--bad", "skip")  # where it was refused, as the sentence says
        assert "Left out 1 bad video of 4" in capsys.readouterr().out
        assert "2 videos of" in (tmp_path / "out/README.md").read_text()

    @pytest.mark.parametrize(
        ("flags", "sentence"),
        [
            (["--stepps", "3"], "no flag --stepps: did you mean --steps"),
            (["--lr", "fast"], "invalid float"),
            (["--lr", "nan"], "--lr is nan"),
            (["--batch", "4", "--micro", "3"], "--micro 3 does not divide --batch 4"),
            (["--part", "vae", "--rank", "4"], "--rank has no effect on this training"),
            (["--part", "vae", "--method", "lora"], "--method lora is for the transformer"),
            (["--method", "full", "--alpha", "4"], "--alpha has no effect"),
            (["--frames", "10"], "take 9 or 17"),
            (["--width", "40"], "--width 40 does not suit the model: take a multiple of 16, such as 32"),
            (["--validation", "8"], "leaves none of 8 videos"),
            (["--videos-every", "7", "--validate-every", "3"], "take 6"),
            (["--camera", "front"], "for LeRobot data sets"),
            (["--limit", "-1"], "--limit is -1"),
            (["extra"], "'extra' belongs to no flag"),
        ],
    )
    def test_flags(self, toy, family, tmp_path, capsys, flags, sentence):
        train(toy, family, tmp_path / "out", *flags, code=2)
        said = capsys.readouterr().err
        assert sentence in said and "Traceback" not in said
        assert not (tmp_path / "out" / "family.json").exists()

    def test_folders_and_models(self, toy, family, tmp_path, capsys):
        (tmp_path / "file").write_text("x")
        train(toy, family, tmp_path / "file", code=2)
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "thesis.tex").write_text("x")
        train(toy, family, tmp_path / "full", code=2)
        train(toy, tmp_path / "nothing", tmp_path / "out", code=2)
        said = capsys.readouterr().err
        assert "is a file; name a folder" in said and "holds other things" in said and "model family" in said

    def test_captions_that_the_model_cannot_read_are_named(self, family, tmp_path, capsys):
        data = tiny_videos.toy_set(tmp_path / "data", 2)
        text = (data / "metadata.jsonl").read_text().replace("move down", "move the mug down down down down down")
        (data / "metadata.jsonl").write_text(text)
        train(data, family, tmp_path / "out", "--steps", 1, "--videos", 0, "--batch", 1)
        said = capsys.readouterr().out
        assert "1 of 3 captions are longer than the model's 6 tokens" in said and "to it: mug, the." in said

    def test_too_little_memory(self, toy, family, tmp_path, capsys, monkeypatch):
        from torch_bridge import memory

        monkeypatch.setattr(memory, "free_memory", lambda device: 1000)
        train(toy, family, tmp_path / "out", "--method", "full", code=2)
        assert "are free on cpu: take --method lora, or a machine with more" in capsys.readouterr().err

    def test_a_model_that_is_not_whole(self, toy, family, tmp_path, capsys):
        import shutil

        shutil.copytree(family, tmp_path / "cut")
        weights = tmp_path / "cut/transformer/diffusion_pytorch_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
        train(toy, tmp_path / "cut", tmp_path / "out", code=2)
        weights.unlink()
        TestResume.reset()
        train(toy, tmp_path / "cut", tmp_path / "out", code=2)
        said = capsys.readouterr().err
        assert "is cut off" in said and "There are no .safetensors in" in said

    def test_a_loss_that_is_no_number(self, toy, family, tmp_path, capsys, monkeypatch):
        from torch_bridge.training.denoising import Denoising

        monkeypatch.setattr(Denoising, "forward", lambda self, batch: self.transformer(
            torch.randn(1, 3, 8, 4, 4), batch["text"][:1], torch.tensor([1])).sample.sum() * float("nan"))  # fmt: skip
        train(toy, family, tmp_path / "out", "--steps", 2, *QUICK, code=2)
        assert "Training broke off: the loss is nan at step 0" in capsys.readouterr().err


def test_the_loop_stops_for_sigterm_too(tmp_path):
    """A batch system's polite kill saves as Ctrl-C does."""
    layer = torch.nn.Linear(2, 1)

    class Objective(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, batch):
            return self.layer(batch).square().mean()

    def batch(rng):
        os.kill(os.getpid(), signal.SIGTERM)
        return torch.ones(4, 2)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        loop.fit(Objective(), batch, loop.Settings(steps=5, lr=0.1), tmp_path, "x")
    assert (tmp_path / "checkpoint.safetensors").is_file()
    assert signal.getsignal(signal.SIGTERM) is before
