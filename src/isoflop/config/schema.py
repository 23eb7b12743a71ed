"""The configuration of a training run: composed once, validated once, frozen.

Each class is one group in `configs/`. Defaults are what a YAML may leave out; units are in the names.
The text under a field is its description in the JSON schema and in the documentation.
"""

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from isoflop.config.base import Config, Count, Degree, Fraction, NonNegative, Positive, Seed, Whole
from isoflop.config.model import ModelConfig, MoeConfig, RopeScaling
from isoflop.config.ramp import BatchStage, batch_stages
from isoflop.config.registry import Registry

if TYPE_CHECKING:
    import torch

__all__ = ["ModelConfig", "MoeConfig", "RopeScaling"]  # their home is a file of its own

DType = Literal["float64", "float32", "bfloat16"]


ONE_STAGE = ("gpipe", "1f1b")
"""Pipeline schedules with one stage a rank."""
V_SHAPED = ("zbv", "dualpipev")
"""With two stages a rank, down the ranks and up again: the first rank has the first stage and the last."""
SPLIT_BACKWARD = ("interleaved_zb", "zbv", "dualpipev")
"""That compute the gradients of a stage's input and of its weights apart, to fill the bubble."""


class ParallelConfig(Config):
    """Degrees of the mesh's axes, and how each is used. Their product is the number of ranks."""

    data: Degree = 1
    """Replicas, each with its own part of the global batch."""
    tensor: Degree = 1
    """Ranks that share each matrix product, and each sequence between them."""
    pipeline: Degree = 1
    """Ranks that share the layers."""
    context: Degree = 1
    """Ranks that share a sequence inside attention."""
    expert: Degree = 1
    """Ranks that share the experts."""
    shard: Literal["none", "zero2", "zero3"] = "zero3"
    """What the data axis shards: nothing, gradients and optimizer, or parameters too."""
    replicas: Degree = 1
    """Copies of the shards, between which gradients are summed; divides `data` (hybrid sharding)."""
    pipeline_schedule: Literal["gpipe", "1f1b", "interleaved", "interleaved_zb", "zbv", "dualpipev"] = "1f1b"
    """Order of the microbatches' forwards and backwards on the pipeline axis."""
    stages_per_rank: Count = 1
    """Runs of layers that a pipeline rank holds: 1 for gpipe and 1f1b, 2 for zbv and dualpipev, else more."""
    recompute: Literal["none", "selective", "full"] = "none"
    """What a block forgets after its forward and computes again: nothing, all but products, everything."""
    compile: bool = False
    """torch.compile, block by block."""
    loss_chunk_tokens: Count | None = None
    """Places of a sequence whose logits exist at once; null: all."""

    @property
    def ranks(self) -> int:
        """Processes that the mesh needs."""
        return self.data * self.context * self.tensor * self.pipeline


class EngineConfig(Config):
    """What runs the training step, and on which device."""

    name: Literal["native"] = "native"
    """native: PyTorch's own distributed stack."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: cuda where there is one, else cpu."""
    deterministic: bool = True
    """A resumed run is bitwise the run that never stopped."""


class OptimizerConfig(Config):
    """Base of the optimizers' configs; each stands beside its code in `isoflop/optim/<name>.py`."""

    name: str
    """The file in `isoflop/optim/` that defines it."""
    lr: Positive
    """Peak learning rate."""
    weight_decay: NonNegative = 0.0
    """Strength of the decay towards zero, of what `decay` names."""
    decay: Literal["projections", "matrices", "all"] = "projections"
    """What decays. projections: matrices of the blocks, and the head where it is not tied; matrices: also the
    embeddings, of tokens and positions; all: also gains and biases."""

    adam_like: ClassVar[bool] = False
    """Whether steps are as large for small gradients as for large, so that mup's rules for Adam hold."""

    @abstractmethod
    def build(self, groups: list[dict[str, Any]]) -> "torch.optim.Optimizer":
        """The optimizer over `groups` (torch parameter groups)."""


