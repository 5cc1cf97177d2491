"""The models that ship with the project: a small, seeded, randomly initialised family in the libraries' own formats.

The same classes as the paper's models, at 64x64 and under 10 MB together, so that everything downstream runs
through the same code as the real ones. Random weights say little about a task.

    python -m torch_bridge.embedded [--out DIR] [--frame-size 64] [--seed 0]
"""

import argparse
import json
import logging
from pathlib import Path

from genreward_jax.cache import cache_dir, make_once
from torch_bridge.families import EMBEDDED

# Words that a task's prompt is likely to use; any other word is spelt in letters.
_WORDS = """
a an and arm assembly at away back ball basket basketball beside bin bins block bottle box bread button by camera can
cap close closed closing coffee cup cube cut cylinder dial disassemble door down drawer drink drop eject end faucet
find finger floor for from front full game get goal golf grasp grasping green gripper hammer hand handle held hit
hole hold holds in insert inside into inward is it item its kick kitchen knife lamp left lever lid lift lifting lock
loosen machine manipulate mechanical metal mid moment moves moving mug nail nut object obstacle of off on one onto
open opened opening orange out outward over peg person pick picking picks place placed placing plate plug position
press pressed pressing puck pull pulled pulling push pushed pushing put puts putting reach reached reaches reaching
red release remove removes right ring robot robotic rod room rotate round scene screw shelf side slide sliding soccer
socket stick stock straight sweep switch table take takes target task that the thing through throw to tool top toward
towards turn turned turning two unlock unplug up video view wall white wide window with wooden yellow
"""
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def make(folder: Path, frame_size: int = 64, seed: int = 0) -> None:
    """Writes the family into ``folder``; the same seed and libraries give the same bytes.

    Args:
        folder: Existing, empty folder.
        frame_size: Height and width in pixels, a multiple of 8.
        seed: Of all weights.
    """
    import torch

    from torch_bridge.repairs import repair_torchvision

    repair_torchvision()
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    logging.disable(logging.WARNING)  # open_clip warns of random weights, which are meant
    seeds = {"vae": seed, "clip": seed + 1, "dino": seed + 2}
    state = torch.random.get_rng_state()
    try:
        for kind, build in (("vae", _make_vae), ("clip", _make_clip), ("dino", _make_dino)):
            torch.manual_seed(seeds[kind])
            build(folder / kind, frame_size)
    finally:
        torch.random.set_rng_state(state)
        logging.disable(logging.NOTSET)
    manifest = {
        "name": EMBEDDED if (frame_size, seed) == (64, 0) else f"embedded-random-{frame_size}-seed{seed}",
        "frame_size": frame_size,
        "trained": False,
        "folders": {"vae": "vae", "clip": "clip", "dino": "dino"},
        "seeds": seeds,
    }
    (folder / "family.json").write_text(json.dumps(manifest, indent=2) + "\n")


def make_in_cache() -> Path:
    """The default family's folder in the cache, made if it is not there."""
    return make_once(cache_dir("models", EMBEDDED), make)


def _make_vae(folder: Path, size: int) -> None:
    from diffusers import AutoencoderKLCogVideoX

    vae = AutoencoderKLCogVideoX(
        block_out_channels=(16, 32, 32, 64),
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=16,  # CogVideoX's own; the paper's "4" is its compression in time
        sample_height=size,
        sample_width=size,
    )
    vae.half().save_pretrained(folder, safe_serialization=True)


def _make_clip(folder: Path, size: int) -> None:
    import open_clip
    from open_clip.push_to_hf_hub import save_for_hf

    folder.mkdir(parents=True)
    words, context = _make_tokenizer(folder), 48
    config = {
        "embed_dim": 64,
        "vision_cfg": {"image_size": size, "layers": 2, "width": 96, "head_width": 48, "patch_size": 8},
        "text_cfg": {
            "context_length": context,
            "vocab_size": words,
            "width": 96,
            "heads": 2,
            "layers": 2,
            "pool_type": "eos",
            "eos_id": 2,
            "hf_tokenizer_name": "in this folder",  # must not be empty; for a local folder its value is ignored
        },
    }
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    name = f"local-dir:{folder}"
    model = open_clip.create_model(name, load_weights=False)
    save_for_hf(model.half(), open_clip.get_tokenizer(name), config, folder, safe_serialization=True)


def _make_tokenizer(folder: Path) -> int:
    """Words whole, others letter by letter; returns the size of the vocabulary."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[START]", "[END]", "[UNK]"]
    tokens = special + sorted(set(_WORDS.split()) | set(_LETTERS)) + [f"##{c}" for c in _LETTERS]
    vocab = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(vocab=vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[START] $A [END]", special_tokens=[("[START]", 1), ("[END]", 2)]
    )
    names = {"pad_token": "[PAD]", "bos_token": "[START]", "eos_token": "[END]", "unk_token": "[UNK]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    return len(vocab)


def _make_dino(folder: Path, size: int) -> None:
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    config = DINOv3ViTConfig(
        image_size=size,
        patch_size=8,
        hidden_size=384,  # the paper's 384 numbers (Table A, observation dimension)
        intermediate_size=384,
        num_hidden_layers=2,
        num_attention_heads=6,
        use_gated_mlp=True,
        num_register_tokens=4,
    )
    DINOv3ViTModel(config).half().save_pretrained(folder, safe_serialization=True)


def main() -> None:
    """Makes the family where it is asked for, by default in the cache, and says where it is."""
    parser = argparse.ArgumentParser(description="Make the small random model family.")
    parser.add_argument("--out", type=Path, help="folder to make (default: in the cache)")
    parser.add_argument("--frame-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.out is None:
        folder = make_in_cache()
    else:
        folder = make_once(options.out, lambda path: make(path, options.frame_size, options.seed))
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6
    print(f"random model family ({size:.1f} MB): {folder}")


if __name__ == "__main__":
    main()
