"""Rules that span fields of a training run. Each yields faults in the user's words; none raises."""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from math import gcd

from isoflop.config.base import Fault
from isoflop.config.schema import ModelConfig, RunConfig


def head_faults(model: ModelConfig) -> Iterator[Fault]:
    """Heads that the width cannot be cut into."""
    if model.d_head is None and model.width % model.n_heads:
        hint = f"is not a multiple of model.n_heads={model.n_heads}; or set model.d_head"
        yield Fault("model.width", model.width, hint)
    elif model.positions == "rope" and model.head_dim % 2:
        key, given = ("model.width", model.width) if model.d_head is None else ("model.d_head", model.d_head)
        yield Fault(key, given, f"makes heads of {model.head_dim}; rotary positions need an even number")


def group_faults(model: ModelConfig) -> Iterator[Fault]:
    """Query heads that cannot share the key and value heads evenly."""
    if model.n_heads % model.kv_heads:
        yield Fault("model.n_kv_heads", model.n_kv_heads, _does_not_divide({"model.n_heads": model.n_heads}))


def sinusoid_faults(model: ModelConfig) -> Iterator[Fault]:
    """Sines and cosines come in pairs."""
    if model.positions == "sinusoidal" and model.width % 2:
        yield Fault("model.width", model.width, "is odd; sinusoidal positions need an even one")


def kernel_faults(model: ModelConfig) -> Iterator[Fault]:
    """A kernel that is not installed."""
    if model.attention == "flash" and find_spec("flash_attn") is None:
        yield Fault(
            "model.attention", "flash", "flash-attn is not installed; `pip install flash-attn`, or auto"
        )


MODEL_CHECKS = (head_faults, group_faults, sinusoid_faults, kernel_faults)


def length_faults(config: RunConfig) -> Iterator[Fault]:
    """Sequences that the model has no positions for."""
    model, seq_len = config.model, config.train.seq_len
    if model.positions == "learned" and seq_len > model.max_seq_len:
        hint = f"is more than model.max_seq_len={model.max_seq_len}, the rows of the position table"
        yield Fault("train.seq_len", seq_len, hint)


def tensor_faults(config: RunConfig) -> Iterator[Fault]:
    """What the tensor axis cuts must come out even."""
    sizes = {
        "model.n_heads": config.model.n_heads,
        "model.n_kv_heads": config.model.kv_heads,
        "model.d_ff": config.model.d_ff,
        "model.vocab_size": config.model.vocab_size,
        "train.seq_len": config.train.seq_len,
    }
    if config.model.positions == "learned":
        sizes["model.max_seq_len"] = config.model.max_seq_len
    if any(size % config.parallel.tensor for size in sizes.values()):
        yield Fault(
            "parallel.tensor", config.parallel.tensor, _does_not_divide(sizes, config.parallel.tensor)
        )


def unavailable_faults(config: RunConfig) -> Iterator[Fault]:
    """Axes that this version does not have."""
    for axis, degree in (("context", config.parallel.context), ("expert", config.parallel.expert)):
        if degree != 1:
            yield Fault(f"parallel.{axis}", degree, "is not available in this version; 1 is")


def stage_faults(config: RunConfig) -> Iterator[Fault]:
    """Layers and schedule that the pipeline axis can be cut into."""
    parallel, layers = config.parallel, config.model.n_layers
    stages = parallel.pipeline * parallel.stages_per_rank
    interleaved = parallel.pipeline_schedule == "interleaved"
    if stages > layers:
        hint = f"makes {stages} stages of model.n_layers={layers}; at most {layers} stages do"
        yield Fault("parallel.pipeline", parallel.pipeline, hint)
    if interleaved and parallel.pipeline == 1:
        hint = "needs parallel.pipeline of 2 or more; 1f1b does with one"
        yield Fault("parallel.pipeline_schedule", "interleaved", hint)
    if interleaved and parallel.stages_per_rank < 2:
        yield Fault(
            "parallel.stages_per_rank", parallel.stages_per_rank, "must be 2 or more when interleaved"
        )
    if not interleaved and parallel.stages_per_rank > 1:
        hint = "needs parallel.pipeline_schedule=interleaved"
        yield Fault("parallel.stages_per_rank", parallel.stages_per_rank, hint)


