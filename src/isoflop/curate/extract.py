"""HTML to text, as datatrove extractors that run in the task's own process.

datatrove puts each extraction in a sandbox with a clock. A clock makes the result depend on how busy
the machine is, and the sandbox costs more than resiliparse itself.
"""

from datatrove.data import DocumentsPipeline
from datatrove.pipeline.extractors.base import BaseExtractor
from datatrove.pipeline.extractors.trafilatura import Trafilatura
from datatrove.utils.typeshelper import StatHints
from resiliparse.extract.html2text import extract_plain_text


class _InProcess(BaseExtractor):
    """Extracts where the document is HTML; text passes as it is."""

    name = "extract"

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        for doc in data:
            self.stat_update(StatHints.total)
            if doc.metadata.get("kind") == "html":
                with self.track_time():
                    try:
                        doc.text = (self.extract(doc.text) or "").strip()
                    except Exception:  # a parser's own failure on one page is that page's loss, counted
                        self.stat_update(StatHints.dropped, "dropped_extractor_failed")
                        continue
            if not doc.text:
                self.stat_update(StatHints.dropped, "dropped_no_text")
                continue
            self.stat_update(StatHints.forwarded)
            self.update_doc_stats(doc)
            yield doc


class Resiliparse(_InProcess):
    """Main content by resiliparse (Bevendorff et al. 2021), as DataComp-LM extracts (Li et al. 2024)."""

    def __init__(self) -> None:
        super().__init__()

    def extract(self, text: str) -> str:
        return str(extract_plain_text(text, preserve_formatting=True, main_content=True))


class TrafilaturaInProcess(_InProcess, Trafilatura):
    """Main content by trafilatura (Barbaresi 2021), with FineWeb's settings.

    Its memory of repeated passages begins anew with each task, so that a task's result is its own.
    """

    name = "extract"

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        from trafilatura.meta import reset_caches

        reset_caches()
        yield from super().run(data, rank, world_size)


EXTRACTORS = {"resiliparse": Resiliparse, "trafilatura": TrafilaturaInProcess}
