"""What a rank's memory holds, from the configuration alone.

Parameters, gradients and optimizer state are exact: the bytes of the tensors that the rank keeps. Gathered
weights and activations are estimates, by the formulas below; workspaces of kernels and what an allocator
loses come on top.
"""

from collections.abc import Iterator
from dataclasses import astuple, dataclass

from isoflop.config.checks import n_microbatches
from isoflop.config.schema import ModelConfig, OptimizerConfig, RunConfig
from isoflop.parallel.stages import stages_of
from isoflop.plan.shapes import (
    BYTES,
    Parameter,
    Place,
    degrees,
    elements,
    held_parameters,
    is_sharded,
    local_shape,
    place,
    stage_ranges,
)

STEP_BYTES = 4  # a float32 that counts the updates of a parameter


@dataclass(frozen=True)
class Memory:
    """Bytes of one rank. The first three are exact, the others estimates."""

    parameters: int
    gradients: int
    optimizer: int
    gathered: int
    activations: int

    @property
    def total(self) -> int:
        return sum(astuple(self))


def expected_memory(config: RunConfig) -> tuple[int, Memory]:
    """The first of the ranks that need most, and what it needs.

    Ranks of a stage differ only where rows do not divide evenly; the first have most.
    """
    sizes = degrees(config.parallel)
    per_stage = sizes.replicate * sizes.shard * sizes.tensor
    needs = {stage * per_stage: rank_memory(config, stage * per_stage) for stage in range(sizes.pipeline)}
    rank = max(needs, key=lambda rank: needs[rank].total)
    return rank, needs[rank]


def rank_memory(config: RunConfig, rank: int) -> Memory:
    """What `rank` needs at the end of a step's backward pass, and at most during it."""
    at = place(config.parallel, rank)
    held = [parameter for stage in held_parameters(config, at.pipeline) for parameter in stage]
    local = {parameter: elements(local_shape(parameter, config, at)) for parameter in held}
    weights = BYTES[config.precision.params] * sum(local.values())
    return Memory(
        parameters=weights,
        gradients=weights,
        optimizer=sum(
            optimizer_bytes(config, parameter, local_shape(parameter, config, at)) for parameter in held
        ),
        gathered=gathered_bytes(config, at, held),
        activations=activation_bytes(config, at.pipeline),
    )


def optimizer_bytes(config: RunConfig, parameter: Parameter, shape: tuple[int, ...]) -> int:
    """The state of `parameter`, of which a rank keeps `shape`, in the precision of the weights.

    AdamW two numbers a weight, Lion, Muon (of matrices of blocks) and SGD's momentum one, Adam-mini one and
    one a row; those that correct for their start count steps too.
    """
    size, weights = BYTES[config.precision.params], elements(shape)
    kind = optimizer_kind(config.optimizer, parameter)
    if kind == "adamw":
        return 2 * size * weights + STEP_BYTES
    if kind == "adam_mini":
        rows = elements(shape[:-1]) if len(shape) > 1 else 1
        return size * (weights + rows) + STEP_BYTES
    if kind == "sgd" and not getattr(config.optimizer, "momentum", 0.0):
        return 0
    return size * weights


def optimizer_kind(optimizer: OptimizerConfig, parameter: Parameter) -> str:
    """Whose state `parameter` has: Muon leaves all but the matrices of blocks to AdamW."""
    if optimizer.name == "muon" and (len(parameter.shape) < 2 or not parameter.unit):
        return "adamw"
    return optimizer.name


def gathered_bytes(config: RunConfig, at: Place, held: list[Parameter]) -> int:
    """Weights and gradients that FSDP2 holds whole beside the shards (each as the tensor axis leaves it).

    Weights, in the compute precision: with zero3 those outside blocks and of two blocks, the one at work and
    the next; else all. Gradients, in the precision of their sum: all, while several microbatches add up;
    with one microbatch those outside blocks and of two blocks.
    """
    if not is_sharded(config):
        return 0
    precision, sizes = config.precision, degrees(config.parallel)
    if sizes.shard == 1 and precision.compute == precision.params:
        return 0  # the one shard is the whole
    units: dict[str, int] = {}
    for parameter in held:
        here = elements(parameter.on_tensor_rank(at.tensor, sizes.tensor))
        units[parameter.unit] = units.get(parameter.unit, 0) + here
    everything = sum(units.values())
    two = units.get("", 0) + sum(sorted((n for unit, n in units.items() if unit), reverse=True)[:2])
    weights = two if config.parallel.shard == "zero3" else everything
    gradients = everything if n_microbatches(config) > 1 else two
    return BYTES[precision.compute] * weights + BYTES[precision.reduce] * gradients


