"""Gopher's repetition rules as DCLM measures them, over word numbers instead of strings."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import regex  # type: ignore[import-untyped]

from isoflop.config.curation.refinedweb import RefinedWebRepetitionConfig

BOUNDARY = regex.compile(r"(?V1w)\b")
Integers = npt.NDArray[np.int64]


def words_of(text: str) -> list[str]:
    """Unicode's words (Unicode Standard Annex 29) that begin with a letter or a digit.

    `regex` keeps a quotation mark with the word after it, which the annex does not.
    """
    parts = (part.lstrip("'\u2019") for part in BOUNDARY.split(text))
    return [part for part in parts if part and part[0].isalnum()]


def repetition(text: str, rules: RefinedWebRepetitionConfig) -> str | None:
    """The first rule that `text` breaks, or None."""
    pieces = {name: _pieces(text, end) for name, end in (("line", "\n"), ("paragraph", "\n\n"))}
    for name, limit in (("line", rules.line_frac), ("paragraph", rules.paragraph_frac)):
        if not pieces[name]:
            return "empty"
        if _repeated(pieces[name], by_characters=False) > limit:
            return f"repeated_{name}s"
    for name, limit in (("line", rules.line_char_frac), ("paragraph", rules.paragraph_char_frac)):
        if _repeated(pieces[name], by_characters=True) > limit:
            return f"repeated_{name}_characters"
    return _n_grams(text, rules)


def _pieces(text: str, end: str) -> list[str]:
    return [stripped for piece in text.split(end) if (stripped := piece.strip())]


def _repeated(pieces: list[str], by_characters: bool) -> float:
    """The fraction of pieces, or of their characters, in pieces that stand more than once."""
    if len(pieces) == 1:
        return 0.0
    repeated = [(piece, count) for piece, count in Counter(pieces).items() if count > 1]
    if by_characters:
        return sum(len(piece) * count for piece, count in repeated) / sum(map(len, pieces))
    return sum(count for _, count in repeated) / len(pieces)


def _n_grams(text: str, rules: RefinedWebRepetitionConfig) -> str | None:
    words = words_of(text)
    lengths = np.fromiter(map(len, words), dtype=np.int64, count=len(words))
    total, before = int(lengths.sum()), np.concatenate([[0], np.cumsum(lengths)])
    limits = [(size, limit, True) for size, limit in rules.top_n_grams]
    limits += [(size, limit, False) for size, limit in rules.repeated_n_grams]
    measured = _counted(words, {size for size, _, _ in limits})
    for size, limit, top in limits:
        counts = measured.get(size)
        if counts is None:  # none of this length is repeated
            continue
        if top:
            grams = before[size:] - before[:-size]
            characters = int(grams[counts == counts.max()].max() * counts.max())
        else:
            characters = int(lengths[_within(counts > 1, size)].sum())
        if characters / total > limit:
            return f"top_{size}_gram" if top else f"repeated_{size}_gram"
    return None


def _counted(words: list[str], sizes: set[int]) -> dict[int, Integers]:
    """{size: how often the n-gram at each place stands in the text}, where any stands twice."""
    return {size: counts for size, counts in _all_counted(words, max(sizes, default=0)) if size in sizes}


def _all_counted(words: list[str], largest: int) -> Iterator[tuple[int, Integers]]:
    numbers: dict[str, int] = {}
    ids = np.fromiter((numbers.setdefault(word, len(numbers)) for word in words), np.int64, count=len(words))
    grams = ids
    for size in range(1, min(largest, len(words)) + 1):
        if size > 1:  # the number of the n-gram without its last word, and that word's
            grams = grams[:-1] * len(numbers) + ids[size - 1 :]
        _, grams, counts = np.unique(grams, return_inverse=True, return_counts=True)
        if counts.max() == 1:
            return  # a longer one would hold a repeated shorter one
        yield size, counts[grams]


def _within(begins: npt.NDArray[np.bool_], size: int) -> npt.NDArray[np.bool_]:
    """Which words lie in an n-gram of `size` words whose place is flagged in `begins`."""
    edges = np.zeros(len(begins) + size, dtype=np.int64)
    edges[: len(begins)] += begins
    edges[size:] -= begins
    return np.cumsum(edges)[:-1] > 0
