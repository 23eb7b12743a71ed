"""Decontamination finds what sets of strings find, word for word."""

import gzip
import json
import random
import re
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datatrove.data import Document

from isoflop.config.base import UserError
from isoflop.config.curation.decontaminate import DecontaminateConfig
from isoflop.curate.filters.decontaminate import CompileEvaluations, Decontaminate, read_index, words_of

VOCABULARY = ["Ein", "two", "DREI", "vier", "cinq", "six", "sieben", "huit"]
PARTS = [" ", " ", " ", ", ", "\n", " — ", "... ", "_"]


def text(draw: random.Random, words: int) -> str:
    return "".join(draw.choice(VOCABULARY) + draw.choice(PARTS) for _ in range(words))


def naive_grams(item: str, n: int, least: int) -> dict[int, set[str]]:
    """{length: n-grams as strings}, by the definition."""
    words = re.sub(r"[^0-9a-z]", " ", item.lower()).split()
    size = min(n, len(words))
    if size < min(least, n):
        return {}
    return {size: {" ".join(words[at : at + size]) for at in range(len(words) - size + 1)}}


def naive_overlap(doc: str, files: list[list[str]], n: int, least: int) -> tuple[int, float, set[int]]:
    words = re.sub(r"[^0-9a-z]", " ", doc.lower()).split()
    begins, covered, owners = set(), set(), set()
    for owner, items in enumerate(files):
        for item in items:
            for size, grams in naive_grams(item, n, least).items():
                for at in range(len(words) - size + 1):
                    if " ".join(words[at : at + size]) in grams:
                        begins.add(at)
                        covered.update(range(at, at + size))
                        owners.add(owner)
    return len(begins), len(covered) / max(len(words), 1), owners


def write_jsonl(path: Path, items: list[str]) -> str:
    path.write_text("".join(json.dumps({"text": item}) + "\n" for item in items))
    return str(path)


def compiled(config: DecontaminateConfig, folder: Path) -> Decontaminate:
    CompileEvaluations(config, folder).run()
    return Decontaminate(config, folder)


@pytest.mark.parametrize(("n", "least"), [(4, 2), (3, 1), (5, 8), (1, 1)])
def test_overlaps_are_those_of_string_sets(n: int, least: int, tmp_path: Path) -> None:
    """Places, covered fraction and files, for random texts that meet often and seldom."""
    draw = random.Random(n)
    files = [[text(draw, draw.randint(0, 9)) for _ in range(draw.randint(1, 6))] for _ in range(3)]
    files[1] += files[0][:1]  # the same item in two files: both are told
    paths = [write_jsonl(tmp_path / f"{number}.jsonl", items) for number, items in enumerate(files)]
    config = DecontaminateConfig(evaluations=paths, n_gram=n, min_item_words=least)
    block = compiled(config, tmp_path / "index")
    told = Counter()
    for _ in range(400):
        document = text(draw, draw.randint(0, 40))
        expected = naive_overlap(document, files, n, least)
        hits, covered, owners = block.overlap(document)
        assert (hits, owners) == (expected[0], expected[2]), document
        assert covered == pytest.approx(expected[1])
        told[len(owners)] += 1
    assert len(told) >= (3 if n in (3, 4) else 2), told


def words(first: int, count: int) -> str:
    return " ".join(f"w{n}" for n in range(first, first + count))


def test_thirteen_words_and_short_items(tmp_path: Path) -> None:
    """The default: 13 words shared, or the whole of an item of 8 to 12 words; shorter items are counted."""
    path = write_jsonl(tmp_path / "quiz.jsonl", [words(0, 20), words(100, 9), words(200, 7)])
    block = compiled(DecontaminateConfig(evaluations=(path,)), tmp_path / "index")
    contaminated = [
        f"before {words(0, 13)} after",
        f"W7! w8-w9? {words(10, 10).upper().replace(' ', '; ')}",
        f"x {words(100, 9)}",
    ]
    clean = [f"{words(0, 12)} {words(13, 7)}", words(100, 8), words(200, 7), "", f"{words(5, 12)}x w17"]
    documents = [Document(text=text, id="") for text in [*clean, *contaminated]]
    assert [document.text for document in block(iter(documents))] == clean
    stats = block.stats.to_dict()["stats"]
    assert stats["dropped"] == stats["dropped_contaminated"] == stats["hit_quiz.jsonl"] == 3
    (record,) = read_index(tmp_path / "index")["files"]
    assert {key: record[key] for key in ("name", "items", "items_too_short", "n_grams")} == {
        "name": "quiz.jsonl",
        "items": 3,
        "items_too_short": 1,
        "n_grams": 8 + 1,
    }


