"""The objective of a CogVideoX image-to-video transformer (eq. 1 and 2): the squared error of the predicted v."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class Denoising(nn.Module):
    """Loss of a batch of latents under random noise, conditioned on text and on the first frame.

    The paper writes the error of the noise; CogVideoX predicts v, and its mean squared error is what is taken, in
    float32. Steps are drawn uniformly from the scheduler's 1,000.

    Args:
        transformer: ``CogVideoXTransformer3DModel`` with 2C input channels: noised latents beside the image's.
        scheduler: The pipeline's own, for the noise levels.
        pipeline: ``CogVideoXImageToVideoPipeline`` (with or without models) whose rotary grid is used, so that
            training and generation agree on positions.
        text_encoder: Trained along where it is given; the batch then holds 'tokens' in place of 'text'.
        image_dropout: Share of samples whose first frame is withheld (diffusers' example: 0.05).
        text_dropout: Share of samples that get ``empty`` in place of their text, for classifier-free guidance.
    """

    def __init__(
        self,
        transformer: nn.Module,
        scheduler,
        pipeline,
        text_encoder: nn.Module | None = None,
        image_dropout: float = 0.05,
        text_dropout: float = 0.0,
        empty: torch.Tensor | None = None,
    ) -> None:
        super().__init__()
        self.transformer, self.text_encoder = transformer, text_encoder
        self._pipeline = [pipeline]  # in a list: it is no module of this one
        self._image_dropout, self._text_dropout = image_dropout, text_dropout
        levels = scheduler.alphas_cumprod.float()
        self.register_buffer("signal", levels.sqrt(), persistent=False)
        self.register_buffer("noise", (1 - levels).sqrt(), persistent=False)
        if empty is not None:
            self.register_buffer("empty", empty, persistent=False)

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Mean squared error of v.

        Args:
            batch: 'latents' (B, F, C, h, w) and 'image' (B, 1, C, h, w), both times the scaling factor (image: as
                the pipeline scales it); 'text' (B, L, D), or 'tokens' int64 (B, L) with a trained text encoder.
        """
        latents, image = batch["latents"].float(), batch["image"].float()
        count = len(latents)
        step = torch.randint(0, len(self.signal), (count,), device=latents.device)
        text = self._text(batch, count)
        latents, image = self._padded(latents, image)
        noise = torch.randn_like(latents)
        if self._image_dropout:
            image = image * (torch.rand(count, 1, 1, 1, 1, device=image.device) >= self._image_dropout)
        return self._error(latents, image, text, step, noise)

    def error_at(self, batch: dict[str, torch.Tensor], step: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """The same error at given steps and with given noise, nothing withheld: for comparable validation.

        Args:
            batch: As for :meth:`forward`.
            step: int64 (B,), from 0 to 999.
            noise: Like 'latents'; for CogVideoX 1.5 with the frames that fill up its patches in time.
        """
        latents, image = self._padded(batch["latents"].float(), batch["image"].float())
        given = batch["tokens"] if self.text_encoder is not None else batch["text"]
        text = self.text_encoder(given).last_hidden_state if self.text_encoder is not None else given
        return self._error(latents, image, text, step, noise)

    def padded_frames(self, frames: int) -> int:
        """Latent frames that the transformer is given for a video of ``frames`` latent ones."""
        return frames + -frames % (self.transformer.config.patch_size_t or 1)

    def _error(self, latents, image, text, step, noise) -> torch.Tensor:
        signal, spread = (table[step].view(-1, 1, 1, 1, 1) for table in (self.signal, self.noise))
        noised, target = signal * latents + spread * noise, signal * noise - spread * latents
        return F.mse_loss(self._predict(noised, image, text, step).float(), target)

    def _text(self, batch: dict[str, torch.Tensor], count: int) -> torch.Tensor:
        given = batch["tokens"] if self.text_encoder is not None else batch["text"]
        if self._text_dropout:
            shape = (count,) + (1,) * (given.ndim - 1)
            dropped = torch.rand(shape, device=given.device) < self._text_dropout
            given = torch.where(dropped, self.empty.to(given.dtype), given)
        return self.text_encoder(given).last_hidden_state if self.text_encoder is not None else given

    def _padded(self, latents: torch.Tensor, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The image filled up with zeros in time; for CogVideoX 1.5 the video's first frame repeated before it.

        The pipeline makes that many frames more, throws the first of them away, and gives the image once.
        """
        missing = self.padded_frames(latents.shape[1]) - latents.shape[1]
        latents = torch.cat([latents[:, :1]] * missing + [latents], 1)
        image = torch.cat([image, image.new_zeros(len(image), latents.shape[1] - 1, *image.shape[2:])], 1)
        return latents, image

    def _predict(self, noised, image, text, step) -> torch.Tensor:
        config = self.transformer.config
        rotary, ofs = None, None
        if config.use_rotary_positional_embeddings:
            pipeline = self._pipeline[0]
            scale = pipeline.vae_scale_factor_spatial
            height, width = noised.shape[-2] * scale, noised.shape[-1] * scale
            rotary = pipeline._prepare_rotary_positional_embeddings(height, width, noised.shape[1], noised.device)
        if config.ofs_embed_dim is not None:
            ofs = noised.new_full((1,), 2.0)
        return self.transformer(
            hidden_states=torch.cat([noised, image], 2),
            encoder_hidden_states=text,
            timestep=step,
            ofs=ofs,
            image_rotary_emb=rotary,
        ).sample


def scaled_image(latent: torch.Tensor, vae) -> torch.Tensor:
    """The first frame's latent, scaled as the pipeline does: multiplied, or divided where the model was trained so."""
    factor = vae.config.scaling_factor
    return latent / factor if vae.config.invert_scale_latents else latent * factor


def encode_text(pipeline, texts: list[str], length: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """The pipeline's own text embeddings, (N, ``length``, D)."""
    with torch.no_grad():
        return pipeline.encode_prompt(
            texts, do_classifier_free_guidance=False, max_sequence_length=length, device=device
        )[0]


def tokens_of(tokenizer, texts: list[str], length: int) -> np.ndarray:
    """int64 (N, ``length``), padded and cut as the pipeline does."""
    return tokenizer(
        texts, padding="max_length", max_length=length, truncation=True, add_special_tokens=True, return_tensors="np"
    )["input_ids"].astype(np.int64)
