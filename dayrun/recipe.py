"""The recipe: one versioned JSON document that the service, the trainer and the estimate all read.

Only the shape of the document is here: fields, types, ranges, defaults and where each number comes from ("PRX" is the reference
recipe of docs/recipes.md). Arithmetic between fields is in `rules.py`; what the trainer cannot do yet is in `supported.py`.
A field that may be null is null by default, so that a merge patch (RFC 7396), where null removes, can turn it off.
A recipe is frozen: a stage or a variant is made by merging a patch into its JSON and parsing again.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

VERSION = 1

Positive = Annotated[int, Field(gt=0)]
Natural = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]


class Part(BaseModel):
    """A closed, immutable piece of a recipe: an unknown field is an error, not a silent no-op."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Model(Part):
    """The denoiser, named and shaped as diffusers' `PRXTransformer2DModel` so that export is a copy."""

    hidden_size: Positive = Field(default=1792, description="Width of a token. PRX small 1792, base (7 B) 3584.")
    depth: Positive = Field(default=16, description="Transformer blocks. PRX small 16, base 24.")
    heads: Positive = Field(default=28, description="Attention heads; must divide hidden_size.")
    rotary_axes: list[Positive] = Field(
        default=[32, 32],
        min_length=2,
        max_length=2,
        description="Rotary width for (row, column); even, sums to the head's width.",
    )
    rotary_theta: Positive = Field(default=10_000, description="Base of the rotary frequencies.")
    mlp_ratio: Rate = Field(default=3.5, description="Width of the MLP over hidden_size.")
    patch_size: Positive = Field(default=32, description="Side of a patch in input pixels (or latent cells).")
    in_channels: Positive = Field(default=3, description="3 in pixel space; the autoencoder's channels for latents.")
    bottleneck_size: Positive | None = Field(default=None, description="Patch → this → hidden_size, no activation; null: one linear layer.")
    text_width: Positive = Field(default=2304, description="Width of the text tower's states (T5Gemma-2B: 2304).")
    resolution_conditioning: Literal["none", "vec", "token"] = Field(
        default="none",
        description="vec: add an embedding of (height, width) to the time embedding; token: two extra text tokens.",
    )


class Text(Part):
    """The frozen text tower and how captions are prepared for it."""

    encoder: Literal["t5gemma", "qwen3_vl", "transformers"] = Field(
        default="t5gemma",
        description="Which loader: T5Gemma's encoder, Qwen3-VL's language model, or any transformers encoder.",
    )
    source: str = Field(
        default="google/t5gemma-2b-2b-ul2",
        min_length=1,
        description="Hub name, folder, object prefix, or package:NAME for weights in a Python package.",
    )
    tokens: Positive = Field(default=256, description="Captions are padded or cut to this many tokens; padding is masked.")
    cleaning: Literal["deepfloyd", "light", "none"] = Field(default="light", description="How captions are cleaned before encoding.")
    precomputed: bool = Field(default=True, description="States come from the shards (latent columns); else encoded while training.")


class Latents(Part):
    """A frozen autoencoder for models that work on latents instead of pixels."""

    autoencoder: Literal["flux1", "flux2", "dc-ae-f32c32", "repa-e"]
    source: str = Field(min_length=1, description="Hub name or folder of the autoencoder's weights.")
    downscale: Positive = Field(description="Pixels a latent cell, per side (FLUX: 8, DC-AE: 32).")
    scaling: Rate = Field(default=1.0, description="Latents are multiplied by this after the shift is taken off.")
    shift: float = Field(default=0.0, description="Taken off the latents before scaling.")
    precomputed: bool = Field(default=False, description="Latents come from the shards.")


class Source(Part):
    """One MDS data set. Relative URLs start at DAYRUN_DATA."""

    url: str = Field(min_length=1, description="Folder or object prefix that holds index.json and its shards.")
    weight: Rate | None = Field(
        default=None, description="Its share of the samples drawn, relative to the other sources'; null for all: each sample equally often."
    )


