"""A layout for the reader: which ranks form a group of each axis, which layers stand where."""

from collections.abc import Sequence
from dataclasses import dataclass

from isoflop.config.schema import ParallelConfig

SHOWN = 4  # groups of an axis, and ranks of a group, before the rest is left out


@dataclass(frozen=True)
class Axis:
    """An axis of `degree`, whose neighbours are `stride` ranks apart, in a world of `n_ranks`."""

    name: str
    degree: int
    stride: int
    n_ranks: int

    @property
    def n_groups(self) -> int:
        return self.n_ranks // self.degree

    def group(self, number: int) -> range:
        """The ranks of group `number`, groups in the order of their first ranks."""
        outer, inner = divmod(number, self.stride)
        first = outer * self.stride * self.degree + inner
        return range(first, first + self.stride * self.degree, self.stride)

    def groups_text(self) -> str:
        """`(0,1) (2,3) (4,5) (6,7)`; of many groups the first two and the last."""
        n = self.n_groups
        if n <= SHOWN:
            return " ".join(group_text(self.group(i)) for i in range(n))
        return f"{group_text(self.group(0))} {group_text(self.group(1))} … {group_text(self.group(n - 1))}"


def axes(parallel: ParallelConfig) -> list[Axis]:
    """The axes that are used, outermost first: the tensor axis's ranks are neighbours.

    The expert axis borrows neighbours of the data and the context axis.
    """
    stride, found = 1, []
    for name in ("tensor", "context", "data", "pipeline"):
        found.append(Axis(name, getattr(parallel, name), stride, parallel.ranks))
        stride *= getattr(parallel, name)
    found.insert(1, Axis("expert", parallel.expert, parallel.tensor, parallel.ranks))
    order = ("data", "tensor", "pipeline", "context", "expert")
    return sorted((axis for axis in found if axis.degree > 1), key=lambda axis: order.index(axis.name))


def group_text(ranks: range) -> str:
    """`(0,4)`, `(0–7)`, `(0,8,…,504)`."""
    if len(ranks) > 2 and ranks.step == 1:
        return f"({ranks[0]}–{ranks[-1]})"
    if len(ranks) > SHOWN:
        return f"({ranks[0]},{ranks[1]},…,{ranks[-1]})"
    return f"({','.join(map(str, ranks))})"


def stages_text(layers: Sequence[range], by_rank: Sequence[Sequence[int]]) -> list[str]:
    """What stands on each pipeline rank: `0: embedding, layers 0–15`, the middle of many left out.

    `layers` of each stage, and `by_rank` the stages of each pipeline rank.
    """
    texts = []
    for rank, stages in enumerate(by_rank):
        parts = ["embedding"] if 0 in stages else []
        runs = ", ".join(_layers_text(layers[stage]) for stage in stages)
        parts.append(f"layer{'s' * (sum(len(layers[stage]) for stage in stages) > 1)} {runs}")
        parts += ["head"] if len(layers) - 1 in stages else []
        texts.append(f"{rank}: {', '.join(parts)}")
    return texts if len(texts) <= SHOWN else [*texts[:2], "…", texts[-1]]


def _layers_text(layers: range) -> str:
    return f"{layers[0]}–{layers[-1]}" if len(layers) > 1 else str(layers[0])