optimizers: Registry[OptimizerConfig] = Registry("isoflop.optim")


class ScheduleConfig(Config):
    """The learning rate over tokens, as a factor of `optimizer.lr`. Lengths in steps count full batches."""

    kind: Literal["constant", "cosine", "linear", "inverse_sqrt", "wsd"] = "cosine"
    """Shape after warm-up; wsd holds the peak and then decays (warm-up, stable, decay)."""
    warmup_tokens: Whole | None = None
    """Linear rise from zero; null: warmup_steps, else a twentieth of the run."""
    warmup_steps: Whole | None = None
    """The same in steps."""
    constant_tokens: Count | None = None
    """End of inverse_sqrt's constant phase, from the run's start: then √(constant_tokens / tokens); null:
    constant_steps, else the warm-up's end."""
    constant_steps: Count | None = None
    """The same in steps."""
    decay_tokens: Count | None = None
    """Length of the decay; null: decay_steps, else all after warm-up, for wsd a fifth of the run, for
    inverse_sqrt none."""
    decay_steps: Count | None = None
    """The same in steps."""
    decay_shape: Literal["sqrt", "linear", "cosine"] | None = None
    """How wsd and inverse_sqrt come down at the end: sqrt is 1 - √x; null: sqrt for wsd, else linear."""
    final_fraction: Fraction = 0.1
    """Of the peak, at the end of the decay."""


class PrecisionConfig(Config):
    """Number formats of weights, products and sums."""

    params: DType = "float32"
    """Master weights and optimizer state."""
    compute: DType = "float32"
    """Matrix products and activations."""
    reduce: DType = "float32"
    """Sums of gradients over ranks."""


class MixtureEntry(Config):
    """One dataset of a mixture."""

    path: str
    """Folder of a token dataset."""
    weight: Positive
    """Share of the tokens drawn from it; weights need not add up to one."""


class DataConfig(Config):
    """Token datasets (a folder with `manifest.json`) and how they are walked."""

    path: str | None = None
    """Folder of a token dataset."""
    mixture: tuple[MixtureEntry, ...] = ()
    """Several weighted datasets, in place of path."""
    shuffle: bool = True
    """Another order of the sequences in each epoch, from the seed; false: as they stand in the files."""
    limit_sequences: Count | None = None
    """Only the first so many of each dataset, as `debug=overfit` does."""
    verify: Literal["hash", "size"] = "hash"
    """Check of the shards at the start: hash reads them whole, once; size only measures."""

    @property
    def entries(self) -> tuple[MixtureEntry, ...]:
        """The mixture; a single path is a mixture of one."""
        return (MixtureEntry(path=self.path, weight=1.0),) if self.path else self.mixture


class RampStage(Config):
    """A part of the run with batches of its own size."""

    tokens: Count
    """Length of the stage, a multiple of its batch."""
    global_batch_tokens: Count
    """Tokens of an optimizer step in it, over all ranks."""


class GuardConfig(Config):
    """Which steps are not taken. One whose loss or gradient is no number never is."""

    max_skips_in_row: Whole = 5
    """Skipped steps in a row that a run survives; one more and it stops."""
    spike_sigmas: Positive | None = None
    """Skip a loss above mean + so many standard deviations of the last accepted ones; null: never."""
    spike_window: Annotated[Count, Field(ge=2)] = 100
    """Accepted steps that spike_sigmas looks back on; before there are so many none is a spike."""


