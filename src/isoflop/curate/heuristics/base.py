"""What the four filters share: rules as numbers with limits, the first one broken being the reason."""

from collections.abc import Iterator
from typing import NamedTuple

from datatrove.data import Document
from datatrove.pipeline.filters.base_filter import BaseFilter

from isoflop.config.curation.heuristics import Words
from isoflop.config.curation.recipe import Engine
from isoflop.curate.heuristics.lexicon import Kind, Lexicon, lexicon


class Measure(NamedTuple):
    """What a rule found. `reason` is the one that datatrove's filter gives where the rule is broken."""

    reason: str
    value: float
    limit: float
    least: bool = False
    """The limit is the least that is let through, and not the most."""

    @property
    def broken(self) -> bool:
        return self.value < self.limit if self.least else self.value > self.limit


def kind_of(words: Words, engine: Engine) -> Kind:
    """The lexicon in which `engine` reads such words."""
    if words == "whitespace":
        return "whitespace"
    return "rules" if engine == "fast" else "spacy"


class Heuristic(BaseFilter):
    """A filter that drops a document for the first rule that it breaks."""

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self.kind = kind

    @property
    def lexicon(self) -> Lexicon:
        return lexicon(self.kind)

    def measures(self, text: str, whole: bool = False) -> Iterator[Measure]:
        """The rules in their order.

        A number that cannot reach its limit may be given as 0, unless `whole`.
        """
        raise NotImplementedError

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        for measure in self.measures(doc.text):
            if measure.broken:
                return False, measure.reason
        return True
