"""Rules that span fields of a training run. Each yields faults in the user's words; none raises."""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from math import gcd, lcm

from isoflop.config.base import Fault
from isoflop.config.schema import ONE_STAGE, V_SHAPED, ModelConfig, RunConfig


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


def scaling_faults(model: ModelConfig) -> Iterator[Fault]:
    """A stretch of the wavelengths that would end before it begins."""
    scaling = model.rope_scaling
    if scaling is not None and scaling.high_freq_factor <= scaling.low_freq_factor:
        hint = f"must be more than model.rope_scaling.low_freq_factor={scaling.low_freq_factor:g}"
        yield Fault("model.rope_scaling.high_freq_factor", scaling.high_freq_factor, hint)


def init_faults(model: ModelConfig) -> Iterator[Fault]:
    """A deviation that the init scheme does not read."""
    if model.init in ("small", "mitchell") and model.init_std != type(model).model_fields["init_std"].default:
        hint = f"is not read by model.init={model.init}; scaled and normal read it"
        yield Fault("model.init_std", model.init_std, hint)


def parametrization_faults(model: ModelConfig) -> Iterator[Fault]:
    """Base shapes that are missing, or that nothing reads."""
    kind = model.parametrization
    reads = {"standard": (), "mup": ("base_width",), "completep": ("base_width", "base_depth")}[kind]
    for key in ("base_width", "base_depth", "base_d_head"):
        given = getattr(model, key)
        if key in reads and given is None:
            hint = f"is needed by model.parametrization={kind}: the one at which lr and init were found"
            yield Fault(f"model.{key}", None, hint)
        elif given is not None and key not in reads and (kind == "standard" or key == "base_depth"):
            hint = f"is not read by model.parametrization={kind}; null is right, or another parametrization"
            yield Fault(f"model.{key}", given, hint)
    if kind != "completep" and model.depth_alpha != 1.0:
        yield Fault("model.depth_alpha", model.depth_alpha, "is read by model.parametrization=completep only")


def mixture_faults(model: ModelConfig) -> Iterator[Fault]:
    """A mixture that has too few experts, or no block to stand in."""
    if model.moe is not None and model.moe.top_k > model.moe.n_experts:
        hint = f"is more than model.moe.n_experts={model.moe.n_experts}"
        yield Fault("model.moe.top_k", model.moe.top_k, hint)
    if model.moe is not None and not model.mixture_layers:
        first = model.moe.n_dense_layers + model.moe.every
        hint = f"makes block {first} the first with experts; model.n_layers is {model.n_layers}"
        yield Fault("model.moe.n_dense_layers", model.moe.n_dense_layers, hint)


def kernel_faults(model: ModelConfig) -> Iterator[Fault]:
    """A kernel that is not installed."""
    if model.attention == "flash" and find_spec("flash_attn") is None:
        yield Fault(
            "model.attention", "flash", "flash-attn is not installed; `pip install flash-attn`, or auto"
        )


MODEL_CHECKS = (
    head_faults,
    group_faults,
    sinusoid_faults,
    mixture_faults,
    scaling_faults,
    init_faults,
    parametrization_faults,
    kernel_faults,
)


def length_faults(config: RunConfig) -> Iterator[Fault]:
    """Sequences that the model has no positions for."""
    model, seq_len = config.model, config.train.seq_len
    if model.positions == "learned" and seq_len > model.max_seq_len:
        hint = f"is more than model.max_seq_len={model.max_seq_len}, the rows of the position table"
        yield Fault("train.seq_len", seq_len, hint)


def tensor_faults(config: RunConfig) -> Iterator[Fault]:
    """What the tensor axis cuts must come out even; tables over tokens and positions need not."""
    sizes = {
        "model.n_heads": config.model.n_heads,
        "model.n_kv_heads": config.model.kv_heads,
        "model.d_ff": config.model.d_ff,
        "train.seq_len": config.train.seq_len,
    }
    if config.model.moe is not None:
        sizes["model.moe.d_ff"] = config.model.expert_d_ff
    if any(size % config.parallel.tensor for size in sizes.values()):
        yield Fault(
            "parallel.tensor", config.parallel.tensor, _does_not_divide(sizes, config.parallel.tensor)
        )


