"""Every drop is the one that datatrove's own class makes, and every document is accounted for."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from curation import WORDS as COMMON
from curation import config_of, corpus, curate, edited, prose, texts_of
from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.filters.base_filter import BaseFilter, get_filter_result
from datatrove.utils.lid import FT176LID

from isoflop.curate.filters.language import KeepLanguages, model_path
from isoflop.curate.input.extract import EXTRACTORS
from isoflop.curate.words import WORDS


def golden() -> list[str]:
    """Prose, and prose spoilt in each of the ways that a rule looks for."""
    good = [prose(seed) for seed in range(24)]
    sentences = prose(100, words=240).replace("\n\n", " ").split(". ")
    words = [word.strip(".") for word in prose(101, words=300).split()]
    refrain = "This very line stands in the page more than once, word for word, as menus do."
    spoilt = [
        " ".join(COMMON[:45]) + ".",  # short
        "\n\n".join([prose(2, words=60)] * 4),
        f"{prose(3)}\n\n" + "\n".join(["the same short line comes again"] * 40),
        " ".join(["water"] * 200) + ".",
        " ".join(f"{word}#" for word in words),
        "\n".join(f"- {line}" for line in sentences),
        "\n".join(f"{line}..." for line in sentences),
        " ".join(str(n * 7919) if n % 3 else word for n, word in enumerate(words)),  # numbers
        ", ".join(words) + ".",  # half of what spaCy would count are commas
        " ".join(word * 4 for word in words),  # long words
        " ".join(word for word in words if word not in COMMON[:8]) + ".",  # no stop words
        f"{prose(8)} Lorem ipsum dolor sit amet is here too.",
        f"{prose(9)} function() {{ return 1 }}",
        f"{prose(10)}\nPlease enable javascript in your browser now.\nThis site uses cookies for all.",
        " ".join(words),  # a single sentence
        "\n".join(sentences),  # lines without punctuation
        "\n".join(" ".join(words[n : n + 4]) + "." for n in range(0, len(words), 4)),  # short lines
        "\n".join([refrain, prose(11, words=700), refrain]),  # 0.02 of the characters: the code drops it
        "\n".join([refrain, prose(12, words=90), refrain]),  # 0.1 and more: so does the paper
        "日本語の文章がここにあります。" * 30,
    ]
    return [*good, *spoilt]


STOCK: dict[str, list[BaseFilter]] = {
    "fineweb-paper": [
        GopherRepetitionFilter(),
        GopherQualityFilter(language=WORDS["whitespace"]),
        C4QualityFilter(filter_no_terminal_punct=False),
        FineWebQualityFilter(char_duplicates_ratio=0.1),
    ],
    "fineweb-code": [
        GopherRepetitionFilter(),
        GopherQualityFilter(),
        C4QualityFilter(filter_no_terminal_punct=False),
        FineWebQualityFilter(),
    ],
}


@pytest.mark.parametrize("engine", ["fast", "exact", "reference"])
@pytest.mark.parametrize("profile", STOCK)
def test_profiles_decide_as_datatroves_defaults_do(profile: str, engine: str, tmp_path: Path) -> None:
    """Name by name: in, out and each reason, for stock filters with datatrove's own defaults."""
    texts = golden()
    alone = ("pipeline.urls=null", "pipeline.language=null", "pipeline.minhash=null", "pipeline.pii=null")
    here = (f"pipeline={profile}", f"pipeline.engine={engine}", *alone)
    manifest = curate(corpus(tmp_path / "in", texts), tmp_path / "out", *here)
    documents = [Document(text=text, id=str(n)) for n, text in enumerate(texts)]
    for stock, record in zip(STOCK[profile], manifest.stages[2:6], strict=True):
        entered, documents, reasons = len(documents), *_filtered(stock, documents)
        assert (record.documents_in, record.documents_out, record.dropped) == (
            entered,
            len(documents),
            reasons,
        ), record.name
    assert sorted(texts_of(tmp_path / "out")) == sorted(document.text for document in documents)
    tried = [len(record.dropped) for record in manifest.stages[2:6]]
    assert min(tried) >= 3, f"reasons seen of each filter: {tried}"


def _filtered(stock: BaseFilter, documents: list[Document]) -> tuple[list[Document], dict[str, int]]:
    kept, reasons = [], Counter()
    for document in documents:
        passed, reason = get_filter_result(stock.filter(document))
        if passed:
            kept.append(document)
        else:
            reasons[reason] += 1
    return kept, dict(sorted(reasons.items()))


