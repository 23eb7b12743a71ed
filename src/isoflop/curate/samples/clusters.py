"""A look at clusters of near-duplicates, from what datatrove's MinHash filter notes in the documents.

The filter must be told to note it: `load_cluster_ids` and `load_cluster_sizes`, and `MinhashDedupCluster`
to save both. Clusters are chosen by a hash of their number, so all tasks choose the same ones.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self, cast

from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

from isoflop.config.curation.samples import SamplesConfig
from isoflop.curate.samples.lowest import Lowest
from isoflop.data.aside import CLUSTERS, ENDING, Cluster, Member, id_hash, write_records

CLUSTER_ID = "minhash_cluster_id"  # datatrove's; -1: of no cluster
CLUSTER_SIZE = "minhash_cluster_size"


class SomeClusters:
    """The `config.clusters` clusters whose numbers hash lowest, of each up to `config.cluster_members`."""

    def __init__(self, config: SamplesConfig) -> None:
        self.most = config.clusters
        self._members = Lowest(config.cluster_members)
        self._sizes: dict[int, int] = {}
        self._places: dict[int, int] = {}

    def add(self, cluster: int, size: int, member: Member) -> None:
        if not self.most:
            return
        if cluster not in self._places:
            place = id_hash(str(cluster))
            if len(self._places) >= self.most:
                # One that has gone never comes back: the highest place can only become lower.
                last = max(self._places, key=lambda number: self._places[number])
                if place > self._places[last]:
                    return
                self._members.forget(last)
                del self._places[last], self._sizes[last]
            self._places[cluster] = place
        self._sizes[cluster] = max(size, self._sizes.get(cluster, 0))
        # The kept one is always shown, and first.
        self._members.add(cluster, -1 if member["kept"] else id_hash(member["id"]), member)

    def records(self) -> list[Cluster]:
        """Largest first."""
        order = sorted(self._sizes, key=lambda cluster: (-self._sizes[cluster], cluster))
        return [
            Cluster(cluster=number, size=self._sizes[number], members=self._members.records(number))
            for number in order
        ]


class KeepClusters:
    """An exclusion writer for the MinHash filter: what it drops, by cluster."""

    kept = False

    def __init__(self, folder: Path, config: SamplesConfig) -> None:
        self.folder, self.config = folder, config
        self._begin()

    def _begin(self) -> None:
        self._clusters, self._rank = SomeClusters(self.config), 0

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        records = self._clusters.records()
        if failure is None and records:
            which = "kept" if self.kept else "dropped"
            write_records(self.folder / CLUSTERS / which / f"{self._rank:05d}{ENDING}", records)
        self._begin()

    def write(self, document: Document, rank: int = 0) -> None:
        """Offer a document; one of no cluster is passed over."""
        self._rank = rank
        cluster = document.metadata.get(CLUSTER_ID, -1)
        if cluster >= 0 and self.config.clusters:
            member = Member(
                id=document.id,
                url=document.metadata.get("url"),
                text=document.text[: self.config.characters],
                kept=self.kept,
            )
            self._clusters.add(cluster, document.metadata.get(CLUSTER_SIZE, 0), member)


class NoteClusters(PipelineStep):
    """Stands right behind the MinHash filter: of each cluster, the document that stays."""

    type = "📝 - NOTES"
    name = "clusters"

    def __init__(self, folder: Path, config: SamplesConfig) -> None:
        super().__init__()
        self.kept = KeepClusters(folder, config)
        self.kept.kept = True

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        with self.kept:
            for document in data:
                self.kept.write(document, rank)
                yield document


def join_clusters(records: Iterable[Mapping[str, Any]], config: SamplesConfig) -> list[Cluster]:
    """The tasks' clusters as those of the whole."""
    joined = SomeClusters(config)
    for record in records:
        for member in record["members"]:
            joined.add(record["cluster"], record["size"], cast(Member, member))
    return joined.records()
