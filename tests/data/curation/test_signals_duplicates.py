"""Duplicates found on hashes and signatures: the first stays, as brute force over the documents says."""

import random
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from curation import edited, prose
from datatrove.data import Document

from isoflop.config.base import UserError
from isoflop.config.curation.signals import DuplicatesConfig, Rule, SignalsConfig, SignaturesConfig
from isoflop.curate.signals.annotate import Annotate
from isoflop.curate.signals.columns import file_of
from isoflop.curate.signals.duplicates import DropDuplicates, clusters, same_as
from isoflop.curate.signals.keep import ApplyRules, ReadKept
from isoflop.curate.signals.verdicts import read_verdicts

ALL = SignalsConfig()


def annotate(folder: Path, tasks: Sequence[Sequence[str]], config: SignalsConfig = ALL) -> Path:
    for rank, texts in enumerate(tasks):
        documents: Iterable[Document] = (
            Document(text=text, id=f"{rank}/{n}") for n, text in enumerate(texts)
        )
        for _ in Annotate(folder, config).run(documents, rank):
            pass
    return folder


def drop(
    folder: Path, tasks: int, config: DuplicatesConfig, rules: dict[str, Rule | None] | None = None
) -> tuple[list[list[str | None]], dict[str, int]]:
    """The reasons for every task's documents, and the statistics of the step."""
    for rank in range(tasks):
        list(ApplyRules(folder, folder / "judged", rules or {}).run(None, rank))
    step = DropDuplicates(folder, folder / "judged", folder / "kept", tasks, config)
    assert list(step.run(None, 0)) == []
    stats = {name: int(stat.total) for name, stat in step.stats.stats.items()}
    return [read_verdicts(folder / "kept", rank) for rank in range(tasks)], stats


def planted() -> list[list[str]]:
    """Three tasks of documents, a third of them copies: exact, hardly edited and much edited ones."""
    draw = random.Random(0)
    texts = [prose(seed, words=120) for seed in range(30)]
    texts += [texts[n] for n in (3, 3, 7)]
    texts += [f"{texts[4]} Indeed.", f"{texts[4]} Indeed. So it was.", f"{texts[5]}!"]
    texts += [
        edited(texts[6], 6, 0.02),
        edited(texts[8], 8, 0.3),
        "too short to be signed",
        "too short to be signed",
        "",
        "",
    ]
    draw.shuffle(texts)
    return [texts[0::3], texts[1::3], texts[2::3]]


@pytest.mark.parametrize("similarity", [0.7, 0.8, 0.9, 1.0])
def test_what_is_kept_is_what_brute_force_keeps(similarity: float, tmp_path: Path) -> None:
    tasks = planted()
    folder = annotate(tmp_path, tasks)
    reasons, stats = drop(folder, 3, DuplicatesConfig(similarity=similarity))
    texts = [text for task in tasks for text in task]
    column = f"minhash_signature_{similarity}"
    signatures = [
        row for rank in range(3) for row in pq.read_table(file_of(folder, rank))[column].to_pylist()
    ]
    told = [reason for task in reasons for reason in task]
    assert told == brute_force(texts, signatures)
    near, exact = stats.get("dropped_near_duplicate", 0), stats["dropped_exact_duplicate"]
    assert exact == 5
    assert near == (1 if similarity == 1 else 3)  # at 1.0, what normalization makes equal
    assert stats["total"] == len(texts) == stats["forwarded"] + stats["dropped"]
    assert stats["dropped"] == exact + near
    kept = [doc.text for rank in range(3) for doc in ReadKept(folder, folder / "kept").run(None, rank)]
    assert kept == [text for text, reason in zip(texts, told, strict=True) if reason is None]


