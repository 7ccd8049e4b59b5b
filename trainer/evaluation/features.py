"""Frozen networks that turn pictures, or captions, into the features that are compared. Pictures are resized as the published code does.

Each is loaded when an evaluation begins and let go when it ends: between evaluations they would only take memory.
"""

from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from dayrun.recipe import Evaluation
from trainer.data.shelves import folder_of
from trainer.evaluation.inception import Inception, may_differ
from trainer.objective.pictures import IMAGENET_DEVIATION, IMAGENET_MEAN, standardised
from trainer.pretrained import files_of, first_line, load_strictly, named, refusal, tensors_in
from trainer.world import World

POSITIONS = ("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids")
"""Buffers that old checkpoints saved."""
CLIP_MEAN, CLIP_DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class Embedding(Protocol):
    """Features of pictures: (n, 3, height, width) in [−1, 1] → (n, d) float32."""

    def __call__(self, pictures: Tensor) -> Tensor: ...


def as_seen(pictures: Tensor, side: int, mean: tuple[float, ...], deviation: tuple[float, ...]) -> Tensor:
    """(n, 3, h, w) in [−1, 1] → (n, 3, side, side) as a network saw pictures in its training: bicubic, without antialiasing, as the
    published distances are taken."""
    resized = F.interpolate((pictures + 1) / 2, (side, side), mode="bicubic", align_corners=False).clamp(0, 1)
    return standardised(resized, mean, deviation)


class Clip:
    """CLIP's joint space (Radford et al. 2021): unit vectors of pictures and of captions."""

    def __init__(self, source: str, device: torch.device, world: World | None) -> None:
        from transformers import AutoTokenizer, CLIPModel

        at = "/evaluation/clip_source"
        with files_of(source, at, world) as folder:
            self._model: Any = load_strictly(CLIPModel, folder, at, source, ignored=POSITIONS).to(device)
            try:
                self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            except (OSError, ValueError) as error:
                raise refusal(at, source, f"its tokenizer cannot be loaded: {first_line(error)}") from error
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

    def __init__(self, source: str, device: torch.device, world: World | None) -> None:
        from transformers import AutoModel

        at = "/evaluation/dino_source"
        with files_of(source, at, world) as folder:
            self._model: Any = load_strictly(AutoModel, folder, at, source).to(device)
        self._side: int = self._model.config.image_size

    def __call__(self, pictures: Tensor) -> Tensor:
        seen = self._model(pixel_values=as_seen(pictures, self._side, IMAGENET_MEAN, IMAGENET_DEVIATION)).last_hidden_state
        return F.normalize(seen[:, 0], dim=-1)


class Networks(NamedTuple):
    """Those that the metrics need."""

    pictures: dict[str, Embedding]
    """By what they are for: `fid`, `clip`, `dino`."""
    clip: Clip | None


def load_networks(evaluation: Evaluation, device: torch.device, world: World | None) -> Networks:
    """Every rank of `world` must call it; with None, this process does it alone. Raises RecipeErrors when one is not there or not whole."""
    asked, pictures, clip = set(evaluation.metrics), dict[str, Embedding](), None
    if "fid" in asked:
        pictures["fid"] = load_inception(evaluation.fid_source, world).to(device)
    if asked & {"cmmd", "prompt_alignment"}:
        pictures["clip"] = clip = Clip(evaluation.clip_source, device, world)
    if "dino_mmd" in asked:
        pictures["dino"] = Dino(evaluation.dino_source, device, world)
    return Networks(pictures, clip)


def load_inception(source: str, world: World | None = None) -> Inception:
    """From weights in torchvision's or pytorch-fid's names; a relative path starts at DAYRUN_DATA. Raises RecipeErrors."""
    at = "/evaluation/fid_source"
    here = folder_of(source)
    with files_of(str(here) if here.exists() else source, at, world) as place:
        weights = tensors_in(place, at, source)
    network = Inception()
    own = network.state_dict()
    for what, keys in (("missing", own.keys() - weights.keys()), ("unexpected", weights.keys() - own.keys())):
        if wrong := sorted(key for key in keys if not may_differ(key)):
            because = f"{len(wrong)} {what} keys ({named(wrong)}): this is no Inception v3 as FID uses it"
            raise refusal(at, source, f"{because}; the weights that pytorch-fid publishes are")
    known = {key: weights[key] for key in own.keys() & weights.keys()}
    for key, weight in known.items():
        if weight.shape != own[key].shape:
            raise refusal(at, source, f"{key} is of shape {list(weight.shape)}, Inception v3 asks for {list(own[key].shape)}")
    network.load_state_dict(known, strict=False)
    return network.eval().requires_grad_(False)
