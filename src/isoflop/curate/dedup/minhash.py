"""MinHash signatures of many documents at once (Broder 1997; the banding of Leskovec et al. 2014, §3.4).

A shingle is `n_grams` words in a row, as one mixed 64-bit number x; hash i of a document is the least of
a_i·x + b_i modulo 2^64 over its shingles, of which the upper 61 bits are kept: datatrove's own values lie
below 2^61 - 1 too. Since a_i is odd the map is a bijection, and x is as good as random.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from isoflop.config.curation.dedup import MinhashConfig
from isoflop.curate.dedup.words import (
    BASE,
    BLOCK_CHARS,
    SEGMENT_CHARS,
    Hashes,
    Lengths,
    mix,
    segments,
    word_hashes,
)

NO_SHINGLE = np.uint64(2**64 - 1)
LARGEST = np.uint64(2**61 - 2)  # datatrove stops reading at 2^61 - 1
PERMUTED = 1 << 15  # shingles permuted at a time


class Signer:
    """Signatures for one MinHash shape. The same text has the same signature in every process."""

    def __init__(self, config: MinhashConfig) -> None:
        self.n_grams = config.n_grams
        self.n_hashes = config.num_buckets * config.hashes_per_bucket
        draw = np.random.RandomState(config.seed)  # unlike Generator's, its stream is fixed for good
        self._a = draw.randint(0, 2**63, size=self.n_hashes, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        self._b = draw.randint(0, 2**64 - 1, size=self.n_hashes, dtype=np.uint64)
        self._room = np.empty(PERMUTED, np.uint64)

    def sign(self, texts: Sequence[str]) -> tuple[Hashes, Lengths]:
        """Signatures (text, hash), and how many shingles each text has; without any it has no signature.

        Memory is bounded whatever a text's length.
        """
        least = np.full((len(texts), self.n_hashes), NO_SHINGLE)
        n_shingles = np.zeros(len(texts), np.int64)
        for chosen in _blocks(texts):
            if len(chosen) == 1 and len(texts[chosen[0]]) > SEGMENT_CHARS:
                parts = self._shingles_of_long(texts[chosen[0]])
            else:
                parts = iter([shingles(*word_hashes([texts[i] for i in chosen]), self.n_grams)])
            for x, counts in parts:
                signed = np.asarray(chosen)[counts > 0]
                n_shingles[chosen] += counts
                least[signed] = np.minimum(least[signed], self._least(x, counts[counts > 0]))
        return np.minimum(least >> np.uint64(3), LARGEST), n_shingles

    def _shingles_of_long(self, text: str) -> Iterator[tuple[Hashes, Lengths]]:
        """The shingles of one text, segment by segment; those across a cut are in the later one."""
        carried = np.empty(0, np.uint64)
        for segment in segments(text):
            words = np.concatenate((carried, word_hashes([segment])[0]))
            yield shingles(words, np.array([len(words)]), self.n_grams)
            carried = words[len(words) - min(len(words), self.n_grams - 1) :]

    def _least(self, x: Hashes, counts: Lengths) -> Hashes:
        """The least permuted shingle (text, hash) of each text; every count is at least 1."""
        least = np.full((self.n_hashes, len(counts)), NO_SHINGLE)
        ends = np.cumsum(counts)
        for first in range(0, len(x), PERMUTED):
            piece = x[first : first + PERMUTED]
            permuted = self._room[: len(piece)]
            lo = int(np.searchsorted(ends, first, side="right"))
            hi = int(np.searchsorted(ends, first + len(piece), side="left")) + 1
            starts = np.maximum(ends[lo:hi] - counts[lo:hi] - first, 0)
            for i in range(self.n_hashes):
                np.multiply(piece, self._a[i], out=permuted)
                np.add(permuted, self._b[i], out=permuted)
                row = least[i, lo:hi]
                np.minimum(row, np.minimum.reduceat(permuted, starts), out=row)
        return least.T


def _blocks(texts: Sequence[str]) -> Iterator[list[int]]:
    """Numbers of texts to be worked on together; plain ASCII apart, for it has a shorter way."""
    for plain in (True, False):
        block: list[int] = []
        chars = 0
        for i, text in enumerate(texts):
            if text.isascii() is not plain:
                continue
            if block and chars + len(text) > BLOCK_CHARS:
                yield block
                block, chars = [], 0
            block.append(i)
            chars += len(text)
        if block:
            yield block


def shingles(words: Hashes, n_words: Lengths, n: int) -> tuple[Hashes, Lengths]:
    """Every `n` words in a row within a text, as one number each; and how many each text has."""
    counts = np.maximum(n_words - (n - 1), 0)
    if len(words) < n:
        return np.empty(0, np.uint64), counts
    rows = len(words) - (n - 1)
    x = words[:rows].copy()
    for i in range(1, n):  # Horner: the order of the words matters
        x *= np.uint64(BASE)
        x += words[i : i + rows]
    ends = np.cumsum(n_words)
    across = (ends[:-1, None] - np.arange(1, n)).ravel()  # these would reach into the next text
    within = np.ones(rows, bool)
    within[across[(across >= 0) & (across < rows)]] = False
    return mix(x[within]), counts
