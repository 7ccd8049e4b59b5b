"""The networks that annotate samples: text towers, autoencoders, captioners. Each is a few words (`…Of`) and, loaded, an annotator.

Loading is strict, as in `pretrained.py`: a network with random weights annotates without a word. torch is imported when one is loaded. They
run on the GPU where there is one, in bfloat16, else on the CPU in float32.
"""

import io
from dataclasses import dataclass
from typing import Any

from trainer.data.convert.output import ConversionError

CAPTION_TOKENS = 128


@dataclass(frozen=True)
class TextStatesOf:
    """The states of captions by a recipe's tower, as `trainer.text` gives them."""

    source: str
    tokens: int
    encoder: Any = "transformers"
    cleaning: Any = "light"
    captions: tuple[tuple[str, str, str], ...] = (("caption", "caption_latent", "caption_mask"),)  # caption, its states, their mask

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(caption for caption, _, _ in self.captions)

    def load(self) -> "TextStates":
        from trainer.text import TowerError, load_text_encoder

        try:
            tower = load_text_encoder(self.source, self.tokens, self.encoder, cleaning=self.cleaning)
        except TowerError as error:
            raise ConversionError(str(error)) from None
        return TextStates(tower.to(*place()), self)


class TextStates:
    def __init__(self, tower: Any, words: TextStatesOf) -> None:
        self._tower, self._captions = tower, words.captions
        self.columns: dict[str, str] = {}
        for _, states, mask in words.captions:
            self.columns |= {states: f"ndarray:float16:{words.tokens},{tower.width}", mask: f"ndarray:uint8:{words.tokens}"}

    def __call__(self, samples: list[dict[str, Any]]) -> list[dict[str, Any] | str]:
        found: list[dict[str, Any] | str] = [{} for _ in samples]
        for caption, states_column, mask_column in self._captions:
            states, masks = self._tower.encode([sample[caption] for sample in samples], batch=len(samples))
            for number, (state, mask) in enumerate(zip(states.numpy(), masks.numpy(), strict=True)):
                with_it = found[number]
                if isinstance(with_it, dict):
                    with_it |= {states_column: state, mask_column: mask}
        return found


@dataclass(frozen=True)
class ImageLatentsOf:
    """The latents of pictures by a diffusers AutoencoderKL: the mean, neither shifted nor scaled, float16, (channels, height, width)."""

    source: str
    column: str = "image_latent"
    needs: tuple[str, ...] = ("image", "width", "height")

    def load(self) -> "ImageLatents":
        import diffusers

        device, dtype = place()
        found = strictly(diffusers.AutoencoderKL, self.source)
        return ImageLatents(found.eval().requires_grad_(False).to(device, dtype), self.column)


class ImageLatents:
    def __init__(self, autoencoder: Any, column: str) -> None:
        self._autoencoder, self._column = autoencoder, column
        self._downscale = 2 ** (len(autoencoder.config.block_out_channels) - 1)
        self.columns = {column: "ndarray:float16"}

    def __call__(self, samples: list[dict[str, Any]]) -> list[dict[str, Any] | str]:
        """Pictures of one shape go through together; in a bucket all are of one."""
        import numpy as np
        import torch

        found: list[dict[str, Any] | str] = ["" for _ in samples]
        shapes: dict[tuple[int, int], list[tuple[int, Any]]] = {}
        for number, sample in enumerate(samples):
            picture = pixels_of(sample)
            if any(side % self._downscale for side in picture.size):
                found[number] = f"{picture.width} × {picture.height} pixels: the autoencoder makes one cell of {self._downscale}"
            else:
                shapes.setdefault(picture.size, []).append((number, np.asarray(picture)))
        device, dtype = self._autoencoder.device, self._autoencoder.dtype
        for numbered in shapes.values():
            batch = torch.from_numpy(np.stack([pixels for _, pixels in numbered])).permute(0, 3, 1, 2)
            with torch.no_grad():
                posterior = self._autoencoder.encode(batch.to(device, dtype) / 127.5 - 1).latent_dist
            for (number, _), latents in zip(numbered, posterior.mode().float().cpu().numpy(), strict=True):
                found[number] = {self._column: latents.astype(np.float16)}
        return found