class Caption(Part):
    """One caption column and, when text states are precomputed, the columns that hold them."""

    column: str = Field(default="caption", min_length=1)
    latent_column: str | None = Field(default="caption_latent", description="float16 text states, (tokens, text_width).")
    mask_column: str | None = Field(default="caption_mask", description="1 where a token is real, 0 where it is padding.")
    weight: Rate = Field(default=1.0, description="How often this caption is drawn, relative to the others.")


class ShardCache(Part):
    """Where shards of object stores lie on each node while they are used: on its own disk, shared by its processes."""

    folder: str | None = Field(
        default=None, min_length=1, description="null: dayrun/shards in XDG_CACHE_HOME; on a cluster that is the profile's cache_folder."
    )
    bytes: Positive | None = Field(default=None, description="Most that it may hold; null: all that its disk can spare.")
    patience_seconds: Rate = Field(default=120.0, description="How long a store may be away, or the cache full, before the attempt ends.")


class Data(Part):
    sources: list[Source] = Field(min_length=1)
    captions: list[Caption] = Field(default=[Caption()], min_length=1)
    image_column: str = Field(default="image", min_length=1)
    buckets: Literal["square", "aspect"] = Field(
        default="square",
        description="aspect: grids of about as many patches as the square, width/height from 0.5 to 2; 27 at 1024 px with patch 32.",
    )
    horizontal_flip: Fraction = Field(default=0.0, description="Chance that an image is mirrored.")
    bad_samples_allowed: Fraction = Field(default=0.01, description="Share of unreadable samples at which the run stops with cause `data`.")
    threads: Positive = Field(default=2, description="Decoding threads of each rank.")
    shuffle_block: Positive = Field(
        default=262_144,
        description="Samples that are shuffled among each other at a time; a larger data set is shuffled by shards, and so can be cached.",
    )
    cache: ShardCache = ShardCache()


class Times(Part):
    """How noise levels are drawn. t = 0 is data, t = 1 is noise."""

    distribution: Literal["logit_normal", "uniform"] = "logit_normal"
    shift: Rate = Field(default=3.0, description="t ← s·t/(1 + (s − 1)·t). PRX: 3 for pixels, 1 for latents.")
    uniform_fraction: Fraction = Field(default=0.1, description="Share of draws replaced by unshifted uniform ones.")
    minimum: Annotated[float, Field(gt=0, lt=1)] = Field(default=0.001, description="No time is drawn below this.")


class Contrastive(Part):
    """Contrastive flow matching (Stoica et al. 2025, eq. 5)."""

    weight: Weight = 0.05


class Objective(Part):
    """Flow matching; with prediction x the loss is still taken between velocities (Li & He 2025)."""

    prediction: Literal["x", "velocity"] = Field(default="x", description="What the network outputs.")
    times: Times = Times()
    noise_scale: Rate = Field(default=1.0, description="σ in x_t = (1 − t)·x0 + t·σ·ε. PRX 7 B: 2.")
    velocity_floor: Annotated[float, Field(gt=0, lt=1)] = Field(default=0.05, description="v = (x_t − x)/max(t, floor).")
    caption_dropout: Fraction = Field(default=0.1, description="Chance that a caption becomes the empty prompt.")
    contrastive: Contrastive | None = None


class Lpips(Part):
    """LPIPS on x̂0 against x0 (Zhang et al. 2018; PixelGen)."""

    weight: Weight = 0.1
    source: str = Field(min_length=1, description="Folder, object prefix or hub name with VGG16 and the published linear heads.")
    resize: Rate = Field(default=0.5, description="Both images are resized by this factor first.")
    below_time: Fraction = Field(default=1.0, description="Only noise levels below this take part.")
    crop: Positive | None = Field(default=None, description="Side of a random crop instead of the whole image.")
    antialias: bool = Field(default=True, description="False reproduces PRX's plain bilinear downscaling.")


