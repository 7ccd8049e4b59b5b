"""What diffusers does not have: PRX's denoiser with routed tokens, and a pipeline that guides it by its own routed pass.

This file is copied into an export as it is, but for SETTINGS, which become the run's own. It imports nothing of the trainer:

    DiffusionPipeline.from_pretrained(FOLDER, custom_pipeline=f"{FOLDER}/pipeline.py", trust_remote_code=True, text_encoder=…, tokenizer=…)

A picture depends on its prompt and its seed alone, and is the one that the run itself draws.
"""

from typing import Any

import torch
from diffusers import PRXPixelPipeline, PRXTransformer2DModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.transformers.transformer_prx import MLPEmbedder, get_image_ids, get_timestep_embedding, img2seq, seq2img
from diffusers.pipelines.prx.pipeline_output import PRXPipelineOutput
from torch import Tensor, nn

SETTINGS: dict[str, Any] = {"start": 2, "end": 12, "rate": 0.5, "steps": 28, "guidance": 4.0, "shift": 3.0, "velocity_floor": 0.05}
"""The blocks that tokens skip, both inclusive, and the share that does; the sampler's."""
STREAM = 0x726F757465
"""Keeps the draws of tokens apart from those of noise."""


class RoutedTransformer(PRXTransformer2DModel):
    """PRX's denoiser with SPRINT's fusion around blocks `sprint_blocks` (first, last), resolution as two more text tokens, or both."""

    @register_to_config
    def __init__(
        self,
        in_channels: int = 16,
        patch_size: int = 2,
        context_in_dim: int = 2304,
        hidden_size: int = 1792,
        mlp_ratio: float = 3.5,
        num_heads: int = 28,
        depth: int = 16,
        axes_dim: list[int] | None = None,
        theta: int = 10000,
        bottleneck_size: int | None = None,
        resolution_embeds: bool = False,
        sprint_blocks: list[int] | None = None,
        resolution_tokens: bool = False,
    ) -> None:
        super().__init__(
            in_channels=in_channels,
            patch_size=patch_size,
            context_in_dim=context_in_dim,
            hidden_size=hidden_size,
            mlp_ratio=mlp_ratio,
            num_heads=num_heads,
            depth=depth,
            axes_dim=axes_dim,
            theta=theta,
            bottleneck_size=bottleneck_size,
            resolution_embeds=resolution_embeds,
        )
        if sprint_blocks is not None:
            self.sprint = nn.Module()
            self.sprint.mask = nn.Parameter(torch.zeros(hidden_size))
            self.sprint.fuse = nn.Linear(2 * hidden_size, hidden_size)
        if resolution_tokens:
            self.resolution_embedder = nn.ModuleDict({name: MLPEmbedder(128, hidden_size) for name in ("h_embedder", "w_embedder")})

    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        attention_kwargs: dict[str, Any] | None = None,
        return_dict: bool = True,
    ) -> tuple[Tensor] | Transformer2DModelOutput:
        output = forward(self, hidden_states, timestep, encoder_hidden_states, attention_mask)
        return Transformer2DModelOutput(sample=output) if return_dict else (output,)


def forward(
    model: Any,
    noisy: Tensor,
    time: Tensor,
    text: Tensor,
    mask: Tensor | None,
    kept: Tensor | None = None,
    start: int = -1,
    end: int = -1,
) -> Tensor:
    """`model`'s output for noisy pictures (b, c, h, w), times (b,) or (1,), text (b, m, width), mask (b, m).

    Of the image tokens only those at `kept` (b, k) go through the blocks from `start` to `end`; None: all of them.
    """
    size, sprint = noisy.shape, model.config.get("sprint_blocks")
    image, words = model.img_in(img2seq(noisy, model.config.patch_size)), model.txt_in(text)
    rotary = model.pe_embedder(get_image_ids(size[0], size[2], size[3], model.config.patch_size, noisy.device))
    moment = model._compute_timestep_embedding(time, image.dtype)
    height, width = (torch.full((size[0],), float(side), device=noisy.device) for side in size[2:])
    if model.config.resolution_embeds:
        moment = moment + model.resolution_embedder(height, width, moment.dtype)
    if model.config.get("resolution_tokens"):
        sides = (("h_embedder", height), ("w_embedder", width))
        told = [model.resolution_embedder[name](sinusoid(side).to(words.dtype)) for name, side in sides]
        words = torch.cat([torch.stack(told, dim=1), words], dim=1)
        mask = mask if mask is None else nn.functional.pad(mask.bool(), (2, 0), value=True)
    start, end = sprint or (start, end)
    before, index, inside = image, None, rotary
    if kept is not None:
        index = kept[..., None].expand(-1, -1, image.shape[-1])
        inside = rotary.gather(2, kept[:, None, :, None, None, None].expand(-1, -1, -1, *rotary.shape[3:]))
    for number, block in enumerate(model.blocks):
        if number == start:
            before = image
            image = image if index is None else image.gather(1, index)
        image = block(image, words, moment, inside if start <= number <= end else rotary, mask)
        if number == end and sprint:
            filled = image if index is None else model.sprint.mask.to(image.dtype).expand_as(before).scatter(1, index, image)
            image = model.sprint.fuse(torch.cat([before, filled], dim=-1))
        elif number == end and index is not None:
            image = before.scatter(1, index, image)
    return seq2img(model.final_layer(image, moment), model.config.patch_size, noisy.shape)