@dataclass(frozen=True)
class CaptionsOf:
    """What any of transformers' image-text-to-text models writes about a picture: greedy, so that it is the same every time."""

    source: str
    column: str = "caption"
    prompt: str = ""
    tokens: int = CAPTION_TOKENS
    needs: tuple[str, ...] = ("image",)

    def load(self) -> "Captions":
        import transformers

        from dayrun.recipe_errors import RecipeErrors
        from trainer.pretrained import files_of, first_line, load_strictly

        try:
            with files_of(self.source, "--model", None) as folder:
                model = load_strictly(transformers.AutoModelForImageTextToText, folder, "--model", self.source)
                processor = transformers.AutoProcessor.from_pretrained(folder, local_files_only=True)
        except RecipeErrors as error:
            raise ConversionError(str(error)) from None
        except (OSError, ValueError, KeyError) as error:
            raise ConversionError(f"--model {self.source}: its processor cannot be loaded: {first_line(error)}") from None
        return Captions(model.to(*place()), processor, self)


class Captions:
    def __init__(self, model: Any, processor: Any, words: CaptionsOf) -> None:
        self._model, self._processor, self._words = model, processor, words
        self._processor.tokenizer.padding_side = "left"  # what is written begins where the prompt ends, in every row
        self.columns = {words.column: "str"}

    def __call__(self, samples: list[dict[str, Any]]) -> list[dict[str, Any] | str]:
        import torch

        pictures = [pixels_of(sample) for sample in samples]
        inputs = self._asked(pictures).to(self._model.device, self._model.dtype)
        with torch.no_grad():
            written = self._model.generate(**inputs, max_new_tokens=self._words.tokens, do_sample=False)
        asked = inputs["input_ids"].shape[1] if "input_ids" in inputs else 0
        if asked and torch.equal(written[:, :asked], inputs["input_ids"]):  # language models give the prompt back
            written = written[:, asked:]
        texts = [" ".join(text.split()) for text in self._processor.batch_decode(written, skip_special_tokens=True)]
        return [{self._words.column: text} if text else "the captioner wrote nothing" for text in texts]

    def _asked(self, pictures: list[Any]) -> Any:
        """The processor's inputs: as a conversation where the model was trained on those, else the pictures and the prompt."""
        words = self._words
        if getattr(self._processor, "chat_template", None):
            parts = [{"type": "text", "text": words.prompt}] if words.prompt else []
            asked = [[{"role": "user", "content": [{"type": "image", "image": picture}, *parts]}] for picture in pictures]
            return self._processor.apply_chat_template(
                asked, tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt", padding=True
            )
        text = [words.prompt] * len(pictures) if words.prompt else None
        return self._processor(images=pictures, text=text, return_tensors="pt", padding=True)


def pixels_of(sample: dict[str, Any]) -> Any:
    from PIL import Image

    with Image.open(io.BytesIO(sample["image"])) as opened:
        return opened.convert("RGB")


def place() -> tuple[Any, Any]:
    """Device and dtype of networks in this process."""
    import torch

    gpu = torch.cuda.is_available()
    return torch.device("cuda" if gpu else "cpu"), torch.bfloat16 if gpu else torch.float32


def strictly(kind: Any, source: str) -> Any:
    """diffusers' class `kind` with every weight that the files at `source` should have. Raises ConversionError."""
    from dayrun.recipe_errors import RecipeErrors
    from trainer.pretrained import files_of, first_line, named

    try:
        with files_of(source, "--model", None) as folder:
            model, report = kind.from_pretrained(folder, output_loading_info=True, low_cpu_mem_usage=False)
    except RecipeErrors as error:
        raise ConversionError(str(error)) from None
    except (OSError, ValueError, RuntimeError) as error:
        raise ConversionError(f"--model {source}: cannot be loaded as {kind.__name__}: {first_line(error)}") from None
    for what in ("missing_keys", "unexpected_keys"):
        if keys := sorted(report.get(what) or ()):
            because = f"{len(keys)} {what.replace('_', ' ')} ({named(keys)})"
            raise ConversionError(f"--model {source}: {because}: it would work with random weights; name a complete {kind.__name__}")
    return model