def test_counts_add_up(tmp_path: Path) -> None:
    texts = golden()
    copies = [edited(text, 1, 0.01) for text in texts[:6]]
    manifest = curate(corpus(tmp_path / "in", [*texts, *copies], files=3), tmp_path / "out")
    assert [record.name for record in manifest.stages] == [
        "read",
        "extract",
        "language id",
        "gopher repetition",
        "gopher quality",
        "c4 quality",
        "fineweb quality",
        "minhash",
        "pii",
        "tokenize",
    ]
    passing = len(texts) + len(copies)
    for record in manifest.stages:
        assert record.documents_in == passing
        passing -= sum(record.dropped.values())
        assert record.documents_out == passing
    assert passing == manifest.total_documents
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["stages"][2]["dropped"]


def test_thresholds_of_the_paper_and_of_the_code(tmp_path: Path) -> None:
    """The three places where FineWeb's code is not its paper, as keys that differ between the profiles."""
    paper = config_of(tmp_path, tmp_path, "pipeline=fineweb-paper").pipeline
    code = config_of(tmp_path, tmp_path, "pipeline=fineweb-code").pipeline
    assert paper.fineweb.char_duplicates_ratio == 0.1
    assert code.fineweb.char_duplicates_ratio == FineWebQualityFilter().char_duplicates_ratio == 0.01
    assert (paper.language.languages, code.language.languages) == (("en",), None)
    assert (paper.gopher_quality.words, code.gopher_quality.words) == ("whitespace", "spacy")
    apart = {"profile": "", "fineweb": None, "language": None, "gopher_quality": None}
    assert paper.model_copy(update=apart) == code.model_copy(update=apart)


def test_language_is_fasttexts_answer(tmp_path: Path) -> None:
    config = config_of(tmp_path, tmp_path, "pipeline=fineweb-paper").pipeline.language
    ours = KeepLanguages(config)
    from fasttext.FastText import _FastText

    model = _FastText(str(model_path(config)))
    verdicts = set()
    for text in [*golden(), "Il fait beau aujourd'hui et nous allons à la plage avec les enfants."]:
        labels, scores = model.predict(text.replace("\n", " "), k=-1)
        score = dict(zip(labels, scores, strict=True)).get("__label__en", 0.0)
        kept, _ = get_filter_result(ours.filter(Document(text=text, id="")))
        assert kept is bool(score > 0.65)
        verdicts.add(kept)
    assert verdicts == {True, False}
    assert isinstance(ours.model, FT176LID)


def test_c4_can_judge_without_editing(tmp_path: Path) -> None:
    text = f"{prose(1)}\n\n    indented: code()\n\n{prose(2)}\nword\n"
    source = corpus(tmp_path / "in", [text])
    only = ("pipeline=none", "+pipeline@here=docs")[:1]
    rules = "{min_num_sentences: 3, min_words_per_line: 3, filter_curly_bracket: false, edit_lines: %s}"
    for edit in ("true", "false"):
        curate(source, tmp_path / edit, *only, f"pipeline.c4={rules % edit}")
    assert texts_of(tmp_path / "false") == [text]
    assert "indented" not in texts_of(tmp_path / "true")[0]


def test_addresses_are_replaced(tmp_path: Path) -> None:
    source = corpus(tmp_path / "in", ["Write to jane.doe@firm.com or 8.8.8.8, not to 127.0.0.1."])
    rules = "{remove_emails: true, remove_ips: true, only_remove_public_ips: true}"
    curate(source, tmp_path / "out", "pipeline=none", f"pipeline.pii={rules}")
    (text,) = texts_of(tmp_path / "out")
    assert "jane" not in text
    assert "8.8.8.8" not in text
    assert "127.0.0.1" in text


PAGE = """<html><body><nav><a href="/">Home</a><a href="/b">Shop</a></nav><main><article><h1>Title</h1>
<p>{}</p><pre>def f():\n    return 1</pre><p>{}</p></article></main><footer>Imprint</footer></body></html>"""


def test_trafilatura_extracts_as_it_does_alone() -> None:
    """With FineWeb's arguments, and for a second task in the same process as for the first."""
    from trafilatura import extract
    from trafilatura.meta import reset_caches

    pages = [PAGE.format(prose(1, 60), prose(n, 60)) for n in (2, 3, 4, 5)]
    reset_caches()
    alone = [extract(page, favor_precision=True, include_comments=False, deduplicate=True) for page in pages]
    block = EXTRACTORS["trafilatura"]()
    for _ in range(2):
        assert [document.text for document in block(_html(pages))] == [text for text in alone if text]
    assert alone[0] != alone[3], "the repeated paragraph was not noticed"


def test_resiliparse_keeps_code_and_drops_furniture() -> None:
    (document,) = EXTRACTORS["resiliparse"]()(_html([PAGE.format(prose(1), prose(2))]))
    assert "def f():\n    return 1" in document.text
    assert prose(1).split("\n")[0] in document.text
    assert "Shop" not in document.text


def _html(pages: list[str]) -> Iterator[Document]:
    yield from (Document(text=page, id=str(n), metadata={"kind": "html"}) for n, page in enumerate(pages))
