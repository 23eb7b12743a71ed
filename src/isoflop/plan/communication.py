"""What one rank sends in one optimizer step, axis by axis, from the configuration alone.

Each formula is a function below; `docs/communication.md` has them in one table. Counted is the gradient of
a batch: what the loop agrees on between steps, evaluation and checkpoints come on top, and so does what Muon
and Adam-mini send to update cut matrices.

W is the width, T the tokens of a microbatch on this rank before the tensor axis cuts the sequence, M the
microbatches of a step, h, g and p the bytes of a number in the precisions of computing, of reducing and of
the weights.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from isoflop.config.checks import n_microbatches
from isoflop.config.schema import RunConfig
from isoflop.parallel.stages import stages_of
from isoflop.plan.shapes import (
    BYTES,
    Parameter,
    Place,
    degrees,
    elements,
    is_sharded,
    local_shape,
    place,
    stage_parameters,
    stage_ranges,
)


@dataclass(frozen=True)
class Traffic:
    """Equal messages of one kind on one axis.

    Axes: data (the ranks that share the shards of a copy), replicas (the same shard of all copies), tensor,
    context, expert, pipeline, ends (the first stage and the last, of a tied matrix), all (every rank).
    """

    axis: str
    kind: str  # all_gather, reduce_scatter, all_reduce, all_to_all, send, receive
    ranks: int
    count: int
    message_bytes: int  # of one: the whole that is gathered, scattered, summed or handed over

    @property
    def sent_bytes(self) -> float:
        """What this rank sends, in a ring: (n-1)/n of the whole; twice that for an all-reduce."""
        share = (self.ranks - 1) / self.ranks
        factor = {"all_reduce": 2 * share, "send": 1.0, "receive": 0.0}.get(self.kind, share)
        return factor * self.count * self.message_bytes


def step_traffic(config: RunConfig, rank: int) -> list[Traffic]:
    """Everything that `rank` sends and receives in a step after the first, equal messages together."""
    at = place(config.parallel, rank)
    found: dict[tuple[str, str, int, int], int] = {}
    for part in (
        data_traffic(config, at),
        tensor_traffic(config, at),
        context_traffic(config, at),
        expert_traffic(config, at),
        pipeline_traffic(config, at),
        tied_traffic(config, at),
        loss_traffic(config),
    ):
        for each in part:
            if each.ranks > 1 and each.count and each.message_bytes:
                key = (each.axis, each.kind, each.ranks, each.message_bytes)
                found[key] = found.get(key, 0) + each.count
    return [Traffic(axis, kind, ranks, count, size) for (axis, kind, ranks, size), count in found.items()]


def data_traffic(config: RunConfig, at: Place) -> Iterator[Traffic]:
    """FSDP2, for each unit (a block; the rest of a stage together) of P numbers on this tensor rank.

    Weights are gathered, h·P: with zero3 2·M times, before each forward and each backward pass; in a
    pipeline, which reshards only after forward passes, M + 1 times; with zero2 M times, in a pipeline once.
    Gradients are reduce-scattered once, g·P, and summed over the copies, g·P / shards. P counts the rows
    that fill up the last shard. shard=none only sums: g·P.
    """
    if not is_sharded(config):
        return
    precision, sizes = config.precision, degrees(config.parallel)
    for stage in stages_of(at.pipeline, config.parallel):
        for unit in _units(stage_parameters(config, stage), config.parallel.expert > 1):
            shards, copies = sizes.shard, sizes.replicate
            if config.parallel.expert > 1 and unit[0].routed:  # among the ranks that have the same experts
                by = config.parallel.expert
                shards, copies = (shards // by, copies) if shards > 1 else (1, copies // by)
            first = Place(at.pipeline, 0, 0, at.tensor)  # has the largest share
            numbers = sum(shards * elements(local_shape(parameter, config, first)) for parameter in unit)
            weights, gradients = BYTES[precision.compute] * numbers, BYTES[precision.reduce] * numbers
            yield Traffic("data", "all_gather", shards, gathers(config), weights)
            yield Traffic("data", "reduce_scatter", shards, 1, gradients)
            yield Traffic("replicas", "all_reduce", copies, 1, gradients // shards)


def gathers(config: RunConfig) -> int:
    """How often a step gathers each weight."""
    microbatches, pipelined = n_microbatches(config), config.parallel.pipeline > 1
    if config.parallel.shard == "zero3":
        return microbatches + 1 if pipelined else 2 * microbatches
    return 1 if pipelined else microbatches


def _units(parameters: list[Parameter], experts_apart: bool) -> list[list[Parameter]]:
    """What is gathered and reduced together."""
    units: dict[tuple[str, bool], list[Parameter]] = {}
    for parameter in parameters:
        units.setdefault((parameter.unit, parameter.routed and experts_apart), []).append(parameter)
    return list(units.values())


def tensor_traffic(config: RunConfig, at: Place) -> Iterator[Traffic]:
    """Of h·T·W each, with the sequence split between layers: for each microbatch

    - and block, forward 2 all-gathers (before attention and feed-forward) and 2 reduce-scatters (after),
      backward the same exchanged; with recompute, forward once more, but for the last reduce-scatter where
      nothing after it needs its result;
    - and mixture with shared experts one reduce-scatter more, which are recomputed all, and backward one
      all-gather more;
    - on the first stage a reduce-scatter of the embedding (of learned positions another) and an all-gather
      backward, on the last an all-gather before the head and a reduce-scatter backward.

    Of max(4, h)·T: on the last stage 3 all-reduces of the loss, 5 with z_loss, for each chunk of it, and
    twice where chunks are made again; with qk_norm=projection one for each mean, q's and k's, forward,
    backward and again. Once a step, each weight that every rank has and sees with a part of the sequence or
    of the heads (norms, routers): an all-reduce of its gradient.
    """
    parallel, tensor = config.parallel, config.parallel.tensor
    layers, microbatches = stage_ranges(config), n_microbatches(config)
    hidden = _tokens(config) * config.model.width * BYTES[config.precision.compute]
    for stage in stages_of(at.pipeline, parallel):
        last = stage == len(layers) - 1
        gathers = scatters = (stage == 0) * (1 + (config.model.positions == "learned")) + last
        for layer in layers[stage]:
            more_gathers, more_scatters = _block_exchanges(config, layer)
            gathers, scatters = gathers + more_gathers, scatters + more_scatters
        yield Traffic("tensor", "all_gather", tensor, microbatches * gathers, hidden)
        yield Traffic("tensor", "reduce_scatter", tensor, microbatches * scatters, hidden)
        if config.model.qk_norm == "projection":
            means = 2 * (2 if config.model.norm == "layernorm" else 1) * (2 + _again(config))
            size = max(4, BYTES[config.precision.compute]) * _tokens(config)
            yield Traffic("tensor", "all_reduce", tensor, microbatches * means * len(layers[stage]), size)
        if last:
            yield from _vocabulary_traffic(config)
        yield from _partial_gradients(config, stage)


def _block_exchanges(config: RunConfig, layer: int) -> tuple[int, int]:
    """All-gathers and reduce-scatters of a block for one microbatch."""
    model, again = config.model, _again(config)
    if model.moe is None or layer not in model.mixture_layers:
        return 4 + 2 * again, 4 + again * (1 + (model.norm_place == "after"))
    shared = int(model.moe.n_shared_experts > 0)
    return 4 + shared + 2 * again, 4 + shared + again * (2 + shared)


def _again(config: RunConfig) -> int:
    """Forward passes of a block that are made once more."""
    return int(config.parallel.recompute != "none")


def _vocabulary_traffic(config: RunConfig) -> Iterator[Traffic]:
    """The softmax over a vocabulary that is split: its maximum, its sum, the targets' logits."""
    places = config.train.seq_len // config.parallel.context
    chunk = min(config.parallel.loss_chunk_tokens or places, places)
    rounds = (5 if config.model.z_loss else 3) * (1 if chunk == places else 2) * n_microbatches(config)
    number = max(4, BYTES[config.precision.compute]) * config.train.microbatch_sequences
    whole, left = divmod(places, chunk)
    yield Traffic("tensor", "all_reduce", config.parallel.tensor, rounds * whole, number * chunk)
    yield Traffic("tensor", "all_reduce", config.parallel.tensor, rounds * bool(left), number * left)


