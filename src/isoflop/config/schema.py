"""The configuration of a training run: composed once, validated once, frozen.

Each class is one group in `configs/`. Defaults are what a YAML may leave out; units are in the names.
"""

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny

from isoflop.config.base import Config, Count, Degree, Fraction, NonNegative, Positive
from isoflop.config.registry import Registry

if TYPE_CHECKING:
    import torch

DType = Literal["float64", "float32", "bfloat16"]


class ModelConfig(Config):
    """A decoder-only transformer. `None` means the usual value, which the comment names."""

    n_layers: Count
    width: Count
    n_heads: Count
    n_kv_heads: Count | None = None  # n_heads: every head its own keys and values
    d_head: Count | None = None  # width // n_heads
    d_ff: Count
    vocab_size: Count
    tied: bool = True  # one matrix for the embedding and the head
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    norm_eps: Positive = 1e-5
    qk_norm: bool = False
    positions: Literal["rope", "learned", "sinusoidal", "none"] = "rope"
    rope_theta: Positive = 10_000.0
    max_seq_len: Count = 8192  # rows of the learned position table
    activation: Literal["swiglu", "gelu"] = "swiglu"
    attention: Literal["auto", "sdpa", "flash", "flex"] = "auto"
    document_mask: bool = True  # attention stays inside a document
    z_loss: NonNegative = 0.0  # weight of mean(logsumexp²)
    init_std: Positive = 0.02

    @property
    def kv_heads(self) -> int:
        return self.n_kv_heads or self.n_heads

    @property
    def head_dim(self) -> int:
        return self.d_head or self.width // self.n_heads


class ParallelConfig(Config):
    """Degrees of the mesh's axes, and how each is used. Their product is the number of ranks."""

    data: Degree = 1
    tensor: Degree = 1
    pipeline: Degree = 1
    context: Degree = 1
    expert: Degree = 1
    shard: Literal["none", "zero2", "zero3"] = "zero3"  # what the data axis shards
    sequence: bool = True  # shard norms along the sequence on the tensor axis
    pipeline_schedule: Literal["gpipe", "1f1b", "interleaved"] = "1f1b"
    stages_per_rank: Count = 1

    @property
    def ranks(self) -> int:
        return self.data * self.context * self.tensor * self.pipeline


class EngineConfig(Config):
    """What runs the training step, and on which device."""

    name: Literal["native"] = "native"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    deterministic: bool = True


class OptimizerConfig(Config):
    """Base of the optimizers' configs; each stands beside its code in `isoflop/optim/<name>.py`."""

    name: str
    lr: Positive
    weight_decay: NonNegative = 0.0

    @abstractmethod
    def build(self, groups: list[dict[str, Any]]) -> "torch.optim.Optimizer":
        """The optimizer over `groups` (torch parameter groups)."""


optimizers: Registry[OptimizerConfig] = Registry("isoflop.optim")


class ScheduleConfig(Config):
    """The learning rate over tokens, as a factor of `optimizer.lr`."""

    kind: Literal["constant", "cosine", "linear", "wsd"] = "cosine"
    warmup_tokens: Annotated[int, Field(ge=0)] | None = None  # a twentieth of the run
    decay_tokens: Count | None = None  # cosine, linear: all after warm-up; wsd: a fifth of the run
    final_fraction: Fraction = 0.1  # of the peak, at the end of the decay


class PrecisionConfig(Config):
    """Master weights and optimizer state in `params`, matrix products in `compute`, sums over ranks in `reduce`."""

    params: DType = "float32"
    compute: DType = "float32"
    reduce: DType = "float32"


class MixtureEntry(Config):
    """One dataset of a mixture; weights need not add up to one."""

    path: str
    weight: Positive


class DataConfig(Config):
    """Token datasets (a folder with `manifest.json`) and how they are walked."""

    path: str | None = None
    mixture: tuple[MixtureEntry, ...] = ()
    shuffle: bool = True
    limit_sequences: Count | None = None  # only the first so many of each dataset: debug=overfit
    verify: Literal["hash", "size"] = "hash"  # hash reads every shard once at the start

    @property
    def entries(self) -> tuple[MixtureEntry, ...]:
        """The mixture; a single path is a mixture of one."""
        return (MixtureEntry(path=self.path, weight=1.0),) if self.path else self.mixture


class TrainConfig(Config):
    """How long and in which batches. `steps`, else `tokens`, else `tokens_per_param` says how long."""

    steps: Count | None = None
    tokens: Count | None = None
    tokens_per_param: Positive = 20.0  # Hoffmann et al. 2022, §3.4
    seq_len: Count = 256
    global_batch_tokens: Count = 16_384
    microbatch_sequences: Count = 8  # sequences that one rank runs at once
    clip_grad_norm: Positive | None = 1.0


class CheckpointConfig(Config):
    """When to save, in optimizer steps, and how many complete checkpoints to keep."""

    every: Count | None = None  # None: at the end, and when asked to stop
    keep: Count = 2


class MonitorConfig(Config):
    """Where the numbers go. `metrics.jsonl` is always written."""

    every: Count = 1  # steps between logged rows
    terminal: Literal["auto", "rich", "plain", "off"] = "auto"
    wandb: Literal["auto", "online", "offline", "off"] = "auto"
    wandb_project: str = "isoflop"
    wandb_entity: str | None = None
    group: str | None = None  # the sweep or study that this run belongs to
    tags: tuple[str, ...] = ()
    peak_flops_per_second: Positive | None = None  # one device's; None: the data sheet's or, on CPU, measured
    profile_steps: Annotated[int, Field(ge=0)] = 0  # traced to `profile/` after the first step: debug=profiler


class ClusterConfig(Config):
    """The machine: how ranks start here. Not part of a run's identity."""

    name: Literal["local"] = "local"
    threads_per_rank: Count | None = None  # cores shared out over the local ranks
    timeout_seconds: Positive = 600.0  # for any one collective


class RunConfig(Config):
    """A training run, whole."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    runs_dir: str = "runs"
    resume: str | None = None  # a run folder to continue in, also in another layout
    model: ModelConfig
    parallel: ParallelConfig
    engine: EngineConfig
    optimizer: Annotated[SerializeAsAny[OptimizerConfig], BeforeValidator(optimizers.resolve)]
    schedule: ScheduleConfig
    precision: PrecisionConfig
    data: DataConfig
    train: TrainConfig
    checkpoint: CheckpointConfig
    monitor: MonitorConfig
    cluster: ClusterConfig


