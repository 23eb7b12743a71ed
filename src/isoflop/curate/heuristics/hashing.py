"""64-bit polynomial hashes of words, by which a row of words is hashed as the text that it makes.

H(s) = Σ mix(sₖ)·B^(len(s)-1-k) mod 2⁶⁴, so H(ab) = H(a)·B^len(b) + H(b): two rows have one hash when
their joined texts are equal, however they are cut into words. Distinct texts share a hash with a
probability near 2⁻⁶⁴; a text made to collide (Thue-Morse words) could, and would be judged too repetitive.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, as every base must be here: 2⁶⁴ divided by the golden ratio
SPACE = ord(" ")


def mix(points: NDArray[np.uint64]) -> Hashes:
    """Code points spread over 64 bits (the finalizer of SplitMix64, Steele et al. 2014)."""
    mixed = points + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def powers(count: int) -> Hashes:
    """B⁰ … B^(count-1) mod 2⁶⁴."""
    factors = np.full(count, BASE, dtype=np.uint64)
    factors[:1] = 1
    return np.multiply.accumulate(factors)


def word_hashes(words: Sequence[str], lengths: NDArray[np.int64]) -> tuple[Hashes, Hashes]:
    """H(word) and B^len(word) of words of at least one character each."""
    points = np.frombuffer("".join(words).encode("utf-32-le", "surrogatepass"), dtype="<u4")
    ends = np.cumsum(lengths)
    table = powers(int(lengths.max()) + 1)
    from_end = np.repeat(ends, lengths) - np.arange(1, len(points) + 1)
    terms = mix(points.astype(np.uint64)) * table[from_end]
    return np.add.reduceat(terms, ends - lengths), table[lengths]


def spaced(hashes: Hashes, shifts: Hashes) -> tuple[Hashes, Hashes]:
    """The same for " " + word."""
    return hashes + mix(np.array([SPACE], dtype=np.uint64)) * shifts, shifts * BASE
