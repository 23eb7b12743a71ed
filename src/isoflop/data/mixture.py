"""Weighted mixtures: which dataset, and which place in its own walk, stands at a position of the run.

Positions are cut into blocks of 4,096. In each block a dataset has the same number of places, its weight
times 4,096 rounded by largest remainders (Hamilton's method), so a share is exact to 1/4096 of the
whole over any whole number of blocks; which places they are differs from block to block. A dataset's own
walk goes on without gap or repeat over the blocks, so it is seen once per its own epoch whatever its weight.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from isoflop.data.order import order_key, permute

BLOCK = 4096


def block_counts(weights: Sequence[float]) -> NDArray[np.int64]:
    """Places of each dataset in a block (datasets,): BLOCK in all, each within 1 of its exact share."""
    shares = np.asarray(weights, dtype=np.float64) / sum(weights) * BLOCK
    counts = np.floor(shares).astype(np.int64)
    largest_remainders = np.argsort(counts - shares, kind="stable")
    counts[largest_remainders[: BLOCK - counts.sum()]] += 1
    return counts


class Mixture:
    """The endless interleaving of datasets with these `weights`; a pure function of them and of `seed`."""

    def __init__(self, weights: Sequence[float], seed: int) -> None:
        self.counts = block_counts(weights)
        self._block = lru_cache(maxsize=64)(lambda block: interleave(self.counts, seed, block))

    def locate(self, positions: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The dataset at each of `positions` (m,), and the place in that dataset's own walk: (m,), (m,)."""
        blocks, places = np.divmod(positions, BLOCK)
        dataset, index = np.empty_like(positions), np.empty_like(positions)
        for block in np.unique(blocks):
            here = blocks == block
            datasets, nth = self._block(int(block))
            dataset[here] = datasets[places[here]]
            index[here] = block * self.counts[dataset[here]] + nth[places[here]]
        return dataset, index


def interleave(
    counts: NDArray[np.int64], seed: int, block: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """One block: the dataset at each place, and how many of its places stand before: (BLOCK,) both."""
    places = permute(np.arange(BLOCK), BLOCK, order_key("mixture", seed, block))
    datasets = np.repeat(np.arange(len(counts)), counts)[places]
    nth = np.empty_like(datasets)
    for dataset, count in enumerate(counts):
        nth[datasets == dataset] = np.arange(count)
    return datasets, nth
