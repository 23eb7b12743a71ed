"""Batches as a pure function of (seed, step): no state to save, nothing to replay on resume.

Sample k of a dataset reads tokens [k·S, k·S + S) for S = seq_len. Its targets are the tokens one further
on, which may belong to the next document: the token after an end of document is a target like any other
(it teaches how documents begin), and `documents` still counts the end with the document that it ends.
The last sample of a dataset may be short: it is filled with ends of document that are no target, so every
token is an input exactly once an epoch. Which sample stands where depends on the seed alone, not on ranks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isoflop.config.ramp import batch_tokens_of, tokens_before
from isoflop.config.schema import DataConfig, TrainConfig
from isoflop.data.manifest import DatasetError, Manifest
from isoflop.data.mixture import Mixture
from isoflop.data.order import sample_at
from isoflop.data.tokens import TokenDataset

IGNORE = -100  # the target of a position that has no next token; torch's cross entropy leaves it out


@dataclass(frozen=True)
class Batch:
    """Sequences of one step. Each field is (sequences, seq_len), int64.

    `documents` counts 0, 1, 2 … inside each sequence; filling is a document of its own.
    """

    tokens: Tensor
    targets: Tensor  # IGNORE where there is no next token
    documents: Tensor

    def at(self, places: Tensor) -> "Batch":
        """Only some `places` (m,) of each sequence."""
        return Batch(*(x[:, places] for x in (self.tokens, self.targets, self.documents)))


@dataclass(frozen=True)
class Samples:
    """A dataset cut into `n` samples of `seq_len` tokens."""

    dataset: TokenDataset
    seq_len: int
    limit: int | None  # only the first so many

    @property
    def n(self) -> int:
        whole = -(-self.dataset.n_tokens // self.seq_len)
        return min(whole, self.limit or whole)

    @property
    def n_tokens(self) -> int:
        """Tokens that one epoch reads as inputs."""
        return min(self.n * self.seq_len, self.dataset.n_tokens)

    def n_targets(self, sample: NDArray[np.int64]) -> NDArray[np.int64]:
        """Targets that count in each of `sample` (m,): all but the stream's last token have a next one."""
        return np.minimum(self.seq_len, self.dataset.n_tokens - 1 - sample * self.seq_len)

    def read(self, sample: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Tokens, targets and documents of one sample, (seq_len,) each."""
        start = sample * self.seq_len
        stop = min(start + self.seq_len, self.dataset.n_tokens)
        ids = self.dataset.read(start, min(stop + 1, self.dataset.n_tokens))
        tokens = np.full(self.seq_len, self.dataset.manifest.tokenizer.eos_id)
        targets = np.full(self.seq_len, IGNORE)
        tokens[: stop - start] = ids[: stop - start]
        targets[: len(ids) - 1] = ids[1:]
        numbers = self.dataset.documents(start, stop)
        counted = np.cumsum(np.diff(numbers, prepend=numbers[0]) != 0)
        documents = np.full(self.seq_len, counted[-1] + 1)
        documents[: stop - start] = counted
        return tokens, targets, documents


class Batches:
    """All batches of a run, each found at once."""

    def __init__(
        self, sources: Sequence[Samples], mixture: Mixture, train: TrainConfig, seed: int, shuffle: bool
    ) -> None:
        self._sources = tuple(sources)
        self._mixture = mixture
        self._seed = seed
        self._shuffle = shuffle
        self.seq_len = train.seq_len
        self._stages = train.stages

    @property
    def manifests(self) -> tuple[Manifest, ...]:
        """One for each dataset, in the order of the configuration."""
        return tuple(source.dataset.manifest for source in self._sources)

    @property
    def n_tokens_per_epoch(self) -> int:
        """Tokens in one epoch of each dataset, together."""
        return sum(source.n_tokens for source in self._sources)

    def step(self, step: int, rank: int = 0, n_ranks: int = 1) -> Batch:
        """The batch of 0-based `step`, or of it the contiguous 1/n_ranks that data rank `rank` trains on.

        Raises ValueError where `n_ranks` does not divide the sequences of the step.
        """
        first, count = self._sequences(step)
        if count % n_ranks or not 0 <= rank < n_ranks:
            raise ValueError(f"rank {rank} of {n_ranks} has no part of {count} sequences")
        here = count // n_ranks
        dataset, sample = self._locate(first + rank * here, here)
        rows = [self._sources[d].read(int(k)) for d, k in zip(dataset, sample, strict=True)]
        return Batch(*(torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True)))

    def n_targets(self, step: int) -> int:
        """Targets that count in the whole batch of `step`, on all ranks together; reads no token.

        Zero only where every sequence of the step is a last sample of a single token.
        """
        dataset, sample = self._locate(*self._sequences(step))
        counts = [source.n_targets(sample[dataset == d]).sum() for d, source in enumerate(self._sources)]
        return int(sum(counts))

    def _sequences(self, step: int) -> tuple[int, int]:
        """The position in the run of the first sequence of `step`, and how many it has; by the batch ramp."""
        tokens = tokens_before(self._stages, step), batch_tokens_of(self._stages, step)
        return tokens[0] // self.seq_len, tokens[1] // self.seq_len

    def _locate(self, start: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Dataset and sample at positions start … start+count-1 of the run, (count,) each."""
        dataset, index = self._mixture.locate(np.arange(start, start + count))
        sample = np.empty_like(index)
        for d, source in enumerate(self._sources):
            here = dataset == d
            sample[here] = sample_at(index[here], source.n, self._seed, d, self._shuffle)
        return dataset, sample


def build_batches(data: DataConfig, train: TrainConfig, seed: int) -> Batches:
    """Open the datasets of `data`, check them, and say how their batches are drawn.

    Raises DatasetError where a dataset is not what its manifest says, has fewer tokens than one
    sequence, or was written by another tokenizer than the first.
    """
    datasets = [TokenDataset(Path(entry.path), data.verify) for entry in data.entries]
    for dataset in datasets:
        _check_tokenizers(datasets[0], dataset)
        if dataset.n_tokens < train.seq_len:
            raise DatasetError(
                f"{dataset.root}: {dataset.n_tokens:,} tokens are less than one sequence; "
                f"train.seq_len={train.seq_len} is too long, or the dataset too small"
            )
    sources = [Samples(dataset, train.seq_len, data.limit_sequences) for dataset in datasets]
    mixture = Mixture([entry.weight for entry in data.entries], seed)
    return Batches(sources, mixture, train, seed, data.shuffle)


def _check_tokenizers(one: TokenDataset, other: TokenDataset) -> None:
    a, b = one.manifest.tokenizer, other.manifest.tokenizer
    if a.sha256 != b.sha256:
        raise DatasetError(
            f"{other.root}: its tokenizer {b.name} ({b.sha256[:12]}…) is not that of {one.root}, "
            f"{a.name} ({a.sha256[:12]}…); the datasets of a mixture must share one"
        )
