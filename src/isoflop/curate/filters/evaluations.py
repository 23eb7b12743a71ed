"""Evaluation files as items of text: what decontamination looks for."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from isoflop.config.base import UserError
from isoflop.config.curation.decontaminate import DecontaminateConfig
from isoflop.curate.input.sources import opened
from isoflop.data.manifest import file_sha256

KEY = "pipeline.decontaminate"
ROWS = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")
TEXT = (".txt", ".txt.gz", ".txt.zst", ".md")
MOST_FILES = 2**16


@dataclass(frozen=True)
class Evaluation:
    """One file, under a name that no other of them has."""

    name: str
    path: Path

    def sha256(self) -> str:
        return file_sha256(self.path)


def find_evaluations(config: DecontaminateConfig) -> list[Evaluation]:
    """Every evaluation file, folders in sorted order.

    Raises UserError where one is absent, of no known kind, or a folder has none.
    """
    paths: dict[Path, str] = {}
    for source in config.evaluations:
        root = Path(source).expanduser()
        if root.is_dir():
            files = [path for path in sorted(root.rglob("*")) if path.is_file() and _known(path)]
        else:
            files = [root]
        if not files or not root.exists() or not _known(files[0]):
            wrong = "does not exist" if not root.exists() else "is no evaluation"
            raise UserError(f"{KEY}.evaluations: {source} {wrong}; {', '.join((*ROWS, *TEXT))} would do")
        for path in files:
            inside = path.relative_to(root) if root.is_dir() else Path(path.name)
            paths.setdefault(path.absolute(), inside.as_posix())
    if len(paths) > MOST_FILES:
        raise UserError(f"{KEY}.evaluations: {len(paths)} files; join them into at most {MOST_FILES}")
    taken: set[str] = set()
    found: list[Evaluation] = []
    for path, name in paths.items():
        unique = name if name not in taken else f"{name} ({len(found) + 1})"
        taken.add(unique)
        found.append(Evaluation(unique, path))
    return found


def read_items(file: Evaluation, text_keys: tuple[str, ...]) -> Iterator[str]:
    """The text of each item. Raises UserError where the file cannot be read or has none of the keys."""
    try:
        if file.path.name.endswith(TEXT):
            with opened(file.path) as text:
                yield text.read().decode("utf-8-sig")
        else:
            yield from _fields(file, text_keys)
    except (OSError, EOFError, ValueError, zlib.error, pa.ArrowException) as error:
        cause = " ".join(str(error).split())
        raise UserError(f"{file.path}: cannot be read to its end: {cause}; mend it or leave it out") from None


def _fields(file: Evaluation, text_keys: tuple[str, ...]) -> Iterator[str]:
    keys: set[str] = set()
    found = 0
    for row in _rows(file.path):
        if isinstance(row, dict):
            keys.update(row)
            text = " ".join(part for key in text_keys for part in _texts(row, key.split(".")))
            found += bool(text)
            yield text
    if not found:
        has = ", ".join(sorted(keys)) or "no rows"
        raise UserError(f"{KEY}.text_keys: {file.path} has no text under {', '.join(text_keys)}, but {has}")


def _rows(path: Path) -> Iterator[Any]:
    if path.name.endswith(".parquet"):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1000):
                yield from batch.to_pylist()
        return
    with opened(path) as lines:
        yield from (orjson.loads(line) for line in lines if line.strip())


def _texts(value: Any, keys: list[str]) -> Iterator[str]:
    """The strings under `keys` within `value`, in their order; every element of a list is looked into."""
    if isinstance(value, list):
        for element in value:
            yield from _texts(element, keys)
    elif keys and isinstance(value, dict):
        yield from _texts(value.get(keys[0]), keys[1:])
    elif isinstance(value, str) and not keys:
        yield value


def _known(path: Path) -> bool:
    return path.name.endswith((*ROWS, *TEXT))
