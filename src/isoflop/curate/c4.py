"""C4's rules for text whose lines must stay as they are."""

from datatrove.data import Document
from datatrove.pipeline.filters import C4QualityFilter


class C4KeepLines(C4QualityFilter):
    """Judges as C4 does, by the lines it would keep, but leaves the text: code needs its indentation."""

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        text = doc.text
        verdict = super().filter(doc)
        doc.text = text
        return verdict
