"""The embedded family before training: its architectures, with random weights, in the libraries' own formats.

The same classes as the paper's models, at 64x64 and under 20 MB together, so that everything downstream runs through
the same code as the real ones. ``torch_bridge/training/embedded.py`` trains it; what ships is under ``weights/``.

    python -m torch_bridge.embedded --out DIR [--frame-size 64] [--seed 0]
"""

import argparse
import json
import logging
from pathlib import Path

from genreward_jax.cache import make_once

MAX_TEXT = 24  # tokens of a prompt; the longest caption has 20
# CogVideoX's own; the paper's "4" is its compression in time. 32 were tried: scenes never seen came back 1 dB better,
# but the transformer, at the same steps, learned less and r_video with its videos fell (docs/models.md).
LATENTS = 16


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
    seeds = {"vae": seed, "clip": seed + 1, "dino": seed + 2, "transformer": seed + 3}
    state = torch.random.get_rng_state()
    try:
        for kind, build in _PARTS:
            torch.manual_seed(seeds[kind])
            build(folder / kind, frame_size)
        _complete_pipeline(folder)
    finally:
        torch.random.set_rng_state(state)
        logging.disable(logging.NOTSET)
    manifest = {
        "name": f"untrained-{frame_size}-seed{seed}",
        "frame_size": frame_size,
        "trained": False,
        "folders": {"vae": "vae", "clip": "clip", "dino": "dino"},
        "generation": generation(frame_size),
        "seeds": seeds,
    }
    (folder / "family.json").write_text(json.dumps(manifest, indent=2) + "\n")


def generation(frame_size: int) -> dict:
    """How the family makes a goal video: 17 frames, one every 8 simulator steps, span the paper's 128 steps."""
    return {
        "frames": 17,
        "steps": 20,
        "guidance": 1.0,
        "width": frame_size,
        "height": frame_size,
        "fps": 10,
        "max_text": MAX_TEXT,
    }


def _make_vae(folder: Path, size: int) -> None:
    from diffusers import AutoencoderKLCogVideoX

    vae = AutoencoderKLCogVideoX(
        block_out_channels=(16, 32, 32, 64),
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=LATENTS,
        sample_height=size,
        sample_width=size,
    )
    vae.half().save_pretrained(folder, safe_serialization=True)


def _make_clip(folder: Path, size: int) -> None:
    import open_clip
    from open_clip.push_to_hf_hub import save_for_hf

    folder.mkdir(parents=True)
    words = _make_tokenizer(folder)
    config = {
        "embed_dim": 64,
        "vision_cfg": {"image_size": size, "layers": 2, "width": 96, "head_width": 48, "patch_size": 8},
        "text_cfg": {
            "context_length": MAX_TEXT,
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
    """The words of the training captions, and one token for all others; returns the size of the vocabulary.

    A word that no caption holds would get a vector that was never trained: noise. The unknown token is trained.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    from genreward_jax.demonstrations.captions import vocabulary
    from genreward_jax.demonstrations.split import tasks_of

    tokens = ["[PAD]", "[START]", "[END]", "[UNK]"] + vocabulary(tasks_of("training"))
    vocab = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordLevel(vocab=vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[START] $A [END]", special_tokens=[("[START]", 1), ("[END]", 2)]
    )
    names = {"pad_token": "[PAD]", "bos_token": "[START]", "eos_token": "[END]", "unk_token": "[UNK]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    return len(vocab)


def _make_transformer(folder: Path, size: int) -> None:
    from diffusers import CogVideoXTransformer3DModel
    from transformers import T5Config, T5EncoderModel

    words = _make_tokenizer(folder.parent / "tokenizer")
    text = T5Config(vocab_size=words, d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4, pad_token_id=0)
    T5EncoderModel(text).half().save_pretrained(folder.parent / "text_encoder", safe_serialization=True)
    CogVideoXTransformer3DModel(
        num_attention_heads=5,
        attention_head_dim=48,
        in_channels=2 * LATENTS,  # noised ones beside the first frame's
        out_channels=LATENTS,
        time_embed_dim=64,
        text_embed_dim=64,
        num_layers=5,
        sample_width=size // 8,
        sample_height=size // 8,
        sample_frames=17,
        patch_size=2,
        max_text_seq_length=MAX_TEXT,
        # One camera that never moves: absolute places tell more than relative ones.
        use_rotary_positional_embeddings=False,
    ).half().save_pretrained(folder, safe_serialization=True)


def _complete_pipeline(folder: Path) -> None:
    """Scheduler and index, which make the family's folder one of diffusers' pipelines."""
    import diffusers
    from diffusers import CogVideoXDDIMScheduler

    CogVideoXDDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        clip_sample=False,
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        set_alpha_to_one=True,
        snr_shift_scale=1.0,
    ).save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "CogVideoXImageToVideoPipeline",
        "_diffusers_version": diffusers.__version__,
        "scheduler": ["diffusers", "CogVideoXDDIMScheduler"],
        "text_encoder": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "transformer": ["diffusers", "CogVideoXTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLCogVideoX"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


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


_PARTS = (("vae", _make_vae), ("clip", _make_clip), ("dino", _make_dino), ("transformer", _make_transformer))


def main() -> None:
    """Makes the family where it is asked for, and says where it is."""
    parser = argparse.ArgumentParser(description="Make the small random model family.")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--frame-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder = make_once(options.out, lambda path: make(path, options.frame_size, options.seed))
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6
    print(f"random model family ({size:.1f} MB): {folder}")


if __name__ == "__main__":
    main()
