"""Clusters are the connected components of the pairs, in datatrove's files, and the first document stays."""

import json
from pathlib import Path

import numpy as np
import pytest
from datatrove.pipeline.dedup import MinhashDedupCluster
from datatrove.pipeline.dedup.minhash import MinhashConfig as DatatroveMinhash

from isoflop.config.base import UserError
from isoflop.curate.dedup.cluster import ClusterPairs, components

Pair = tuple[int, int, int, int]
INDEX = 2**32 - 1


def random_pairs(seed: int, pairs: int, places: int) -> list[Pair]:
    """Between documents of three tasks."""
    draw = np.random.default_rng(seed)
    rows = np.stack([draw.integers(0, high, pairs) for high in (3, places, 3, places)], axis=1)
    return [tuple(row) for row in rows.tolist() if row[:2] != row[2:]]


def write_pairs(folder: Path, pairs: list[Pair], buckets: int = 2) -> Path:
    folder.mkdir()
    for bucket in range(buckets):
        rows = np.array(pairs[bucket::buckets], "<u4").reshape(-1, 4)
        (folder / f"{bucket:05d}_00.dups").write_bytes(rows.tobytes())
    return folder


def spread(pairs: list[Pair]) -> dict[tuple[int, int], tuple[int, int]]:
    """Each document's first one in its cluster, by spreading it until nothing changes."""
    first = {node: node for a, b, c, d in pairs for node in ((a, b), (c, d))}
    changed = True
    while changed:
        changed = False
        for a, b, c, d in pairs:
            low = min(first[a, b], first[c, d])
            changed |= first[a, b] != low or first[c, d] != low
            first[a, b] = first[c, d] = low
    return first


def read(path: Path, columns: int) -> list[tuple[int, ...]]:
    return [tuple(row) for row in np.fromfile(path, "<u4").reshape(-1, columns).tolist()]


@pytest.mark.parametrize(("pairs", "places"), [(40, 60), (300, 200), (0, 1), (500, 20)])
def test_all_but_the_first_of_each_component_go(pairs: int, places: int, tmp_path: Path) -> None:
    """Sparse, near one giant cluster, none at all, and one of all; cluster ids and sizes are datatrove's."""
    edges = random_pairs(1, pairs, places)
    matches = write_pairs(tmp_path / "matches", edges)
    ClusterPairs(matches, tmp_path / "ours", 2).run()
    stock = DatatroveMinhash(num_buckets=2)
    MinhashDedupCluster(str(matches), str(tmp_path / "stock"), stock, True, True).run(None, 0, 1)

    first = spread(edges)
    gone = sorted(node for node, leader in first.items() if node != leader)
    found = [(t, place) for t in range(3) for (place,) in read_if(tmp_path / f"ours/{t:06d}.remove", 1)]
    assert found == gone
    for path in (tmp_path / "stock").glob("*.[cs]*"):
        assert (tmp_path / "ours" / path.name).read_bytes() == path.read_bytes()
    summary = json.loads((tmp_path / "ours/clusters.json").read_text())
    assert summary["to_remove"] == len(gone)
    assert (summary["documents"], summary["clusters"]) == (len(first), len(set(first.values())))
    assert sum(int(size) * n for size, n in summary["sizes"].items()) == len(first)


def read_if(path: Path, columns: int) -> list[tuple[int, ...]]:
    return read(path, columns) if path.is_file() else []


def test_long_chains_are_one_cluster() -> None:
    """A path in a random order, the hardest case for hooking by minima."""
    n = 5000
    order = np.random.default_rng(0).permutation(n).astype(np.uint64)
    nodes, clusters = components(np.stack([order[:-1], order[1:]], axis=1))
    assert nodes.tolist() == list(range(n))
    assert not clusters.any()


def test_what_an_index_knows_goes_altogether(tmp_path: Path) -> None:
    """Documents that match earlier data, and those that hang together with them; others keep their first."""
    pairs = [(INDEX, INDEX, 0, 4), (0, 4, 1, 2), (1, 7, 1, 8), (INDEX, INDEX, 2, 0)]
    ClusterPairs(write_pairs(tmp_path / "matches", pairs), tmp_path / "ours", 2).run()
    left = {path.name: read(path, 1) for path in (tmp_path / "ours").glob("*.remove")}
    assert left == {"000000.remove": [(4,)], "000001.remove": [(2,), (8,)], "000002.remove": [(0,)]}


def test_what_another_attempt_left_is_gone(tmp_path: Path) -> None:
    """A task without duplicates has no list of them; a torn file of pairs is refused."""
    matches = write_pairs(tmp_path / "matches", [(0, 1, 0, 2)])
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours/000005.remove").write_bytes(b"\0" * 4)
    ClusterPairs(matches, tmp_path / "ours", 2).run()
    assert not (tmp_path / "ours/000005.remove").exists()
    with (matches / "00001_00.dups").open("ab") as file:
        file.write(b"torn")
    with pytest.raises(UserError, match=r"00001_00\.dups: is cut short"):
        ClusterPairs(matches, tmp_path / "ours", 2).run()