def expert_faults(config: RunConfig) -> Iterator[Fault]:
    """Experts, and the data ranks that share them, must come out even."""
    model, parallel = config.model, config.parallel
    if model.moe is None:
        if parallel.expert > 1:
            yield Fault("parallel.expert", parallel.expert, "needs experts; set model.moe, or 1 does")
        return
    copies = 1 if parallel.shard == "none" else parallel.replicas
    shards = parallel.data * parallel.context // copies
    key = "parallel.data × parallel.context" + (" / parallel.replicas" if copies > 1 else "")
    sizes = {"model.moe.n_experts": model.moe.n_experts, key: shards}
    if any(size % parallel.expert for size in sizes.values()):
        yield Fault("parallel.expert", parallel.expert, _does_not_divide(sizes, parallel.expert))
    elif parallel.expert > 1 and parallel.shard != "none":
        ranks, experts = shards // parallel.expert, model.moe.n_experts // parallel.expert
        if all(size % ranks for size in (experts, model.expert_d_ff // parallel.tensor, model.width)):
            hint = f"leaves {experts} experts to {ranks} ranks, which divide neither that nor their matrices"
            yield Fault("parallel.expert", parallel.expert, f"{hint}; parallel.shard=none does")


def context_faults(config: RunConfig) -> Iterator[Fault]:
    """A sequence is cut into two pieces for each context rank, and each rank's part over the tensor axis."""
    parallel, seq_len = config.parallel, config.train.seq_len
    unit = parallel.context * lcm(2, parallel.tensor)
    if parallel.context > 1 and seq_len % unit:
        near = max(unit, round(seq_len / unit) * unit)
        hint = f"is not a multiple of {unit}, which parallel.context={parallel.context} needs; {near} is"
        yield Fault("train.seq_len", seq_len, hint)


def replica_faults(config: RunConfig) -> Iterator[Fault]:
    """Copies of the shards, where there are shards."""
    parallel = config.parallel
    if parallel.data % parallel.replicas:
        hint = f"does not divide parallel.data={parallel.data}"
        yield Fault("parallel.replicas", parallel.replicas, hint)
    elif parallel.replicas > 1 and parallel.shard == "none":
        hint = "has no effect with parallel.shard=none, where every rank has a copy; 1 does"
        yield Fault("parallel.replicas", parallel.replicas, hint)


def stage_faults(config: RunConfig) -> Iterator[Fault]:
    """Layers and schedule that the pipeline axis can be cut into."""
    parallel, layers = config.parallel, config.model.n_layers
    stages = parallel.pipeline * parallel.stages_per_rank
    schedule, per_rank = parallel.pipeline_schedule, parallel.stages_per_rank
    if stages > layers:
        hint = f"makes {stages} stages of model.n_layers={layers}; at most {layers} stages do"
        yield Fault("parallel.pipeline", parallel.pipeline, hint)
    if schedule not in ONE_STAGE and parallel.pipeline == 1:
        yield Fault(
            "parallel.pipeline_schedule", schedule, "needs parallel.pipeline of 2 or more; 1f1b does with 1"
        )
    if schedule in V_SHAPED and per_rank != 2:
        yield Fault("parallel.stages_per_rank", per_rank, f"must be 2 with pipeline_schedule={schedule}")
    elif schedule not in ONE_STAGE and per_rank < 2:
        yield Fault(
            "parallel.stages_per_rank", per_rank, f"must be 2 or more with pipeline_schedule={schedule}"
        )
    if schedule in ONE_STAGE and per_rank > 1:
        hint = f"must be 1 with parallel.pipeline_schedule={schedule}; interleaved takes more"
        yield Fault("parallel.stages_per_rank", per_rank, hint)


def microbatch_faults(config: RunConfig) -> Iterator[Fault]:
    """As many microbatches as the pipeline's schedule needs."""
    parallel, microbatches = config.parallel, n_microbatches(config)
    if parallel.pipeline == 1 or not microbatches:
        return
    more = "lower train.microbatch_sequences or raise train.global_batch_tokens"
    if parallel.pipeline_schedule == "1f1b" and microbatches < parallel.pipeline:
        hint = f"needs as many microbatches; there are {microbatches}: {more}"
        yield Fault("parallel.pipeline", parallel.pipeline, hint)
    rounds = max(1, microbatches // parallel.pipeline)
    if parallel.pipeline_schedule in ("interleaved", "interleaved_zb") and microbatches % rounds:
        hint = f"leaves {microbatches} microbatches that do not make even rounds: {more}"
        yield Fault("parallel.pipeline", parallel.pipeline, hint)
    if parallel.pipeline_schedule == "dualpipev" and microbatches < 2 * parallel.pipeline:
        hint = (
            f"needs a microbatch for each of its {2 * parallel.pipeline} stages, not {microbatches}: {more}"
        )
        yield Fault("parallel.pipeline", parallel.pipeline, hint)


def precision_faults(config: RunConfig) -> Iterator[Fault]:
    """A kernel that knows only half precision."""
    if config.model.attention == "flash" and config.precision.compute != "bfloat16":
        hint = "is not what flash-attn computes in; precision=bf16 is, or model.attention=auto"
        yield Fault("precision.compute", config.precision.compute, hint)


def optimizer_faults(config: RunConfig) -> Iterator[Fault]:
    """A parametrization whose rules are not the optimizer's."""
    kind, optimizer = config.model.parametrization, config.optimizer
    if kind != "standard" and not optimizer.adam_like:
        hint = f"scales learning rates as Adam needs it, not {optimizer.name}; adamw, adam_mini and lion do"
        yield Fault("model.parametrization", kind, hint)


def warmup_faults(config: RunConfig) -> Iterator[Fault]:
    """Lengths of the schedule that are given twice."""
    for length in ("warmup", "constant", "decay"):
        tokens = getattr(config.schedule, f"{length}_tokens")
        steps = getattr(config.schedule, f"{length}_steps")
        if tokens is not None and steps is not None:
            hint = f"and schedule.{length}_tokens={tokens} say the same; give one, the other null"
            yield Fault(f"schedule.{length}_steps", steps, hint)


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


def ramp_faults(config: RunConfig) -> Iterator[Fault]:
    """What holds for the global batch holds for that of every stage; a stage is a whole number of batches."""
    for number, stage in enumerate(config.train.batch_ramp):
        key, batch = f"train.batch_ramp.{number}", stage.global_batch_tokens
        if stage.tokens % batch:
            near = max(batch, round(stage.tokens / batch) * batch)
            hint = f"is not a multiple of its batch of {batch}; {near} is"
            yield Fault(f"{key}.tokens", stage.tokens, hint)
        train = config.train.model_copy(update={"global_batch_tokens": batch, "batch_ramp": ()})
        alone = config.model_copy(update={"train": train})
        for fault in (*batch_faults(alone), *microbatch_faults(alone)):
            yield Fault(f"{key}.global_batch_tokens", batch, fault.message)


def budget_faults(config: RunConfig) -> Iterator[Fault]:
    """One answer to how long, and of a step at least."""
    steps, tokens, step_tokens = config.train.steps, config.train.tokens, config.train.stages[0].batch_tokens
    if steps is not None and tokens is not None:
        yield Fault(
            "train.steps", steps, f"and train.tokens={tokens} both say how long; give one, the other null"
        )
    if tokens is not None and tokens < step_tokens:
        what = "the first stage's batch" if config.train.batch_ramp else "train.global_batch_tokens"
        yield Fault("train.tokens", tokens, f"is less than one step: {what} is {step_tokens:,}")


def data_faults(config: RunConfig) -> Iterator[Fault]:
    """One answer to what is read. Whether it exists is not asked here: a run may be composed elsewhere."""
    path, mixture = config.data.path, config.data.mixture
    if path and mixture:
        yield Fault("data.path", path, "and data.mixture both say what to read; give one, or data.path=null")
    if not path and not mixture:
        hint = "is missing; give the folder of a token dataset (`make data` builds datasets/docs)"
        yield Fault("data.path", None, hint)


def beginning_faults(config: RunConfig) -> Iterator[Fault]:
    """One answer to what a run begins with."""
    if config.init_from is not None and config.branch_from is not None:
        hint = f"and branch_from={config.branch_from} both say what to begin with; give one, the other null"
        yield Fault("init_from", config.init_from, hint)


def _of_model(check: Callable[[ModelConfig], Iterator[Fault]]) -> Callable[[RunConfig], Iterator[Fault]]:
    return lambda config: check(config.model)


RUN_CHECKS = (
    *map(_of_model, MODEL_CHECKS),
    length_faults,
    tensor_faults,
    expert_faults,
    context_faults,
    replica_faults,
    stage_faults,
    microbatch_faults,
    precision_faults,
    optimizer_faults,
    warmup_faults,
    batch_faults,
    ramp_faults,
    budget_faults,
    data_faults,
    beginning_faults,
)


def _does_not_divide(sizes: dict[str, int], degree: int = 0) -> str:
    """Which of `sizes` are in the way, and what divides them all."""
    common = gcd(*sizes.values())
    divisors = [d for d in range(1, common + 1) if common % d == 0]
    uneven = [f"{name}={size}" for name, size in sizes.items() if not degree or size % degree]
    named = ", ".join(uneven[:2]) + (f" and {len(uneven) - 2} more" if len(uneven) > 2 else "")
    would = [*map(str, divisors[:7]), "…"] if len(divisors) > 8 else list(map(str, divisors))
    return f"does not divide {named}; {', '.join(would)} {'does' if len(divisors) == 1 else 'do'}"
