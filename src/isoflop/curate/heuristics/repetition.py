"""Gopher's repetition filter (Rae et al. 2021, section A1.1 and table A1), decided as datatrove decides."""

from collections.abc import Iterator, Sequence

from isoflop.config.curation.heuristics import GopherRepetitionConfig
from isoflop.config.curation.recipe import Engine
from isoflop.curate.heuristics.base import Heuristic, Measure, kind_of
from isoflop.curate.heuristics.ngrams import NGrams, duplicate_characters, top_characters


class GopherRepetition(Heuristic):
    """Statistics: total, forwarded, dropped, dropped_<reason>, as datatrove's GopherRepetitionFilter."""

    name = "👯 Gopher Repetition"

    def __init__(self, rules: GopherRepetitionConfig, engine: Engine = "fast") -> None:
        super().__init__(kind_of(rules.words, engine))
        self.rules = rules

    def measures(self, text: str, whole: bool = False) -> Iterator[Measure]:
        if not text:
            yield Measure("empty", 1, 0)
            return
        yield from self._blocks(text)
        yield from self._n_grams(text, whole)

    def _blocks(self, text: str) -> Iterator[Measure]:
        rules = self.rules
        paragraphs = split_paragraphs(text)
        copies, characters = duplicates(paragraphs)
        yield from _limited("dup_para_frac", copies / len(paragraphs), rules.dup_para_frac)
        yield from _limited("dup_para_char_frac", characters / len(text), rules.dup_para_char_frac)
        lines = split_lines(text)
        copies, characters = duplicates(lines)
        yield from _limited("dup_line_frac", copies / len(lines), rules.dup_line_frac)
        yield from _limited("dup_line_char_frac", characters / len(text), rules.dup_line_char_frac)

    def _n_grams(self, text: str, whole: bool) -> Iterator[Measure]:
        """Each rule's n in the order given; n-grams grow, and are begun anew where n falls."""
        row = self.lexicon.read(text)
        for rules, blanks, reason, count in (
            (self.rules.top_n_grams, True, "top_{}_gram", top_characters),
            (self.rules.dup_n_grams, False, "duplicated_{}_n_grams", duplicate_characters),
        ):
            grams = NGrams(row, blanks)
            for n, fraction in rules:
                if n < grams.n:
                    grams = NGrams(row, blanks)
                characters = 0
                if n <= len(row):
                    grams.grow(n)
                    characters = count(grams, len(text), -1.0 if whole else fraction)
                yield Measure(reason.format(n), characters / len(text), fraction)


def split_paragraphs(text: str) -> list[str]:
    """What two line ends or more part, in `text` without white space around it."""
    text = text.strip()
    if "\n\n" not in text:
        return [text]
    paragraphs = [piece.lstrip("\n") for piece in text.split("\n\n")]  # of an odd number one is left over
    return [paragraph for paragraph in paragraphs if paragraph]


def split_lines(text: str) -> list[str]:
    """What line ends part, however many; an empty line stays only at the beginning and at the end."""
    lines = [line for line in text.split("\n") if line]
    return [*[""] * text.startswith("\n"), *lines, *[""] * text.endswith("\n")]


def duplicates(blocks: Sequence[str]) -> tuple[int, int]:
    """How many of `blocks` stood before, and their characters."""
    distinct = set(blocks)
    if len(distinct) == len(blocks):
        return 0, 0
    return len(blocks) - len(distinct), sum(map(len, blocks)) - sum(map(len, distinct))


def _limited(reason: str, value: float, limit: float | None) -> Iterator[Measure]:
    if limit:  # datatrove takes 0 for "off"
        yield Measure(reason, value, limit)
