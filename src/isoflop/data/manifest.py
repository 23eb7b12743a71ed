"""The contract of a token dataset: `manifest.json` beside datatrove's token files.

`<root>/*.ds` are little-endian uint16 or uint32 token ids, `<root>/*.ds.index` uint64 document ends (in
tokens, the last equal to the shard's length), `<root>/tokenizer.json` the tokenizer that wrote them.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from isoflop.config.base import UserError

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"


class DatasetError(UserError):
    """A token dataset that is not what its manifest says, or has none."""


class Record(BaseModel):
    """Keys may be added freely; those named must be there."""

    model_config = ConfigDict(extra="allow", frozen=True)


class TokenizerRecord(Record):
    name: str
    sha256: str
    vocab_size: int
    eos_id: int


class ShardRecord(Record):
    file: str
    tokens: int
    documents: int
    sha256: str
    index_sha256: str | None = None  # of the document ends, where the writer gave it


class StageRecord(Record):
    name: str
    documents_in: int
    documents_out: int
    dropped: dict[str, int]
    seconds: float


class Manifest(Record):
    format_version: int
    tokenizer: TokenizerRecord
    dtype: Literal["uint16", "uint32"]
    total_tokens: int
    total_documents: int
    shards: tuple[ShardRecord, ...]
    pipeline: dict[str, Any]
    stages: tuple[StageRecord, ...]
    sources: tuple[Any, ...]
    licence: str

    @property
    def content_sha256(self) -> str:
        """Names the tokens and nothing else: the same for the same data built twice, wherever it stands."""
        parts = [self.tokenizer.sha256, self.dtype, *(shard.sha256 for shard in self.shards)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(root: Path) -> Manifest:
    """The manifest of the dataset in `root`. Raises DatasetError where it is absent or not readable."""
    path = root / MANIFEST
    if not path.is_file():
        what = "has no manifest.json" if root.is_dir() else "does not exist"
        raise DatasetError(
            f"{root}: {what}; build one with `python launch/data.py`, or give another data.path"
        )
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "JSON"
        raise DatasetError(f"{path}: {where}: {first['msg']}; build the dataset again") from None
    if manifest.format_version != FORMAT_VERSION:
        found = manifest.format_version
        raise DatasetError(f"{path}: format_version {found}; this isoflop reads {FORMAT_VERSION}")
    return manifest


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Write `manifest.json` whole or not at all: it is what makes a dataset complete, so it comes last."""
    partial = root / (MANIFEST + ".partial")
    with partial.open("w") as file:
        json.dump(manifest.model_dump(mode="json"), file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(root / MANIFEST)
