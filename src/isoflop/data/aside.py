"""What stands beside the tokens of a dataset, so that a person can see what a curation did.

`<root>/samples/{kept,dropped,failed}.jsonl.zst`: a `Sample` a line. `<root>/samples/clusters.jsonl.zst`: a
`Cluster` of near-duplicates a line. `<root>/kept_ids.npy`: `id_hash` of every kept document, uint64, sorted.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypedDict

Kind = Literal["kept", "dropped", "failed"]
KINDS: tuple[Kind, ...] = ("kept", "dropped", "failed")
SAMPLES = "samples"
CLUSTERS = "clusters"
KEPT_IDS = "kept_ids.npy"
ENDING = ".jsonl.zst"


class Sample(TypedDict):
    """A document of which a step kept a look."""

    step: str  # as the manifest's stages name it
    reason: str  # why it was dropped or failed; empty where it was kept
    id: str
    url: str | None
    text: str  # its beginning; of a failed one its first bytes, \xff where they are no text
    characters: int  # of the whole text (of a failed one, bytes)
    metadata: dict[str, Any]


class Member(TypedDict):
    """A document of a cluster, of which one is kept."""

    id: str
    url: str | None
    text: str
    kept: bool


class Cluster(TypedDict):
    """Documents that are near-duplicates of one another; `members` are some of all `size`."""

    cluster: int
    size: int
    members: list[Member]


def id_hash(name: str) -> int:
    """64 bits of BLAKE2b: who is sampled, and what `kept_ids.npy` holds.

    The same in every curation, so that two of them show the same documents. Among 10⁹ ids one pair in
    thirty such curations is expected to share its hash.
    """
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "little")


def sample_path(root: Path, kind: str) -> Path:
    """Where the merged records of a kind (or `CLUSTERS`) of the dataset in `root` stand."""
    return root / SAMPLES / (kind + ENDING)


def write_records(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line, compressed, under another name first: the file is whole or not there."""
    import pyarrow as pa

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with pa.output_stream(str(partial), compression="zstd") as out:
        for record in records:
            line = json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n"
            out.write(line.encode("utf-8", "backslashreplace"))  # \udc80 is how JSON writes it, too
    with partial.open("rb") as written:
        os.fsync(written.fileno())
    partial.replace(path)


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file that `write_records` wrote. Raises OSError or ValueError where it is torn."""
    import pyarrow as pa

    with pa.input_stream(str(path), compression="zstd") as stream:
        rest = b""
        while part := stream.read(1 << 20):
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                yield json.loads(line)
        if rest:
            raise ValueError(f"{path}: its last line is cut short")
