"""`isoflop data inspect` says what the dataset's files say, and shows strange text without obeying it."""

import html
import json
import math
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers import random_documents, write_dataset

from isoflop.config.errors import UserError
from isoflop.data.aside import (
    CLUSTERS,
    KEPT_IDS,
    Cluster,
    Member,
    Sample,
    id_hash,
    sample_path,
    write_records,
)
from isoflop.data.manifest import DatasetError, Manifest, StageRecord, read_manifest, write_manifest
from isoflop.report.dataset import statistics
from isoflop.report.dataset.compare import compare, kept_elsewhere, overlap_of, pair_steps
from isoflop.report.dataset.gather import gather
from isoflop.report.dataset.inspect import inspect_datasets
from isoflop.report.dataset.vocabulary import BYTE_OF, Token, read_vocabulary

np = pytest.importorskip("numpy")
pytest.importorskip("plotly")
pytest.importorskip("pyarrow")

EVIL = "<script>alert(1)</script> </pre> {{ 7 * 7 }} [red]markup[/red] \x1b[31m \u202e \ud800"
STAGES: list[dict[str, Any]] = [
    {"name": "read", "documents_in": 100, "documents_out": 98, "dropped": {"bad_json": 2}, "seconds": 1.0},
    {
        "name": "gopher quality",
        "documents_in": 98,
        "documents_out": 60,
        "dropped": {"short": 30, "symbols": 8},
        "seconds": 1.0,
    },
    {"name": "minhash", "documents_in": 60, "documents_out": 40, "dropped": {"minhash": 20}, "seconds": 1.0},
]


def sample(step: str, reason: str, name: str, text: str = "some text") -> Sample:
    return Sample(
        step=step, reason=reason, id=name, url=None, text=text, characters=len(text), metadata={"score": 0.5}
    )


def make(
    root: Path,
    documents: Sequence[Sequence[int]] | None = None,
    kept: Sequence[str] = (),
    dropped: Sequence[Sample] = (),
    **more: Any,
) -> Path:
    """A dataset with samples and kept ids beside it."""
    write_dataset(root, documents or random_documents(40), [30, len(documents or [0] * 40) - 30])
    plain = read_manifest(root).model_dump(mode="json")
    write_manifest(root, Manifest.model_validate({**plain, "stages": STAGES, **more}))
    write_records(sample_path(root, "dropped"), dropped)
    write_records(sample_path(root, "kept"), [sample("kept", "", name) for name in kept])
    np.save(root / KEPT_IDS, np.sort(np.array([id_hash(name) for name in kept], dtype="<u8")))
    return root


DROPPED = [
    *(sample("gopher quality", "short", f"short-{n}") for n in range(9)),
    sample("gopher quality", "symbols", "evil", EVIL),
    *(sample("minhash", "minhash", f"copy-{n}") for n in range(3)),
]


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return make(tmp_path / "one", kept=[f"kept-{n}" for n in range(40)], dropped=DROPPED)


def printed(capsys: pytest.CaptureFixture[str], *roots: Path, **options: Any) -> str:
    chosen = {"out": None, "reason": None, "n": 5, "seed": 0} | options
    capsys.readouterr()
    inspect_datasets(list(roots), **chosen)
    return capsys.readouterr().out


def page(folder: Path, *roots: Path, **options: Any) -> str:
    out = folder / "page.html"
    inspect_datasets(list(roots), **({"out": out, "reason": None, "n": 5, "seed": 0} | options))
    return out.read_text()


def embedded(text: str) -> Any:
    (found,) = re.findall(r'<script id="isoflop-data" type="application/json">(.*?)</script>', text)
    return json.loads(found, parse_constant=pytest.fail)


def body(text: str) -> str:
    """What a reader reads."""
    inside = text.split("<main>")[1].split("</main>")[0]
    return html.unescape(" ".join(re.sub(r"<[^>]+>", " ", inside).split()))


