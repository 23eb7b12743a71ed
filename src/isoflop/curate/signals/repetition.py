"""RedPajama v2's repetition signals, by their published names and definitions (after Rae et al. 2021).

Words are numbered, and an n-gram is told by the two (n-1)-grams that it joins. It can come twice only
where both of those do, so the places to look at shrink with n: in prose few are left after the bigrams.
Cost: one sort of the places that are left for each n from 2 to 10.
"""

import numpy as np

from isoflop.curate.signals.document import Ints
from isoflop.curate.signals.natural_language import DECIMALS

TOP = (2, 3, 4)
DUPLICATE = (5, 6, 7, 8, 9, 10)


def repetition(word_ids: Ints, word_lengths: Ints) -> dict[str, float]:
    """Shares of the normalized words' characters, from the words' numbers (0, 1, …) and lengths.

    `rps_doc_frac_chars_top_<n>gram`: the characters of the most frequent n-gram, the first one of equals,
    times its count; overlapping ones are counted twice, so it may exceed 1.
    `rps_doc_frac_chars_dupe_<n>grams`: in n-grams that come twice or more, all their occurrences; each
    character once. Both are 0 where no n-gram comes twice.
    """
    signals = {f"rps_doc_frac_chars_top_{n}gram": 0.0 for n in TOP}
    signals |= {f"rps_doc_frac_chars_dupe_{n}grams": 0.0 for n in DUPLICATE}
    ends = np.concatenate(([0], np.cumsum(word_lengths)))
    total = int(ends[-1])
    twice = np.bincount(word_ids)[word_ids] > 1 if len(word_ids) else np.zeros(0, dtype=bool)
    starts, grams = np.flatnonzero(twice), word_ids[twice]
    for n in range(2, max(DUPLICATE) + 1):
        starts, grams, top_start, top_count = _longer(starts, grams)
        if not len(starts):
            break
        if n in TOP:
            chars = int(ends[top_start + n] - ends[top_start])
            signals[f"rps_doc_frac_chars_top_{n}gram"] = round(chars * top_count / total, DECIMALS)
        if n in DUPLICATE:
            covered = int(word_lengths[_covered(starts, n, len(word_ids))].sum())
            signals[f"rps_doc_frac_chars_dupe_{n}grams"] = round(covered / total, DECIMALS)
    return signals


def _longer(starts: Ints, grams: Ints) -> tuple[Ints, Ints, int, int]:
    """From the repeated n-grams the repeated ones of n + 1 words, and the most frequent's place and count.

    `starts` are the n-grams' places in order, `grams` their numbers.
    """
    follows = np.flatnonzero(starts[1:] == starts[:-1] + 1)
    if not len(follows):
        return follows, follows, 0, 0
    pairs = grams[follows] * (int(grams.max()) + 1) + grams[follows + 1]
    order = np.argsort(pairs, kind="stable")
    ordered = pairs[order]
    new = np.concatenate(([True], ordered[1:] != ordered[:-1]))
    firsts = np.flatnonzero(new)
    counts = np.append(firsts[1:], len(ordered)) - firsts
    numbers = np.empty(len(pairs), dtype=np.int64)
    numbers[order] = np.cumsum(new) - 1
    first_places = order[firsts]
    best = int(counts.max())
    top = int(starts[follows[first_places[counts == best].min()]])
    repeated = counts[numbers] > 1
    return starts[follows[repeated]], numbers[repeated], top, best


def _covered(starts: Ints, n: int, n_words: int) -> np.ndarray:
    """Which words lie in one of the n-grams at `starts`."""
    change = np.zeros(n_words + 1, dtype=np.int64)
    np.add.at(change, starts, 1)
    np.add.at(change, starts + n, -1)
    return np.cumsum(change[:-1]) > 0
