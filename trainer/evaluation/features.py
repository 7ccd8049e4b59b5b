"""Frozen networks that turn pictures, or captions, into the features that are compared. Pictures are resized as the published code does.

Each is loaded when an evaluation begins and let go when it ends: between evaluations they would only take memory.
"""

from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from dayrun.recipe import Evaluation
from trainer.data.loader import folder_of
from trainer.evaluation.inception import Inception, may_differ
from trainer.strict import NetworkError, load_transformers, load_weights, local_only

CLIP_MEAN, CLIP_DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Embedding(Protocol):
    """Features of pictures: (n, 3, height, width) in [−1, 1] → (n, d) float32."""

    def __call__(self, pictures: Tensor) -> Tensor: ...


def as_seen(pictures: Tensor, side: int, mean: tuple[float, ...], deviation: tuple[float, ...]) -> Tensor:
    """(n, 3, h, w) in [−1, 1] → (n, 3, side, side) as a network saw pictures in its training: bicubic, without antialiasing, as the
    published distances are taken."""
    resized = F.interpolate((pictures + 1) / 2, (side, side), mode="bicubic", align_corners=False).clamp(0, 1)
    about = [torch.tensor(values, device=pictures.device).view(1, 3, 1, 1) for values in (mean, deviation)]
    return (resized - about[0]) / about[1]


class Clip:
    """CLIP's joint space (Radford et al. 2021): unit vectors of pictures and of captions."""

    def __init__(self, source: str, device: torch.device) -> None:
        from transformers import AutoTokenizer, CLIPModel

        at = "/evaluation/clip_source"
        self._model: Any = load_transformers(at, source, CLIPModel).to(device)
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(source, local_files_only=local_only(at, source))
        except (OSError, ValueError) as error:
            raise NetworkError(f"{at}: {source!r} has no tokenizer: {str(error).splitlines()[0]}") from error
        self._side: int = self._model.config.vision_config.image_size
        self._most: int = self._model.config.text_config.max_position_embeddings
        self._device = device

    def __call__(self, pictures: Tensor) -> Tensor:
        seen = self._model.vision_model(as_seen(pictures, self._side, CLIP_MEAN, CLIP_DEVIATION)).pooler_output
        return F.normalize(self._model.visual_projection(seen), dim=-1)

    def captions(self, captions: list[str]) -> Tensor:
        """Unit vectors of captions, cut to what CLIP can read: (n, d) float32."""
        tokens = self._tokenizer(captions, padding=True, truncation=True, max_length=self._most, return_tensors="pt").to(self._device)
        read = self._model.text_model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).pooler_output
        return F.normalize(self._model.text_projection(read), dim=-1)


class Dino:
    """DINOv2 with registers (Darcet et al. 2024): the class token after the last norm, as a unit vector."""

    def __init__(self, source: str, device: torch.device) -> None:
        from transformers import AutoModel

        self._model: Any = load_transformers("/evaluation/dino_source", source, AutoModel).to(device)
        self._side: int = self._model.config.image_size

    def __call__(self, pictures: Tensor) -> Tensor:
        seen = self._model(pixel_values=as_seen(pictures, self._side, IMAGENET_MEAN, IMAGENET_DEVIATION)).last_hidden_state
        return F.normalize(seen[:, 0], dim=-1)


class Networks(NamedTuple):
    """Those that the metrics need."""

    pictures: dict[str, Embedding]
    """By what they are for: `fid`, `clip`, `dino`."""
    clip: Clip | None


def load_networks(evaluation: Evaluation, device: torch.device) -> Networks:
    """Raises NetworkError when one of them is not there or is not whole."""
    asked, pictures, clip = set(evaluation.metrics), dict[str, Embedding](), None
    if "fid" in asked:
        inception = Inception()
        load_weights("/evaluation/fid_source", inception_file(evaluation), inception, may_differ)
        pictures["fid"] = inception.to(device).eval().requires_grad_(False)
    if asked & {"cmmd", "prompt_alignment"}:
        pictures["clip"] = clip = Clip(evaluation.clip_source, device)
    if "dino_mmd" in asked:
        pictures["dino"] = Dino(evaluation.dino_source, device)
    return Networks(pictures, clip)


def inception_file(evaluation: Evaluation) -> Path:
    return folder_of(evaluation.fid_source)