def test_lengths_and_frequencies_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against plain counting; the files are read a few items at a time."""
    draw = np.random.default_rng(3)
    documents = [draw.integers(0, 256, 7 * n % 211).tolist() for n in range(1, 201)]  # no two of one length
    root = write_dataset(tmp_path / "set", documents, [120, 80])
    monkeypatch.setattr(statistics, "AT_ONCE", 7)
    manifest = read_manifest(root)
    found, tokens = statistics.lengths(root, manifest), statistics.token_statistics(root, manifest, top=5)
    sizes = sorted(map(len, documents))
    for fraction in (0.001, 0.01, 0.333, 0.5, 0.9, 0.999):
        assert found.quantile(fraction) == sizes[math.ceil(fraction * 200) - 1]
    assert (found.mean, found.longest) == (sum(sizes) / 200, sizes[-1])
    for least, most, count, held in found.bins():
        here = [size for size in sizes if least <= size <= most]
        assert (count, held) == (len(here), sum(here))
    assert sum(row[2] for row in found.bins()) == 200
    counts = Counter(token for document in documents for token in document)
    total = sum(counts.values())
    expected = -sum(n / total * math.log(n / total) for n in counts.values())
    assert tokens.entropy_nats == pytest.approx(expected, rel=1e-12)
    assert (tokens.read, tokens.used) == (total, len(counts))
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:5]
    assert [(token.id, token.count) for token in tokens.top] == ranked


def test_of_many_tokens_a_part_of_every_shard_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_dataset(tmp_path / "set", [[1] * 100, [2] * 300], [1, 1])
    monkeypatch.setattr(statistics, "READ_TOKENS", 200)
    tokens = statistics.token_statistics(root, read_manifest(root))
    assert (tokens.read, tokens.total) == (200, 400)
    assert {token.id: token.count for token in tokens.top} == {1: 50, 2: 150}


def test_the_vocabulary_is_the_tokenizers(tmp_path: Path) -> None:
    """What each id stands for, against the library's own decoding."""
    tokenizers = pytest.importorskip("tokenizers")
    trainers, pre = tokenizers.trainers, tokenizers.pre_tokenizers
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = pre.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=["<eos>"],
        initial_alphabet=pre.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(
        ["naïve café — 日本語 and the river and the sea\n\tand the hill"] * 3, trainer
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    vocabulary = read_vocabulary(tmp_path / "tokenizer.json")
    assert vocabulary[0] == Token("<eos>", 0)
    assert len(vocabulary) == tokenizer.get_vocab_size()
    whole = 0
    for number in range(1, len(vocabulary)):
        decoded = tokenizer.decode([number], skip_special_tokens=False)
        if "\ufffd" not in decoded:  # a part of a character has no text of its own
            assert vocabulary[number] == Token(decoded, len(decoded.encode()))
            whole += 1
    assert whole > 150
    everything = "".join(map(chr, range(0x800)))
    written = "".join(
        piece for piece, _ in pre.ByteLevel(False, use_regex=False).pre_tokenize_str(everything)
    )
    assert bytes(BYTE_OF[character] for character in written) == everything.encode()
    assert set(BYTE_OF) == set(pre.ByteLevel.alphabet())
    text = "naïve 日本語 café\n"
    assert sum(vocabulary[n].bytes for n in tokenizer.encode(text).ids) == len(text.encode())


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"model": {"vocab": null}}', b"\xff"])
def test_what_is_no_tokenizer_has_no_vocabulary(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    assert read_vocabulary(tmp_path / "tokenizer.json") == {}


def test_sentence_pieces(tmp_path: Path) -> None:
    tree = {"model": {"vocab": [["<unk>", 0], ["▁the", -1], ["<0x0A>", -2], ["é", -3]]}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(tree))
    vocabulary = read_vocabulary(tmp_path / "tokenizer.json")
    assert [vocabulary[n] for n in (1, 2, 3)] == [Token(" the", 4), Token("<0x0A>", 1), Token("é", 2)]


def test_documents_are_shown_by_reason(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = printed(capsys, dataset, n=2)
    assert "40 documents of 100 (40.0%)" in shown
    assert "dropped · gopher quality: short · 30 · 2 shown" in shown
    assert "dropped · minhash · 20 · 2 shown" in shown
    assert len(re.findall(r"short-\d", shown)) == 2
    assert len(re.findall(r"kept-\d+", shown)) == 2
    only = printed(capsys, dataset, reason="symbols")
    assert "symbols · 8 · 1 shown" in only
    assert "short-" not in only
    assert "kept-" not in only
    step = printed(capsys, dataset, reason="gopher quality", n=9)
    assert set(re.findall(r"short-\d", step)) == {f"short-{n}" for n in range(9)}


def test_another_seed_shows_others(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draws = [re.findall(r"short-\d", printed(capsys, dataset, seed=seed, n=3)) for seed in range(6)]
    assert all(len(draw) == 3 for draw in draws)
    assert len({tuple(draw) for draw in draws}) > 3
    assert re.findall(r"short-\d", printed(capsys, dataset, seed=4, n=3)) == draws[4]


def test_strange_text_is_shown_and_not_obeyed(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = printed(capsys, dataset, reason="symbols")
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert r"\x1b[31m" in shown
    assert "[red]markup[/red]" in shown
    text = page(dataset.parent, dataset, reason="symbols")
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &lt;/pre&gt; {{ 7 * 7 }}" in text
    assert "\x1b" not in text.split("</main>")[0]


def test_the_page_says_what_the_dataset_is(dataset: Path) -> None:
    text = page(dataset.parent, dataset)
    told, manifest = embedded(text)["datasets"][0], read_manifest(dataset)
    assert (told["documents"], told["tokens"]) == (manifest.total_documents, manifest.total_tokens)
    assert told["content_sha256"] == manifest.content_sha256
    assert [stage["dropped"] for stage in told["stages"]] == [stage["dropped"] for stage in STAGES]
    read = body(text)
    for expected in ("40.0 % of 100", "short 30", "symbols 8", "gopher quality: short 30 documents, 5 shown"):
        assert expected in read
    ours = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", ours)
    places = set(re.findall(r' id="([^"]+)"', ours))
    assert set(re.findall(r' href="#([^"]+)"', ours)) <= places
    assert len(re.findall(r' href="#', ours)) == 3


def test_clusters_are_shown_together(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    members = [
        Member(id=f"copy-{n}", url=f"http://{n}.org", text=f"copy {n}", kept=n == 2) for n in (2, 0, 1)
    ]
    write_records(sample_path(dataset, CLUSTERS), [Cluster(cluster=7, size=31, members=members)])
    shown = " ".join(printed(capsys, dataset).partition("cluster 7 · 31 near-duplicates")[2].split())
    assert shown.startswith("copy-2 · http://2.org · kept copy 2 copy-0 · http://0.org · dropped copy 0")
    assert "31 documents cluster 7, 3 shown copy-2 kept" in body(page(dataset.parent, dataset))


def test_two_runs_differ_where_they_differ(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Planted: one threshold, one edited recipe, a step more, and three documents."""
    stages = [*STAGES[:2], {**STAGES[2], "name": "exact"}, STAGES[2]]
    stages[1] = {**stages[1], "dropped": {"short": 25, "symbols": 8, "alpha": 5}}
    there = [f"kept-{n}" for n in range(38)] + ["short-3"]
    dropped = [
        sample("gopher quality", "alpha", "kept-39", "told why"),
        sample("minhash", "minhash", "other"),
    ]
    other = make(
        dataset.parent / "two",
        kept=there,
        dropped=dropped,
        stages=stages,
        pipeline={"gopher": {"alpha": 0.9, "short": 50}, "seed": 1},
        recipe_sha256="b" * 64,
    )
    first = make(
        dataset,
        kept=[f"kept-{n}" for n in range(40)],
        dropped=DROPPED,
        pipeline={"gopher": {"alpha": 0.8, "short": 50}, "seed": 1},
        recipe_sha256="a" * 64,
    )
    told = compare(gather(first, "one"), gather(other, "two"))
    assert told.config == [("gopher.alpha", "0.8", "0.9")]
    assert [row[0] for row in told.beside] == ["recipe"]
    assert [step.name for step in told.steps] == ["read", "gopher quality", "exact", "minhash"]
    assert told.steps[1].reasons == [("alpha", 0, 5), ("short", 30, 25), ("symbols", 8, 8)]
    assert told.overlap is not None
    assert (told.overlap.both, told.overlap.first, told.overlap.second) == (38, 2, 1)
    assert [s["id"] for s in told.only_first] == ["kept-39"]
    assert [s["id"] for s in told.only_second] == ["short-3"]
    shown = " ".join(printed(capsys, first, other).split())
    assert "kept by both 38" in shown
    assert "gopher quality: alpha told why" in shown
    text = page(dataset.parent, first, other)
    assert embedded(text)["difference"]["kept"] == [38, 2, 1]
    assert "Kept by one, dropped by two" in body(text)


def test_the_same_twice_does_not_differ(dataset: Path) -> None:
    told = compare(gather(dataset, "a"), gather(dataset, "b"))
    assert told.same
    assert told.overlap is not None
    assert (told.overlap.both, told.overlap.first, told.overlap.second) == (40, 0, 0)
    assert (told.only_first, told.only_second) == ([], [])


def test_ids_that_repeat_count_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two arrays of few distinct hashes against plain counting, read a few at a time."""
    monkeypatch.setattr("isoflop.report.dataset.compare.AT_ONCE", 4)
    draw = np.random.default_rng(0)
    for _ in range(20):
        a, b = (np.sort(draw.integers(0, 12, draw.integers(0, 15)).astype("<u8")) for _ in range(2))
        found = overlap_of(a, b)
        assert found.both == sum(x in set(b.tolist()) for x in a.tolist())
        assert found.first == sum(x not in set(b.tolist()) for x in a.tolist())
        assert found.second == sum(x not in set(a.tolist()) for x in b.tolist())


def test_a_name_that_both_keep_is_not_told_as_dropped() -> None:
    """One document of that id was dropped, but another of the same id is kept."""
    here, there = (np.array([id_hash(name)], "<u8") for name in ("twice", "twice"))
    assert kept_elsewhere([sample("minhash", "minhash", "twice")], here, there) == []
    assert kept_elsewhere([sample("minhash", "minhash", "twice")], here, there[:0]) != []


def test_steps_of_one_name_do_not_hide_each_other() -> None:
    def steps(*names: str) -> list[StageRecord]:
        return [StageRecord(name=n, documents_in=1, documents_out=1, dropped={}, seconds=0) for n in names]

    pairs = pair_steps(steps("a", "exact", "exact"), steps("new", "a", "exact"))
    assert [(p.name, p.first is None, p.second is None) for p in pairs] == [
        ("new", True, False),
        ("a", False, False),
        ("exact", False, False),
        ("exact (2)", False, True),
    ]


def test_without_samples_there_is_still_much_to_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_dataset(tmp_path / "bare", random_documents(5))
    shown = " ".join(printed(capsys, root).split())
    assert "has no samples/" in shown
    assert "5 documents" in shown
    assert "has no samples/" in body(page(tmp_path, root))


def test_a_torn_sample_is_noted(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torn = sample_path(dataset, "dropped")
    torn.write_bytes(torn.read_bytes()[:-12])
    (dataset / KEPT_IDS).write_bytes(b"no array")
    shown = " ".join(printed(capsys, dataset).split())
    assert "dropped.jsonl.zst cannot be read to its end" in shown
    assert "kept_ids.npy cannot be read" in shown
    assert "kept · kept" not in shown
    assert "kept-" in shown


def test_mistakes_are_told(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--reason shrt: nothing was dropped for it; did you mean `short`"):
        inspect_datasets([dataset], None, "shrt", 5, 0)
    with pytest.raises(DatasetError, match="nowhere: does not exist"):
        gather(tmp_path / "nowhere", "x")
    with pytest.raises(UserError, match=r"is a folder; give --out a file"):
        inspect_datasets([dataset], tmp_path, None, 5, 0)
    shard = dataset / read_manifest(dataset).shards[0].file
    shard.write_bytes(b"\xff\xff" * 40)
    with pytest.raises(DatasetError, match="token 65535 is not of its tokenizer"):
        gather(dataset, "x")
    shard.with_name(shard.name + ".index").unlink()
    with pytest.raises(DatasetError, match=r"\.ds\.index: No such file"):
        gather(dataset, "x")


def test_the_command(dataset: Path) -> None:
    def isoflop(*words: str | Path) -> "subprocess.CompletedProcess[str]":
        program = (
            "import sys; from isoflop.cli import main\n"
            "try: main()\n"
            "finally: assert not {'torch', 'datatrove'} & set(sys.modules)"
        )
        return subprocess.run(
            [sys.executable, "-c", program, *map(str, words)], capture_output=True, text=True
        )

    out = dataset.parent / "deep" / "page.html"
    done = isoflop("data", "inspect", dataset, "--out", out, "--n", "1")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{out}\n", "")
    assert out.is_file()
    lost = isoflop("data", "inspect", dataset.parent)
    assert lost.returncode == 1
    assert lost.stderr.count("\n") == 1
    assert "has no manifest.json" in lost.stderr
