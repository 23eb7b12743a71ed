"""The annotated parquet file: its columns, and the published form of a row's signals."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from isoflop.config.curation.signals import (
    BLOCK_WORDS,
    BLOCKED_DOMAINS,
    DOCUMENT_SIGNALS,
    LANGUAGE,
    LANGUAGE_SCORE,
    LINE_LENGTH,
    LINE_SIGNALS,
    SignalsConfig,
)

COUNTS = ("ccnet_length", "ccnet_nlines", "rps_doc_word_count", "rps_doc_num_sentences")
LINE_TYPES = {
    "rps_lines_ending_with_terminal_punctution_mark": pa.int8(),
    "rps_lines_start_with_bulletpoint": pa.int8(),
    "rps_lines_javascript_counts": pa.int32(),
    "rps_lines_num_words": pa.int32(),
    "rps_lines_numerical_chars_fraction": pa.float64(),
    "rps_lines_uppercase_letter_fraction": pa.float64(),
}


def file_of(folder: Path, rank: int) -> Path:
    return folder / f"{rank:05d}.parquet"


def signature_column(similarity: float) -> str:
    return f"minhash_signature_{similarity}"


def schema(config: SignalsConfig) -> pa.Schema:
    """Text and what is known of it, then a column a signal, then hashes and signatures."""
    fields = [
        ("id", pa.string()),
        ("text", pa.large_string()),
        ("url", pa.string()),
        (LANGUAGE, pa.string()),
        (LANGUAGE_SCORE, pa.float64()),
        ("metadata", pa.string()),  # JSON: what else the document came with
        *((name, pa.int64() if name in COUNTS else pa.float64()) for name in DOCUMENT_SIGNALS),
        (LINE_LENGTH, pa.list_(pa.int32())),
        *((name, pa.list_(LINE_TYPES[name])) for name in LINE_SIGNALS),
    ]
    if config.ldnoobw is not None:
        fields.append((BLOCK_WORDS, pa.int64()))
    if config.ut1 is not None:
        fields.append((BLOCKED_DOMAINS, pa.int64()))
    fields.append(("sha256", pa.binary(32)))
    if config.signatures is not None:
        fields += [(signature_column(s), pa.list_(pa.binary())) for s in config.signatures.similarities]
    return pa.schema([pa.field(name, kind) for name, kind in fields])


def published(row: Mapping[str, Any]) -> dict[str, list[list[float | int | None]]]:
    """A row's signals as RedPajama v2 publishes them: {name: [[start, end, value], …]}, in characters."""
    length = row["ccnet_length"]
    signals = {
        name: [[0, length, None if value is None else _published(name, value)]]
        for name, value in row.items()
        if name.startswith(("ccnet_", "rps_doc_"))
    }
    starts, ends, end = [], [], 0
    for chars in row[LINE_LENGTH]:
        starts.append(end)
        ends.append(end := end + chars)
    for name in LINE_SIGNALS:
        values = [_published(name, value) for value in row[name]]
        signals[name] = [list(span) for span in zip(starts, ends, values, strict=True)]
    if not starts:
        signals["rps_lines_start_with_bulletpoint"] = [[0, 0, None]]  # the one that has a span for no lines
    return signals


def _published(name: str, value: float) -> float | int:
    return value if name in ("rps_doc_word_count", "rps_lines_num_words", BLOCKED_DOMAINS) else float(value)
