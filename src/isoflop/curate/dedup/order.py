"""Deduplication names a document by its task and its place there: the places must not have moved.

A signature stage writes beside its signatures what it read, `inputs/<rank>.json`: the number of tasks
and of documents, and a digest of the documents' ids in order. The stages after it refuse to work where
that is not what they find; datatrove's own remove whatever document now stands in the place.
"""

import json
import os
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path

from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

from isoflop.config.base import UserError

INPUTS = "inputs"
PARTIAL = "partial"  # files that are being written; a stage that lists a folder must not find them


@dataclass(frozen=True)
class Input:
    """What a task of a signature stage read, and the settings that it worked with."""

    rank: int
    tasks: int
    documents: int
    ids_digest: str
    settings: str


class RecordOrder(PipelineStep):
    """Passes documents through, and writes their order in `folder` when the last has passed."""

    type = "🫂 - DEDUP"
    name = "record order"

    def __init__(self, folder: Path, settings: str) -> None:
        super().__init__()
        self.folder = folder
        self.settings = settings

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        (self.folder / INPUTS / f"{rank:05d}.json").unlink(missing_ok=True)
        order = _Order()
        yield from order.watch(data)
        found = Input(rank, world_size, order.documents, order.digest(), self.settings)
        write_whole(self.folder, f"{INPUTS}/{rank:05d}.json", json.dumps(asdict(found)).encode())


class CheckOrder(PipelineStep):
    """Passes documents through, for a block that goes by their places in the stage that wrote `folder`.

    Raises UserError: at once where the number of tasks is another one, and after the last document
    where they were not the same in the same order, so that the task fails and is not marked as done.
    """

    type = "🫂 - DEDUP"
    name = "check order"

    def __init__(self, folder: Path, settings: str) -> None:
        super().__init__()
        self.folder = folder
        self.settings = settings

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        signed = read_inputs(self.folder, self.settings)
        if len(signed) != world_size:
            raise UserError(
                f"{self.folder}: signatures of {len(signed)} tasks, but this stage has {world_size}; "
                "run it with as many, or sign again"
            )
        order = _Order()
        yield from order.watch(data)
        then = signed[rank]
        if (order.documents, order.digest()) != (then.documents, then.ids_digest):
            what = (
                f"{then.documents} documents were signed, {order.documents} came"
                if order.documents != then.documents
                else f"the {then.documents} documents are not those that were signed, or in another order"
            )
            raise UserError(f"{self.folder}: task {rank}: {what}; sign what is to be deduplicated")


class CheckSignatures(PipelineStep):
    """Before a stage that reads all signatures in `folder`: raises UserError unless all are there.

    `suffix` is that of the signature files, `<folder>/*/<rank><suffix>`. One of a task that does not
    exist, left by an earlier run, is refused too.
    """

    type = "🫂 - DEDUP"
    name = "check signatures"

    def __init__(self, folder: Path, settings: str, suffix: str) -> None:
        super().__init__()
        self.folder = folder
        self.settings = settings
        self.suffix = suffix

    def run(self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1) -> None:
        tasks = len(read_inputs(self.folder, self.settings))
        expected = {f"{rank:05d}{self.suffix}" for rank in range(tasks)}
        for bucket in sorted(self.folder.iterdir()):
            if bucket.name in (INPUTS, PARTIAL) or not bucket.is_dir():
                continue
            found = {path.name for path in bucket.iterdir()}
            if found != expected:
                name = min(found ^ expected)
                what = "is missing" if name in expected else f"is of none of the {tasks} tasks"
                raise UserError(f"{bucket / name}: {what}; sign again, into an empty folder")


def read_inputs(folder: Path, settings: str) -> list[Input]:
    """What each task of the signature stage read. Raises UserError unless all did, with `settings`."""
    paths = sorted((folder / INPUTS).glob("*.json"))
    if not paths:
        raise UserError(f"{folder}: holds no signatures; run the stage that writes them first")
    inputs = [Input(**json.loads(path.read_text())) for path in paths]
    tasks = inputs[0].tasks
    for path, found in zip(paths, inputs, strict=True):
        if found.tasks != tasks:
            raise UserError(
                f"{path}: is of {found.tasks} tasks, others of {tasks}; sign again, into an empty folder"
            )
        if found.settings != settings:
            raise UserError(f"{path}: signed with {found.settings}, not {settings}; sign again")
    missing = sorted(set(range(tasks)) - {found.rank for found in inputs})
    if missing or len(inputs) != tasks:
        raise UserError(f"{folder}: task {missing[0]} of {tasks} has no signatures; run the stage to its end")
    return inputs


def write_whole(folder: Path, name: str, content: bytes) -> None:
    """Write `folder`/`name` at once or not at all, and read it back. Raises OSError where it differs."""
    path, partial = folder / name, folder / PARTIAL / name.replace("/", "-")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.write_bytes(content)
    if blake2b(partial.read_bytes()).digest() != blake2b(content).digest():
        raise OSError(f"{partial}: what was written is not what is read back; is the disk sound?")
    os.replace(partial, path)


class _Order:
    """Counts documents, and digests their ids."""

    def __init__(self) -> None:
        self.documents = 0
        self._digest = blake2b(digest_size=16)

    def watch(self, data: DocumentsPipeline) -> DocumentsPipeline:
        for doc in data:
            self.documents += 1
            name = str(doc.id).encode("utf-8", "surrogatepass")
            self._digest.update(len(name).to_bytes(8, "little") + name)
            yield doc

    def digest(self) -> str:
        return self._digest.hexdigest()
