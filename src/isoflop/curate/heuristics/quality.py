"""Gopher's quality filter (Rae et al. 2021, section A1.1), decided as datatrove decides."""

from collections.abc import Iterator

import numpy as np

from isoflop.config.curation.heuristics import GopherQualityConfig
from isoflop.config.curation.recipe import Engine
from isoflop.curate.heuristics.base import Heuristic, Measure, kind_of

BULLETS, ELLIPSES = ("•", "-"), ("...", "…")


class GopherQuality(Heuristic):
    """Statistics: total, forwarded, dropped, dropped_<reason>, as datatrove's GopherQualityFilter."""

    name = "🥇 Gopher Quality"

    def __init__(self, rules: GopherQualityConfig, engine: Engine = "fast") -> None:
        super().__init__(kind_of(rules.words, engine))
        self.rules = rules

    def measures(self, text: str, whole: bool = False) -> Iterator[Measure]:
        rules, row = self.rules, self.lexicon.read(text)
        proper = ~row.symbols
        n_proper = int(np.count_nonzero(proper))
        yield Measure("gopher_short_doc", n_proper, rules.min_doc_words, least=True)
        yield Measure("gopher_long_doc", n_proper, rules.max_doc_words)
        mean_length = int(row.lengths[proper].sum()) / n_proper if n_proper else 0.0
        if rules.min_avg_word_length:
            yield Measure("gopher_below_avg_threshold", mean_length, rules.min_avg_word_length, least=True)
        if rules.max_avg_word_length:
            yield Measure("gopher_above_avg_threshold", mean_length, rules.max_avg_word_length)
        ellipses = sum(map(text.count, ELLIPSES))
        if rules.max_symbol_word_ratio:
            yield Measure("gopher_too_many_hashes", text.count("#") / len(row), rules.max_symbol_word_ratio)
            yield Measure("gopher_too_many_ellipsis", ellipses / len(row), rules.max_symbol_word_ratio)
        yield from self._lines(text, ellipses, whole)
        if rules.max_non_alpha_words_ratio:
            share = row.lettered / len(row)
            yield Measure("gopher_below_alpha_threshold", share, rules.max_non_alpha_words_ratio, least=True)
        if rules.min_stop_words:
            yield Measure("gopher_enough_stop_words", row.stop_words, rules.min_stop_words, least=True)

    def _lines(self, text: str, ellipses: int, whole: bool) -> Iterator[Measure]:
        """Not more lines begin with a bullet than there are bullets; the same for ellipses."""
        lines = text.splitlines()
        limit = self.rules.max_bullet_lines_ratio
        if limit:
            begin = 0
            if whole or sum(map(text.count, BULLETS)) / len(lines) > limit:
                begin = sum(line.lstrip().startswith(BULLETS) for line in lines)
            yield Measure("gopher_too_many_bullets", begin / len(lines), limit)
        limit = self.rules.max_ellipsis_lines_ratio
        if limit:
            end = 0
            if whole or ellipses / len(lines) > limit:
                end = sum(line.rstrip().endswith(ELLIPSES) for line in lines)
            yield Measure("gopher_too_many_end_ellipsis", end / len(lines), limit)
