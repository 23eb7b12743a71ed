"""C4's rules (Raffel et al. 2020, section 2.2), decided and edited as datatrove does."""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from datatrove.data import Document
from datatrove.pipeline.filters.c4_filters import (
    CITATION_REGEX,
    ELLIPSIS,
    END_PUNCTUATION,
    POLICY_SUBSTRINGS,
)

from isoflop.config.curation.heuristics import C4Config
from isoflop.config.curation.recipe import Engine
from isoflop.curate.heuristics.base import Heuristic, Measure, kind_of
from isoflop.curate.heuristics.sentences import count_sentences

LOREM, JAVASCRIPT = "lorem ipsum", "javascript"
BANS = ("lorem_ipsum", "curly_bracket")  # the whole document goes


class Lines(NamedTuple):
    """The lines that stay; the rule by which the whole document goes, if any; what became of each line."""

    kept: list[str]
    banned: str | None
    fates: Counter[str]


class C4Quality(Heuristic):
    """Drops lines, and documents for what they contain or for too few sentences.

    Statistics: those of every filter, and line-total, line-kept, line-filter-<reason> as datatrove's
    C4QualityFilter has them, though counted once a document. With `edit_lines` off, the text stays as it is.
    """

    name = "⛰ C4 Quality"

    def __init__(self, rules: C4Config, engine: Engine = "fast") -> None:
        super().__init__(kind_of(rules.words, engine))
        self.rules = rules

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        lines = self.sift(doc.text)
        for label, count in lines.fates.items():
            self.stat_update(label, value=count)
        if lines.banned:
            return False, lines.banned
        if self.sentences(lines.kept, self.rules.min_num_sentences) < self.rules.min_num_sentences:
            return False, "too_few_sentences"
        if self.rules.edit_lines:
            doc.text = "\n".join(lines.kept).strip()
        return True

    def measures(self, text: str, whole: bool = False) -> Iterator[Measure]:
        lines = self.sift(text)
        yield Measure(lines.banned or "lorem_ipsum", int(lines.banned is not None), 0)
        enough = float("inf") if whole else self.rules.min_num_sentences
        found = self.sentences(lines.kept, enough)
        yield Measure("too_few_sentences", found, self.rules.min_num_sentences, least=True)

    def sentences(self, lines: list[str], enough: float) -> float:
        """Sentences in `lines`, or some number from `enough` on: a line is at least one."""
        if len(lines) >= enough or self.rules.min_num_sentences == -1:
            return len(lines)
        total = 0
        for line in lines:
            total += count_sentences(self.lexicon, line, enough - total)
            if total >= enough:
                break
        return total

    def sift(self, text: str) -> Lines:
        """Every line of `text` through the rules, in their order."""
        cited = self.rules.remove_citations and "[" in text
        suspect = self._suspect(CITATION_REGEX.sub("", text) if cited else text)
        kept: list[str] = []
        fates: Counter[str] = Counter()
        for number, line in enumerate(map(str.strip, text.splitlines()), 1):
            shown = CITATION_REGEX.sub("", line) if cited else line
            fate = self._length_fate(line, shown) or (suspect and self._content_fate(shown))
            if fate in BANS:
                return Lines(kept, fate, fates + Counter({"line-total": number, "line-kept": len(kept)}))
            if fate:
                fates[f"line-filter-{fate}"] += 1
            else:
                kept.append(shown)
        total = len(kept) + fates.total()
        return Lines(kept, None, fates + Counter({"line-total": total, "line-kept": len(kept)}))

    def _suspect(self, text: str) -> bool:
        """Whether some line may have something of what is looked for; most documents have nothing."""
        rules, lowered = self.rules, text.lower()
        return (
            (rules.filter_curly_bracket and "{" in text)
            or (rules.filter_lorem_ipsum and LOREM in lowered)
            or (rules.filter_javascript and JAVASCRIPT in lowered)
            or (rules.filter_policy and any(phrase in lowered for phrase in POLICY_SUBSTRINGS))
        )

    def _length_fate(self, line: str, shown: str) -> str | None:
        """By the words of the line before citations went, and its end after that."""
        rules, longest = self.rules, self.rules.max_word_length
        if longest != -1 and len(line) > longest and max(map(len, line.split())) > longest:
            return "too_long_word"
        if rules.filter_no_terminal_punct and (
            not shown.endswith(END_PUNCTUATION) or shown.endswith(ELLIPSIS)
        ):
            return "no_terminal_punc"
        least = rules.min_words_per_line
        return "too_few_words" if least > 0 and len(line.split(None, least - 1)) < least else None

    def _content_fate(self, line: str) -> str | None:
        rules, lowered = self.rules, line.lower()
        if rules.filter_lorem_ipsum and LOREM in lowered:
            return "lorem_ipsum"
        if rules.filter_javascript and JAVASCRIPT in lowered:
            return "javascript"
        if rules.filter_curly_bracket and "{" in line:
            return "curly_bracket"
        if rules.filter_policy and any(phrase in lowered for phrase in POLICY_SUBSTRINGS):
            return "policy"
        return None
