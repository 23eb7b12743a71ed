"""HTML to text, as datatrove extractors in a sandbox that has no clock.

datatrove's sandbox gives a page a second of wall time, which makes the result depend on how busy the
machine is. Ours limits the CPU time, to what no ordinary page comes near.
"""

import contextlib
from typing import Any

from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.extractors.base import BaseExtractor
from datatrove.pipeline.extractors.trafilatura import Trafilatura
from datatrove.utils.typeshelper import StatHints
from resiliparse.extract.html2text import extract_plain_text

from isoflop.curate.input.sandbox import CPU_SECONDS, CallError, Sandbox


class _Guarded(BaseExtractor):
    """Extracts where the document is HTML; text passes as it is.

    Reasons: extractor_failed, extractor_crashed, extractor_too_slow, no_text. `exclusion_writer` is
    offered the documents without text, `failed_writer` the pages on which the extractor failed.
    """

    name = "extract"
    cpu_seconds = CPU_SECONDS  # for one page
    exclusion_writer: Any = None
    failed_writer: Any = None

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        with (
            Sandbox(self.extract, self.cpu_seconds) as extract,
            self.exclusion_writer or contextlib.nullcontext(),
            self.failed_writer or contextlib.nullcontext(),
        ):
            for doc in data:
                self.stat_update(StatHints.total)
                if doc.metadata.get("kind") == "html":
                    html = doc.text
                    with self.track_time():
                        try:
                            doc.text = (extract(html) or "").strip()
                        except CallError as failure:
                            self._failed(doc, failure, rank)
                            continue
                if not doc.text:
                    self.stat_update(StatHints.dropped, "dropped_no_text")
                    if self.exclusion_writer:
                        doc.metadata["filter_reason"] = "no_text"
                        self.exclusion_writer.write(doc, rank)
                    continue
                self.stat_update(StatHints.forwarded)
                self.update_doc_stats(doc)
                yield doc

    def _failed(self, doc: Document, failure: CallError, rank: int) -> None:
        reason = f"extractor_{failure.reason}"
        self.stat_update(StatHints.dropped, f"dropped_{reason}")
        if self.failed_writer:
            self.failed_writer.write_failed(doc.id, reason, doc.text, rank)


class Resiliparse(_Guarded):
    """Main content by resiliparse (Bevendorff et al. 2021), as DataComp-LM extracts (Li et al. 2024)."""

    def __init__(self) -> None:
        super().__init__()

    def extract(self, text: str) -> str:
        return str(extract_plain_text(text, preserve_formatting=True, main_content=True))


class GuardedTrafilatura(_Guarded, Trafilatura):
    """Main content by trafilatura (Barbaresi 2021), with FineWeb's settings.

    Its memory of repeated passages begins anew with each task, so that a task's result is its own.
    """

    name = "extract"

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        from trafilatura.meta import reset_caches

        reset_caches()  # before the sandbox, which begins with what this process remembers
        yield from super().run(data, rank, world_size)


EXTRACTORS = {"resiliparse": Resiliparse, "trafilatura": GuardedTrafilatura}
