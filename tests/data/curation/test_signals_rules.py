"""Filters over columns decide as on documents, read no text, and annotate nothing anew."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pyarrow.parquet as pq
import pytest
import yaml
from curation import prose
from datatrove.data import Document
from signals_reading import document_values, line_spans, line_values, published_signals

from isoflop.config.base import ConfigError, UserError
from isoflop.config.curation.signals import (
    DuplicatesConfig,
    Rule,
    SignalsConfig,
    SignaturesConfig,
    duplicates_faults,
    rule_faults,
)
from isoflop.curate.signals import keep, thresholds
from isoflop.curate.signals.annotate import Annotate
from isoflop.curate.signals.columns import file_of, published
from isoflop.curate.signals.keep import ApplyRules, ReadKept
from isoflop.curate.signals.verdicts import read_verdicts

PROFILES = Path(__file__).parents[3] / "configs" / "pipeline"
PLAIN = SignalsConfig(signatures=None)
Kept = tuple[list[Document], dict[str, int]]


def shipped(name: str) -> dict[str, Rule | None]:
    profile = yaml.safe_load((PROFILES / f"redpajama-{name}.yaml").read_text())
    return {key: Rule(**rule) for key, rule in profile["rules"].items()}


def spoilt() -> list[str]:
    """Prose, and prose spoilt in each of the ways that a rule looks for."""
    good = [prose(seed) for seed in range(6)]
    words = [word.strip(".") for word in prose(50, words=300).split()]
    return [
        *good,
        "Only a few words.",
        "",
        " ".join(word * 3 for word in words),
        " ".join(f"{word} #" for word in words),
        "\n".join(f"• {word} it is." for word in words),
        "\n".join(f"{good[n]}..." for n in range(3)),
        " ".join(word if n % 2 else str(n) for n, word in enumerate(words)),
        " ".join(["water"] * 100),
        "\n\n".join([prose(8, words=70)] * 3),
        good[0] + " Lorem ipsum dolor.",
        good[1] + " {}",
        "\n".join(["Enable javascript to read it."] * 9 + [good[2]]),
        "\n".join(words),
        good[3].replace(".", ""),
    ]


def annotated(folder: Path, texts: Iterable[str], config: SignalsConfig = PLAIN, rank: int = 0) -> Path:
    documents = (Document(text=text, id=f"{rank}/{n}", metadata={"n": n}) for n, text in enumerate(texts))
    list(Annotate(folder, config).run(documents, rank))
    return folder


def apply(step: Any, rank: int = 0) -> Kept:
    documents, stats = list(step.run(None, rank)), step.stats.stats.items()
    return documents, {name: int(stat.total) for name, stat in stats if name != "doc_len"}


def keep_by(folder: Path, rules: dict[str, Any], excluded: Any = None) -> Kept:
    """The documents that the rules keep, and the rules' statistics."""
    stats = apply(ApplyRules(folder, folder / "verdicts", rules))[1]
    reader = ReadKept(folder, folder / "verdicts")
    reader.exclusion_writer = excluded
    return apply(reader)[0], stats


def gopher(text: str) -> bool:
    """RedPajama v2's README and Gopher's tables, asked of a document's own published signals."""
    signals = published_signals(text)
    value = {name: spans[0][2] for name, spans in signals.items() if name.startswith(("rps_doc", "ccnet"))}
    if value["rps_doc_word_count"] < 50 or value["rps_doc_word_count"] > 100_000:
        return False
    if not 3 <= value["rps_doc_mean_word_length"] <= 10 or value["rps_doc_symbol_to_word_ratio"] > 0.1:
        return False
    bullets = sum(span[2] for span in signals["rps_lines_start_with_bulletpoint"])
    if bullets / value["ccnet_nlines"] > 0.9 or value["rps_doc_frac_lines_end_with_ellipsis"] > 0.3:
        return False
    top = {2: 0.2, 3: 0.18, 4: 0.16}
    duplicate = {n: 0.2 - n / 100 for n in range(5, 11)}
    return (
        value["rps_doc_frac_no_alph_words"] <= 0.2
        and all(value[f"rps_doc_frac_chars_top_{n}gram"] <= most for n, most in top.items())
        and all(value[f"rps_doc_frac_chars_dupe_{n}grams"] <= most + 1e-12 for n, most in duplicate.items())
    )


