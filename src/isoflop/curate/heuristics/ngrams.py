"""Gopher's repeated n-grams (Rae et al. 2021, section A1.1) as datatrove counts them, on hashes.

Both numbers are characters. A bound is tried first: sorting the n-grams says how many there are of each, and
the longest of them how many characters that can be. Most documents need no more.
"""

import numpy as np

from isoflop.curate.heuristics.hashing import Hashes, spaced
from isoflop.curate.heuristics.vocabulary import Numbers, Row


class NGrams:
    """The n-grams of one text, n growing: `hashes` of each, its characters in `lengths`."""

    def __init__(self, row: Row, blanks: bool) -> None:
        """`blanks`: the words are joined by blanks, so that "a bc" is not "ab c"; or by nothing."""
        self._hashes, self._shifts = spaced(row.hashes, row.shifts) if blanks else (row.hashes, row.shifts)
        self._ends = np.concatenate([[0], np.cumsum(row.lengths)])
        self._blanks = blanks
        self.n = 1
        self.hashes = self._hashes

    def grow(self, n: int) -> None:
        """To n-grams, from no more than that."""
        for size in range(self.n, n):
            self.hashes = self.hashes[:-1] * self._shifts[size:] + self._hashes[size:]
        self.n = n

    @property
    def lengths(self) -> Numbers:
        inside = self.n - 1 if self._blanks else 0
        return self._ends[self.n :] - self._ends[: -self.n] + inside


def top_characters(grams: NGrams, total: int, enough: float) -> int:
    """Characters in all copies of the commonest n-gram, the first of equals; at least one must be there.

    0 where they are certain to be no more than the fraction `enough` of `total`.
    """
    ordered = np.sort(grams.hashes)
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    counts = np.diff(starts, append=len(ordered))
    most, lengths = int(counts.max()), grams.lengths
    if most * int(lengths.max()) / total <= enough:
        return 0
    first = int(np.argmax(np.isin(grams.hashes, ordered[starts[counts == most]])))
    return most * int(lengths[first])


def duplicate_characters(grams: NGrams, total: int, enough: float) -> int:
    """Characters of n-grams met before, none overlapping; 0 where they are certain to be no more than the
    fraction `enough` of `total`.

    An n-gram met before is counted and passed over whole; any other is remembered, and the next begins at
    its second word.
    """
    ordered = np.sort(grams.hashes)
    copies = ordered[1:][ordered[1:] == ordered[:-1]]
    lengths = grams.lengths
    if len(copies) * int(lengths.max()) / total <= enough:
        return 0
    return _walk(grams.hashes, lengths, copies, grams.n) if len(copies) else 0


def _walk(hashes: Hashes, lengths: Numbers, copies: Hashes, n: int) -> int:
    """From one n-gram of which there are `copies` (sorted) to the next: no other is ever met before."""
    near = np.minimum(np.searchsorted(copies, hashes), len(copies) - 1)
    places = np.flatnonzero(copies[near] == hashes)
    seen: set[int] = set()
    characters, free = 0, 0
    for place, key, length in zip(
        places.tolist(), hashes[places].tolist(), lengths[places].tolist(), strict=True
    ):
        if place < free:
            continue
        if key in seen:
            characters += length
            free = place + n
        else:
            seen.add(key)
    return characters
