"""Small folders in the real models' layouts: their configurations' switches, tiny sizes, random weights.

Written by the libraries' own save functions. The switches were read in public copies of the real configurations
(docs/models.md names the revisions).
"""

import io
import json
import logging
from pathlib import Path

import torch

from torch_bridge.repairs import repair_torchvision

repair_torchvision()

HEIGHT, WIDTH, FRAMES = 64, 96, 9  # of the fake 5B: as the real 480x720 and 49, the only size that it can make
SENTENCES = [
    "a robot arm pushes the red puck to the goal",
    "a robot arm opens the drawer of the wooden table",
    "the gripper closes around the blue block and lifts it",
]
SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": True,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "snr_shift_scale": 1.0,
}


def cogvideox(folder: Path, version: str = "1.0", seed: int = 0) -> Path:
    """CogVideoX-5b-I2V ('1.0') or CogVideoX1.5-5B-I2V ('1.5'): the whole pipeline, large parts in bfloat16 pieces."""
    from diffusers import AutoencoderKLCogVideoX, CogVideoXDPMScheduler, CogVideoXTransformer3DModel
    from diffusers.utils import logging as diffusers_logging
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(seed)
    new = version == "1.5"
    words = _t5_tokenizer(folder / "tokenizer")
    common = {"text_embed_dim": 32, "time_embed_dim": 16, "in_channels": 32, "out_channels": 16}
    common |= {"num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 2, "max_text_seq_length": 226}
    own = (
        {"patch_size_t": 2, "patch_bias": False, "ofs_embed_dim": 16, "use_learned_positional_embeddings": False}
        | {"sample_height": 300, "sample_width": 300, "sample_frames": 81}
        if new
        else {"use_learned_positional_embeddings": True}
        | {"sample_height": HEIGHT // 8, "sample_width": WIDTH // 8, "sample_frames": FRAMES}
    )
    transformer = CogVideoXTransformer3DModel(use_rotary_positional_embeddings=True, **common, **own)
    text = T5EncoderModel(
        T5Config(
            vocab_size=words, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu"
        )
    )
    vae = AutoencoderKLCogVideoX(
        block_out_channels=(16, 16, 32, 32),
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=16,
        scaling_factor=0.7,
        sample_height=HEIGHT,
        sample_width=WIDTH,
        invert_scale_latents=new,
    )
    diffusers_logging.set_verbosity_error()
    transformer.to(torch.bfloat16).save_pretrained(folder / "transformer", max_shard_size="60KB")
    text.to(torch.bfloat16).save_pretrained(folder / "text_encoder", max_shard_size="40KB")
    vae.save_pretrained(folder / "vae")  # float32, as the real one is stored
    CogVideoXDPMScheduler(**SCHEDULE).save_pretrained(folder / "scheduler")
    parts = {"scheduler": "CogVideoXDPMScheduler", "text_encoder": "T5EncoderModel", "tokenizer": "T5Tokenizer"}
    parts |= {"transformer": "CogVideoXTransformer3DModel", "vae": "AutoencoderKLCogVideoX"}
    index = {"_class_name": "CogVideoXImageToVideoPipeline", "_diffusers_version": "0.32.0.dev0"}
    index |= {name: [_library(kind), kind] for name, kind in parts.items()}
    (folder / "model_index.json").write_text(json.dumps(index, indent=2))
    (folder / "README.md").write_text("A model card, which nobody needs.\n")
    return folder


def clip(folder: Path, seed: int = 0) -> Path:
    """CLIP-ViT-B-32-laion2B-s34B-b79K: no tokenizer that open_clip reads, so the 49k words that ship in its wheel."""
    import open_clip
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    folder.mkdir(parents=True)
    config = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 224, "layers": 2, "width": 32, "head_width": 16, "patch_size": 32},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
    }
    preprocess = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    logging.disable(logging.WARNING)  # it warns of random weights, which are meant
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    logging.disable(logging.NOTSET)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    # The repository holds the same model for transformers too, and older formats: none of them is wanted.
    (folder / "tokenizer.json").write_text("{}")
    for other in ("model.safetensors", "open_clip_pytorch_model.bin", "pytorch_model.bin"):
        (folder / other).write_bytes(b"for another library")
    return folder


def dino(folder: Path, seed: int = 0) -> Path:
    """dinov3-vits16plus-pretrain-lvd1689m: gated feed-forward layers and four registers."""
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    torch.manual_seed(seed)
    config = DINOv3ViTConfig(
        image_size=224,
        patch_size=16,
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        use_gated_mlp=True,
        hidden_act="silu",
        num_register_tokens=4,
    )
    DINOv3ViTModel(config).save_pretrained(folder)
    own = {"image_processor_type": "DINOv3ViTImageProcessorFast", "size": {"height": 224, "width": 224}}
    (folder / "preprocessor_config.json").write_text(json.dumps(own))
    return folder


def _t5_tokenizer(folder: Path) -> int:
    """T5's tokenizer as the real folder has it (spiece.model, no tokenizer.json); gives the size of its vocabulary."""
    import sentencepiece
    from transformers import T5Tokenizer

    folder.mkdir(parents=True)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 20),
        model_writer=model,
        vocab_size=60,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    (folder / "spiece.model").write_bytes(model.getvalue())
    named = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    named |= {"additional_special_tokens": [f"<extra_id_{i}>" for i in range(100)]}
    (folder / "special_tokens_map.json").write_text(json.dumps(named))
    config = {"tokenizer_class": "T5Tokenizer", "extra_ids": 100, "model_max_length": 226, "legacy": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(named | config))
    return len(T5Tokenizer.from_pretrained(folder))


def _library(name: str) -> str:
    return "transformers" if name.startswith("T5") else "diffusers"