def c4_like(text: str) -> bool:
    values, lines = document_values(text), line_values(text)
    n_lines = len(line_spans(text))
    marks = values["rps_doc_lorem_ipsum"] or values["rps_doc_curly_bracket"]
    if values["rps_doc_num_sentences"] < 5 or marks or n_lines == 0:
        return False
    return (
        sum(lines["rps_lines_ending_with_terminal_punctution_mark"]) >= 0.5 * n_lines
        and sum(n <= 2 for n in lines["rps_lines_num_words"]) <= 0.5 * n_lines
        and sum(n >= 1 for n in lines["rps_lines_javascript_counts"]) <= 0.5 * n_lines
    )


def fineweb_like(text: str) -> bool:
    values, lines = document_values(text), text.splitlines()
    marks = values["rps_doc_lorem_ipsum"] or values["rps_doc_curly_bracket"]
    if values["rps_doc_num_sentences"] < 5 or marks or not lines:
        return False
    return (
        sum(line.rstrip().endswith((".", "!", "?", "”")) for line in lines) >= 0.12 * len(lines)
        and sum(len(line) <= 30 for line in lines) <= 0.67 * len(lines)
        and (text.count("\n") + 1) / values["rps_doc_word_count"] <= 0.3
    )


@pytest.mark.parametrize(("name", "direct"), [("gopher", gopher), ("c4", c4_like), ("fineweb", fineweb_like)])
def test_a_rule_set_over_columns_is_the_filter_on_documents(name: str, direct: Any, tmp_path: Path) -> None:
    texts = spoilt()
    rules = shipped(name)
    assert list(rule_faults(rules, PLAIN, "rules")) == []
    documents, stats = keep_by(annotated(tmp_path, texts), rules)
    assert [doc.text for doc in documents] == [text for text in texts if direct(text)]
    assert 4 <= len(documents) < len(texts) - 4
    assert stats["total"] == len(texts)
    assert stats["forwarded"] == len(documents)
    reasons = {key for key in stats if key.startswith("dropped_")}
    assert stats["dropped"] == sum(stats[key] for key in reasons) == len(texts) - len(documents)
    assert reasons <= {f"dropped_{rule}" for rule in rules}


def test_the_first_rule_that_drops_is_told(tmp_path: Path) -> None:
    texts = ["one two three", "{one} two", "{a}"]
    rules = {
        "short": Rule(column="rps_doc_word_count", at_least=2),
        "left_out": None,
        "braces": Rule(column="rps_doc_curly_bracket", at_most=0),
        "three": Rule(column="rps_doc_word_count", at_least=3),
    }
    step = ApplyRules(annotated(tmp_path / "columns", texts), tmp_path / "verdicts", rules)
    _, stats = apply(step)
    assert read_verdicts(tmp_path / "verdicts", 0) == [None, "braces", "short"]
    assert stats == {"total": 3, "forwarded": 1, "dropped": 2, "dropped_braces": 1, "dropped_short": 1}
    kept = list(ReadKept(tmp_path / "columns", tmp_path / "verdicts").run(None, 0))
    assert [(doc.text, doc.id, doc.metadata) for doc in kept] == [("one two three", "0/0", {"n": 0})]


