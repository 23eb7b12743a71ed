"""The order of samples as a pure function of a key: no list is shuffled or kept, any place is found at once.

A keyed Feistel network (Luby and Rackoff 1988) permutes the numbers below a power of four that is at least
n; values that fall outside range(n) are sent through it again until they fall inside. That is encryption
on an arbitrary domain by cycle walking (Black and Rogaway 2002): what is left is a permutation of range(n).
"""

import hashlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

ROUNDS = 8  # one uint64 of a 64-byte digest each
LEAST_HALF_BITS = 3  # below 64 numbers, eight rounds do not reach all orders equally often


@lru_cache(maxsize=1024)
def order_key(purpose: str, *numbers: int) -> NDArray[np.uint64]:
    """Round keys (ROUNDS,) for `purpose` and `numbers`, by BLAKE2b; others give unrelated keys."""
    text = "/".join([purpose, *map(str, numbers)])
    return np.frombuffer(hashlib.blake2b(text.encode(), digest_size=8 * ROUNDS).digest(), dtype="<u8")


def permute(index: NDArray[np.int64], n: int, key: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Where the permutation of range(n) that `key` chooses sends each `index` in range(n), any shape.

    `key` is (ROUNDS,), or (ROUNDS, *index.shape) where each index has a permutation of its own. Time and
    memory grow with `index`, not with n: above n = 16 a value stays outside with probability 3/4 at most.
    """
    half_bits = max(LEAST_HALF_BITS, ((n - 1).bit_length() + 1) // 2)
    value = _feistel(index.astype(np.uint64), half_bits, key)
    while (outside := value >= np.uint64(n)).any():
        value = np.where(outside, _feistel(value, half_bits, key), value)
    return value.astype(np.int64)


def sample_at(index: NDArray[np.int64], n: int, seed: int, dataset: int, shuffle: bool) -> NDArray[np.int64]:
    """Which of the `n` samples of dataset number `dataset` its endless walk has at each `index`, any shape.

    Every epoch of n samples is a permutation of its own; without `shuffle`, the order of the stream.
    """
    epoch, within = np.divmod(index, n)
    if not shuffle:
        return within
    epochs, which = np.unique(epoch, return_inverse=True)
    keys = [order_key("samples", seed, one, dataset) for one in epochs.tolist()]
    return permute(within, n, np.stack(keys, axis=1)[:, which]) if keys else within


def _feistel(value: NDArray[np.uint64], half_bits: int, key: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A permutation of range(4 ** half_bits): each round is undone by itself, whatever `_mix` is."""
    shift, mask = np.uint64(half_bits), np.uint64((1 << half_bits) - 1)
    left, right = value >> shift, value & mask
    for round_key in key:
        left, right = right, left ^ (_mix(right + round_key) & mask)
    return (left << shift) | right


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finalizer (Steele, Lea and Flood 2014): every bit of the input reaches every bit."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
