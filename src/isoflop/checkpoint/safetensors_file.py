"""safetensors files, written as their bytes become known: a header of all tensors, then each tensor in turn.

The format: 8 bytes of the header's length, little-endian; the header, JSON, padded with blanks to a multiple
of 8; then the tensors, row-major and little-endian, one after the other (its specification, version 0.4).
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
CHUNK = 2**22
"""Numbers that are converted at once."""


@dataclass(frozen=True)
class Entry:
    """A tensor that is to be written."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def n_bytes(self) -> int:
        return torch.Size(self.shape).numel() * self.dtype.itemsize


def in_shards(entries: Sequence[Entry], shard_bytes: int) -> list[list[Entry]]:
    """`entries` in order, cut into files of at most `shard_bytes`; a larger tensor has a file of its own."""
    shards: list[list[Entry]] = [[]]
    size = 0
    for entry in entries:
        if shards[-1] and size + entry.n_bytes > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(entry)
        size += entry.n_bytes
    return shards


def write_file(path: Path, entries: Sequence[Entry], tensors: Iterator[Tensor]) -> None:
    """Write `entries` to `path`, taking their values from `tensors` one at a time, in the same order."""
    with path.open("wb") as file:
        file.write(header(entries))
        for entry in entries:
            tensor = next(tensors)
            assert tuple(tensor.shape) == entry.shape, entry.name
            for chunk in tensor.reshape(-1).split(CHUNK):
                file.write(chunk.to(entry.dtype).contiguous().view(torch.uint8).numpy().data)
            del tensor, chunk  # before the next one is made
        file.flush()
        os.fsync(file.fileno())


def header(entries: Sequence[Entry]) -> bytes:
    """What stands before the tensors."""
    tree: dict[str, object] = {"__metadata__": {"format": "pt"}}  # as transformers asks
    begin = 0
    for entry in entries:
        offsets = [begin, begin + entry.n_bytes]
        tree[entry.name] = {"dtype": DTYPES[entry.dtype], "shape": list(entry.shape), "data_offsets": offsets}
        begin = offsets[1]
    text = json.dumps(tree, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
