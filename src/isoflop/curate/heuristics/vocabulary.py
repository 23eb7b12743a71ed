"""What is known of each distinct word, in columns; and a text as a row of word numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from datatrove.pipeline.filters.gopher_quality_filter import STOP_WORDS
from datatrove.utils.text import PUNCTUATION_SET
from numpy.typing import NDArray

from isoflop.curate.heuristics.hashing import Hashes, word_hashes

STOPS = {word: 1 << n for n, word in enumerate(STOP_WORDS)}
Numbers = NDArray[np.int64]


class Column:
    """A growing array."""

    def __init__(self, dtype: Any) -> None:
        self._values = np.empty(1024, dtype=dtype)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, places: Any) -> Any:
        return self._values[places]

    def extend(self, values: Any) -> None:
        end = self._size + len(values)
        if end > len(self._values):
            grown = np.empty(max(end, 2 * len(self._values)), dtype=self._values.dtype)
            grown[: self._size] = self._values[: self._size]
            self._values = grown
        self._values[self._size : end] = values
        self._size = end


class Vocabulary:
    """Words numbered as they come, and the properties that the filters ask for."""

    def __init__(self) -> None:
        self.spelling: list[str] = []
        self.lengths = Column(np.int64)
        self.hashes, self.shifts = Column(np.uint64), Column(np.uint64)
        self.symbols, self.lettered = Column(np.bool_), Column(np.bool_)
        self.stops = Column(np.int64)
        self._numbers: dict[str, int] = {}

    def numbers(self, words: Sequence[str]) -> list[int]:
        """The number of each word; new ones are learnt."""
        known = self._numbers
        new = [word for word in dict.fromkeys(words) if word not in known]
        if new:
            for number, word in enumerate(new, len(self.spelling)):
                known[word] = number
            self._learn(new)
        return [known[word] for word in words]

    def _learn(self, words: list[str]) -> None:
        lengths = np.array([len(word) for word in words], dtype=np.int64)
        hashes, shifts = word_hashes(words, lengths)
        self.spelling += words
        self.lengths.extend(lengths)
        self.hashes.extend(hashes)
        self.shifts.extend(shifts)
        self.symbols.extend([PUNCTUATION_SET.issuperset(word) for word in words])
        self.lettered.extend([word.isalpha() or any(map(str.isalpha, word)) for word in words])
        self.stops.extend([STOPS.get(word, 0) for word in words])


@dataclass(frozen=True, eq=False)
class Row:
    """The words of one text, in order, as numbers in a vocabulary."""

    vocabulary: Vocabulary
    numbers: Numbers

    def __len__(self) -> int:
        return len(self.numbers)

    @cached_property
    def lengths(self) -> Numbers:
        """Characters in each word."""
        return self.vocabulary.lengths[self.numbers]

    @cached_property
    def hashes(self) -> Hashes:
        return self.vocabulary.hashes[self.numbers]

    @cached_property
    def shifts(self) -> Hashes:
        """B^length of each word (see `hashing`)."""
        return self.vocabulary.shifts[self.numbers]

    @property
    def symbols(self) -> NDArray[np.bool_]:
        """Which words are punctuation alone, by datatrove's set of it."""
        return self.vocabulary.symbols[self.numbers]

    @property
    def lettered(self) -> int:
        """How many words have a letter."""
        return int(np.count_nonzero(self.vocabulary.lettered[self.numbers]))

    @property
    def stop_words(self) -> int:
        """How many of Gopher's eight stop words are among them."""
        return int(np.bitwise_or.reduce(self.vocabulary.stops[self.numbers], initial=0)).bit_count()

    def spell(self) -> list[str]:
        return [self.vocabulary.spelling[number] for number in self.numbers.tolist()]
