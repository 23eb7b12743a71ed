"""What a reader finds in a file: a document, or the reason why there is none."""

import math
import zlib
from collections.abc import Mapping
from typing import NamedTuple

from isoflop.config.base import UserError

MAX_DOCUMENT_BYTES = 20_000_000

TRUNCATED, UNREADABLE = "truncated_file", "unreadable_file"
FILE_FAILURES = frozenset({TRUNCATED, UNREADABLE})
DOCUMENT_FAILURES = frozenset(
    {
        "bad_json",
        "broken_page",
        "extractor_crashed",
        "extractor_failed",
        "extractor_too_slow",
        "no_text_key",
        "not_utf8",
    }
)
"""Reasons that say something is wrong with the input, where `not_html`, `empty`, `too_long` are ordinary."""

READ_ERRORS = (OSError, EOFError, ValueError, zlib.error)


class Record(NamedTuple):
    """One document of a file, or why it has no text. `kind` is "html" or "text"."""

    name: str
    text: str | None
    kind: str = "text"
    reason: str = ""
    url: str | None = None
    date: str | None = None
    body: bytes = b""  # the beginning of what could not be used, for a person to look at


def file_failure(path: str, error: BaseException) -> tuple[str, str]:
    """The reason and the cause of a file that could not be read to its end.

    Raises UserError where it is not the file's content that failed but its disk or its permissions: the
    same file may be read another time, and to count it as broken would lose it.
    """
    cause = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.errno:
        raise UserError(f"{path}: cannot be read: {error.strerror}; the same command continues") from None
    is_cut = isinstance(error, EOFError) or "truncated" in cause.lower()
    return (TRUNCATED if is_cut else UNREADABLE), cause


def too_many_failures(dropped: Mapping[str, int], documents: int, files: int, most: float) -> str | None:
    """What is told where more than the fraction `most` of the documents read, or of the files, is broken.

    `dropped` are the counts by reason of the steps that read and extract. None where it may pass.
    """
    for failures, total, what in (
        (FILE_FAILURES, files, "files"),
        (DOCUMENT_FAILURES, documents, "documents"),
    ):
        broken = {reason: n for reason, n in sorted(dropped.items()) if n and reason in failures}
        count = sum(broken.values())
        if count > most * total:
            enough = math.ceil(1000 * count / total) / 1000
            reasons = ", ".join(f"{reason} {n:,}" for reason, n in broken.items())
            return (
                f"{count:,} of {total:,} {what} are broken ({reasons}), more than data.max_failed_fraction="
                f"{most:g}; mend them, leave them out, or set it to {enough:g} and more"
            )
    return None
