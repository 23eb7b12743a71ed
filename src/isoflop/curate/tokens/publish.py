"""From finished token files to a dataset that is whole or not there."""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from isoflop.config.base import UserError
from isoflop.config.curation.run import TokenizerConfig
from isoflop.curate.tokens.tokenizer import UINT16_IDS, vocab_size
from isoflop.data.manifest import TOKENIZER, ShardRecord, TokenizerRecord, file_sha256

READ_TOKENS = 16_000_000


def tokenizer_record(path: Path, config: TokenizerConfig) -> TokenizerRecord:
    """Of `<dataset>/tokenizer.json`."""
    tokenizer = Tokenizer.from_file(str(path))
    name = Path(config.path).stem if config.path else f"bpe-{config.vocab_size}"
    return TokenizerRecord(
        name=name,
        sha256=file_sha256(path),
        vocab_size=vocab_size(tokenizer),
        eos_id=tokenizer.token_to_id(config.eos_token),
    )


def dtype_of(tokenizer: TokenizerRecord) -> str:
    return "uint32" if tokenizer.vocab_size > UINT16_IDS else "uint16"


def shard_records(dataset: Path, dtype: str) -> list[ShardRecord]:
    """Of every token file in `dataset`, each checked against its index and flushed to the disk."""
    return [_shard_record(path, dtype) for path in sorted(dataset.glob("*.ds"))]


def _shard_record(path: Path, dtype: str) -> ShardRecord:
    index = Path(f"{path}.index")
    ends = np.fromfile(index, dtype="<u8")
    tokens, odd = divmod(path.stat().st_size, np.dtype(dtype).itemsize)
    if (
        odd
        or not len(ends)
        or int(ends[-1]) != tokens
        or np.any(np.diff(ends.astype(np.int64), prepend=0) <= 0)
    ):
        raise UserError(f"{path}: its index does not fit it; remove {path.parent.parent} and run again")
    for file in (path, index):
        with file.open("rb") as written:
            os.fsync(written.fileno())
    return ShardRecord(
        file=path.name,
        tokens=tokens,
        documents=len(ends),
        sha256=file_sha256(path),
        index_sha256=file_sha256(path.with_name(path.name + ".index")),
    )


def unigram_entropy_nats(dataset: Path, shards: list[ShardRecord], tokenizer: TokenizerRecord) -> float:
    """-Σ p ln p over the token frequencies of the whole dataset, end-of-text tokens among them.

    It is the loss, in nats a token, of the best model that looks at no context.
    """
    counts = np.zeros(tokenizer.vocab_size, dtype=np.int64)
    for shard in shards:
        for part in _parts(dataset / shard.file, dtype_of(tokenizer)):
            counts += np.bincount(part, minlength=tokenizer.vocab_size)
    return entropy_nats(counts)


def entropy_nats(counts: np.ndarray) -> float:
    """Entropy of the distribution that `counts` are drawn from, by its frequencies."""
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum())


def _parts(path: Path, dtype: str) -> Iterator[np.ndarray]:
    tokens = np.memmap(path, dtype=np.dtype(dtype).newbyteorder("<"), mode="r")
    for start in range(0, len(tokens), READ_TOKENS):
        yield tokens[start : start + READ_TOKENS]


def tidy(dataset: Path, tokenizer: Path) -> None:
    """Leave in `dataset` what the contract names: datatrove's notes hold the path of the work folder."""
    for notes in dataset.glob("*.metadata"):
        notes.unlink()
    shutil.copyfile(tokenizer, dataset / TOKENIZER)


def move_into_place(dataset: Path, output: Path) -> None:
    """`dataset` becomes `output` by renaming; an old dataset there goes only once the new one stands.

    It is first brought beside `output`, which may be on another file system. Interrupted between the two
    renamings, the old one is put back by the next call.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    new, old = (output.with_name(f".{output.name}.{what}") for what in ("new", "replaced"))
    if old.exists() and not output.exists():
        old.rename(output)
    shutil.rmtree(new, ignore_errors=True)
    try:
        dataset.rename(new)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copytree(dataset, new)
    if output.exists():
        shutil.rmtree(old, ignore_errors=True)
        output.rename(old)
    new.rename(output)
    shutil.rmtree(old, ignore_errors=True)