LINES = "One line.\n\nTwo 2 lines here\nshort."  # of 2, 0, 4 and 1 words


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        ({"aggregate": "sum", "at_least": 7}, True),
        ({"aggregate": "sum", "at_least": 7.001}, False),
        ({"aggregate": "mean", "at_most": 1.75}, True),
        ({"aggregate": "mean", "at_most": 1.74}, False),
        ({"aggregate": "min", "at_least": 1}, False),
        ({"aggregate": "max", "at_most": 4}, True),
        ({"aggregate": "max", "at_most": 3}, False),
        ({"aggregate": "fraction", "line_at_least": 1, "line_at_most": 2, "at_least": 0.5}, True),
        ({"aggregate": "fraction", "line_at_least": 1, "line_at_most": 2, "at_least": 0.51}, False),
        ({"aggregate": "sum", "per": "rps_doc_word_count", "at_least": 1, "at_most": 1}, True),
        ({"aggregate": "sum", "per": "rps_doc_lorem_ipsum", "at_least": 0}, False),  # by zero: no value
        ({"aggregate": "sum", "per": "rps_doc_lorem_ipsum", "at_least": 0, "if_null": "keep"}, True),
    ],
)
def test_aggregates_over_lines(rule: dict[str, Any], kept: bool, tmp_path: Path) -> None:
    """Between neighbours, so that a wrong offset into the lists is seen; an empty text is one of them."""
    texts = ["", "a\n" * 7, LINES, "b " * 9]
    documents, _ = keep_by(annotated(tmp_path, texts), {"rule": Rule(column="rps_lines_num_words", **rule)})
    assert (LINES in [doc.text for doc in documents]) is kept


@pytest.mark.parametrize(("if_null", "kept"), [("drop", []), ("keep", [""])])
def test_no_value_is_what_the_rule_says_it_is(if_null: Any, kept: list[str], tmp_path: Path) -> None:
    rule = Rule(column="rps_doc_mean_word_length", at_most=1, if_null=if_null)
    assert [d.text for d in keep_by(annotated(tmp_path, ["", "ab"]), {"rule": rule})[0]] == kept


def test_languages_and_scores_are_columns_too(tmp_path: Path) -> None:
    known = [{"language": "en", "language_score": 0.9, "url": "https://a.example/1"}, {"language": "de"}, {}]
    documents = [Document(text="a", id=str(n), metadata=metadata) for n, metadata in enumerate(known)]
    list(Annotate(tmp_path, PLAIN).run(documents, 0))

    def ids(**rule: Any) -> list[str]:
        return [doc.id for doc in keep_by(tmp_path, {"rule": Rule(**rule)})[0]]

    assert ids(column="language", one_of=("en", "fr")) == ["0"]
    assert ids(column="language", one_of=("de",), if_null="keep") == ["1", "2"]
    assert ids(column="ccnet_language_score", at_least=0.65) == ["0"]
    everything = {"all": Rule(column="rps_doc_word_count", at_least=0)}
    assert [doc.metadata for doc in keep_by(tmp_path, everything)[0]] == known


