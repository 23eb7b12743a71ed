"""Lengths and token frequencies of a dataset, from its files, in memory that does not grow with it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isoflop.data.manifest import TOKENIZER, DatasetError, Manifest
from isoflop.report.dataset.vocabulary import Token, read_vocabulary

AT_ONCE = 4_000_000
MOST_TOKENS = 1 << 20  # a document of more is counted with the longest
READ_TOKENS = 200_000_000  # about a second; more is not needed to know how frequent tokens are
LONGEST_TOKEN = 16  # bytes; longer ones are counted together
# 1, 2, 3, 4, 6, 8, 12 …: powers of two and what stands between them
EDGES = np.array(sorted({2**k for k in range(41)} | {3 * 2**k for k in range(40)}), dtype=np.int64)


@dataclass(frozen=True)
class Lengths:
    """Documents by their length in tokens. `documents[i]`, `tokens[i]`: from EDGES[i] to below EDGES[i+1]."""

    counts: NDArray[np.int64]
    documents: NDArray[np.int64]
    tokens: NDArray[np.int64]
    longest: int

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        return int(self.tokens.sum()) / max(1, self.total)

    def quantile(self, fraction: float) -> int:
        """The length that `fraction` of the documents do not exceed; 0 where there are none."""
        if not self.total:
            return 0
        below = np.cumsum(self.counts)
        return int(np.searchsorted(below, max(1, np.ceil(fraction * self.total))))

    def bins(self) -> list[tuple[int, int, int, int]]:
        """(least, most, documents, tokens) of each bin from the shortest document's to the longest's."""
        used = np.flatnonzero(self.documents)
        if not len(used):
            return []
        return [
            (int(EDGES[i]), int(EDGES[i + 1]) - 1, int(self.documents[i]), int(self.tokens[i]))
            for i in range(used[0], used[-1] + 1)
        ]


@dataclass(frozen=True)
class Frequent:
    """A token, how often it is, and which part of the tokens and of the text's bytes it makes up."""

    id: int
    shown: str
    count: int
    of_tokens: float
    of_bytes: float | None


@dataclass(frozen=True)
class TokenStatistics:
    """Frequencies among the `read` tokens. What needs the tokenizer's vocabulary is None without it."""

    read: int
    total: int
    vocab_size: int
    used: int
    entropy_nats: float
    bytes_per_token: float | None
    by_bytes: list[tuple[int, float, float]]
    """(bytes, fraction of the tokens, of the text) for tokens of 1, 2, … LONGEST_TOKEN and more bytes."""
    top: list[Frequent]


def lengths(root: Path, manifest: Manifest) -> Lengths:
    """From the documents' ends. Raises DatasetError where a file is missing."""
    counts = np.zeros(MOST_TOKENS + 1, np.int64)
    documents, tokens = np.zeros(len(EDGES) - 1, np.int64), np.zeros(len(EDGES) - 1, np.int64)
    longest = 0
    for shard in manifest.shards:
        for part in _lengths_of(root / f"{shard.file}.index"):
            counts += np.bincount(np.minimum(part, MOST_TOKENS), minlength=MOST_TOKENS + 1)
            place = np.searchsorted(EDGES, part[part > 0], side="right") - 1
            documents += np.bincount(place, minlength=len(documents))
            np.add.at(tokens, place, part[part > 0])
            longest = max(longest, int(part.max()))
    return Lengths(counts, documents, tokens, longest)


def token_statistics(root: Path, manifest: Manifest, top: int = 40) -> TokenStatistics:
    """From all tokens, or the beginning of every shard: documents are shuffled, so that is a fair sample."""
    counts = np.zeros(manifest.tokenizer.vocab_size, np.int64)
    share = min(1.0, READ_TOKENS / max(1, manifest.total_tokens))
    for shard in manifest.shards:
        path = root / shard.file
        for part in _pieces(path, f"<u{np.dtype(manifest.dtype).itemsize}", round(shard.tokens * share)):
            found = np.bincount(part, minlength=len(counts))
            if len(found) > len(counts):
                largest = len(found) - 1
                raise DatasetError(
                    f"{path}: token {largest} is not of its tokenizer; build the dataset again"
                )
            counts += found
    return _statistics(counts, manifest.total_tokens, read_vocabulary(root / TOKENIZER), top)


def _statistics(
    counts: NDArray[np.int64], total: int, vocabulary: dict[int, Token], top: int
) -> TokenStatistics:
    read = int(counts.sum())
    p = counts[counts > 0] / max(1, read)
    sizes = np.array([vocabulary.get(n, Token("", 0)).bytes for n in range(len(counts))])
    text = int((counts * sizes).sum())
    order = np.lexsort((np.arange(len(counts)), -counts))[:top]
    return TokenStatistics(
        read=read,
        total=total,
        vocab_size=len(counts),
        used=int((counts > 0).sum()),
        entropy_nats=float(-(p * np.log(p)).sum()),
        bytes_per_token=text / read if text else None,
        by_bytes=_by_bytes(counts, sizes, read, text) if text else [],
        top=[
            Frequent(
                id=int(n),
                shown=vocabulary[int(n)].shown if int(n) in vocabulary else "",
                count=int(counts[n]),
                of_tokens=int(counts[n]) / read,
                of_bytes=int(counts[n] * sizes[n]) / text if text else None,
            )
            for n in order
            if counts[n]
        ],
    )


def _by_bytes(
    counts: NDArray[np.int64], sizes: NDArray[np.int64], read: int, text: int
) -> list[tuple[int, float, float]]:
    capped = np.minimum(sizes, LONGEST_TOKEN)
    rows = []
    for size in range(1, LONGEST_TOKEN + 1):
        here = capped == size
        rows.append((size, int(counts[here].sum()) / read, int((counts * sizes)[here].sum()) / text))
    return rows


def _lengths_of(index: Path) -> Iterator[NDArray[np.int64]]:
    """Documents' lengths, some millions at a time."""
    before = 0
    for part in _pieces(index, "<u8"):
        ends = part.astype(np.int64)
        found = np.diff(ends, prepend=before)
        if (found < 0).any():
            raise DatasetError(f"{index}: a document ends before the one in front of it; build it again")
        yield found
        before = int(ends[-1])


def _pieces(path: Path, dtype: str, count: int | None = None) -> Iterator[NDArray[np.unsignedinteger]]:
    """The first `count` items of a file, or all."""
    try:
        with path.open("rb") as file:
            left = count if count is not None else path.stat().st_size // np.dtype(dtype).itemsize
            while left > 0:
                part = np.fromfile(file, dtype, min(left, AT_ONCE))
                if not len(part):
                    return
                yield part
                left -= len(part)
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}; copy it again, or build the dataset again") from None
