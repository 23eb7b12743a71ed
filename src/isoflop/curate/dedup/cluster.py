"""The cluster stage of MinHash: which documents hang together by pairs, and which one of them stays.

The files are datatrove's (`MinhashDedupCluster`), with two differences. The document that stays is the
first of its cluster, in order of task and place; datatrove keeps the root of its union-find, which
depends on the order of the pairs. And the work is done on arrays, in a fraction of the time.
"""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from numpy.typing import NDArray

from isoflop.config.base import UserError
from isoflop.curate.dedup.order import write_whole

Nodes = NDArray[np.uint64]
INDEXED = np.uint64(2**64 - 1)  # datatrove's mark for a match with an index of earlier data
SUMMARY = "clusters.json"


class ClusterPairs(PipelineStep):
    """Reads `<matches>/*.dups`; writes, for each task that has a document in a cluster, in `folder`

    `<rank>.remove` (place), `<rank>.clusters` (place, cluster) and `<rank>.sizes` (place, documents in
    the cluster), all uint32, sorted by place; and `clusters.json` last. One task.
    """

    type = "🫂 - DEDUP"
    name = "🎯 MinHash stage 3"

    def __init__(self, matches: Path, folder: Path, num_buckets: int) -> None:
        super().__init__()
        self.matches = matches
        self.folder = folder
        self.num_buckets = num_buckets

    def run(self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1) -> None:
        files = sorted(self.matches.glob("*.dups"))
        if not files or len(files) % self.num_buckets:
            raise UserError(
                f"{self.matches}: {len(files)} files of pairs for {self.num_buckets} buckets; "
                "run the stage that writes them to its end"
            )
        if self.folder.is_dir():  # of an attempt that was cut short
            for path in self.folder.glob("[0-9]*.*"):
                path.unlink()
        with self.track_time("cluster"):
            pairs = [_read_pairs(path) for path in files]
            nodes, clusters = components(np.concatenate(pairs))
            self._write(nodes, clusters)

    def _write(self, nodes: Nodes, clusters: NDArray[np.int64]) -> None:
        sizes = np.bincount(clusters)
        stays = np.zeros(len(nodes), bool)
        stays[np.unique(clusters, return_index=True)[1]] = True
        indexed = nodes == INDEXED
        if indexed.any():  # all that hangs together with earlier data goes
            stays &= clusters != clusters[indexed][0]
        ranks, places = (nodes >> np.uint64(32)).astype(np.int64), nodes.astype(np.uint32)
        bounds = np.flatnonzero(np.diff(ranks, prepend=-1, append=-1))
        for start, end in pairwise(bounds):
            if nodes[start] == INDEXED:
                continue
            here, stem = slice(start, end), f"{ranks[start]:06d}"
            columns = {
                "remove": places[here][~stays[here]],
                "clusters": np.stack([places[here], clusters[here]], axis=1),
                "sizes": np.stack([places[here], sizes[clusters[here]]], axis=1),
            }
            for kind, column in columns.items():
                write_whole(self.folder, f"{stem}.{kind}", column.astype("<u4").tobytes())
        documents = int((~indexed).sum())
        found = {
            "documents": documents,
            "clusters": len(sizes),
            "to_remove": documents - int(stays.sum()),
            "sizes": {int(s): int(n) for s, n in zip(*np.unique(sizes, return_counts=True), strict=True)},
        }
        write_whole(self.folder, SUMMARY, json.dumps(found).encode())
        self.stat_update("duplicates", value=documents)
        self.stat_update("clusters", value=len(sizes))
        self.stat_update("to_remove", value=found["to_remove"])


def _read_pairs(path: Path) -> Nodes:
    """Pairs (pair, 2) of documents, each as task · 2^32 + place."""
    if path.stat().st_size % 16:
        raise UserError(f"{path}: is cut short; run the stage that writes it again")
    quads = np.fromfile(path, "<u4").astype(np.uint64).reshape(-1, 4)
    return (quads[:, ::2] << np.uint64(32)) | quads[:, 1::2]


def components(pairs: Nodes) -> tuple[Nodes, NDArray[np.int64]]:
    """The nodes in order, and the cluster of each; clusters are numbered by their first nodes.

    Each round hooks the root of every edge's larger end to the smaller, and then halves all paths to
    the roots (Shiloach and Vishkin 1982, by minima: the root of a cluster is its first node).
    """
    nodes, ends = np.unique(pairs, return_inverse=True)
    ends = ends.reshape(-1, 2)
    root = np.arange(len(nodes))
    while len(ends):
        a, b = root[ends[:, 0]], root[ends[:, 1]]
        apart = a != b
        ends, a, b = ends[apart], a[apart], b[apart]
        np.minimum.at(root, np.maximum(a, b), np.minimum(a, b))
        while True:
            above = root[root]
            if np.array_equal(above, root):
                break
            root = above
    return nodes, np.unique(root, return_inverse=True)[1].astype(np.int64)