def _partial_gradients(config: RunConfig, stage: int) -> Iterator[Traffic]:
    """Gradients of weights that every tensor rank has and sees only a part of."""
    precision, several = config.precision, n_microbatches(config) > 1
    kept = precision.reduce if several else precision.compute  # what several microbatches add up in
    size = BYTES[kept if is_sharded(config) else precision.params]
    for parameter in stage_parameters(config, stage):
        if parameter.cut is None:
            numbers = elements(parameter.shape)
            yield Traffic("tensor", "all_reduce", config.parallel.tensor, 1, size * numbers)


def context_traffic(config: RunConfig, at: Place) -> Iterator[Traffic]:
    """For each block and microbatch the keys and values of whole sequences, all-gathered.

    2·h·T·context·kv_heads·d_head / tensor, forward, and again with recompute; their gradients are
    reduce-scattered. Each mixture sums how often a sequence chose each expert, an int64 each.
    """
    model, parallel, microbatches = config.model, config.parallel, n_microbatches(config)
    held = [layer for stage in stages_of(at.pipeline, parallel) for layer in stage_ranges(config)[stage]]
    numbers = 2 * _tokens(config) * parallel.context * model.kv_heads * model.head_dim // parallel.tensor
    whole, forward = numbers * BYTES[config.precision.compute], microbatches * (1 + _again(config))
    yield Traffic("context", "all_gather", parallel.context, forward * len(held), whole)
    yield Traffic("context", "reduce_scatter", parallel.context, microbatches * len(held), whole)
    if model.moe is not None:
        mixtures = len(set(held) & set(model.mixture_layers))
        counts = 8 * config.train.microbatch_sequences * model.moe.n_experts
        yield Traffic("context", "all_reduce", parallel.context, forward * mixtures, counts)


