"""Which layers stand in which stage of the pipeline."""

from collections.abc import Callable
from itertools import accumulate
from math import inf

from isoflop.config.schema import V_SHAPED, ModelConfig, ParallelConfig
from isoflop.model.flops import n_layer_matmul_params


def stage_layers(model: ModelConfig, n_stages: int) -> list[range]:
    """Contiguous layers for each stage, so that the most expensive stage costs least.

    Costs are the matmul weights that a token meets: a block's, and for the last stage the head's too; the
    embedding is a lookup. Of cuts that are as good the most even is taken. Every stage has at least one
    layer. Raises ValueError with more stages than layers.
    """
    if n_stages > model.n_layers:
        raise ValueError(f"{n_stages} stages of {model.n_layers} layers")
    costs = [n_layer_matmul_params(model, layer, active=True) for layer in range(model.n_layers)]
    costs[-1] += model.vocab_size * model.width
    heaviest, _ = _best_cut(costs, n_stages, max)
    _, starts = _best_cut(costs, n_stages, lambda price, load: price + (load**2 if load <= heaviest else inf))
    return [range(start, stop) for start, stop in zip(starts, (*starts[1:], len(costs)), strict=True)]


def _best_cut(
    costs: list[int], n_stages: int, add: Callable[[float, float], float]
) -> tuple[float, tuple[int, ...]]:
    """The least price of cutting `costs` into `n_stages` runs, and where they start.

    `add` (price so far, load of a further run) → the price with it.
    """
    upto = [0, *accumulate(costs)]
    best: dict[int, tuple[float, tuple[int, ...]]] = {0: (0, ())}  # by where the next run starts
    for stage in range(1, n_stages + 1):
        last = len(costs) - (n_stages - stage)  # a layer for each run to come
        ends = range(stage, last + 1) if stage < n_stages else [last]
        best = {
            end: min(
                (add(price, upto[end] - upto[start]), (*starts, start))
                for start, (price, starts) in best.items()
                if start < end
            )
            for end in ends
        }
    return best[len(costs)]


def stages_of(rank: int, parallel: ParallelConfig) -> list[int]:
    """The numbers of the stages that pipeline rank `rank` holds."""
    stages = range(parallel.pipeline * parallel.stages_per_rank)
    if parallel.pipeline_schedule in V_SHAPED:
        return [rank, len(stages) - 1 - rank]
    return list(stages[rank :: parallel.pipeline])
