"""Decontamination: documents that share an n-gram of words with an evaluation.

A lone stage hashes the evaluations' n-grams into sorted files, which the workers map. A document's n-grams
are hashed all at once: the hash of a sequence is a polynomial in the hashes of its words, modulo 2^64, so
that thirteen multiplications of arrays make every 13-gram of a document.
"""

import json
import re
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.filters.base_filter import BaseFilter

from isoflop.config.base import UserError
from isoflop.config.curation.decontaminate import DecontaminateConfig
from isoflop.curate.filters.evaluations import Evaluation, find_evaluations, read_items
from isoflop.curate.filters.sorted_hashes import Hashes, hash_all, mapped, save

# Of scripts without blanks between words (Thai to Khmer, kana, Han) each character is a word of its own.
ALONE = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
ALONE += "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
WORD = re.compile(rf"[^\W_{ALONE}]+|(?!\W)[{ALONE}]")
STEP = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplying by its powers loses nothing
INDEX = "evaluations.json"
Owners = npt.NDArray[np.uint16]


class CompileEvaluations(PipelineStep):
    """A lone task that writes the evaluations' n-grams into `folder`, and what each file gave."""

    type = "🦠 - DECONT"
    name = "evaluations"

    def __init__(self, config: DecontaminateConfig, folder: Path) -> None:
        super().__init__()
        self.config = config
        self.folder = folder
        self.files = find_evaluations(config)
        self.files_sha256 = [file.sha256() for file in self.files]  # known by content

    def run(self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1) -> None:
        found: dict[int, list[tuple[Hashes, int]]] = {}
        records = [self._compile(owner, file, found) for owner, file in enumerate(self.files)]
        for size, parts in found.items():
            hashes, owners = _merged(parts)
            save(self.folder / f"hashes-{size}.npy", hashes)
            save(self.folder / f"owners-{size}.npy", owners)
        index = {"files": records, "sizes": sorted(found)}
        (self.folder / INDEX).write_text(json.dumps(index, indent=2, ensure_ascii=False) + "\n")

    def _compile(
        self, owner: int, file: Evaluation, found: dict[int, list[tuple[Hashes, int]]]
    ) -> dict[str, Any]:
        """Add the n-grams of one file to `found`, by their length in words."""
        mine: dict[int, list[Hashes]] = {}
        items = skipped = 0
        for text in read_items(file, self.config.text_keys):
            words = words_of(text)
            items += 1
            size = min(len(words), self.config.n_gram)
            if size < min(self.config.min_item_words, self.config.n_gram):
                skipped += 1
                continue
            mine.setdefault(size, []).append(n_grams(hash_all(words), size))
        unique = {size: np.unique(np.concatenate(parts)) for size, parts in mine.items()}
        for size, hashes in unique.items():
            found.setdefault(size, []).append((hashes, owner))
        self.stat_update("items", value=items)
        self.stat_update("items_too_short", value=skipped)
        return {
            "name": file.name,
            "items": items,
            "items_too_short": skipped,
            "n_grams": sum(map(len, unique.values())),
            "sha256": file.sha256(),
        }


class Decontaminate(BaseFilter):
    """Drops, as `contaminated`, what shares n-grams with the evaluations that were compiled into `folder`.

    Counts contaminated documents as `contaminated`, and for each file that they hit as `hit_<file>`.
    """

    name = "decontaminate"

    def __init__(self, config: DecontaminateConfig, folder: Path) -> None:
        super().__init__()
        self.config = config
        self.folder = folder

    @cached_property
    def names(self) -> list[str]:
        return [file["name"] for file in read_index(self.folder)["files"]]

    @cached_property
    def known(self) -> dict[int, tuple[Hashes, Owners]]:
        """For each length of n-gram, the sorted hashes and the number of the file that each is from."""
        return {
            size: (mapped(self.folder / f"hashes-{size}.npy"), mapped(self.folder / f"owners-{size}.npy"))
            for size in read_index(self.folder)["sizes"]
        }

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        hits, covered, owners = self.overlap(doc.text)
        if hits < self.config.min_hits or covered < self.config.min_covered_fraction:
            return True
        files = [self.names[owner] for owner in sorted(owners)]
        self.stat_update("contaminated", *(f"hit_{name}" for name in files))
        doc.metadata["contaminated"] = files
        return (False, "contaminated") if self.config.drop else True

    def overlap(self, text: str) -> tuple[int, float, set[int]]:
        """(places where a shared n-gram begins, fraction of words in one, the files' numbers)."""
        words = hash_all(words_of(text))
        begins = np.zeros(len(words), dtype=bool)
        edges = np.zeros(len(words) + 1, dtype=np.int64)  # +1 where a shared n-gram begins, -1 after its end
        owners: set[int] = set()
        for size, (hashes, files) in self.known.items():
            grams = n_grams(words, size)
            places = np.searchsorted(hashes, grams)
            hit = np.flatnonzero(hashes[np.minimum(places, len(hashes) - 1)] == grams)
            if len(hit):
                begins[hit] = True
                np.add.at(edges, hit, 1)
                np.add.at(edges, hit + size, -1)
                ends = np.searchsorted(hashes, grams[hit], side="right")
                for first, end in set(zip(places[hit].tolist(), ends.tolist(), strict=True)):
                    owners.update(files[first:end].tolist())
        covered = np.count_nonzero(np.cumsum(edges[:-1])) / max(len(words), 1)
        return int(begins.sum()), covered, owners


def words_of(text: str) -> list[str]:
    """Runs of letters and digits, in lower case, and the single characters of scripts that part no words."""
    return WORD.findall(text.lower())


def n_grams(words: Hashes, size: int) -> Hashes:
    """The hash of every `size` successive words, given the words' hashes; empty where they are fewer."""
    count = len(words) - size + 1
    if count <= 0:
        return words[:0]
    total = words[:count].copy()
    for offset in range(1, size):
        total *= STEP
        total += words[offset : offset + count]
    return total


def _merged(parts: list[tuple[Hashes, int]]) -> tuple[Hashes, Owners]:
    """Every (hash, file) once, sorted by hash."""
    hashes = np.concatenate([part for part, _ in parts])
    owners = np.concatenate([np.full(len(part), owner, dtype=np.uint16) for part, owner in parts])
    order = np.argsort(hashes, kind="stable")
    return hashes[order], owners[order]


def read_index(folder: Path) -> dict[str, Any]:
    """What the lone stage found: `files`, a record of each, and `sizes`, the n-grams' lengths.

    Raises UserError where that stage has not run.
    """
    if not (folder / INDEX).is_file():
        raise UserError(f"{folder}: no evaluations were compiled here")
    index: dict[str, Any] = json.loads((folder / INDEX).read_text())
    return index
