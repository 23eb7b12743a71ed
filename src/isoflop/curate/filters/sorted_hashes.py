"""Sets of strings as sorted 64-bit hashes in a .npy file that every worker maps and none copies.

Eight bytes a string instead of Python's hundred, and the pages of a mapped file are shared. A string that
is not in a set of n is taken for a member with probability n / 2^64: once in 4·10^12 questions for four
million strings.
"""

import os
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_intdigest

Hashes = npt.NDArray[np.uint64]


def hash_all(strings: Iterable[str]) -> Hashes:
    """The hash of every string, in their order."""
    return np.array(array("Q", map(xxh3_64_intdigest, strings)), dtype=np.uint64)


def contains(members: Hashes, string: str) -> bool:
    """Whether `string` is in the sorted `members`."""
    if not len(members):
        return False
    wanted = np.uint64(xxh3_64_intdigest(string))  # a plain int would turn the whole array to floats
    place = int(np.searchsorted(members, wanted))
    return place < len(members) and bool(members[place] == wanted)


def save(path: Path, values: npt.NDArray[Any]) -> None:
    """Write `path` whole or not at all, whoever else is writing it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        np.save(file, values)
    os.replace(temporary, path)


def mapped(path: Path) -> npt.NDArray[Any]:
    """The array in `path`, mapped: read from the disk where it is asked, and shared between processes."""
    values: npt.NDArray[Any] = np.load(path, mmap_mode="r")
    return values.view(np.ndarray)  # memmap's own class makes each question several times slower
