"""Texts as rows of numbers: each distinct chunk (what blanks part) is cut into words only once.

A `Lexicon` learns a chunk when it first meets it; a text then costs one look-up a chunk, and the rest is
numpy. Everything is forgotten when it has grown too large, which changes no answer.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Literal, Protocol

import numpy as np

from isoflop.curate.heuristics.rule_words import RuleWords, WhitespaceWords
from isoflop.curate.heuristics.spacy_words import SpacyWords
from isoflop.curate.heuristics.vocabulary import Column, Numbers, Row, Vocabulary

MAX_CHUNKS = 200_000
MAX_CHARACTERS = 8_000_000  # with the chunks, some 75 MB in a worker that has met as many

Kind = Literal["spacy", "rules", "whitespace"]


class Words(Protocol):
    """A way to cut chunks into words."""

    @property
    def final_marks(self) -> frozenset[str] | None:
        """The words that end a sentence; None: sentences are found without words."""

    def split(self, chunks: Sequence[str]) -> list[list[str]]:
        """The words, one or more, of each chunk."""

    def whole(self, text: str) -> list[str]:
        """The words of a text whose chunks cannot be cut one by one."""

    def borders(self, chunk: str, words: Sequence[str]) -> tuple[str, str] | None:
        """The words at the ends of a chunk that may have others beside certain neighbours; None: not so."""

    def linked(self, last: str, first: str) -> bool:
        """Whether `last`, at the end of a chunk, and `first`, beginning the next, are such neighbours."""


class _Numbering(dict[str, int]):
    """Numbers strings as they are asked for; `new` are those not learnt yet."""

    def __init__(self) -> None:
        super().__init__()
        self.new: list[str] = []

    def __missing__(self, text: str) -> int:
        self.new.append(text)
        self[text] = number = len(self)
        return number


class Lexicon:
    """What is known of the chunks and words met so far, cut by `words`."""

    def __init__(self, words: Words) -> None:
        self.words = words
        self.forget()

    def forget(self) -> None:
        """Know nothing of chunks and words. Rows that were read stay as they are."""
        self.vocabulary = Vocabulary()
        self._chunks = _Numbering()
        self._starts, self._counts, self._members = Column(np.int64), Column(np.int64), Column(np.int64)
        self._joined = Column(np.bool_)
        self._borders: dict[int, tuple[str, str]] = {}
        self._characters = 0
        self._text: str | None = None
        self._row = Row(self.vocabulary, np.empty(0, dtype=np.int64))

    def read(self, text: str) -> Row:
        """The words of `text`. The last answer is kept: filter after filter asks for it."""
        if text == self._text:
            return self._row
        if len(self._chunks) > MAX_CHUNKS or self._characters > MAX_CHARACTERS:
            self.forget()
        cut = self._cut(text.split())
        numbers = np.concatenate(self._lines(text)) if cut is None else cut
        self._text, self._row = text, Row(self.vocabulary, numbers)
        return self._row

    def _whole(self, text: str) -> Numbers:
        return np.array(self.vocabulary.numbers(self.words.whole(text)), dtype=np.int64)

    def _lines(self, text: str) -> list[Numbers]:
        """Line by line: a neighbour across a line end is none."""
        cuts = ((line, self._cut(line.split())) for line in text.split("\n"))
        return [self._whole(line) if cut is None else cut for line, cut in cuts]

    def _cut(self, pieces: list[str]) -> Numbers | None:
        """The numbers of the words of these chunks, or None where neighbours may change them."""
        chunks = np.fromiter(map(self._chunks.__getitem__, pieces), dtype=np.int64, count=len(pieces))
        if self._chunks.new:
            self._learn()
        if self._borders and self._may_cross(chunks):
            return None
        counts, starts = self._counts[chunks], self._starts[chunks]
        ends = np.cumsum(counts)
        total = int(ends[-1]) if len(ends) else 0
        if total == len(chunks):
            return self._members[starts]
        return self._members[np.arange(total) + np.repeat(starts - ends + counts, counts)]

    def _learn(self) -> None:
        new, first = self._chunks.new, len(self._counts)
        cut = self.words.split(new)
        for number, (chunk, words) in enumerate(zip(new, cut, strict=True), first):
            borders = self.words.borders(chunk, words)
            if borders is not None:
                self._borders[number] = borders
        counts = np.array([len(words) for words in cut], dtype=np.int64)
        self._starts.extend(len(self._members) + np.cumsum(counts) - counts)
        self._counts.extend(counts)
        self._members.extend(self.vocabulary.numbers([word for words in cut for word in words]))
        self._joined.extend([number in self._borders for number in range(first, first + len(new))])
        self._characters += sum(map(len, new))
        self._chunks.new = []

    def _may_cross(self, chunks: Numbers) -> bool:
        """Whether a chunk that depends on its neighbours has such ones."""
        for place in np.flatnonzero(self._joined[chunks]).tolist():
            first, last = self._borders[int(chunks[place])]
            if place > 0 and self.words.linked(self._border(chunks[place - 1], 1), first):
                return True
            if place + 1 < len(chunks) and self.words.linked(last, self._border(chunks[place + 1], 0)):
                return True
        return False

    def _border(self, chunk: Any, side: int) -> str:
        """The first (0) or last (1) word of a chunk, whatever stands beside it."""
        if int(chunk) in self._borders:
            return self._borders[int(chunk)][side]
        place = self._starts[chunk] + (self._counts[chunk] - 1 if side else 0)
        return self.vocabulary.spelling[self._members[place]]


WORDS: dict[Kind, Callable[[], Words]] = {
    "spacy": SpacyWords,
    "rules": RuleWords,
    "whitespace": WhitespaceWords,
}


@cache
def lexicon(kind: Kind) -> Lexicon:
    """This process's lexicon, which all its filters share."""
    return Lexicon(WORDS[kind]())