def expert_traffic(config: RunConfig, at: Place) -> Iterator[Traffic]:
    """For each mixture and microbatch the rows of top_k·T tokens, h·W each, where experts are in equal use.

    There and back, forward and backward, and forward again with recompute. An int64 for each expert goes
    before them.
    """
    model, parallel = config.model, config.parallel
    if model.moe is None:
        return
    held = [layer for stage in stages_of(at.pipeline, parallel) for layer in stage_ranges(config)[stage]]
    passes = n_microbatches(config) * len(set(held) & set(model.mixture_layers))
    rows = model.moe.top_k * _tokens(config) * model.width * BYTES[config.precision.compute]
    forward = 1 + _again(config)
    yield Traffic("expert", "all_to_all", parallel.expert, forward * passes, 8 * model.moe.n_experts)
    yield Traffic("expert", "all_to_all", parallel.expert, (2 * forward + 2) * passes, rows)


def pipeline_traffic(config: RunConfig, at: Place) -> Iterator[Traffic]:
    """For each microbatch and each neighbour of a stage on another rank: h·T·W / tensor each way.

    The hidden state goes to the stage after, its gradient to the stage before.
    """
    parallel = config.parallel
    mine = stages_of(at.pipeline, parallel)
    n_stages = parallel.pipeline * parallel.stages_per_rank
    neighbours = [s for stage in mine for s in (stage - 1, stage + 1) if 0 <= s < n_stages and s not in mine]
    hidden = _tokens(config) // parallel.tensor * config.model.width * BYTES[config.precision.compute]
    for kind in ("send", "receive"):
        yield Traffic("pipeline", kind, parallel.pipeline, n_microbatches(config) * len(neighbours), hidden)


def tied_traffic(config: RunConfig, at: Place) -> Iterator[Traffic]:
    """Once a step the gradient of a matrix that the first stage and the last both hold: p a number here."""
    mine, parallel = stages_of(at.pipeline, config.parallel), config.parallel
    n_stages = parallel.pipeline * parallel.stages_per_rank
    if config.model.tied and parallel.pipeline > 1 and (0 in mine) != (n_stages - 1 in mine):
        matrix = next(p for p in stage_parameters(config, 0) if p.name == "embedding.weight")
        here = elements(local_shape(matrix, config, at)) * BYTES[config.precision.params]
        yield Traffic("ends", "all_reduce", 2, 1, here)


def loss_traffic(config: RunConfig) -> Iterator[Traffic]:
    """Once a step, over all ranks: loss, gradient norm and FLOPs, three float64."""
    yield Traffic("all", "all_reduce", config.parallel.ranks, 1, 3 * 8)


def _tokens(config: RunConfig) -> int:
    """Tokens of a microbatch here, before the tensor axis cuts the sequence."""
    return config.train.microbatch_sequences * config.train.seq_len // config.parallel.context
