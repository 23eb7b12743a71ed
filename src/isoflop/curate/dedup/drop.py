"""The last stage of MinHash: all of a cluster but its first document go."""

from pathlib import Path

from datatrove.data import DocumentsPipeline
from datatrove.pipeline.dedup import MinhashDedupFilter
from datatrove.pipeline.writers.disk_base import DiskWriter

from isoflop.config.base import UserError
from isoflop.curate.dedup.cluster import SUMMARY
from isoflop.curate.dedup.order import CheckOrder

REASON = "near_duplicate"


class DropNearDuplicates(MinhashDedupFilter):
    """datatrove's filter, where the documents are those that were signed, in the same order.

    `duplicates` is what `ClusterPairs` wrote, `signatures` the folder where the documents' order is
    recorded. A document of a cluster is given `minhash_cluster_id` and `minhash_cluster_size`. Raises
    UserError where either folder is not whole, or speaks of other documents: datatrove takes a file that
    is missing for one that names no duplicate.
    """

    def __init__(
        self, duplicates: Path, signatures: Path, settings: str, exclusion_writer: DiskWriter | None = None
    ) -> None:
        super().__init__(str(duplicates), exclusion_writer, load_cluster_ids=True, load_cluster_sizes=True)
        self.duplicates = duplicates
        self.check = CheckOrder(signatures, settings)

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        if not (self.duplicates / SUMMARY).is_file():
            raise UserError(f"{self.duplicates}: holds no clusters; run the stage that finds them to its end")
        remove = self.duplicates / f"{rank:06d}.remove"
        dropped = remove.stat().st_size // 4 if remove.is_file() else 0
        for doc in super().run(_with_reason(self.check.run(data, rank, world_size)), rank, world_size):
            del doc.metadata["filter_reason"]
            yield doc
        self.stat_update(f"dropped_{REASON}", value=dropped)


def _with_reason(documents: DocumentsPipeline) -> DocumentsPipeline:
    """What is said of a document if it is dropped; datatrove's filter says nothing."""
    for doc in documents:
        doc.metadata["filter_reason"] = REASON
        yield doc
