"""SHA-256 of every file of a checkpoint: taken by the rank that wrote it, asked again before it is loaded."""

from collections.abc import Iterable
from pathlib import Path
from typing import TypedDict

import torch.distributed as dist

from isoflop.config.base import UserError
from isoflop.data.manifest import file_sha256


class Checksum(TypedDict):
    """What the marker says of one file."""

    bytes: int
    sha256: str


def checksums(folder: Path, names: Iterable[str]) -> dict[str, Checksum]:
    """Of each file of `names` in `folder`, read back: what a reader will get, not what a writer meant."""
    return {
        name: Checksum(bytes=(folder / name).stat().st_size, sha256=file_sha256(folder / name))
        for name in sorted(names)
    }


def verify(folder: Path, expected: dict[str, Checksum], hashed: bool, otherwise: str) -> None:
    """Compare the files of `folder` with `expected`, each on one rank; `hashed`: not their sizes alone.

    Every rank calls it. Raises UserError, on every rank, naming the first file that differs and what to
    do `otherwise`.
    """
    rank, n_ranks = dist.get_rank(), dist.get_world_size()
    by_size = sorted(expected, key=lambda name: (-expected[name]["bytes"], name))  # shared out evenly
    faults = [_fault(folder, name, expected[name], hashed) for name in by_size[rank::n_ranks]]
    all_faults: list[list[str | None]] = [[] for _ in range(n_ranks)]
    dist.all_gather_object(all_faults, faults)
    found = sorted(fault for faults in all_faults for fault in faults if fault is not None)
    if found:
        more = f" (and {len(found) - 1} files more)" if len(found) > 1 else ""
        raise UserError(f"{found[0]}{more}: the checkpoint is damaged; {otherwise}")


def _fault(folder: Path, name: str, expected: Checksum, hashed: bool) -> str | None:
    path = folder / name
    try:
        size = path.stat().st_size
        if size != expected["bytes"]:
            return f"{path}: has {size:,} bytes, {expected['bytes']:,} were written"
        if hashed and (found := file_sha256(path)) != expected["sha256"]:
            return f"{path}: its sha256 is {found[:12]}…, {expected['sha256'][:12]}… was written"
    except OSError as error:
        return f"{path}: cannot be read: {(error.strerror or str(error)).lower()}"
    return None
