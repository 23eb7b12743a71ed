"""Exact duplicates, against a dictionary of all documents and against datatrove's own blocks."""

import random
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from datatrove.data import Document
from datatrove.pipeline.dedup import ExactDedupFilter, ExactDedupSignature, ExactFindDedups
from datatrove.pipeline.dedup.exact_dedup import ExactDedupConfig as DatatroveExact

from isoflop.config.base import ConfigError, UserError
from isoflop.config.curation.dedup import ExactDedupConfig
from isoflop.curate.dedup.exact import FOUND, DropExact, FindExact, duplicates, sign_exact

Piece = list[tuple[str, str | None]]
"""Texts, and addresses."""


def documents(piece: Piece, task: int) -> Iterable[Document]:
    for i, (text, url) in enumerate(piece):
        yield Document(text=text, id=f"{task}/{i}", metadata={} if url is None else {"url": url})


def pieces_of(seed: int, tasks: int = 4) -> list[Piece]:
    """Few texts and addresses for many documents; one task has none."""
    draw = random.Random(seed)
    texts = [
        "",
        "!?",
        "...",
        "A tale.",
        "a  tale",
        "a tale",
        "á tale",
        "tale a",
        "2 tales",
        "3 tales",
        "two tales",
    ]
    urls = [None, "http://a.example/", "http://a.example/#x", "HTTP://a.example/"]
    return [
        [(draw.choice(texts) * draw.choice((1, 1, 2)), draw.choice(urls)) for _ in range(30 * (task % 3))]
        for task in range(tasks)
    ]


def sign_and_find(config: ExactDedupConfig, pieces: Sequence[Piece], folder: Path) -> None:
    for rank, piece in enumerate(pieces):
        record, sign = sign_exact(config, folder / "hashes")
        sign.run(record.run(documents(piece, rank), rank, len(pieces)), rank, len(pieces))
    for rank in range(config.hash_ranges):
        FindExact(folder / "hashes", folder / "found", config).run(None, rank, config.hash_ranges)


def left(
    config: ExactDedupConfig, piece: Iterable[Document], rank: int, tasks: int, folder: Path
) -> list[str]:
    drop = DropExact(folder / "found", folder / "hashes", config)
    return [doc.id for doc in drop.run(piece, rank, tasks)]


def plain(text: str) -> str:
    """What is left of these texts when case, the accent, punctuation and which number it is do not matter."""
    return re.sub(r"\d+", "0", re.sub(r"[^a-z0-9]+", " ", text.lower().replace("á", "a"))).strip()


KEYS = {
    ("text", "none"): lambda text, url, name: text,
    ("text", "simplified"): lambda text, url, name: plain(text) or name,
    ("url", "none"): lambda text, url, name: url or name,
}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("hash_ranges", [1, 3])
def test_the_first_in_order_stays(key: tuple[str, str], hash_ranges: int, tmp_path: Path) -> None:
    """Across tasks, as a dictionary of what was met before has it, and each drop is counted."""
    config = ExactDedupConfig(by=key[0], normalise=key[1], hash_ranges=hash_ranges)
    pieces = pieces_of(1)
    sign_and_find(config, pieces, tmp_path)
    first: dict[str, str] = {}
    for task, piece in enumerate(pieces):
        for i, (text, url) in enumerate(piece):
            first.setdefault(KEYS[key](text, url, f"{task}/{i}"), f"{task}/{i}")
    assert 5 < len(first) < 90
    found = [left(config, documents(p, t), t, len(pieces), tmp_path) for t, p in enumerate(pieces)]
    assert [name for names in found for name in names] == list(first.values())


def test_each_duplicate_knows_which_document_stays(tmp_path: Path) -> None:
    """For looking at: the task and place of both."""
    config = ExactDedupConfig()
    sign_and_find(config, [[("x", None), ("y", None)], [("y", None), ("x", None), ("y", None)]], tmp_path)
    found = np.fromfile(tmp_path / "found/00000.found", FOUND).tolist()
    assert found == [(1, 0, 0, 1), (1, 1, 0, 0), (1, 2, 0, 1)]


