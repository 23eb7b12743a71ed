"""MinHash signatures in bands, bit for bit as RedPajama v2 publishes them (`app/src/dedupe/`).

A document's features are its runs of 13 normalized words, each hashed by the first four bytes of its SHA-1.
128 permutations (a·h + b mod 2^64) mod (2^61 - 1), the low 32 bits kept; that the product overflows 64 bits
is the published code's. For a similarity threshold the 128 minima are cut into b bands of r, those that
minimize the area of false positives below it plus false negatives above it; two documents meet that have
a band in common: P = 1 - (1 - s^r)^b at Jaccard similarity s.

Cost: a SHA-1 and 128 multiplications a word, about two fifths of the whole annotation.
"""

import hashlib
from functools import cache

import numpy as np
from numpy.typing import NDArray

PRIME = np.uint64((1 << 61) - 1)
BLOCK = 128
"""Features taken through the permutations at once; the two buffers then stay in a core's cache."""


@cache
def bands_and_rows(similarity: float, n_permutations: int) -> tuple[int, int]:
    """The cut of the signature for a threshold: 0.7 → 14 × 9, 0.8 → 9 × 13, 0.9 → 5 × 25, 1.0 → 1 × 128."""
    nodes, weights = np.polynomial.legendre.leggauss(200)  # exact up to s^399, and r·b is at most 256
    below, above = (nodes + 1) / 2 * similarity, similarity + (nodes + 1) / 2 * (1 - similarity)
    best, chosen = float("inf"), (1, 1)
    for n_bands in range(1, n_permutations + 1):
        for n_rows in range(1, n_permutations // n_bands + 1):
            false_positive = weights @ (1 - (1 - below**n_rows) ** n_bands) / 2 * similarity
            false_negative = weights @ ((1 - above**n_rows) ** n_bands) / 2 * (1 - similarity)
            error = float(false_positive + false_negative)
            if error < best - 1e-12:
                best, chosen = error, (n_bands, n_rows)
    return chosen


class MinHasher:
    """Signatures of documents, given as their normalized words."""

    def __init__(self, n_gram: int = 13, n_permutations: int = 128, seed: int = 42) -> None:
        draw = np.random.RandomState(seed)
        pairs = [
            (draw.randint(1, PRIME, dtype=np.uint64), draw.randint(0, PRIME, dtype=np.uint64))
            for _ in range(n_permutations)
        ]
        self.n_gram = n_gram
        self.factors, self.terms = np.array(pairs, dtype=np.uint64).T[:, :, None].copy()
        self._buffers = [np.empty((n_permutations, BLOCK), dtype=np.uint64) for _ in range(2)]

    def minima(self, words: list[str]) -> NDArray[np.uint32] | None:
        """The minimum under each permutation; None where the document is shorter than an n-gram."""
        if len(words) < self.n_gram:
            return None
        features = self._features(words).astype(np.uint64)
        least = np.full(len(self.factors), np.iinfo(np.uint32).max, dtype=np.uint32)
        for begin in range(0, len(features), BLOCK):
            np.minimum(least, self._block(features[begin : begin + BLOCK]), out=least)
        return least

    def _features(self, words: list[str]) -> NDArray[np.uint32]:
        """The hash of each n-gram, cut out of the words as one string of bytes."""
        encoded = [word.encode() for word in words]
        text = b" ".join(encoded)
        ends = np.cumsum([len(word) + 1 for word in encoded]) - 1
        begins = np.concatenate(([0], ends[:-1] + 1))
        spans = zip(begins.tolist(), ends[self.n_gram - 1 :].tolist(), strict=False)
        sha1 = hashlib.sha1
        digests = b"".join([sha1(text[begin:end], usedforsecurity=False).digest() for begin, end in spans])
        return np.frombuffer(digests, dtype="<u4").reshape(-1, 5)[:, 0]

    def _block(self, features: NDArray[np.uint64]) -> NDArray[np.uint32]:
        values, carry = (buffer[:, : len(features)] for buffer in self._buffers)
        np.multiply(self.factors, features, out=values)
        values += self.terms
        np.right_shift(values, 61, out=carry)
        values &= PRIME
        values += carry  # ≡ mod the prime, and below twice it
        np.add(values, 1, out=carry)
        carry >>= np.uint64(61)
        values += carry  # 1 more where it is not below: bit 61, dropped with all but the low 32, is the rest
        return values.astype(np.uint32).min(axis=1)


def bands(minima: NDArray[np.uint32], similarity: float) -> list[bytes]:
    """The bands for a threshold, each the big-endian bytes of its rows."""
    n_bands, n_rows = bands_and_rows(similarity, len(minima))
    whole = minima.astype(">u4").tobytes()
    return [whole[4 * n_rows * band : 4 * n_rows * (band + 1)] for band in range(n_bands)]
