"""A whole image-to-video family with random weights in which a training step takes milliseconds."""

import json
from pathlib import Path

import torch

SIZE, FRAMES, MAX_TEXT = 32, 9, 6


def make(folder: Path, seed: int = 0) -> Path:
    """Writes ``family.json`` and diffusers' pipeline around it; CLIP and DINO are hub ids that nobody asks for."""
    from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXTransformer3DModel
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    torch.manual_seed(seed)
    AutoencoderKLCogVideoX(
        block_out_channels=(16, 16, 16, 16), layers_per_block=1, norm_num_groups=4, latent_channels=4,
        sample_height=SIZE, sample_width=SIZE, scaling_factor=2.0,
    ).save_pretrained(folder / "vae")  # fmt: skip
    CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=8, out_channels=4, time_embed_dim=16,
        text_embed_dim=16, num_layers=2, sample_width=SIZE // 8, sample_height=SIZE // 8, sample_frames=FRAMES,
        max_text_seq_length=MAX_TEXT,
    ).save_pretrained(folder / "transformer")  # fmt: skip
    words = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "move", "down", "right"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder / "tokenizer")
    text = T5Config(vocab_size=len(words), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, pad_token_id=0)
    T5EncoderModel(text).save_pretrained(folder / "text_encoder")
    CogVideoXDDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type="v_prediction",
        clip_sample=False, rescale_betas_zero_snr=True, timestep_spacing="trailing", snr_shift_scale=1.0,
    ).save_pretrained(folder / "scheduler")  # fmt: skip
    classes = {"scheduler": "CogVideoXDDIMScheduler", "text_encoder": "T5EncoderModel"}
    classes |= {"tokenizer": "PreTrainedTokenizerFast", "vae": "AutoencoderKLCogVideoX"}
    classes |= {"transformer": "CogVideoXTransformer3DModel"}
    index = {"_class_name": "CogVideoXImageToVideoPipeline"}
    for name, kind in classes.items():
        index[name] = ["transformers" if name in ("text_encoder", "tokenizer") else "diffusers", kind]
    (folder / "model_index.json").write_text(json.dumps(index))
    generation = {"frames": FRAMES, "steps": 3, "guidance": 1.0, "width": SIZE, "height": SIZE, "fps": 10}
    manifest = {"name": "tiny", "frame_size": SIZE, "trained": False, "folders": {"vae": "vae", "clip": "a/b"}}
    manifest |= {"generation": generation | {"max_text": MAX_TEXT}}
    (folder / "family.json").write_text(json.dumps(manifest))
    return folder
