"""A Bloom filter that grows: a set of 64-bit numbers, in bits, that never denies what it was given."""

import math

import numpy as np
from numpy.typing import NDArray

from isoflop.curate.dedup.words import Hashes, mix

AT_ONCE = 1 << 16  # numbers looked up at a time: bounds the memory that their bits' addresses take


class BloomFilter:
    """Layers of bits (Bloom 1970); a full one is followed by one twice its size (Almeida et al. 2007).

    Layer i wrongly knows a number with probability `false_positives` / 2^(i+1) at most, so all of them
    together with less than `false_positives`. `capacity` is the number of numbers in the first layer.
    """

    def __init__(self, capacity: int, false_positives: float) -> None:
        self._layers = [_Layer(capacity, false_positives / 2)]

    def has(self, x: Hashes) -> NDArray[np.bool_]:
        """Which of `x` were added; of those that were not, a few are taken for such too."""
        known = np.zeros(len(x), bool)
        for layer in self._layers:
            for first in range(0, len(x), AT_ONCE):
                here = slice(first, first + AT_ONCE)
                known[here] |= layer.has(x[here])
        return known

    def add(self, x: Hashes) -> None:
        """Add numbers; those that it has cost no room."""
        new = np.unique(x[~self.has(x)])
        while len(new):
            layer = self._layers[-1]
            fits = new[: layer.room]
            for first in range(0, len(fits), AT_ONCE):
                layer.add(fits[first : first + AT_ONCE])
            new = new[len(fits) :]
            if layer.room == 0:
                self._layers.append(_Layer(2 * layer.capacity, layer.false_positives / 2))

    @property
    def memory_bytes(self) -> int:
        """Of the bits."""
        return sum(layer.bits.nbytes for layer in self._layers)


class _Layer:
    """`n_hashes` bits of `size` for each number; both follow from how many may be wrongly known.

    With k hashes, n numbers in m bits are wrong with (1 - e^(-kn/m))^k; k = log2(1/p) needs the least m.
    """

    def __init__(self, capacity: int, false_positives: float) -> None:
        self.capacity = self.room = capacity
        self.false_positives = false_positives
        self.n_hashes = math.ceil(-math.log2(false_positives))
        per_number = -self.n_hashes / math.log1p(-(false_positives ** (1 / self.n_hashes)))
        self.bits = np.zeros(math.ceil(per_number * capacity / 8), np.uint8)
        self._size = np.uint64(8 * len(self.bits))

    def _addresses(self, x: Hashes) -> tuple[NDArray[np.intp], NDArray[np.uint8]]:
        """Byte and bit (number, hash) of each: h1 + i·h2 (Kirsch and Mitzenmacher 2006)."""
        times = np.arange(self.n_hashes, dtype=np.uint64)
        where = (mix(x)[:, None] + times * (mix(~x) | np.uint64(1))[:, None]) % self._size
        bit = np.left_shift(np.uint8(1), (where & np.uint64(7)).astype(np.uint8))
        return (where >> np.uint64(3)).astype(np.intp), bit

    def has(self, x: Hashes) -> NDArray[np.bool_]:
        where, bit = self._addresses(x)
        return ((self.bits[where] & bit) != 0).all(axis=1)

    def add(self, x: Hashes) -> None:
        np.bitwise_or.at(self.bits, *self._addresses(x))
        self.room -= len(x)
