"""Exact duplicates among all documents of all tasks, in three stages of restartable tasks.

    sign    [*reader, *sign_exact(config, hashes)]                 as many tasks as there are pieces
    find    [FindExact(hashes, found, config)]                     `hash_ranges` tasks
    drop    [*reader, DropExact(found, hashes, config)]            the tasks and documents of `sign`

datatrove's ExactDedup has the same stages, but keeps, of the same text in two tasks, the one with the
lower place in its task, whichever task that is; merges with a heap of Python objects; and trusts the order
of its input. Here the first document in order of task and place stays, and hashes have 128 bits.
"""

import contextlib
from array import array
from pathlib import Path

import numpy as np
import xxhash
from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.writers.disk_base import DiskWriter
from numpy.typing import NDArray

from isoflop.config.base import UserError
from isoflop.config.curation.dedup import ExactDedupConfig
from isoflop.curate.dedup.order import CheckOrder, CheckSignatures, RecordOrder, write_whole
from isoflop.curate.dedup.words import segments, word_hashes

HASHED = np.dtype([("high", "<u8"), ("low", "<u8"), ("place", "<u4")])
FOUND = np.dtype([("task", "<u4"), ("place", "<u4"), ("first_task", "<u4"), ("first_place", "<u4")])
"""A duplicate, and the document that stays in its stead."""
SUFFIX = ".hashes"


def sign_exact(config: ExactDedupConfig, folder: Path) -> list[PipelineStep]:
    """Steps that end a pipeline: the hashes of its documents."""
    return [RecordOrder(folder, config.model_dump_json()), HashDocuments(folder, config)]


def key_of(doc: Document, config: ExactDedupConfig) -> bytes | None:
    """What two documents must share to be duplicates; None without an address, or without words."""
    if config.by == "url":
        return str(doc.metadata.get("url") or doc.id or "").encode("utf-8", "surrogatepass") or None
    if config.normalise == "none":
        return doc.text.encode("utf-8", "surrogatepass")
    return b"".join(word_hashes([segment])[0].tobytes() for segment in segments(doc.text)) or None


class HashDocuments(PipelineStep):
    """Writes `range_<r>/<task>.hashes`: the task's hashes in that range, sorted, each with its place."""

    type = "🫂 - DEDUP"
    name = "exact stage 1"

    def __init__(self, folder: Path, config: ExactDedupConfig) -> None:
        super().__init__()
        self.folder = folder
        self.config = config

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> None:
        high, low, places = array("Q"), array("Q"), array("I")
        for place, doc in enumerate(data):
            with self.track_time():
                self.stat_update("total")
                key = key_of(doc, self.config)
                if key is None:
                    self.stat_update("without_key")
                    continue
                both = xxhash.xxh3_128_intdigest(key)
                high.append(both >> 64)
                low.append(both & (2**64 - 1))
                places.append(place)
        hashed = np.empty(len(places), HASHED)
        for name, column in (("high", high), ("low", low), ("place", places)):
            hashed[name] = np.array(column)
        hashed = hashed[np.lexsort((hashed["low"], hashed["high"]))]  # stable: places stay in order
        bounds = [(i << 64) // self.config.hash_ranges for i in range(1, self.config.hash_ranges)]
        cuts = np.searchsorted(hashed["high"], np.array(bounds, np.uint64))
        for number, piece in enumerate(np.split(hashed, cuts)):
            write_whole(self.folder, f"range_{number:05d}/{rank:05d}{SUFFIX}", piece.tobytes())


class FindExact(PipelineStep):
    """Task r: the duplicates in the r-th range of hashes, as `<folder>/<r>.found`, by task and place."""

    type = "🫂 - DEDUP"
    name = "exact stage 2"

    def __init__(self, hashes: Path, folder: Path, config: ExactDedupConfig) -> None:
        super().__init__()
        self.hashes = hashes
        self.folder = folder
        self.config = config
        self.check = CheckSignatures(hashes, config.model_dump_json(), SUFFIX)

    def run(self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1) -> None:
        if world_size != self.config.hash_ranges:
            raise UserError(
                f"hash_ranges={self.config.hash_ranges}: this stage must have as many tasks, not {world_size}"
            )
        self.check.run()
        with self.track_time("range"):
            paths = sorted((self.hashes / f"range_{rank:05d}").iterdir())
            pieces = [np.fromfile(path, HASHED) for path in paths]
            hashed = np.concatenate(pieces)
            tasks = np.repeat(np.arange(len(pieces), dtype=np.uint32), [len(piece) for piece in pieces])
            found = duplicates(hashed, tasks)
            self.stat_update("hashes", value=len(hashed))
            self.stat_update("duplicates", value=len(found))
            write_whole(self.folder, f"{rank:05d}.found", found.tobytes())


def duplicates(hashed: NDArray, tasks: NDArray[np.uint32]) -> NDArray:
    """The documents whose hash an earlier one has, in order; `hashed` is in order of task, hash and place."""
    order = np.lexsort((hashed["low"], hashed["high"]))  # stable: of equal hashes the first document leads
    hashed, tasks = hashed[order], tasks[order]
    same = np.zeros(len(hashed), bool)
    same[1:] = (hashed["high"][1:] == hashed["high"][:-1]) & (hashed["low"][1:] == hashed["low"][:-1])
    leader = np.maximum.accumulate(np.where(same, 0, np.arange(len(hashed))))[same]
    found = np.empty(len(leader), FOUND)
    found["task"], found["place"] = tasks[same], hashed["place"][same]
    found["first_task"], found["first_place"] = tasks[leader], hashed["place"][leader]
    return found[np.lexsort((found["place"], found["task"]))]


class DropExact(PipelineStep):
    """Drops the duplicates that `FindExact` found.

    Raises UserError where the documents are not those that were signed, in their order and tasks.
    """

    type = "🔻 - FILTER"

    def __init__(
        self, found: Path, hashes: Path, config: ExactDedupConfig, exclusion_writer: DiskWriter | None = None
    ) -> None:
        self.name = f"exact {config.by}"
        super().__init__()
        self.found = found
        self.config = config
        self.check = CheckOrder(hashes, config.model_dump_json())
        self.exclusion_writer = exclusion_writer

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        places = self._places(rank)
        with self.exclusion_writer or contextlib.nullcontext() as writer:
            for place, doc in enumerate(self.check.run(data, rank, world_size)):
                self.stat_update("total")
                if place in places:
                    self.stat_update("dropped", f"dropped_same_{self.config.by}")
                    if writer is not None:
                        writer.write(doc, rank)
                    continue
                self.stat_update("forwarded")
                self.update_doc_stats(doc)
                yield doc

    def _places(self, rank: int) -> set[int]:
        """Of the duplicates in this task; only its part of each file is read."""
        places: set[int] = set()
        for number in range(self.config.hash_ranges):
            path = self.found / f"{number:05d}.found"
            if not path.is_file():
                raise UserError(f"{path}: is missing; run the stage that finds duplicates to its end")
            if path.stat().st_size:
                found = np.memmap(path, FOUND, "r")
                start, end = np.searchsorted(found["task"], [rank, rank + 1])
                places.update(found["place"][start:end].tolist())
        return places
