"""How two datasets differ: in configuration and code, step by step, and document by document."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoflop.config.errors import as_yaml
from isoflop.data.aside import Sample, id_hash
from isoflop.data.manifest import StageRecord
from isoflop.report.dataset.gather import Dataset

ABSENT = "–"
AT_ONCE = 4_000_000
# What a manifest notes beyond the configuration, and what a difference in it means.
BESIDE = {
    "recipe_sha256": "recipe",
    "code_sha256": "code of the blocks",
    "inputs_sha256": "input files",
    "language_model": "language model",
    "versions": "version of",
}


@dataclass(frozen=True)
class StepPair:
    """One step in both; None where a dataset has no such step."""

    name: str
    first: StageRecord | None
    second: StageRecord | None

    @property
    def reasons(self) -> list[tuple[str, int, int]]:
        """(reason, dropped in the first, in the second), the most changed first."""
        first, second = (step.dropped if step else {} for step in (self.first, self.second))
        pairs = [(name, first.get(name, 0), second.get(name, 0)) for name in first.keys() | second.keys()]
        return sorted(pairs, key=lambda row: (-abs(row[1] - row[2]), row[0]))


@dataclass(frozen=True)
class Overlap:
    """Kept documents by their ids: in both, only in the first, only in the second."""

    both: int
    first: int
    second: int


@dataclass(frozen=True)
class Comparison:
    """The second dataset against the first."""

    config: list[tuple[str, str, str]]
    beside: list[tuple[str, str, str]]
    steps: list[StepPair]
    overlap: Overlap | None
    only_first: list[Sample]
    """Kept in the first, and among the second's samples of what it dropped: with its step and reason."""
    only_second: list[Sample]

    @property
    def same(self) -> bool:
        return not (self.config or self.beside)


def compare(first: Dataset, second: Dataset) -> Comparison:
    """Everything in which `second` differs from `first`, as far as both tell."""
    a, b = first.manifest, second.manifest
    overlap, only_first, only_second = None, [], []
    if first.kept_ids is not None and second.kept_ids is not None:
        overlap = overlap_of(first.kept_ids, second.kept_ids)
        only_first = kept_elsewhere(second.dropped, first.kept_ids, second.kept_ids)
        only_second = kept_elsewhere(first.dropped, second.kept_ids, first.kept_ids)
    tokenizers = ({"tokenizer": m.tokenizer.model_dump()} for m in (a, b))
    told = ({BESIDE[key]: d.extra[key] for key in BESIDE if key in d.extra} for d in (first, second))
    beside = [{**extra, **tokenizer} for extra, tokenizer in zip(told, tokenizers, strict=True)]
    return Comparison(
        config=list(differences(a.pipeline, b.pipeline)),
        beside=list(differences(*beside)),
        steps=pair_steps(a.stages, b.stages),
        overlap=overlap,
        only_first=only_first,
        only_second=only_second,
    )


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(key, value in the first, in the second) of the leaves that are not the same."""
    a, b = dict(_leaves(first)), dict(_leaves(second))
    for key in dict.fromkeys([*a, *b]):
        if key not in a or key not in b or a[key] != b[key]:
            yield key, _shown(a, key), _shown(b, key)


def pair_steps(first: Iterable[StageRecord], second: Iterable[StageRecord]) -> list[StepPair]:
    """Steps of one name side by side, in the first's order; one of the second alone, behind its neighbour."""
    a, b = _named(first), _named(second)
    order = list(a)
    before: str | None = None
    for name in b:
        if name not in a:
            order.insert(order.index(before) + 1 if before in order else 0, name)
        before = name
    return [StepPair(name, a.get(name), b.get(name)) for name in order]


def overlap_of(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> Overlap:
    """Of two sorted arrays of hashes; reads some millions at a time. An id that repeats counts each time."""
    both = sum(int(_among(part, second).sum()) for part in _parts(first))
    theirs = sum(int(_among(part, first).sum()) for part in _parts(second))
    return Overlap(both, len(first) - both, len(second) - theirs)


def kept_elsewhere(
    dropped: Iterable[Sample], kept: NDArray[np.uint64], not_in: NDArray[np.uint64]
) -> list[Sample]:
    """The samples of what one dataset dropped that the other kept (and the one has by no other document)."""
    samples = list(dropped)
    hashes = np.array([id_hash(sample["id"]) for sample in samples], dtype=np.uint64)
    told = _among(hashes, kept) & ~_among(hashes, not_in)
    return [sample for sample, here in zip(samples, told, strict=True) if here]


def _named(steps: Iterable[StageRecord]) -> dict[str, StageRecord]:
    """Steps by their names; the second of one name is `name (2)`."""
    found: dict[str, StageRecord] = {}
    for step in steps:
        times = sum(other.name == step.name for other in found.values())
        found[f"{step.name} ({times + 1})" if times else step.name] = step
    return found


def _shown(leaves: Mapping[str, Any], key: str) -> str:
    return as_yaml(leaves[key]) if key in leaves else ABSENT


def _among(hashes: NDArray[np.uint64], among: NDArray[np.uint64]) -> NDArray[np.bool_]:
    if not len(among):
        return np.zeros(len(hashes), bool)
    places = np.minimum(np.searchsorted(among, hashes), len(among) - 1)
    found: NDArray[np.bool_] = np.asarray(among[places]) == hashes
    return found


def _parts(array: NDArray[np.uint64]) -> Iterator[NDArray[np.uint64]]:
    for start in range(0, len(array), AT_ONCE):
        yield np.asarray(array[start : start + AT_ONCE])


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