@pytest.fixture
def columns_read(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Every column that is asked of a parquet file."""
    read: set[str] = set()

    class Watched(pq.ParquetFile):
        def iter_batches(self, *args: Any, **given: Any) -> Iterator[Any]:
            for batch in super().iter_batches(*args, **given):
                read.update(batch.schema.names)
                yield batch

        def read(self, *args: Any, **given: Any) -> Any:
            raise AssertionError("reads more than batches of columns")

    monkeypatch.setattr(thresholds.pq, "ParquetFile", Watched)
    return read


def test_a_changed_threshold_reads_no_text_and_annotates_nothing(
    tmp_path: Path, columns_read: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = annotated(tmp_path, spoilt())
    before = file_of(folder, 0).read_bytes()
    monkeypatch.setattr("isoflop.curate.signals.annotate.Parts", None)  # annotating again would fail
    kept = []
    for least in (50, 200):
        rules = {**shipped("gopher"), "word_count": Rule(column="rps_doc_word_count", at_least=least)}
        apply(ApplyRules(folder, tmp_path / f"verdicts-{least}", rules))
        kept.append(read_verdicts(tmp_path / f"verdicts-{least}", 0).count(None))
    assert "rps_doc_word_count" in columns_read
    assert columns_read == set(thresholds.columns_of(shipped("gopher")))
    assert "text" not in columns_read
    assert kept[0] > kept[1] > 0
    assert file_of(folder, 0).read_bytes() == before


def test_the_text_of_a_row_group_without_a_kept_document_is_not_read(
    tmp_path: Path, columns_read: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isoflop.curate.signals.annotate.ROWS", 2)
    folder = annotated(tmp_path, ["a b", "c", "d", "e", "f g", "h i"])
    groups: list[int] = []
    watched = thresholds.pq.ParquetFile.iter_batches
    monkeypatch.setattr(
        keep.pq.ParquetFile,
        "iter_batches",
        lambda self, *args, **given: (
            groups.extend(args[1] if len(args) > 1 else []),
            watched(self, *args, **given),
        )[1],
    )
    rules = {"two": Rule(column="rps_doc_word_count", at_least=2)}
    assert [doc.text for doc in keep_by(folder, rules)[0]] == ["a b", "f g", "h i"]
    assert groups == [0, 2]


@pytest.mark.parametrize("writer", [False, True])
def test_rows_and_verdicts_stay_together_over_batches(
    writer: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches, row groups and runs of kept documents of different lengths; dropped ones go to the writer."""
    monkeypatch.setattr(keep, "READ_ROWS", 3)
    monkeypatch.setattr("isoflop.curate.signals.annotate.ROWS", 7)
    monkeypatch.setattr(thresholds, "BATCH", 4)
    texts = [f"{n} {'long ' * (n * n % 5)}" for n in range(40)]
    rules = {"two": Rule(column="rps_doc_word_count", at_most=2)}
    excluded: list[tuple[str, str]] = []
    taker = MagicMock()
    taker.write = lambda doc, rank: excluded.append((doc.text, doc.metadata["filter_reason"]))
    documents, _ = keep_by(annotated(tmp_path, texts), rules, taker if writer else None)
    assert [doc.text for doc in documents] == [text for text in texts if len(text.split()) <= 2]
    assert excluded == [(text, "two") for text in texts if len(text.split()) > 2] * writer


def test_the_columns_are_the_published_signals(tmp_path: Path) -> None:
    texts = spoilt()[:9]
    rows = pq.read_table(file_of(annotated(tmp_path, texts), 0)).to_pylist()
    for row, text in zip(rows, texts, strict=True):
        spans = published(row)
        assert spans.pop("ccnet_language_score") == [[0, len(text), None]]
        assert json.dumps(spans, sort_keys=True) == json.dumps(published_signals(text), sort_keys=True)


def test_an_annotation_is_whole_or_not_there(tmp_path: Path) -> None:
    def broken() -> Iterator[Document]:
        yield Document(text="a", id="0")
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk"):
        list(Annotate(tmp_path, PLAIN).run(broken(), 0))
    assert not file_of(tmp_path, 0).exists()
    annotated(tmp_path, ["a", "b"])  # the same task again
    assert [path.name for path in tmp_path.iterdir()] == ["00000.parquet"]
    assert pq.read_metadata(file_of(tmp_path, 0)).num_rows == 2


def test_annotating_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    files = [file_of(annotated(tmp_path / name, spoilt(), SignalsConfig()), 0) for name in "ab"]
    assert files[0].read_bytes() == files[1].read_bytes()


FAULTY = [
    (
        {"column": "rps_doc_unigram_entropi", "at_least": 1},
        "rules.r.column",
        "did you mean `rps_doc_unigram_entropy`",
    ),
    ({"column": "text", "at_least": 1}, "rules.r.column", "unknown column"),
    ({"column": "rps_doc_ldnoobw_words", "at_most": 0}, "rules.r.column", "signals.ldnoobw"),
    ({"column": "rps_lines_num_words", "at_least": 1}, "rules.r.aggregate", "mean, sum, min"),
    (
        {"column": "rps_doc_word_count", "aggregate": "sum", "at_least": 1},
        "rules.r.aggregate",
        "null is right",
    ),
    ({"column": "rps_doc_word_count", "per": "ccnet_nline", "at_most": 1}, "rules.r.per", "`ccnet_nlines`"),
    ({"column": "rps_doc_word_count"}, "rules.r", "drops nothing"),
    ({"column": "rps_doc_word_count", "at_least": 2, "at_most": 1}, "rules.r.at_least", "keeps nothing"),
    ({"column": "language", "at_least": 2}, "rules.r.one_of", "bound of text"),
    ({"column": "rps_doc_word_count", "one_of": ["en"], "at_most": 1}, "rules.r.one_of", "bound of text"),
    (
        {"column": "line_length", "aggregate": "fraction", "at_most": 1},
        "rules.r",
        "go with aggregate=fraction",
    ),
]


@pytest.mark.parametrize(("rule", "key", "told"), FAULTY, ids=[told for *_, told in FAULTY])
def test_a_faulty_rule_is_named_with_what_would_do(rule: dict[str, Any], key: str, told: str) -> None:
    faults = list(rule_faults({"r": Rule(**rule)}, PLAIN, "rules"))
    assert [fault.key for fault in faults] == [key]
    assert told in str(ConfigError(faults))


def test_a_similarity_without_signatures_is_named() -> None:
    made = SignalsConfig(signatures=SignaturesConfig(similarities=(0.7, 0.9)))
    assert list(duplicates_faults(DuplicatesConfig(similarity=0.9), made, "duplicates")) == []
    fault = next(duplicates_faults(DuplicatesConfig(), made, "duplicates"))
    assert str(fault) == "duplicates.similarity=0.8  has no signatures; there are: 0.7, 0.9"


def test_columns_that_a_file_lacks_are_named(tmp_path: Path) -> None:
    rules = {"words": Rule(column="rps_doc_ldnoobw_words", at_most=0)}
    with pytest.raises(UserError, match="has no column rps_doc_ldnoobw_words"):
        keep_by(annotated(tmp_path, ["a"]), rules)


def test_verdicts_of_another_annotation_are_refused(tmp_path: Path) -> None:
    rules = {"words": Rule(column="rps_doc_word_count", at_least=0)}
    apply(ApplyRules(annotated(tmp_path / "a", ["a", "b"]), tmp_path / "v", rules))
    with pytest.raises(UserError, match="has 1 documents, its verdicts 2"):
        list(ReadKept(annotated(tmp_path / "b", ["a"]), tmp_path / "v").run(None, 0))


def test_lists_given_as_paths_make_columns(tmp_path: Path) -> None:
    words, domains = tmp_path / "words.txt", tmp_path / "domains.json"
    words.write_text("damp\n\nwet paint\nwet paint here\nWet\n")
    domains.write_text('{"a.example": 3, "b.example:80": 4}')
    config = SignalsConfig(ldnoobw=str(words), ut1=str(domains), signatures=None)
    urls = ["https://a.example/x", "http://b.example:80/", "http://c.example", None, "http://[x"]
    texts = ["Wet paint here! Damp wet paint.", "damp damp wet", "", "wet", "a"]
    documents = [
        Document(text=text, id="", metadata={"url": url} if url else {})
        for text, url in zip(texts, urls, strict=True)
    ]
    list(Annotate(tmp_path / "columns", config).run(documents, 0))
    table = pq.read_table(file_of(tmp_path / "columns", 0))
    assert table["rps_doc_ldnoobw_words"].to_pylist() == [4, 2, 0, 0, 0]
    assert table["rps_doc_ut1_blacklist"].to_pylist() == [3, 4, None, None, None]
    rule = Rule(column="rps_doc_ut1_blacklist", at_most=-1, if_null="keep")
    assert list(rule_faults({"r": rule}, config, "rules")) == []
    assert Counter(doc.text for doc in keep_by(tmp_path / "columns", {"r": rule})[0]) == Counter(texts[2:])


@pytest.mark.parametrize(
    ("key", "content", "told"),
    [
        ("ldnoobw", None, "cannot be read"),
        ("ldnoobw", b"\n", "has no words"),
        ("ldnoobw", b"\xff\xfe", "is not UTF-8"),
        ("ut1", b"[1]", "must be a JSON object"),
        ("ut1", b"{", "must be a JSON object"),
    ],
)
def test_a_list_that_cannot_be_used_is_an_error(
    key: str, content: bytes | None, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "list"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=told):
        annotated(tmp_path / "columns", ["a"], SignalsConfig(**{key: str(path)}))
