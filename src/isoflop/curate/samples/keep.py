"""Documents kept aside while a stage runs: a few of each reason, for a person to look at.

Of each reason those are kept whose ids hash lowest: the same ones whatever the tasks and their order
are, and in two curations of the same documents the same, so that they can be compared.
"""

from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

from isoflop.config.curation.samples import SamplesConfig
from isoflop.curate.samples.lowest import Lowest
from isoflop.data.aside import ENDING, Kind, Sample, id_hash, write_records

MOST_REASONS = 256  # of one step; one that makes up reasons without end must not fill the memory
OTHER = "(other reasons)"
METADATA_CHARACTERS = 200
IDS = "ids"
TOLD_ELSEWHERE = ("url", "filter_reason", "filter_step")  # as fields of their own


class KeepAside:
    """A look at the documents that a step drops, by reason. datatrove's filters take it as exclusion writer.

    At the task's end they stand in `<folder>/<kind>/<step>/<rank>.jsonl.zst`; a task that fails leaves
    none. In memory are at most `config.per_reason` (of failed ones `config.failed`) documents a reason.
    """

    def __init__(self, folder: Path, step: str, config: SamplesConfig, kind: Kind = "dropped") -> None:
        self.folder, self.step, self.kind = folder, step, kind
        self.characters = config.characters
        self.size = config.failed if kind == "failed" else config.per_reason
        self._begin()

    def _begin(self) -> None:
        self._lowest, self._rank = Lowest(self.size), 0

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        if failure is None:
            self.close()

    def write(self, document: Document, rank: int = 0) -> None:
        """Offer a document; its reason is its metadata's `filter_reason`, where datatrove's filters put it.

        A step that gives none is its own reason, as it is in the drop table. A step that only carries out
        what another has decided names it as `filter_step`.
        """
        reason = "" if self.kind == "kept" else str(document.metadata.get("filter_reason") or self.step)
        self._offer(document.id, reason, document.text, document.metadata, rank)

    def write_failed(self, name: str, reason: str, body: bytes | str, rank: int = 0) -> None:
        """Offer what could not become a document: its name, the reason, and the bytes or text it was."""
        self._offer(name, reason, body, {}, rank)

    def _offer(self, name: str, reason: str, body: bytes | str, metadata: dict[str, Any], rank: int) -> None:
        self._rank = rank
        if reason not in self._lowest and len(self._lowest) >= MOST_REASONS:
            reason = OTHER
        place = id_hash(name)
        if not self._lowest.wants(reason, place):
            return
        start = body[: self.characters]
        sample = Sample(
            step=metadata.get("filter_step", self.step),
            reason=reason,
            id=name,
            url=metadata.get("url"),
            text=start.decode("utf-8", "backslashreplace") if isinstance(start, bytes) else start,
            characters=len(body),
            metadata=dict(_told(metadata)),
        )
        self._lowest.add(reason, place, sample)

    def close(self) -> None:
        """Write what was kept, whole or not at all."""
        samples = [sample for reason in self._lowest.groups for sample in self._lowest.records(reason)]
        if samples:
            folder = self.folder / self.kind / self.step.replace("/", "-")
            write_records(folder / f"{self._rank:05d}{ENDING}", samples)
        self._begin()


class Together:
    """Several exclusion writers as one."""

    def __init__(self, *writers: Any) -> None:
        self.writers = writers

    def __enter__(self) -> Self:
        for writer in self.writers:
            writer.__enter__()
        return self

    def __exit__(self, *failure: Any) -> None:
        for writer in self.writers:
            writer.__exit__(*failure)

    def write(self, document: Document, rank: int = 0) -> None:
        for writer in self.writers:
            writer.write(document, rank)


class NoteKept(PipelineStep):
    """Stands behind the last filter: samples what passes, and notes every id. Drops and changes nothing.

    An id costs 8 bytes, in the task's memory and then on disk.
    """

    type = "📝 - NOTES"
    name = "kept"

    def __init__(self, folder: Path, config: SamplesConfig) -> None:
        super().__init__()
        self.folder = folder
        self.samples = KeepAside(folder, "kept", config, "kept")

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        ids = array("Q")
        with self.samples:
            for document in data:
                ids.append(id_hash(document.id))
                self.samples.write(document, rank)
                yield document
        path = self.folder / IDS / f"{rank:05d}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        with partial.open("wb") as file:
            np.save(file, np.array(ids, dtype="<u8"))
        partial.replace(path)


def _told(metadata: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Numbers and short words of a document's metadata, but for what has a place of its own."""
    for key, value in metadata.items():
        short = isinstance(value, str) and len(value) <= METADATA_CHARACTERS
        if key not in TOLD_ELSEWHERE and (short or isinstance(value, bool | int | float)):
            yield key, value