class PDino(Part):
    """1 − cosine of DINOv2 patch features on x̂0 against x0 (PixelGen)."""

    weight: Weight = 0.01
    source: str = Field(default="facebook/dinov2-with-registers-base", min_length=1, description="Folder, object prefix or hub name.")
    pixels: Positive = 224
    below_time: Fraction = 1.0
    crop: Positive | None = None
    antialias: bool = Field(default=True, description="False reproduces PRX's plain bilinear downscaling.")


class Perceptual(Part):
    lpips: Lpips | None = None
    dino: PDino | None = None


class Routing(Part):
    """Which image tokens skip which blocks: TREAD (Krause et al. 2025) or SPRINT (Park et al. 2025)."""

    kind: Literal["tread", "sprint"] = "tread"
    rate: Annotated[float, Field(gt=0, lt=1)] = Field(default=0.5, description="Share of image tokens that skip. TREAD 0.5, SPRINT 0.75.")
    start: Natural = Field(default=2, description="First skipped block, counted from 0.")
    end: Natural = Field(default=12, description="Last skipped block, inclusive.")
    detach: bool = Field(default=False, description="No gradient through the skipped tokens.")


class Representation(Part):
    """REPA (Yu et al. 2024) and iREPA: features of one block against a frozen teacher's."""

    kind: Literal["repa", "irepa"] = "repa"
    weight: Weight = 0.5
    teacher: str = Field(default="facebook/dinov3-vitl16-pretrain-lvd1689m", min_length=1, description="Folder, object prefix or hub name.")
    block: Natural = Field(default=7, description="Block whose output is projected, counted from 0.")
    antialias: bool = Field(default=True, description="False reproduces PRX's nearest-neighbour downscaling.")


class Optimizer(Part):
    """Muon (Jordan 2024) for the 2-D weights inside `blocks` and Adam for the rest, or AdamW for everything."""

    kind: Literal["muon", "adamw"] = "muon"
    learning_rate: Rate = Field(default=1e-4, description="Of Adam(W).")
    betas: Annotated[list[Annotated[float, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2)] = [0.9, 0.95]
    epsilon: Rate = Field(default=1e-8, description="PRX: 1e-8 beside Muon, 1e-15 for the AdamW baseline.")
    weight_decay: Weight = 0.0
    muon_learning_rate: Rate = Field(default=1e-4, description="Of Muon; the update is scaled by 0.2·√max(rows, columns).")
    muon_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.95
    muon_steps: Positive = Field(default=5, le=20, description="Newton–Schulz iterations.")
    gradient_clip: Rate | None = Field(default=None, description="Global norm; null: no clipping. PRX: 0.2 in pixel space.")


class Schedule(Part):
    """Learning rate over the whole run; every rate of the optimizer is multiplied by it."""

    kind: Literal["constant", "cosine", "warmdown"] = Field(default="constant", description="warmdown: constant, then linear to zero.")
    warmup_steps: Natural = 1000
    warmdown_fraction: Fraction = Field(default=0.3, description="Last share of the run over which `warmdown` goes to zero.")
    by: Literal["step", "limits"] = Field(default="step", description="limits: progress is the time and money used, not the step.")


class Ema(Part):
    """w ← decay·w + (1 − decay)·new, every `every` steps."""

    decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    every: Positive = 10
    start: Natural = 0


class Stage(Part):
    """One resolution and batch; `overrides` is a merge patch into the recipe for this stage only."""

    name: str = Field(min_length=1, max_length=40)
    pixels: Positive = Field(description="Side of a square image; for aspect buckets, the root of the area.")
    steps: Positive = Field(le=100_000_000)
    batch_size: Positive = Field(description="Images a step over all processes.")
    micro_batch_size: Positive | None = Field(default=None, description="Images a process holds at once; null: all of its share.")
    overrides: dict[str, Any] = Field(default={}, description='JSON Merge Patch: e.g. {"representation": null}.')


class SampleSet(Part):
    """Prompts drawn with fixed seeds while the model learns."""

    name: str = Field(default="preview", min_length=1, max_length=40)
    prompts: list[Annotated[str, Field(min_length=1, max_length=2000)]] = Field(min_length=1, max_length=10_000)
    seed: Natural = Field(default=0, description="Image i of the set starts from noise drawn with seed + i.")
    every: Positive | None = Field(default=None, description="Draw each time this many steps were done.")
    at_start: bool = Field(default=False, description="Draw before the first step: the untrained control.")
    at_end: bool = True


class Samples(Part):
    sets: list[SampleSet] = []
    steps: Positive = Field(default=28, le=1000, description="Euler steps from noise to data.")
    guidance: Annotated[float, Field(ge=0, le=50)] = Field(default=4.0, description="1 is no guidance. PRX: 3.5 to 5.")
    shift: Rate | None = Field(default=None, description="Of the sampling grid; null: the training shift.")
    self_guidance: bool = Field(default=True, description="Guide by the routed pass where the recipe routes.")
    ema: bool = Field(default=True, description="Draw with the averaged weights.")
    budget: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="Share of the time that pictures drawn by `every` may take; a set that would pass it is drawn later."
    )