def test_an_id_is_an_address_where_there_is_no_other(tmp_path: Path) -> None:
    """A reader may put the one or the other."""
    config, address = ExactDedupConfig(by="url"), "http://a.example/"
    docs = [Document(text="x", id="0", metadata={"url": address}), Document(text="y", id=address)]
    record, sign = sign_exact(config, tmp_path / "hashes")
    sign.run(record.run(iter(docs), 0, 1), 0, 1)
    FindExact(tmp_path / "hashes", tmp_path / "found", config).run(None, 0, 1)
    assert left(config, docs, 0, 1, tmp_path) == ["0"]


def test_hashes_are_the_same_in_all_of_their_bits() -> None:
    """Documents that share one half of a hash are not duplicates."""
    hashed = np.array(
        [(1, 1, 0), (1, 2, 1), (2, 1, 2), (1, 2, 0)], [("high", "<u8"), ("low", "<u8"), ("place", "<u4")]
    )
    found = duplicates(hashed, np.array([0, 0, 0, 1], np.uint32))
    assert found.tolist() == [(1, 0, 0, 1)]


def text_of(doc: Document) -> str:
    return doc.text


def test_within_a_task_datatroves_blocks_drop_the_same(tmp_path: Path) -> None:
    """There its lower place is the first document too."""
    piece = pieces_of(2)[2]
    stock = DatatroveExact(content_getter=text_of)
    ExactDedupSignature(str(tmp_path / "sig"), stock).run(documents(piece, 0), 0, 1)
    ExactFindDedups(str(tmp_path / "sig"), str(tmp_path / "dup"), stock).run(None, 0, 1)
    theirs = [d.id for d in ExactDedupFilter(str(tmp_path / "dup"), stock).run(documents(piece, 0), 0, 1)]
    sign_and_find(ExactDedupConfig(), [piece], tmp_path)
    assert left(ExactDedupConfig(), documents(piece, 0), 0, 1, tmp_path) == theirs
    assert 1 < len(theirs) < len(piece)


def test_drops_are_counted(tmp_path: Path) -> None:
    """As a filter's are, with the reason."""
    config, piece = ExactDedupConfig(), [("x", None), ("x", None), ("y", None)]
    sign_and_find(config, [piece], tmp_path)
    drop = DropExact(tmp_path / "found", tmp_path / "hashes", config)
    list(drop.run(documents(piece, 0), 0, 1))
    totals = drop.stats.to_dict()["stats"]
    counted = {
        name: totals[name] if isinstance(totals[name], int) else totals[name]["total"] for name in totals
    }
    assert counted == {"total": 3, "forwarded": 2, "dropped": 1, "dropped_same_text": 1, "doc_len": 2}


def test_other_documents_or_tasks_are_refused(tmp_path: Path) -> None:
    """Another order, number of tasks or of ranges, settings, and a stage that did not run."""
    config, pieces = ExactDedupConfig(hash_ranges=2), pieces_of(3)
    for rank, piece in enumerate(pieces):
        record, sign = sign_exact(config, tmp_path / "hashes")
        sign.run(record.run(documents(piece, rank), rank, 4), rank, 4)
    with pytest.raises(UserError, match=r"00000\.found: is missing; run the stage"):
        left(config, documents(pieces[0], 0), 0, 4, tmp_path)
    with pytest.raises(UserError, match="hash_ranges=2: this stage must have as many tasks, not 1"):
        FindExact(tmp_path / "hashes", tmp_path / "found", config).run(None, 0, 1)
    sign_and_find(config, pieces, tmp_path)
    with pytest.raises(UserError, match="another order"):
        left(config, list(documents(pieces[1], 1))[::-1], 1, 4, tmp_path)
    with pytest.raises(UserError, match="signatures of 4 tasks, but this stage has 5"):
        left(config, documents(pieces[1], 1), 1, 5, tmp_path)
    with pytest.raises(UserError, match="signed with"):
        left(ExactDedupConfig(by="url", hash_ranges=2), documents(pieces[1], 1), 1, 4, tmp_path)
    (tmp_path / "hashes/range_00001/00002.hashes").unlink()
    with pytest.raises(UserError, match=r"00002\.hashes: is missing"):
        FindExact(tmp_path / "hashes", tmp_path / "found", config).run(None, 0, 2)


def test_addresses_are_not_simplified() -> None:
    """It would do nothing: said, not ignored."""
    with pytest.raises((ConfigError, ValueError), match="by=url compares addresses as they are"):
        ExactDedupConfig(by="url", normalise="simplified")
