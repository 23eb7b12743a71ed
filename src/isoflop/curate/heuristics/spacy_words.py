"""spaCy's English words, a chunk at a time.

spaCy parts a text at white space and then works on each chunk by itself (its `Tokenizer`, "How spaCy's
tokenizer works"), so that a chunk's words can be remembered. One rule looks further: at the end, special
cases such as `):` are searched for in the row of words, and a find that spans a blank, though it changes
nothing itself, keeps an overlapping one within a chunk from being applied. `crosses` says where that
may happen; there the whole line must be asked about.

The name of one of spaCy's attributes, IS_ALPHA, breaks its memory zones from the second text on that has it
as a word; datatrove then removes it from the text, so that what it counts depends on what its process read
before. Here it is a word.
"""

import re
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from isoflop.config.base import UserError

BROKEN = "IS_ALPHA"

WORD_AND_MARK = re.compile(r"[A-Za-z]*(?:[a-z]|[A-Z]{2})[.,;:!?]")
BATCH = 50_000  # chunks asked about at once: a bound on memory where a single document has millions


class SpacyWords:
    """The words of chunks (no white space within) as spaCy's blank English pipeline has them."""

    def split(self, chunks: Sequence[str]) -> list[list[str]]:
        """The words of each chunk. Raises UserError where spaCy is not installed."""
        cuts = [self._plain(chunk) for chunk in chunks]
        asked = [chunk for chunk, words in zip(chunks, cuts, strict=True) if words is None]
        batches = (asked[first : first + BATCH] for first in range(0, len(asked), BATCH))
        answers = (words for batch in batches for words in self._ask(batch))
        return [next(answers) if words is None else words for words in cuts]

    def _plain(self, chunk: str) -> list[str] | None:
        """The words of a chunk about which spaCy need not be asked.

        None of its rules cuts between two letters, of any script, and all cut this mark from this word.
        """
        special = self._tokenizer.rules
        if chunk in special:
            return None
        if chunk.isalpha():
            return [chunk]
        word, mark = chunk[:-1], chunk[-1]
        plain = WORD_AND_MARK.fullmatch(chunk) and word not in special and (word, mark) not in self._pairs
        return [word, mark] if plain else None

    def _ask(self, chunks: list[str]) -> list[list[str]]:
        text = "\n".join(chunks)  # no special case has a line end within, and "\n" is a word of its own
        with self._tokenizer.vocab.memory_zone():
            ends = np.cumsum(self._tokenizer(text).to_array("LENGTH"), dtype=np.int64).tolist()
        pieces = [text[start:end] for start, end in pairwise([0, *ends])]
        words: list[list[str]] = [[]]
        for piece in pieces:
            if piece == "\n":
                words.append([])
            else:
                words[-1].append(piece)
        return words

    def whole(self, text: str) -> list[str]:
        """The words of `text`, without any memory of its chunks."""
        with self._tokenizer.vocab.memory_zone():
            return [token.text for token in self._tokenizer(text) if not token.text.isspace()]

    def borders(self, chunk: str, words: Sequence[str]) -> tuple[str, str] | None:
        """First and last word of `chunk` before the final search, where that search changed its words."""
        if self._merged.isdisjoint(words):
            return None
        before = [token.text for token in self._without_search(chunk)]
        return None if before == list(words) else (before[0], before[-1])

    def linked(self, last: str, first: str) -> bool:
        """Whether a special case may span the blank between these two words."""
        return (last, first) in self._pairs

    @cached_property
    def final_marks(self) -> frozenset[str]:
        """The words that end a sentence."""
        from spacy.pipeline import Sentencizer

        return frozenset(Sentencizer().punct_chars)

    @cached_property
    def _tokenizer(self) -> Any:
        tokenizer = _blank().tokenizer
        tokenizer.vocab.lex_attr_getters.clear()  # word shapes and the like: not asked for, half of the time
        tokenizer(BROKEN)  # known before any memory zone, it is a word like any other in all of them
        return tokenizer

    @cached_property
    def _without_search(self) -> Any:
        """The same tokenizer, whose final search knows no special case."""
        from spacy.tokenizer import Tokenizer

        class Affixes(Tokenizer):
            """Learns its special cases as if none could be cut up, so that none is searched for."""

            learning = True

            def find_prefix(self, string: str) -> int:
                return 0 if self.learning else super().find_prefix(string)

            def find_suffix(self, string: str) -> int:
                return 0 if self.learning else super().find_suffix(string)

            def find_infix(self, string: str) -> list[Any]:
                return [] if self.learning else super().find_infix(string)

        affixes = Affixes(**_settings(self._tokenizer), rules=self._tokenizer.rules)
        affixes.learning = False
        return affixes

    @cached_property
    def _searched(self) -> dict[str, list[str]]:
        """Each special case that the final search knows, as the words that it is made of without it."""
        tokenizer = self._tokenizer
        plain = type(tokenizer)(**_settings(tokenizer), rules={})
        cut = {case: [token.text for token in plain(case)] for case in tokenizer.rules if case.strip()}
        return {case: words for case, words in cut.items() if len(words) > 1}

    @cached_property
    def _merged(self) -> frozenset[str]:
        """The first word of each special case that the final search would put together otherwise."""
        from spacy.symbols import ORTH

        rules = self._tokenizer.rules
        made = {case: [part[ORTH] for part in rules[case]] for case in self._searched}
        return frozenset(words[0] for case, words in made.items() if words != self._searched[case])

    @cached_property
    def _pairs(self) -> frozenset[tuple[str, str]]:
        return frozenset(pair for words in self._searched.values() for pair in pairwise(words))


def _blank() -> Any:
    try:
        import spacy
    except ImportError:
        hint = "engine=exact and engine=reference count words with spaCy, which is not installed; "
        raise UserError(hint + "`pip install spacy`, or engine=fast") from None
    return spacy.blank("en")


def _settings(tokenizer: Any) -> dict[str, Any]:
    names = ("vocab", "prefix_search", "suffix_search", "infix_finditer", "token_match", "url_match")
    return {name: getattr(tokenizer, name) for name in names}
