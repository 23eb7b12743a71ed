"""The configuration of a training run: composed once, validated once, frozen.

Each class is one group in `configs/`. Defaults are what a YAML may leave out; units are in the names.
The text under a field is its description in the JSON schema and in the documentation.
"""

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from isoflop.config.base import Config, Count, Degree, Fraction, NonNegative, Positive, Seed, Whole
from isoflop.config.registry import Registry

if TYPE_CHECKING:
    import torch

DType = Literal["float64", "float32", "bfloat16"]


class ModelConfig(Config):
    """A decoder-only transformer."""

    n_layers: Count
    """Blocks of attention and feed-forward."""
    width: Count
    """Features of the residual stream."""
    n_heads: Count
    """Query heads of a block."""
    n_kv_heads: Count | None = None
    """Key and value heads, which divide n_heads; null: n_heads, every head its own."""
    d_head: Count | None = None
    """Features of a head; null: width // n_heads."""
    d_ff: Count
    """Features inside the feed-forward layer."""
    vocab_size: Count
    """Rows of the embedding; at least the tokenizer's."""
    tied: bool = True
    """One matrix for the embedding and the head."""
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    """Normalization before each layer, and before the head."""
    norm_eps: Positive = 1e-5
    """Added to the variance."""
    qk_norm: bool = False
    """Normalize queries and keys, head by head."""
    positions: Literal["rope", "learned", "sinusoidal", "none"] = "rope"
    """How a token knows where it stands in its document."""
    rope_theta: Positive = 10_000.0
    """Base of the rotary wavelengths."""
    max_seq_len: Count = 8192
    """Rows of the learned position table."""
    activation: Literal["swiglu", "gelu"] = "swiglu"
    """Of the feed-forward layer."""
    attention: Literal["auto", "sdpa", "flash", "flex"] = "auto"
    """Kernel; auto is torch's scaled_dot_product_attention. flash and flex train on CUDA only."""
    document_mask: bool = True
    """Attention stays inside a document."""
    z_loss: NonNegative = 0.0
    """Weight of mean(logsumexp²), which keeps the logits near zero."""
    init_std: Positive = 0.02
    """Standard deviation of the initial weights."""

    @property
    def kv_heads(self) -> int:
        """Key and value heads, the default filled in."""
        return self.n_kv_heads or self.n_heads

    @property
    def head_dim(self) -> int:
        """Features of a head, the default filled in."""
        return self.d_head or self.width // self.n_heads


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
    pipeline_schedule: Literal["gpipe", "1f1b", "interleaved"] = "1f1b"
    """Order of the microbatches' forwards and backwards on the pipeline axis."""
    stages_per_rank: Count = 1
    """Runs of layers that a pipeline rank holds; 2 or more when interleaved."""

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
    """Strength of the decay towards zero, of matrices only."""

    @abstractmethod
    def build(self, groups: list[dict[str, Any]]) -> "torch.optim.Optimizer":
        """The optimizer over `groups` (torch parameter groups)."""


optimizers: Registry[OptimizerConfig] = Registry("isoflop.optim")


class ScheduleConfig(Config):
    """The learning rate over tokens, as a factor of `optimizer.lr`."""

    kind: Literal["constant", "cosine", "linear", "wsd"] = "cosine"
    """Shape after warm-up; wsd holds the peak and then decays (warm-up, stable, decay)."""
    warmup_tokens: Whole | None = None
    """Linear rise from zero; null: a twentieth of the run."""
    decay_tokens: Count | None = None
    """Length of the decay; null: all after warm-up, for wsd a fifth of the run."""
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


class CheckpointConfig(Config):
    """When to save, and how much to keep."""

    every: Count | None = None
    """Optimizer steps between checkpoints; null: only at the end and when asked to stop."""
    keep: Count = 2
    """Complete checkpoints that stay."""


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
    """For any one collective."""


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
