"""Why two engines decide differently about a document: the rule, both numbers, and the words behind them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from datatrove.data import Document

from isoflop.curate.heuristics.base import Heuristic, Measure


@dataclass(frozen=True)
class Disagreement:
    """The first rule that one engine finds broken and the other does not."""

    step: str
    first: Measure
    second: Measure
    chunks: tuple[tuple[str, int, tuple[str, ...], tuple[str, ...]], ...]
    """A few chunks of text that the two cut differently: how often each is there, and its words in both."""

    def __str__(self) -> str:
        least = "at least" if self.first.least else "at most"
        told = f"{self.step}: {self.first.reason}, {least} {self.first.limit:g}:"
        told += f" {self.first.value:.6g} against {self.second.value:.6g}"
        cuts = (f"{n}× {chunk} ({' '.join(a)} / {' '.join(b)})" for chunk, n, a, b in self.chunks)
        return "; ".join([told, *cuts])


def explain(text: str, first: Sequence[Heuristic], second: Sequence[Heuristic]) -> Disagreement | None:
    """Where the two chains part on `text`; None where they keep or drop it for the same reason.

    They must be of the same filters with the same thresholds.
    """
    for one, other in zip(first, second, strict=True):
        pairs = zip(one.measures(text, whole=True), other.measures(text, whole=True), strict=True)
        for mine, yours in pairs:
            if mine.broken != yours.broken:
                return Disagreement(one.name, mine, yours, _cut_differently(text, one, other))
            if mine.broken:
                return None
        document = Document(text=text, id="")
        one.filter(document)  # C4 edits
        text = document.text
    return None


def _cut_differently(
    text: str, one: Heuristic, other: Heuristic, most: int = 5
) -> tuple[tuple[str, int, tuple[str, ...], tuple[str, ...]], ...]:
    counts = Counter(text.split())
    chunks = list(counts)
    cuts = zip(chunks, one.lexicon.words.split(chunks), other.lexicon.words.split(chunks), strict=True)
    apart = [(chunk, counts[chunk], tuple(a), tuple(b)) for chunk, a, b in cuts if a != b]
    return tuple(sorted(apart, key=lambda cut: -cut[1])[:most])