class Evaluation(Part):
    """How good the model is, at steps that `every` divides and at the end: with the averaged weights where there are any."""

    every: Positive = 10_000
    images: Positive = Field(default=10_000, description="Drawn by captions of the reference; the number is in the metrics' names.")
    guidance: Annotated[float, Field(ge=0, le=50)] = 3.5
    steps: Positive = 50
    metrics: list[Literal["fid", "cmmd", "dino_mmd", "prompt_alignment", "validation_loss"]] = [
        "fid",
        "cmmd",
        "dino_mmd",
        "validation_loss",
    ]
    reference: str | None = Field(default=None, description="Data set whose images are compared with; null: held-out training data.")
    held_out: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.01, description="Share of the samples, by a hash of their number, that is never trained on; unused with a reference."
    )
    validation_samples: Positive = Field(default=1024, description="Samples of the reference whose loss is taken.")
    seed: Natural = Field(default=0, description="Of the noise that pictures and validation losses start from: the same each time.")
    fid_source: str = Field(
        default="pt_inception-2015-12-05-6726825d.pth",
        min_length=1,
        description="File with the Inception v3 weights of the published FIDs (.pth, .safetensors); relative ones start at DAYRUN_DATA.",
    )
    clip_source: str = Field(
        default="openai/clip-vit-large-patch14-336", min_length=1, description="Folder or hub name: of CMMD and prompt_alignment."
    )
    dino_source: str = Field(default="facebook/dinov2-with-registers-large", min_length=1, description="Folder or hub name: of DINO-MMD.")


class Guard(Part):
    """What the trainer does when loss or gradients are no numbers, when the loss jumps, and when nothing moves any more."""

    skip_limit: Positive = Field(
        default=10, description="A step whose loss or gradients are no numbers is skipped; so many in a row end the run as `diverged`."
    )
    spike_factor: Annotated[float, Field(gt=1)] = Field(
        default=3.0, description="A loss above this × what 95 % of the recent ones stay below is a spike."
    )
    spike_window: Positive = Field(default=100, le=10_000, description="How many losses are the recent ones.")
    spike_limit: Positive | None = Field(
        default=None, description="Spiking steps in a row at which the run goes back, where it may; null: spikes are only told."
    )
    roll_back: Natural = Field(
        default=0, description="How often the run may go back to its last good checkpoint, with other data, before it ends as `diverged`."
    )
    hang_seconds: Rate | None = Field(
        default=None, description="A step that takes longer ends the attempt; null: 300 s + 10 × the slowest of the recent steps."
    )
    straggler_factor: Annotated[float, Field(gt=1)] = Field(
        default=1.5, description="A process whose own share of the steps takes this × the median of all is told of by name."
    )


