"""Signatures by their definition, datatrove's by its own class, and both through datatrove's stages."""

import filecmp
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from curation import edited, prose
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup import MinhashDedupSignature
from datatrove.utils.text import simplify_text
from datatrove.utils.typeshelper import Languages

from isoflop.config.base import UserError
from isoflop.config.curation.dedup import MinhashConfig
from isoflop.curate.dedup import minhash, signature, stages
from isoflop.curate.dedup.cluster import ClusterPairs
from isoflop.curate.dedup.minhash import Signer
from isoflop.curate.dedup.order import PARTIAL
from isoflop.curate.dedup.signature import DatatroveSigner, SignDocuments, sorted_rows
from isoflop.curate.dedup.stages import datatrove_shape, drop_duplicates, match_signatures, sign_documents
from isoflop.curate.dedup.words import BASE, mix, segments, word_hashes
from isoflop.curate.words import WORDS

SHORT = ["", "one two three four", "one two three four five"]


def documents(texts: Iterable[str], task: int = 0) -> Iterable[Document]:
    return iter([Document(text=text, id=f"{task}/{i}") for i, text in enumerate(texts)])


def run(steps: Sequence, texts: Iterable[str] | None = None, rank: int = 0, tasks: int = 1) -> list[Document]:
    """The steps of one task, chained as an executor does."""
    data = None if texts is None else documents(texts, rank)
    for step in steps:
        data = step(data, rank, tasks)
    return list(data or [])


def deduplicate(config: MinhashConfig, pieces: Sequence[Sequence[str]], folder: Path) -> list[list[str]]:
    """The ids that are left in each task, by all four stages."""
    signatures, matches, found = folder / "signatures", folder / "matches", folder / "found"
    for rank, texts in enumerate(pieces):
        run(sign_documents(config, signatures), texts, rank, len(pieces))
    for bucket in range(config.num_buckets):
        run(match_signatures(config, signatures, matches), None, bucket, config.num_buckets)
    run([ClusterPairs(matches, found, config.num_buckets)])
    return [
        [doc.id for doc in run([drop_duplicates(config, signatures, found)], texts, rank, len(pieces))]
        for rank, texts in enumerate(pieces)
    ]


def by_definition(signer: Signer, text: str) -> list[int] | None:
    """A signature in Python's integers, from one word at a time."""
    words = word_hashes([text])[0].tolist()
    grams = [words[i : i + signer.n_grams] for i in range(len(words) - signer.n_grams + 1)]
    if not grams:
        return None
    x = [sum(h * BASE ** (len(g) - 1 - i) for i, h in enumerate(g)) % 2**64 for g in grams]
    x = mix(np.array(x, np.uint64)).tolist()
    permutations = zip(signer._a.tolist(), signer._b.tolist(), strict=True)
    return [min((a * value + b) % 2**64 for value in x) >> 3 for a, b in permutations]


