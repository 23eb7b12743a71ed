"""Shares are exact over blocks, each dataset's walk has no gap, and any position is found at once."""

import numpy as np
import pytest

from isoflop.data.mixture import BLOCK, Mixture, block_counts

WEIGHTS = [[1.0], [0.5, 0.5], [0.7, 0.2, 0.1], [3, 1, 1], [1 / 3, 1 / 3, 1 / 3], [1000, 1], [0.1] * 7]


@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
def test_shares_are_exact_over_blocks_and_walks_are_consecutive(weights: list[float]) -> None:
    n_blocks = 3
    dataset, index = Mixture(weights, seed=1).locate(np.arange(n_blocks * BLOCK))
    exact = np.array(weights) / sum(weights) * BLOCK
    for block in dataset.reshape(n_blocks, BLOCK):
        counts = np.bincount(block, minlength=len(weights))
        assert counts.tolist() == block_counts(weights).tolist()
        assert (abs(counts - exact) < 1).all()
    for number in range(len(weights)):
        walk = index[dataset == number]
        assert walk.tolist() == list(range(len(walk)))


def test_largest_remainders_get_the_places_left() -> None:
    shares = np.array([10.2, 20.7, 30.6, BLOCK - 61.5])  # floors leave two places; .7 and .6 are the largest
    assert block_counts(shares.tolist()).tolist() == [10, 21, 31, BLOCK - 62]


def test_a_position_far_away_is_found_as_by_walking() -> None:
    mixture = Mixture([0.7, 0.2, 0.1], seed=3)
    dataset, index = mixture.locate(np.arange(20 * BLOCK))
    for start in (0, BLOCK - 5, 7 * BLOCK + 123, 19 * BLOCK):
        d, i = Mixture([0.7, 0.2, 0.1], seed=3).locate(np.arange(start, start + 300))
        assert (d == dataset[start : start + 300]).all()
        assert (i == index[start : start + 300]).all()


def test_blocks_and_seeds_interleave_differently_and_evenly() -> None:
    patterns = [
        Mixture([0.5, 0.5], seed).locate(np.arange(2 * BLOCK))[0].reshape(2, BLOCK) for seed in (0, 1)
    ]
    rows = [row for pattern in patterns for row in pattern]
    for one in range(len(rows)):
        for other in range(one):
            assert abs((rows[one] == rows[other]).mean() - 0.5) < 0.05
    eighths = rows[0].reshape(8, -1).mean(axis=1)
    assert (abs(eighths - 0.5) < 0.1).all()  # not one dataset after the other


def test_one_dataset_is_walked_in_order() -> None:
    dataset, index = Mixture([2.5], seed=0).locate(np.arange(BLOCK - 10, BLOCK + 10))
    assert set(dataset.tolist()) == {0}
    assert index.tolist() == list(range(BLOCK - 10, BLOCK + 10))