class Checkpoints(Part):
    every: Positive = Field(default=1000, description="Steps between checkpoints.")
    keep_last: Positive = 2
    keep_every: Positive | None = Field(default=None, description="Also keep each checkpoint at a multiple of this step for good.")
    on_storage_error: Literal["continue", "stop"] = Field(default="continue", description="When a checkpoint cannot be written.")
    prove_every_minutes: Rate | None = Field(
        default=None, description="Read the newest checkpoint back and compare its digests, when so long ago it was done last."
    )


class Precision(Part):
    compute: Literal["float32", "bfloat16", "float8"] = Field(default="bfloat16", description="Of matrix products.")
    weights: Literal["float32", "bfloat16"] = Field(default="float32", description="bfloat16 cost PRX 3.7 FID.")


class Hardware(Part):
    """What the run asks for, and how the model is laid over it."""

    nodes: Positive = Field(default=1, le=10_000)
    processes_per_node: Positive = Field(default=1, le=1000, description="One process a GPU; on a CPU, torchrun processes.")
    min_nodes: Positive | None = Field(default=None, le=10_000, description="Elastic: begin with as few as these; null: with all of them.")
    accelerator: Literal["h200", "h100", "cpu"] = "h200"
    dollars_per_accelerator_hour: Weight = Field(default=2.0, description="0 for a machine you own.")
    threads_per_process: Positive | None = Field(default=None, description="CPU threads of a process; null: cores divided by processes.")
    sharding: Literal["replicate", "full", "hybrid"] = Field(default="hybrid", description="hybrid: shard in a node, replicate across.")
    compile: bool = True
    activation_checkpointing: bool = False
    precision: Precision = Precision()

    @property
    def world_size(self) -> int:
        """Processes over all nodes."""
        return self.nodes * self.processes_per_node


class Limits(Part):
    """Promises: the run ends before either is passed."""

    hours: Rate | None = None
    dollars: Rate | None = None


class Retries(Part):
    attempts: Positive = Field(default=4, le=1000, description="Launches in all before a run counts as failed.")
    wait_seconds: Weight = Field(default=2.0, description="Before the second attempt; doubled for each one after, at most 5 minutes.")


class Recipe(Part):
    """A text-to-image model to be trained."""

    version: Literal[1] = VERSION
    name: str = Field(min_length=1, max_length=100, pattern=r"^[a-z0-9][a-z0-9._-]*$")
    description: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    model: Model = Model()
    text: Text = Text()
    latents: Latents | None = None
    data: Data
    objective: Objective = Objective()
    perceptual: Perceptual = Perceptual()
    routing: Routing | None = None
    representation: Representation | None = None
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    ema: Ema | None = None
    stages: list[Stage] = Field(min_length=1)
    evaluation: Evaluation | None = None
    samples: Samples = Samples()
    checkpoints: Checkpoints = Checkpoints()
    guard: Guard = Guard()
    hardware: Hardware = Hardware()
    limits: Limits = Limits()
    retries: Retries = Retries()

    @property
    def total_steps(self) -> int:
        """Optimizer steps over all stages."""
        return sum(stage.steps for stage in self.stages)

    def at_stage(self, index: int) -> Self:
        """This recipe as stage `index` sees it: the stage's overrides merged in."""
        patch = self.stages[index].overrides
        return type(self).model_validate(merge_patch(self.model_dump(mode="json"), patch)) if patch else self


def merge_patch(target: Any, patch: Any) -> Any:
    """`target` with `patch` merged in (RFC 7396): objects merge, null removes, everything else replaces. Neither is changed."""
    if not isinstance(patch, dict):
        return patch
    merged: dict[str, Any] = dict(target) if isinstance(target, dict) else {}  # pyright: ignore[reportUnknownArgumentType]
    for key, value in patch.items():  # pyright: ignore[reportUnknownVariableType]
        if value is None:
            merged.pop(key, None)  # pyright: ignore[reportUnknownArgumentType]
        else:
            merged[key] = merge_patch(merged.get(key), value)  # pyright: ignore[reportUnknownArgumentType]
    return merged
