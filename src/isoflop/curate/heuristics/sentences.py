"""How many sentences a line has, as spaCy's sentencizer decides, over the words of any lexicon.

A sentence goes on over the punctuation after its final mark. The next word begins another, and so does white
space so wide that spaCy takes it for a word.
"""

import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from isoflop.curate.heuristics.lexicon import Lexicon
from isoflop.curate.words import Whitespace


def count_sentences(lexicon: Lexicon, line: str, enough: float = float("inf")) -> int:
    """Sentences in `line`, which has no line end; counting stops at `enough`."""
    marks = lexicon.words.final_marks
    if marks is None:
        return len(Whitespace().span_tokenize(line))
    if marks.isdisjoint(line):
        return 1
    sentences, ended = 1, False
    for word in with_wide_blanks(line, lexicon.read(line).spell()):
        if word in marks:
            ended = True
        elif ended and not is_punctuation(word):
            sentences, ended = sentences + 1, False
            if sentences >= enough:
                break
    return sentences


def with_wide_blanks(line: str, words: list[str]) -> Iterator[str]:
    """`words`, and between them the blanks that spaCy takes for words: all but a single " " after a word."""
    place = 0
    for word in words:
        start = line.index(word, place)
        if start > place and (place == 0 or line[place:start] != " "):
            yield line[place:start]
        yield word
        place = start + len(word)
    if line[place:] not in ("", " "):
        yield line[place:]


@lru_cache(maxsize=65536)
def is_punctuation(word: str) -> bool:
    return all(unicodedata.category(character).startswith("P") for character in word)
