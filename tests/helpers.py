"""What several tests share."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from isoflop.data.manifest import Manifest, file_sha256, write_manifest


def write_dataset(
    root: Path,
    documents: Sequence[Sequence[int]],
    shard_documents: Sequence[int] | None = None,
    dtype: str = "uint16",
    vocab_size: int = 256,
    eos_id: int = 0,
    tokenizer: bytes = b'{"version": "1.0"}',
) -> Path:
    """A token dataset in `root`, whole; the documents stand as given, so end each with `eos_id`.

    `shard_documents` says how many documents each shard has; None: all in one. The tokens go to disk by
    plain Python, so that the reader is tested against something other than itself.
    """
    root.mkdir(parents=True, exist_ok=True)
    (root / "tokenizer.json").write_bytes(tokenizer)
    shards, rest = [], list(documents)
    for number, count in enumerate(shard_documents or [len(documents)]):
        here, rest = rest[:count], rest[count:]
        file = root / f"{number:05d}_documents.ds"
        size = np.dtype(dtype).itemsize
        file.write_bytes(b"".join(token.to_bytes(size, "little") for document in here for token in document))
        ends = [sum(map(len, here[: d + 1])) for d in range(count)]
        file.with_name(file.name + ".index").write_bytes(b"".join(end.to_bytes(8, "little") for end in ends))
        n_tokens = sum(map(len, here))
        shards.append(
            {
                "file": file.name,
                "tokens": n_tokens,
                "documents": count,
                "sha256": file_sha256(file),
                "index_sha256": file_sha256(file.with_name(file.name + ".index")),
            }
        )
    assert not rest, "shard_documents leaves documents out"
    write_manifest(
        root,
        Manifest(
            format_version=1,
            tokenizer={
                "name": "test",
                "sha256": hashlib.sha256(tokenizer).hexdigest(),
                "vocab_size": vocab_size,
                "eos_id": eos_id,
            },
            dtype=dtype,
            total_tokens=sum(map(len, documents)),
            total_documents=len(documents),
            shards=shards,
            pipeline={},
            stages=(),
            sources=("a test",),
            licence="none",
        ),
    )
    return root


def random_documents(count: int, seed: int = 0, vocab_size: int = 256, longest: int = 40) -> list[list[int]]:
    """Documents of 1 … `longest` tokens, the last of each token 0 and no other."""
    draw = np.random.default_rng(seed)
    return [[*draw.integers(1, vocab_size, draw.integers(longest)).tolist(), 0] for _ in range(count)]