def sinusoid(sides: Tensor) -> Tensor:
    """(b,) → (b, 128)."""
    return get_timestep_embedding(sides, 128, flip_sin_to_cos=True, downscale_freq_shift=0.0)


class SelfGuidedPRXPixelPipeline(PRXPixelPipeline):
    """Guides by the difference of the full and the routed pass, both with the prompt: out = routed + g·(full − routed)."""

    @torch.no_grad()
    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride] – what this way of drawing cannot use is left out
        self,
        prompt: str | list[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = SETTINGS["steps"],
        guidance_scale: float = SETTINGS["guidance"],
        seeds: list[int] | None = None,
        prompt_embeds: Tensor | None = None,
        prompt_attention_mask: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> Any:
        """Draw one picture a prompt. `seeds`: one a picture; by default 0, 1, 2, …"""
        height, width = (side or self.config.default_sample_size for side in (height, width))
        self.check_inputs(prompt, height, width, 1.0, None, prompt_embeds)
        self._guidance_scale = guidance_scale
        device, settings = self._execution_device, SETTINGS
        text, mask, _, _ = self.encode_prompt(
            prompt, device, do_classifier_free_guidance=False, prompt_embeds=prompt_embeds, prompt_attention_mask=prompt_attention_mask
        )
        seeds = list(range(len(text))) if seeds is None else seeds
        if len(seeds) != len(text):
            raise ValueError(f"{len(seeds)} seeds for {len(text)} prompts: one a prompt, or none")
        kept = kept_tokens(seeds, height * width // self.transformer.config.patch_size**2, settings["rate"]).to(device)
        shape = (1, self.transformer.config.in_channels, height, width)
        noise = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        x = self.config.noise_scale * torch.cat(noise).to(device, text.dtype)
        uniform = torch.linspace(1, 0, num_inference_steps + 1)
        grid = (settings["shift"] * uniform / (1 + (settings["shift"] - 1) * uniform)).tolist()
        for now, after in zip(self.progress_bar(grid[:-1]), grid[1:], strict=True):
            time = torch.full((len(x),), now, device=device)
            output = self.transformer(x, time, text, attention_mask=mask, return_dict=False)[0]
            if guidance_scale != 1:
                weak = forward(self.transformer, x, time, text, mask, kept, settings["start"], settings["end"])
                output = weak + guidance_scale * (output - weak)
            x = x + (after - now) * (x - output) / max(now, settings["velocity_floor"])
        images = x if output_type in ("latent", "pt") else self.image_processor.postprocess(x, output_type=output_type)
        self.maybe_free_model_hooks()
        return PRXPipelineOutput(images=images) if return_dict else (images,)


def kept_tokens(seeds: list[int], tokens: int, rate: float) -> Tensor:
    """Which tokens go through the routed blocks, for pictures with these seeds: (n, k) int64, ascending."""
    kept = tokens - max(1, int(tokens * rate))
    rows = [torch.randperm(tokens, generator=torch.Generator().manual_seed(mixed(STREAM, seed)))[:kept] for seed in seeds]
    return torch.stack(rows).sort(dim=1).values


def mixed(seed: int, position: int) -> int:
    """SplitMix64 of the two."""
    z = (seed * 0x9E3779B97F4A7C15 + (position + 1) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
    return (z ^ (z >> 31)) >> 1