@pytest.mark.parametrize(("permuted", "segment", "block"), [(1 << 15, 1 << 18, 1 << 16), (50, 400, 900)])
def test_signatures_follow_the_definition(
    permuted: int, segment: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For texts short and long, ASCII and not, whatever they are cut and joined to on the way."""
    monkeypatch.setattr(minhash, "PERMUTED", permuted)
    monkeypatch.setattr(minhash, "BLOCK_CHARS", block)
    monkeypatch.setattr(minhash, "SEGMENT_CHARS", segment)
    monkeypatch.setattr(minhash, "segments", lambda text: segments(text, segment))
    signer = Signer(MinhashConfig(num_buckets=3, hashes_per_bucket=2))
    texts = [*SHORT, prose(1), f"“{prose(2)}” été", prose(3, words=700), "", prose(4, words=20)]
    signatures, counts = signer.sign(texts)
    expected = [by_definition(signer, text) for text in texts]
    assert counts.tolist() == [max(len(split(text)) - 4, 0) for text in texts]
    assert signatures[counts > 0].tolist() == [one for one in expected if one is not None]


@pytest.mark.parametrize("engine", ["fast", "exact"])
def test_recall_is_theorys(engine: str) -> None:
    """1 - (1 - s^8)^14 at each pair's exact Jaccard similarity s, within four standard errors."""
    config = MinhashConfig(engine=engine)
    signer = (Signer if engine == "fast" else DatatroveSigner)(config)
    originals = [prose(seed, words=150) for seed in range(700)]
    copies = [edited(text, seed, 0.004 + 0.06 * seed / 700) for seed, text in enumerate(originals)]
    bands = [signer.sign(texts)[0].reshape(-1, 14, 8) for texts in (originals, copies)]
    met = (bands[0] == bands[1]).all(axis=2).any(axis=1)
    s = np.array([jaccard(*pair) for pair in zip(originals, copies, strict=True)])
    expected = 1 - (1 - s**8) ** 14
    for few in (s < 0.7, (s >= 0.7) & (s < 0.85), s >= 0.85):
        assert few.sum() > 50
        error = np.sqrt((expected[few] * (1 - expected[few])).sum())
        assert abs(met[few].sum() - expected[few].sum()) < 4 * error + 0.5
    strangers = (bands[0][:-1] == bands[0][1:]).all(axis=2).any()
    assert not strangers


def jaccard(a: str, b: str) -> float:
    one, other = (set(zip(*(words[i:] for i in range(5)), strict=False)) for words in (split(a), split(b)))
    return len(one & other) / len(one | other)


def split(text: str) -> list[str]:
    return simplify_text(text).split()


@pytest.mark.parametrize("hash_fc", ["xxhash", "sha1"])
def test_exact_engine_writes_datatroves_bytes(
    hash_fc: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File by file, those of MinhashDedupSignature with words parted by white space."""
    monkeypatch.setattr(signature, "BATCH_DOCUMENTS", 4)
    config = MinhashConfig(engine="exact", hash_fc=hash_fc, n_grams=3, num_buckets=4, hashes_per_bucket=3)
    texts = [*SHORT, *(prose(seed) for seed in range(6)), "été 1.5 “x”!", prose(1), "the same " * 3000]
    SignDocuments(tmp_path / "ours", config).run(documents(texts), 1, 2)
    stock = MinhashDedupSignature(
        str(tmp_path / "stock"), datatrove_shape(config), language=WORDS["whitespace"]
    )
    stock.run(documents(texts), 1, 2)
    names = [f"bucket_{bucket:03d}/00001.minhash.sig" for bucket in range(4)]
    same, other, absent = filecmp.cmpfiles(tmp_path / "ours", tmp_path / "stock", names, shallow=False)
    assert (same, other, absent) == (names, [], [])


def test_lines_with_equal_first_hashes_are_sorted() -> None:
    """By all columns, and then by place, as Python sorts tuples."""
    band = np.random.default_rng(0).integers(0, 3, size=(200, 3)).astype(np.uint64)
    rows = [(*row, place) for place, row in enumerate(band.tolist())]
    assert sorted_rows(band).tolist() == [row[-1] for row in sorted(rows)]
    assert sorted_rows(band[:0]).tolist() == []


@pytest.mark.parametrize("engine", ["fast", "exact", "reference"])
def test_the_first_of_each_cluster_stays(engine: str, tmp_path: Path) -> None:
    """Copies, near-copies and short texts over three tasks, one of which has nothing to sign."""
    one, two, three = (prose(seed, words=400) for seed in (1, 2, 3))
    near = edited(one, 7, 0.002)
    assert jaccard(one, near) > 0.95
    pieces = [["a b", one, two], ["a b", ""], [near, three, two.upper(), "x", three]]
    left = deduplicate(MinhashConfig(engine=engine), pieces, tmp_path)
    assert left == [["0/0", "0/1", "0/2"], ["1/0", "1/1"], ["2/1", "2/3"]]


def test_spacys_words_are_for_the_reference_and_must_be_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """datatrove's English default; without the package it is the user's mistake, told in a line."""
    config = MinhashConfig(engine="reference", words="spacy")
    asked: list[str] = []
    monkeypatch.setattr(stages, "MinhashDedupSignature", lambda *_, language: asked.append(language))
    monkeypatch.setattr(stages, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install spacy"):
        sign_documents(config, tmp_path)
    assert asked == []
    monkeypatch.setattr(stages, "find_spec", lambda name: name)
    sign_documents(config, tmp_path)
    assert asked == [Languages.english]


def test_drops_are_counted_and_clusters_noted(tmp_path: Path) -> None:
    """So that the drop table adds up, and a cluster can be looked at."""
    config, text = MinhashConfig(), prose(1)
    deduplicate(config, [[text, prose(2), text, text]], tmp_path)
    last = drop_duplicates(config, tmp_path / "signatures", tmp_path / "found")
    left = run([last], [text, prose(2), text, text])
    totals = {name: stat["total"] if isinstance(stat, dict) else stat for name, stat in counts(last).items()}
    assert totals["total"] == 4
    assert totals["dropped"] == totals["dropped_near_duplicate"] == 2
    assert [(doc.metadata["minhash_cluster_id"], doc.metadata["minhash_cluster_size"]) for doc in left] == [
        (0, 3),
        (-1, 1),
    ]


def counts(step: PipelineStep) -> dict:
    return json.loads(json.dumps(step.stats.to_dict()))["stats"]


def test_another_process_signs_the_same(tmp_path: Path) -> None:
    """Whatever seed Python gives to its own hashes, and whatever was signed before."""
    code = (
        "import sys; from isoflop.curate.dedup.minhash import Signer;"
        "from isoflop.config.curation.dedup import MinhashConfig;"
        "print(Signer(MinhashConfig()).sign([sys.argv[1]])[0].tolist())"
    )
    text = f"{prose(5)} é"
    there = subprocess.run(
        [sys.executable, "-c", code, text],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "7"},
    ).stdout
    signer = Signer(MinhashConfig())
    signer.sign([prose(6)])
    assert json.loads(there) == signer.sign([prose(7), text])[0][1:].tolist()
    assert json.loads(there) != Signer(MinhashConfig(seed=2)).sign([text])[0].tolist()


def test_a_task_that_was_cut_short_is_run_again(tmp_path: Path) -> None:
    """Until then nothing says that it is whole; then its files are those of an undisturbed run."""
    config, texts = MinhashConfig(num_buckets=2), [prose(seed) for seed in range(5)]

    def breaks() -> Iterable[Document]:
        yield from documents(texts[:3])
        raise KeyboardInterrupt

    run(sign_documents(config, tmp_path / "again"), texts[:2])
    record, sign = sign_documents(config, tmp_path / "again")
    with pytest.raises(KeyboardInterrupt):
        sign.run(record.run(breaks(), 0, 1), 0, 1)
    match = match_signatures(config, tmp_path / "again", tmp_path / "matches")
    assert "holds no signatures" in refused(match, None, 0, 2)
    run(sign_documents(config, tmp_path / "again"), texts)
    run(sign_documents(config, tmp_path / "once"), texts)
    for path in (tmp_path / "once").glob("bucket_*/*"):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(tmp_path / "once")).read_bytes()
    assert not list((tmp_path / "again" / PARTIAL).iterdir())


def refused(steps: Sequence, texts: Iterable[str] | None, rank: int, tasks: int) -> str:
    with pytest.raises(UserError) as error:
        run(steps, texts, rank, tasks)
    return str(error.value)


def test_other_documents_than_those_signed_are_refused(tmp_path: Path) -> None:
    """Another number of tasks or documents, another order, other settings; and stages that did not run."""
    config, pieces = MinhashConfig(), [[prose(1), prose(2)], [prose(3), prose(1)]]
    signatures, found = tmp_path / "signatures", tmp_path / "found"
    drop = [drop_duplicates(config, signatures, found)]
    assert "no clusters" in refused(drop, pieces[0], 0, 2)
    deduplicate(config, pieces, tmp_path)
    assert "2 tasks, but this stage has 3" in refused(drop, pieces[0], 0, 3)
    assert "2 documents were signed, 1 came" in refused(drop, pieces[1][:1], 1, 2)
    assert "2 documents were signed, 3 came" in refused(drop, [*pieces[1], "x"], 1, 2)
    with pytest.raises(UserError, match="not those that were signed, or in another order"):
        list(drop[0].run(iter(list(documents(pieces[0]))[::-1]), 0, 2))
    other = [drop_duplicates(MinhashConfig(seed=2), signatures, found)]
    assert "signed with" in refused(other, pieces[0], 0, 2)


def test_signatures_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    """A task without any, a file that is missing, and files of a run with more tasks."""
    config, signatures = MinhashConfig(num_buckets=2), tmp_path / "signatures"
    match = match_signatures(config, signatures, tmp_path / "matches")
    assert "holds no signatures" in refused(match, None, 0, 2)
    run(sign_documents(config, signatures), [prose(1)], 0, 2)
    assert "task 1 of 2 has no signatures" in refused(match, None, 0, 2)
    run(sign_documents(config, signatures), [prose(2)], 1, 2)
    run(match, None, 0, 2)
    stale = signatures / "bucket_000/00002.minhash.sig"
    stale.write_bytes(b"")
    assert "00002.minhash.sig: is of none of the 2 tasks" in refused(match, None, 0, 2)
    stale.unlink()
    (signatures / "bucket_001/00001.minhash.sig").unlink()
    assert "00001.minhash.sig: is missing" in refused(match, None, 0, 2)
    run(sign_documents(config, signatures), [prose(2)], 1, 3)
    assert "others" in refused(match, None, 0, 2)
    assert "1 files of pairs for 2 buckets" in refused(
        [ClusterPairs(tmp_path / "matches", tmp_path, 2)], None, 0, 1
    )
