"""Which parameters a rank holds, and how much of each: the layout's arithmetic, without torch."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from isoflop.config.schema import ModelConfig, ParallelConfig, RunConfig
from isoflop.parallel.stages import stage_layers, stages_of

BYTES = {"float64": 8, "float32": 4, "bfloat16": 2}


@dataclass(frozen=True)
class Parameter:
    """A weight of the model. `cut` is the dim that the tensor axis splits, None where each rank has all."""

    name: str
    shape: tuple[int, ...]
    cut: int | None
    unit: str  # what is gathered and reduced together over the data axis: "blocks.3", or "" for the rest
    routed: bool = False  # one matrix for each expert, along dim 0

    def on_tensor_rank(self, rank: int, degree: int) -> tuple[int, ...]:
        """The shape of what tensor rank `rank` of `degree` holds."""
        if self.cut is None:
            return self.shape
        return _replaced(self.shape, self.cut, chunk(self.shape[self.cut], rank, degree))


@dataclass(frozen=True)
class Place:
    """A rank's coordinates on the mesh, outermost axis first."""

    pipeline: int
    replicate: int
    shard: int
    tensor: int


def degrees(parallel: ParallelConfig) -> Place:
    """The sizes of the mesh's axes, as `isoflop.dist.mesh` builds them.

    The data and the context axis together are `replicate` × `shard`: copies, and shards of a copy.
    """
    ranks = parallel.data * parallel.context
    copies = ranks if parallel.shard == "none" else parallel.replicas
    return Place(parallel.pipeline, copies, ranks // copies, parallel.tensor)


def place(parallel: ParallelConfig, rank: int) -> Place:
    """Where `rank` stands: the tensor axis changes fastest."""
    sizes = degrees(parallel)
    rank, tensor = divmod(rank, sizes.tensor)
    rank, shard = divmod(rank, sizes.shard)
    pipeline, replicate = divmod(rank, sizes.replicate)
    return Place(pipeline, replicate, shard, tensor)


def chunk(size: int, rank: int, degree: int) -> int:
    """How much of `size` rank `rank` gets when each takes the same, rounded up, and the last what is left."""
    share = -(-size // degree)
    return max(0, min(share, size - rank * share))


def is_sharded(config: RunConfig) -> bool:
    """Whether FSDP2 takes part: over the data axis, or only to compute in another precision."""
    parallel, precision = config.parallel, config.precision
    return parallel.data * parallel.context > 1 or precision.compute != precision.params


def stage_ranges(config: RunConfig) -> list[range]:
    """The layers of each stage."""
    parallel = config.parallel
    return stage_layers(config.model, parallel.pipeline * parallel.stages_per_rank)


def stages_by_rank(config: RunConfig) -> list[list[int]]:
    """The stages of each pipeline rank; nothing without a pipeline."""
    degree = config.parallel.pipeline
    return [stages_of(rank, config.parallel) for rank in range(degree)] if degree > 1 else []


def stage_parameters(config: RunConfig, stage: int) -> list[Parameter]:
    """The weights of `stage`, each whole."""
    layers = stage_ranges(config)
    return list(parameters(config.model, layers[stage], first=stage == 0, last=stage == len(layers) - 1))


def held_parameters(config: RunConfig, pipeline_rank: int) -> list[list[Parameter]]:
    """The weights of each stage that a pipeline rank holds."""
    return [stage_parameters(config, stage) for stage in stages_of(pipeline_rank, config.parallel)]


def parameters(model: ModelConfig, layers: range, first: bool, last: bool) -> Iterator[Parameter]:
    """The weights of `layers`, with the embedding if `first`, the final norm and the head if `last`.

    Of a tied matrix there is one where the embedding and the head stand in the same stage.
    """
    vocabulary = (model.vocab_size, model.width)
    if first:
        yield Parameter("embedding.weight", vocabulary, 0, "")
        if model.positions == "learned":
            yield Parameter("position_embedding.weight", (model.max_seq_len, model.width), 0, "")
    for layer in layers:
        yield from block_parameters(model, layer)
    if last:
        yield from _norm(model, "norm", model.width, None, "")
        if not (model.tied and first):
            yield Parameter("head.weight", vocabulary, 0, "")


def block_parameters(model: ModelConfig, layer: int) -> Iterator[Parameter]:
    """The weights of one block."""
    unit, width, d_head = f"blocks.{layer}", model.width, model.head_dim
    yield from _norm(model, f"{unit}.attention_norm", width, None, unit)
    for name, heads in (("q", model.n_heads), ("k", model.kv_heads), ("v", model.kv_heads)):
        yield Parameter(f"{unit}.attention.{name}.weight", (heads * d_head, width), 0, unit)
    yield Parameter(f"{unit}.attention.out.weight", (width, model.n_heads * d_head), 1, unit)
    for name, heads in (("q", model.n_heads), ("k", model.kv_heads)):
        if model.qk_norm:
            whole = model.qk_norm == "projection"
            size = d_head * (heads if whole else 1)
            yield from _norm(model, f"{unit}.attention.{name}_norm", size, 0 if whole else None, unit)
    yield from _norm(model, f"{unit}.mlp_norm", width, None, unit)
    if layer in model.mixture_layers:
        yield from _mixture(model, unit)
    else:
        yield from _feed_forward(model, f"{unit}.mlp", model.d_ff, unit)


def _feed_forward(model: ModelConfig, name: str, d_ff: int, unit: str) -> Iterator[Parameter]:
    for part in ("gate", "up") if model.activation == "swiglu" else ("up",):
        yield Parameter(f"{name}.{part}.weight", (d_ff, model.width), 0, unit)
    yield Parameter(f"{name}.down.weight", (model.width, d_ff), 1, unit)


def _mixture(model: ModelConfig, unit: str) -> Iterator[Parameter]:
    assert model.moe is not None
    experts, d_ff = model.moe.n_experts, model.expert_d_ff
    yield Parameter(f"{unit}.mlp.router.weight", (experts, model.width), None, unit)
    for part in ("gate", "up") if model.activation == "swiglu" else ("up",):
        yield Parameter(f"{unit}.mlp.experts.{part}.weight", (experts, d_ff, model.width), 1, unit, True)
    yield Parameter(f"{unit}.mlp.experts.down.weight", (experts, model.width, d_ff), 2, unit, True)
    if model.moe.n_shared_experts:
        yield from _feed_forward(model, f"{unit}.mlp.shared", model.moe.n_shared_experts * d_ff, unit)


def _norm(model: ModelConfig, name: str, size: int, cut: int | None, unit: str) -> Iterator[Parameter]:
    for part in ("weight", "bias") if model.norm == "layernorm" else ("weight",):
        yield Parameter(f"{name}.{part}", (size,), cut, unit)


def local_shape(parameter: Parameter, config: RunConfig, at: Place) -> tuple[int, ...]:
    """The part of `parameter` that the rank at `at` keeps: its slice of the tensor axis, its rows of that.

    With an expert axis a rank keeps its experts, and shares those with the ranks that have the same ones:
    along the first dim that comes out even, for rows are few there.
    """
    sizes, expert = degrees(config.parallel), config.parallel.expert
    shape, shards, rank, dim = parameter.on_tensor_rank(at.tensor, sizes.tensor), sizes.shard, at.shard, 0
    if parameter.routed and expert > 1:
        shape = _replaced(shape, 0, shape[0] // expert)
        shards, rank = max(1, shards // expert), rank // expert
        dim = next((dim for dim, size in enumerate(shape) if size % shards == 0), 0)
    if not is_sharded(config):
        return shape
    return _replaced(shape, dim, chunk(shape[dim], rank, shards))


def elements(shape: tuple[int, ...]) -> int:
    return prod(shape)


def _replaced(shape: tuple[int, ...], dim: int, size: int) -> tuple[int, ...]:
    return (*shape[:dim], size, *shape[dim + 1 :])
