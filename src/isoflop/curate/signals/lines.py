"""RedPajama v2's signals of each line, by their published names and definitions ("punctution" is theirs).

Published, a line's signal is a span [start, end, value] in characters of the raw text. Lines lie end to
end, so here the ends are kept once (`line_ends`), and each signal is the list of its values.
"""

import numpy as np

from isoflop.curate.signals.document import UPPER, Parts, lengths, per_line
from isoflop.curate.signals.natural_language import DECIMALS, raw_lines

TERMINAL_MARKS = (".", "!", "?", "”")
BULLETS = tuple("•‣▶◀◦■□▪▫–")
"""An en dash is one; a hyphen and an asterisk are not."""
JAVASCRIPT = "javascript"

LineSignals = dict[str, list[float] | list[int]]


def line_signals(parts: Parts) -> LineSignals:
    """One value a line; blank lines have one too."""
    lines = raw_lines(parts)
    upper = per_line(parts.char_kinds & UPPER != 0, parts.line_ends).tolist()
    return {
        "rps_lines_ending_with_terminal_punctution_mark": [
            int(line.rstrip().endswith(TERMINAL_MARKS)) for line in lines
        ],
        "rps_lines_javascript_counts": _javascript(parts),
        "rps_lines_num_words": parts.line_words.tolist(),
        "rps_lines_numerical_chars_fraction": _numerical(parts),
        "rps_lines_start_with_bulletpoint": [int(line.lstrip().startswith(BULLETS)) for line in lines],
        # the newline counts among the characters
        "rps_lines_uppercase_letter_fraction": [
            round(count / length, DECIMALS)
            for count, length in zip(upper, lengths(parts.line_ends).tolist(), strict=True)
        ],
    }


def _javascript(parts: Parts) -> list[int]:
    """How often a normalized word of the line is "javascript", and nothing more than it."""
    if JAVASCRIPT not in parts.words:
        return [0] * len(parts.line_ends)
    return [words.count(JAVASCRIPT) for words in parts.normalized_lines]


def _numerical(parts: Parts) -> list[float]:
    """Numeric characters, in Unicode's wide sense, by the characters of the normalized line."""
    counts = parts.numeric_chars()
    ends = np.cumsum(parts.line_words)
    letters = np.concatenate(([0], np.cumsum(parts.word_lengths)))[ends]
    chars = lengths(letters) + np.maximum(parts.line_words - 1, 0)  # a blank between words
    pairs = zip(counts.tolist(), chars.tolist(), strict=True)
    return [round(count / length, DECIMALS) if count else 0.0 for count, length in pairs]
