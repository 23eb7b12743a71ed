"""FineWeb's own filter (Penedo et al. 2024, section 3.6), decided as datatrove decides."""

from collections.abc import Iterator

from datatrove.utils.text import TERMINAL_PUNCTUATION

from isoflop.config.curation.heuristics import FineWebConfig
from isoflop.config.curation.recipe import Engine
from isoflop.curate.heuristics.base import Heuristic, Measure, kind_of
from isoflop.curate.heuristics.repetition import duplicates


class FineWebQuality(Heuristic):
    """Statistics: total, forwarded, dropped, dropped_<reason>, as datatrove's FineWebQualityFilter."""

    name = "🍷 FineWeb Quality"

    def __init__(self, rules: FineWebConfig, engine: Engine = "fast") -> None:
        super().__init__(kind_of(rules.words, engine))
        self.rules = rules

    def measures(self, text: str, whole: bool = False) -> Iterator[Measure]:
        rules = self.rules
        lines = [line for line in text.split("\n") if line and not line.isspace()]
        if not lines:
            yield Measure("empty", 1, 0)
            return
        ended = sum(line[-1] in TERMINAL_PUNCTUATION for line in lines)  # each of them a single character
        yield Measure("line_punct_ratio", ended / len(lines), rules.line_punct_thr, least=True)
        short = sum(len(line) <= rules.short_line_length for line in lines)
        yield Measure("short_line_ratio", short / len(lines), rules.short_line_thr)
        line_ends = text.count("\n")
        repeated = duplicates(lines)[1] / (len(text) - line_ends)
        yield Measure("char_dup_ratio", repeated, rules.char_duplicates_ratio)
        yield Measure("list_ratio", self._line_ends_to_a_word(text, line_ends, whole), rules.new_line_ratio)

    def _line_ends_to_a_word(self, text: str, line_ends: int, whole: bool) -> float:
        """There are no fewer words than chunks, which are cheaper to count."""
        if not whole and line_ends / len(text.split()) <= self.rules.new_line_ratio:
            return 0.0
        return line_ends / len(self.lexicon.read(text))