def microbatch_faults(config: RunConfig) -> Iterator[Fault]:
    """As many microbatches as the pipeline's schedule needs."""
    parallel, microbatches = config.parallel, n_microbatches(config)
    if parallel.pipeline == 1 or not microbatches:
        return
    more = "lower train.microbatch_sequences or raise train.global_batch_tokens"
    if parallel.pipeline_schedule == "1f1b" and microbatches < parallel.pipeline:
        hint = f"needs as many microbatches; there are {microbatches}: {more}"
        yield Fault("parallel.pipeline", parallel.pipeline, hint)
    if parallel.pipeline_schedule == "interleaved" and microbatches % parallel.pipeline:
        hint = f"must divide the {microbatches} microbatches when interleaved: {more}"
        yield Fault("parallel.pipeline", parallel.pipeline, hint)


def precision_faults(config: RunConfig) -> Iterator[Fault]:
    """A kernel that knows only half precision."""
    if config.model.attention == "flash" and config.precision.compute != "bfloat16":
        hint = "is not what flash-attn computes in; precision=bf16 is, or model.attention=auto"
        yield Fault("precision.compute", config.precision.compute, hint)


def n_microbatches(config: RunConfig) -> int:
    """Microbatches that a rank runs in one step; 0 where the batch does not divide."""
    once = config.parallel.data * config.train.microbatch_sequences * config.train.seq_len
    return config.train.global_batch_tokens // once if config.train.global_batch_tokens % once == 0 else 0


def batch_faults(config: RunConfig) -> Iterator[Fault]:
    """A global batch is a whole number of microbatches on every rank of the data axis."""
    train, data = config.train, config.parallel.data
    once = data * train.microbatch_sequences * train.seq_len
    if train.global_batch_tokens % once:
        near = max(once, round(train.global_batch_tokens / once) * once)
        hint = (
            f"is not a multiple of parallel.data × train.microbatch_sequences × train.seq_len = "
            f"{data} × {train.microbatch_sequences} × {train.seq_len} = {once:,}; {near} is"
        )
        yield Fault("train.global_batch_tokens", train.global_batch_tokens, hint)


def budget_faults(config: RunConfig) -> Iterator[Fault]:
    """One answer to how long, and of a step at least."""
    steps, tokens, step_tokens = config.train.steps, config.train.tokens, config.train.global_batch_tokens
    if steps is not None and tokens is not None:
        yield Fault(
            "train.steps", steps, f"and train.tokens={tokens} both say how long; give one, the other null"
        )
    if tokens is not None and tokens < step_tokens:
        yield Fault(
            "train.tokens", tokens, f"is less than one step: train.global_batch_tokens is {step_tokens:,}"
        )


def data_faults(config: RunConfig) -> Iterator[Fault]:
    """One answer to what is read. Whether it exists is not asked here: a run may be composed elsewhere."""
    path, mixture = config.data.path, config.data.mixture
    if path and mixture:
        yield Fault("data.path", path, "and data.mixture both say what to read; give one, or data.path=null")
    if not path and not mixture:
        hint = "is missing; give the folder of a token dataset (`make data` builds datasets/docs)"
        yield Fault("data.path", None, hint)


def _of_model(check: Callable[[ModelConfig], Iterator[Fault]]) -> Callable[[RunConfig], Iterator[Fault]]:
    return lambda config: check(config.model)


RUN_CHECKS = (
    *map(_of_model, MODEL_CHECKS),
    length_faults,
    tensor_faults,
    unavailable_faults,
    stage_faults,
    microbatch_faults,
    precision_faults,
    batch_faults,
    budget_faults,
    data_faults,
)


def _does_not_divide(sizes: dict[str, int], degree: int = 0) -> str:
    """Which of `sizes` are in the way, and what divides them all."""
    common = gcd(*sizes.values())
    divisors = [d for d in range(1, common + 1) if common % d == 0]
    uneven = [f"{name}={size}" for name, size in sizes.items() if not degree or size % degree]
    named = ", ".join(uneven[:2]) + (f" and {len(uneven) - 2} more" if len(uneven) > 2 else "")
    would = [*map(str, divisors[:7]), "…"] if len(divisors) > 8 else list(map(str, divisors))
    return f"does not divide {named}; {', '.join(would)} {'does' if len(divisors) == 1 else 'do'}"