def activation_bytes(config: RunConfig, pipeline_rank: int) -> int:
    """What forward passes leave for backward passes on a pipeline rank, at most; an estimate.

    The microbatches in flight times what one leaves, averaged over the stages of the rank.
    """
    layers, stages = stage_ranges(config), stages_of(pipeline_rank, config.parallel)
    per_token = [
        sum(block_bytes_per_token(config, layer) for layer in layers[stage])
        + (head_bytes_per_token(config) if stage == len(layers) - 1 else 0)
        for stage in stages
    ]
    tokens = config.train.microbatch_sequences * config.train.seq_len // config.parallel.context
    passes = microbatches_in_flight(config, pipeline_rank)
    once = _recomputed_bytes_per_token(config, stages)
    return round(tokens * (passes * sum(per_token) / len(stages) + once))


def microbatches_in_flight(config: RunConfig, pipeline_rank: int) -> int:
    """Forward passes of a stage on this rank whose backward passes have not come yet, at most.

    gpipe: all. 1f1b: as many as there are stages from here on. interleaved: those of Narayanan et al. 2021,
    §2.2. Those that split the backward pass: on every rank as many as on the first of 1f1b, whose stages are
    as many times longer (Qi et al. 2024, §6), and one more for dualpipev.
    """
    parallel, microbatches = config.parallel, n_microbatches(config)
    degree, per_rank = parallel.pipeline, parallel.stages_per_rank
    if degree == 1:
        return 1
    warm_up = {
        "gpipe": microbatches,
        "1f1b": degree - pipeline_rank,
        "interleaved": 2 * (degree - pipeline_rank - 1) + (per_rank - 1) * degree + 1,
        "interleaved_zb": per_rank * degree,
        "zbv": 2 * degree,
        "dualpipev": 2 * degree + 1,
    }
    return min(warm_up[parallel.pipeline_schedule], per_rank * microbatches)


def block_bytes_per_token(config: RunConfig, layer: int) -> float:
    """What one block keeps for each token of a microbatch.

    With `full` recompute its input alone: width / tensor numbers. Else, in numbers of the compute precision:

    - around each half (W / tensor) · 2 for the norm (its input, and that normalised) and W for what it
      gives to the products, which every tensor rank gathers;
    - attention: query, key, value (repeated to all heads) and output, 4 · n_heads · d_head / tensor;
      for each token a row of the mask (seq_len) where scaled_dot_product_attention masks documents;
    - feed-forward: 4 · d_ff / tensor with SwiGLU, 2 · d_ff / tensor with GELU.

    With `selective` recompute: the input and the outputs of products and of attention.
    """
    model, parallel = config.model, config.parallel
    size, tensor = BYTES[config.precision.compute], parallel.tensor
    if parallel.recompute == "full":
        return size * model.width / tensor
    heads = model.n_heads * model.head_dim
    if parallel.recompute == "selective":
        products = (2 * heads + 2 * model.kv_heads * model.head_dim) / tensor + 2 * model.width
        return size * (model.width / tensor + products + _inner(model, layer, products=True) / tensor)
    around = 2 * (2 * model.width / tensor + model.width)
    masked = model.document_mask and model.attention in ("auto", "sdpa")
    mask = config.train.seq_len if masked else 0
    return size * (around + 4 * heads / tensor + _inner(model, layer, products=False) / tensor + mask)


def _inner(model: ModelConfig, layer: int, products: bool) -> int:
    """Numbers a token that the feed-forward layer keeps: of its products alone, or all."""
    swiglu = model.activation == "swiglu"
    per_feature = (2 if swiglu else 1) if products else (4 if swiglu else 2)
    if model.moe is None or layer not in model.mixture_layers:
        return per_feature * model.d_ff
    met = model.moe.top_k + model.moe.n_shared_experts
    return per_feature * met * model.expert_d_ff + 2 * model.moe.top_k * model.width


def head_bytes_per_token(config: RunConfig) -> float:
    """What the final norm and the loss keep: the norm's two and the head's input, and the softmax.

    The softmax is in at least float32, its vocabulary split over the tensor axis. With chunks of the loss
    only the input is kept.
    """
    model, size = config.model, BYTES[config.precision.compute]
    around = size * (2 * model.width / config.parallel.tensor + model.width)
    chunked = (config.parallel.loss_chunk_tokens or config.train.seq_len) < config.train.seq_len
    return around + (0 if chunked else max(4, size) * model.vocab_size / config.parallel.tensor)


def _recomputed_bytes_per_token(config: RunConfig, stages: list[int]) -> float:
    """The block, and the chunk of the loss, that is made again, one at a time."""
    layers = stage_ranges(config)
    plain = config.model_copy(
        update={
            "parallel": config.parallel.model_copy(update={"recompute": "none", "loss_chunk_tokens": None})
        }
    )
    block = max(block_bytes_per_token(plain, layer) for stage in stages for layer in layers[stage])
    again = block if config.parallel.recompute != "none" else 0.0
    chunk = config.parallel.loss_chunk_tokens
    if chunk is not None and chunk < config.train.seq_len and len(layers) - 1 in stages:
        again += head_bytes_per_token(plain) * chunk / config.train.seq_len
    return again


def as_rows(memory: Memory) -> Iterator[tuple[str, int]]:
    """Name and bytes of each part that is there."""
    for name in ("parameters", "gradients", "optimizer", "gathered", "activations"):
        if found := getattr(memory, name):
            yield name, found
