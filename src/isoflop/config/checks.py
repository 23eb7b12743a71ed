"""Rules that span fields of a training run. Each returns faults in the user's words; none raises."""

from collections.abc import Iterator
from importlib.util import find_spec

from isoflop.config.base import Fault
from isoflop.config.schema import ModelConfig, RunConfig


def run_faults(config: RunConfig) -> Iterator[Fault]:
    """Everything wrong between the fields of `config`."""
    yield from model_faults(config.model)
    yield from _tensor_faults(config)
    yield from _pipeline_faults(config)
    yield from _batch_faults(config)
    yield from _length_faults(config)
    yield from _data_faults(config)
    for axis in ("context", "expert"):
        degree = getattr(config.parallel, axis)
        if degree != 1:
            yield Fault(f"parallel.{axis}", degree, "is not available in this version; 1 is")


def model_faults(model: ModelConfig) -> Iterator[Fault]:
    if model.d_head is None and model.width % model.n_heads:
        yield Fault("model.width", model.width, f"is not a multiple of model.n_heads={model.n_heads}; or set model.d_head")
    if model.n_heads % model.kv_heads:
        yield Fault("model.n_kv_heads", model.n_kv_heads, _does_not_divide("model.n_heads", model.n_heads))
    if model.positions == "rope" and model.head_dim % 2:
        yield Fault("model.d_head", model.head_dim, "is odd; rotary positions need an even one")
    if model.positions == "sinusoidal" and model.width % 2:
        yield Fault("model.width", model.width, "is odd; sinusoidal positions need an even one")
    if model.attention == "flash" and find_spec("flash_attn") is None:
        yield Fault("model.attention", "flash", "flash-attn is not installed; `pip install flash-attn`, or auto")


def _tensor_faults(config: RunConfig) -> Iterator[Fault]:
    degree, model = config.parallel.tensor, config.model
    for name, size in (
        ("model.n_heads", model.n_heads),
        ("model.n_kv_heads", model.kv_heads),
        ("model.d_ff", model.d_ff),
        ("model.vocab_size", model.vocab_size),
    ):
        if size % degree:
            yield Fault("parallel.tensor", degree, _does_not_divide(name, size))
    if config.parallel.sequence and config.train.seq_len % degree:
        yield Fault("train.seq_len", config.train.seq_len, f"is not a multiple of parallel.tensor={degree}")


def _pipeline_faults(config: RunConfig) -> Iterator[Fault]:
    parallel, layers = config.parallel, config.model.n_layers
    stages = parallel.pipeline * parallel.stages_per_rank
    if stages > layers:
        yield Fault("parallel.pipeline", parallel.pipeline, f"makes {stages} stages of model.n_layers={layers}; at most {layers} do")
    interleaved = parallel.pipeline_schedule == "interleaved"
    if interleaved and parallel.stages_per_rank < 2:
        yield Fault("parallel.stages_per_rank", parallel.stages_per_rank, "must be 2 or more when interleaved")
    if not interleaved and parallel.stages_per_rank > 1:
        yield Fault("parallel.stages_per_rank", parallel.stages_per_rank, "needs parallel.pipeline_schedule=interleaved")
    microbatches = n_microbatches(config)
    if parallel.pipeline > 1 and microbatches:
        if parallel.pipeline_schedule == "1f1b" and microbatches < parallel.pipeline:
            yield Fault("parallel.pipeline", parallel.pipeline, f"needs as many microbatches; there are {microbatches}: lower train.microbatch_sequences or raise train.global_batch_tokens")
        if interleaved and microbatches % parallel.pipeline:
            yield Fault("parallel.pipeline", parallel.pipeline, f"must divide the {microbatches} microbatches when interleaved")


def n_microbatches(config: RunConfig) -> int:
    """Microbatches that a rank runs in one step; 0 where the batch does not divide."""
    once = config.parallel.data * config.train.microbatch_sequences * config.train.seq_len
    return config.train.global_batch_tokens // once if config.train.global_batch_tokens % once == 0 else 0


def _batch_faults(config: RunConfig) -> Iterator[Fault]:
    train, data = config.train, config.parallel.data
    once = data * train.microbatch_sequences * train.seq_len
    if train.global_batch_tokens % once:
        near = max(once, round(train.global_batch_tokens / once) * once)
        yield Fault(
            "train.global_batch_tokens",
            train.global_batch_tokens,
            f"is not a multiple of parallel.data × train.microbatch_sequences × train.seq_len = "
            f"{data} × {train.microbatch_sequences} × {train.seq_len} = {once}; {near} is",
        )
    if train.steps is not None and train.tokens is not None:
        yield Fault("train.steps", train.steps, f"and train.tokens={train.tokens} both say how long; give one")
    if train.tokens is not None and train.tokens < train.global_batch_tokens:
        yield Fault("train.tokens", train.tokens, f"is less than one step: global_batch_tokens is {train.global_batch_tokens:,}")


def _length_faults(config: RunConfig) -> Iterator[Fault]:
    if config.model.positions == "learned" and config.train.seq_len > config.model.max_seq_len:
        yield Fault("train.seq_len", config.train.seq_len, f"is more than model.max_seq_len={config.model.max_seq_len}, the rows of the position table")


def _data_faults(config: RunConfig) -> Iterator[Fault]:
    if config.data.path and config.data.mixture:
        yield Fault("data.path", config.data.path, "and data.mixture both say what to read; give one")
    if not config.data.entries:
        yield Fault("data.path", None, "is missing; give the folder of a token dataset (`make data` builds datasets/docs)")


def _does_not_divide(name: str, size: int) -> str:
    divisors = [d for d in range(1, size + 1) if size % d == 0]
    shown = divisors if len(divisors) <= 8 else [*divisors[:7], "…"]
    return f"does not divide {name}={size}; {', '.join(map(str, shown))} do"