class TrainConfig(Config):
    """How long and in which batches. `steps`, else `tokens`, else `tokens_per_param` says how long."""

    steps: Count | None = None
    """Optimizer steps."""
    tokens: Count | None = None
    """Training tokens, rounded down to whole steps."""
    tokens_per_param: Positive = 20.0
    """Training tokens for each parameter; 20 is near optimal in compute (Hoffmann et al. 2022, §3.4)."""
    seq_len: Count = 256
    """Tokens of a sequence."""
    global_batch_tokens: Count = 16_384
    """Tokens of an optimizer step, over all ranks."""
    microbatch_sequences: Count = 8
    """Sequences that one rank runs at once."""
    clip_grad_norm: Positive | None = 1.0
    """Gradients are scaled down to this global norm; null: never."""
    batch_ramp: tuple[RampStage, ...] = ()
    """Smaller batches at the start, stage after stage; global_batch_tokens after the last."""
    guard: GuardConfig = GuardConfig()
    """Which steps are not taken."""

    @property
    def stages(self) -> tuple[BatchStage, ...]:
        """The ramp's stages and what follows, each with the step and the token that it begins with."""
        return batch_stages(
            [(stage.tokens, stage.global_batch_tokens) for stage in self.batch_ramp], self.global_batch_tokens
        )


class CheckpointConfig(Config):
    """When to save, and how much to keep."""

    every: Count | None = None
    """Optimizer steps between checkpoints; null: only at the end and when asked to stop."""
    keep: Count = 2
    """The last so many complete checkpoints stay."""
    keep_every: Count | None = None
    """Checkpoints at multiples of so many steps stay for ever, to branch from; null: none does."""
    keep_best: Whole = 0
    """So many of the lowest mean training loss since the checkpoint before them stay."""
    asynchronous: bool = False
    """Training waits for a copy to host memory only; a thread writes it."""
    verify: Literal["hash", "size"] = "hash"
    """Check of every file before it is loaded: hash reads it whole; size only measures."""


class MonitorConfig(Config):
    """Where the numbers go. `metrics.jsonl` is always written."""

    every: Count = 1
    """Steps between logged rows."""
    terminal: Literal["auto", "rich", "plain", "off"] = "auto"
    """auto: a live display on a terminal, plain lines elsewhere."""
    wandb: Literal["auto", "online", "offline", "off"] = "auto"
    """auto: online where WANDB_API_KEY is set, offline elsewhere."""
    wandb_project: str = "isoflop"
    """W&B project."""
    wandb_entity: str | None = None
    """W&B team or user; null: the account's own."""
    group: str | None = None
    """The sweep or study that this run belongs to."""
    tags: tuple[str, ...] = ()
    """Words to find the run by."""
    peak_flops_per_second: Positive | None = None
    """Of one GPU, or of a machine's CPUs together, for MFU; null: the data sheet's, or measured."""
    profile_steps: Whole = 0
    """Steps traced to `profile/` after the first, as `debug=profiler` does."""


class ClusterConfig(Config):
    """The machine: how ranks start here. Not part of a run's identity."""

    name: Literal["local"] = "local"
    """local: processes of this machine."""
    threads_per_rank: Count | None = None
    """Threads of each rank; null: the cores shared out over the local ranks."""
    timeout_seconds: Positive = 600.0
    """A step that takes longer is a hang: the run ends and says which rank the others wait for.

    The first step, which compiles, and checkpoints have three times as long.
    """


class RunConfig(Config):
    """A training run, whole."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """First part of the run folder's name: letters, digits, dots, dashes."""
    seed: Seed = 0
    """Of the weights and of the order of the data."""
    runs_dir: str = "runs"
    """Folder of the run folders."""
    resume: str | None = None
    """A run folder to continue in, also in another layout."""
    init_from: str | None = None
    """Weights to begin with: a run folder, a checkpoint of one, or what `isoflop import` wrote."""
    branch_from: str | None = Field(default=None, pattern=r"^.+@\d+$")
    """`<run folder>@<step>`: a new run begins with weights, optimizer and place in the data of that one."""
    model: ModelConfig
    parallel: ParallelConfig
    engine: EngineConfig
    optimizer: Annotated[OptimizerConfig, optimizers]
    schedule: ScheduleConfig
    precision: PrecisionConfig
    data: DataConfig
    train: TrainConfig
    checkpoint: CheckpointConfig
    monitor: MonitorConfig
    cluster: ClusterConfig
