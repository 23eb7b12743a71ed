"""The keyed permutation is one, for every size and key, and does not favour any place."""

from itertools import permutations

import numpy as np
import pytest
from numpy.typing import NDArray

from isoflop.data.order import order_key, permute, sample_at

SIZES = [*range(1, 70), 127, 128, 129, 255, 257, 1000, 1023, 1025, 4095, 4096, 4097, 65_537]


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1])
def test_every_value_comes_exactly_once(seed: int) -> None:
    for n in SIZES:
        assert set(permute(np.arange(n), n, order_key("test", seed)).tolist()) == set(range(n)), n


def test_a_part_of_the_order_is_that_part_of_the_whole() -> None:
    key, n = order_key("test", 7), 100_003
    whole = permute(np.arange(n), n, key)
    for index in (0, 1, 999, n - 1):
        assert permute(np.array([index]), n, key).tolist() == [whole[index]]
    assert (permute(np.arange(500, 900).reshape(20, 20), n, key) == whole[500:900].reshape(20, 20)).all()


def test_a_size_beyond_memory_is_permuted_too() -> None:
    n = 2**48 + 1
    index = np.concatenate([np.arange(1000), n - 1 - np.arange(1000)])
    value = permute(index, n, order_key("test", 0))
    assert len(set(value.tolist())) == len(index)
    assert value.min() >= 0
    assert value.max() < n


def _orders(n: int, keys: int) -> NDArray[np.int64]:
    """The permutations of range(n) by `keys` keys (keys, n), all in one call."""
    each = np.stack([order_key("test", seed) for seed in range(keys)], axis=1)
    index = np.broadcast_to(np.arange(n), (keys, n))
    return permute(index, n, np.broadcast_to(each[:, :, None], (len(each), keys, n)))


def test_a_key_for_each_index_is_that_key_alone() -> None:
    orders = _orders(67, keys=20)
    for seed in range(20):
        assert (orders[seed] == permute(np.arange(67), 67, order_key("test", seed))).all()


def test_small_orders_come_about_equally_often() -> None:
    """All 120 orders of five, over 24,000 keys: chi-square with 119 degrees of freedom; 200 is p < 1e-5."""
    seen = dict.fromkeys(permutations(range(5)), 0)
    for order in _orders(5, keys=24_000).tolist():
        seen[tuple(order)] += 1
    assert sum((count - 200) ** 2 / 200 for count in seen.values()) < 200


def test_each_place_gets_every_value_about_equally_often() -> None:
    """Chi-square of (place, value) over keys, for a size whose Feistel domain is much larger."""
    n, keys = 67, 6_700
    counts = np.zeros((n, n))
    for order in _orders(n, keys):
        counts[np.arange(n), order] += 1
    expected = keys / n
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert abs(chi_square / (n - 1) ** 2 - 1) < 0.1  # 66² degrees of freedom: ±0.02 is usual


def test_two_places_get_every_pair_about_equally_often() -> None:
    """Where no value is sent twice (n = 64), pairs would show too few rounds. 64 · 63 cells, 2 % is usual."""
    n, keys = 64, 40_000
    counts = np.zeros((n, n))
    for first, second in _orders(n, keys)[:, :2]:
        counts[first, second] += 1
    expected = keys / (n * (n - 1))
    pairs = counts[~np.eye(n, dtype=bool)]
    assert abs(((pairs - expected) ** 2 / expected).mean() - 1) < 0.1


def test_neighbours_are_not_kept_together() -> None:
    n = 10_000
    order = permute(np.arange(n), n, order_key("test", 3))
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.05
    assert abs(np.corrcoef(np.arange(n), order)[0, 1]) < 0.05


def test_keys_differ_in_each_of_their_parts() -> None:
    keys = [("a", 0, 1), ("a", 1, 0), ("a", 0, 0), ("b", 0, 1), ("a", 0), ("a", 1, 1), ("a", 11)]
    assert len({order_key(*key).tobytes() for key in keys}) == len(keys)


def test_every_epoch_is_a_permutation_of_its_own() -> None:
    n = 50
    walk = sample_at(np.arange(4 * n), n, seed=5, dataset=0, shuffle=True).reshape(4, n)
    assert all(set(epoch) == set(range(n)) for epoch in walk.tolist())
    assert len({tuple(epoch) for epoch in walk.tolist()}) == 4
    other = sample_at(np.arange(4 * n), n, seed=5, dataset=1, shuffle=True).reshape(4, n)
    assert not (other == walk).all(axis=1).any()


def test_without_shuffle_the_walk_is_the_stream() -> None:
    assert sample_at(np.arange(7), 3, seed=5, dataset=0, shuffle=False).tolist() == [0, 1, 2, 0, 1, 2, 0]