def test_the_least_overlap_that_counts(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [words(0, 10)])
    texts = [f"{words(0, shared)} {words(500, 16 - shared)}" for shared in range(3, 11)]

    def kept(**least: float) -> list[int]:
        config = DecontaminateConfig(evaluations=(path,), n_gram=4, min_item_words=4, **least)
        block = compiled(config, tmp_path / "index")
        documents = [Document(text=text, id=str(n)) for n, text in enumerate(texts, start=3)]
        return [int(document.id) for document in block(iter(documents))]

    assert kept() == [3]
    assert kept(min_hits=4) == [3, 4, 5, 6]
    assert kept(min_covered_fraction=0.5) == [3, 4, 5, 6, 7]


def test_counting_without_dropping(tmp_path: Path) -> None:
    paths = [write_jsonl(tmp_path / f"{name}.jsonl", [words(0, 13)]) for name in "ab"]
    block = compiled(DecontaminateConfig(evaluations=paths, drop=False), tmp_path / "index")
    documents = list(block(iter([Document(text=words(0, 30), id=""), Document(text=words(1, 30), id="")])))
    assert [document.metadata.get("contaminated") for document in documents] == [["a.jsonl", "b.jsonl"], None]
    stats = block.stats.to_dict()["stats"]
    assert (stats["contaminated"], stats["hit_a.jsonl"], stats["forwarded"]) == (1, 1, 2)
    assert "dropped" not in stats


def test_every_format_and_field(tmp_path: Path) -> None:
    """The same two items as JSONL, nested JSONL, parquet and text: the same n-grams."""
    question, answer = words(0, 9), words(9, 6)
    nested = {
        "question": {"stem": question},
        "choices": [{"text": words(9, 3)}, {"text": words(12, 3)}],
        "n": 1,
    }
    folder = tmp_path / "sets"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "nested.jsonl").write_text(json.dumps(nested) + "\n\n")
    pq.write_table(pa.table({"question": [question], "answers": [[answer]]}), folder / "table.parquet")
    (folder / "plain.txt").write_text(f"{question}\n{answer}")
    (folder / "readme.rst").write_text("not an evaluation")
    keys = ("question", "question.stem", "choices.text", "answers")
    config = DecontaminateConfig(evaluations=(str(folder),), text_keys=keys)
    block = compiled(config, tmp_path / "index")
    for at in range(3):
        hits, _, owners = block.overlap(words(at, 13))
        assert (hits, len(owners)) == (1, 3)
    assert block.names == ["deep/nested.jsonl", "plain.txt", "table.parquet"]


def test_mistakes_are_named(tmp_path: Path) -> None:
    def fails(pattern: str, *paths: Path, **settings: object) -> None:
        with pytest.raises(UserError, match=pattern):
            compiled(
                DecontaminateConfig(evaluations=[str(path) for path in paths], **settings), tmp_path / "i"
            )

    fails(r"pipeline\.decontaminate\.evaluations: .*nowhere does not exist", tmp_path / "nowhere")
    (tmp_path / "a.csv").write_text("a,b")
    fails("a.csv is no evaluation", tmp_path / "a.csv")
    (tmp_path / "b.jsonl").write_text('{"query": "x"}\n')
    fails(r"text_keys: .*b.jsonl has no text under text, but query", tmp_path / "b.jsonl")
    (tmp_path / "c.jsonl").write_text("{")
    fails("c.jsonl: cannot be read to its end", tmp_path / "c.jsonl")
    (tmp_path / "e.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a b c"}' * 9)[:-12])
    fails("e.jsonl.gz: cannot be read to its end", tmp_path / "e.jsonl.gz")
    (tmp_path / "d.parquet").write_text("PAR1")
    fails("d.parquet: cannot be read to its end", tmp_path / "d.parquet")
    with pytest.raises(UserError, match="no evaluations were compiled here"):
        Decontaminate(DecontaminateConfig(evaluations=("x",)), tmp_path / "none").filter(Document("a b", ""))


def test_words_are_letters_and_digits() -> None:
    assert words_of("Don't stop—it's 3.5 °C, naïve_FOO") == [
        "don",
        "t",
        "stop",
        "it",
        "s",
        "3",
        "5",
        "c",
        "naïve",
        "foo",
    ]


@pytest.mark.parametrize(
    ("item", "document"),
    [
        ("三角形的两条边长分别是三和四，求第三边。", "题目:三角形的两条边长分别是三和四,求第三边!答"),
        ("たかいやまのうえにしろいゆきがある", "むかし、たかいやまのうえに・しろいゆきがある。"),
        ("แมวนั่งอยู่บนเสื่อสีแดงตัวเก่า", "วันนี้แมวนั่งอยู่บนเสื่อสีแดงตัวเก่าของฉัน"),
    ],
)
def test_scripts_without_blanks_between_words(item: str, document: str, tmp_path: Path) -> None:
    """What stands in the middle of other text is found; the same characters in another order are not."""
    config = DecontaminateConfig(evaluations=[write_jsonl(tmp_path / "exam.jsonl", [item])])
    block = compiled(config, tmp_path / "index")
    assert block.filter(Document(text=document, id="")) == (False, "contaminated")
    assert block.filter(Document(text=document[::-1], id="")) is True
    assert words_of("GPT-4は漢字") == ["gpt", "4", "は", "漢", "字"]