def brute_force(texts: list[str], signatures: list[list[bytes] | None]) -> list[str | None]:
    """Every pair compared: equal texts first; then whatever is joined, directly or not, by a band."""
    reasons: list[str | None] = [
        "exact_duplicate" if text in texts[:n] else None for n, text in enumerate(texts)
    ]
    signed = [n for n, bands in enumerate(signatures) if bands is not None and reasons[n] is None]
    joined = {n: {n} for n in signed}
    for one, other in combinations(signed, 2):
        pairs = zip(signatures[one] or (), signatures[other] or (), strict=True)
        if any(a == b for a, b in pairs):
            union = joined[one] | joined[other]
            joined.update(dict.fromkeys(union, union))
    for n in signed:
        if n != min(joined[n]):
            reasons[n] = "near_duplicate"
    return reasons


def test_a_document_that_a_rule_drops_takes_no_other_with_it(tmp_path: Path) -> None:
    """The first of two near-duplicates fails a rule: the second is kept, for nothing else says its text."""
    text = prose(1, words=120)
    folder = annotate(tmp_path, [[text + " {"], [text, text]])
    rules: dict[str, Rule | None] = {"braces": Rule(column="rps_doc_curly_bracket", at_most=0)}
    reasons, stats = drop(folder, 2, DuplicatesConfig(), rules)
    assert reasons == [["braces"], [None, "exact_duplicate"]]
    assert stats == {"total": 2, "forwarded": 1, "dropped": 1, "dropped_exact_duplicate": 1}


def test_each_kind_can_be_left_alone(tmp_path: Path) -> None:
    text = prose(1, words=120)
    folder = annotate(tmp_path, [[text, text + " Indeed.", text, "brief", "brief"]])
    near, exact = "near_duplicate", "exact_duplicate"
    for config, expected in (
        (DuplicatesConfig(exact=True, similarity=None), [None, None, exact, None, exact]),
        (DuplicatesConfig(exact=False, similarity=0.8), [None, near, near, None, None]),
        (DuplicatesConfig(exact=False, similarity=None), [None] * 5),
    ):
        assert drop(folder, 1, config)[0] == [expected]


def test_duplicates_are_found_without_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = annotate(tmp_path, planted())
    read: set[str] = set()
    original = pq.ParquetFile.iter_batches

    def watched(self: Any, *args: Any, **given: Any) -> Any:
        for batch in original(self, *args, **given):
            read.update(batch.schema.names)
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", watched)
    drop(folder, 3, DuplicatesConfig(similarity=0.9))
    assert read == {"sha256", "minhash_signature_0.9"}


def test_nothing_kept_and_nothing_there(tmp_path: Path) -> None:
    folder = annotate(tmp_path, [["a", "b"], []])
    nothing: dict[str, Rule | None] = {"all": Rule(column="rps_doc_word_count", at_least=9)}
    assert drop(folder, 2, DuplicatesConfig(), nothing) == ([["all", "all"], []], {})


def test_signatures_that_are_not_there_are_named(tmp_path: Path) -> None:
    config = SignalsConfig(signatures=SignaturesConfig(similarities=(0.7,)))
    with pytest.raises(UserError, match=r"has no column minhash_signature_0\.8"):
        drop(annotate(tmp_path, [["a"]], config), 1, DuplicatesConfig())


@pytest.mark.parametrize("seed", range(5))
def test_clusters_are_connected_components(seed: int) -> None:
    """Against a flood over the graph, for bands drawn from few values, so that chains are long."""
    draw = np.random.default_rng(seed)
    n = 50
    bands = [draw.integers(0, 38, (n, 1)).astype(np.uint8).repeat(3, axis=1) for _ in range(2)]
    names = clusters(bands)
    for start in range(n):
        reached, border = {start}, [start]
        while border:
            here = border.pop()
            near = {m for band in bands for m in range(n) if (band[m] == band[here]).all()} - reached
            reached |= near
            border += near
        assert names[start] == min(reached)


def test_equal_rows_are_named_by_the_first() -> None:
    rows = np.array([[0, 1], [1, 0], [0, 1], [0, 0], [1, 0]], dtype=np.uint8)
    assert same_as(rows).tolist() == [0, 1, 0, 3, 1]
