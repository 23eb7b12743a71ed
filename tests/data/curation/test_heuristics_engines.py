"""The exact engine decides as datatrove's own filters do, word for word; the fast one nearly so."""

import copy
import pickle
import subprocess
import sys
from functools import cache
from importlib.util import find_spec

import pytest
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.filters.base_filter import get_filter_result
from datatrove.utils.word_tokenizers import load_word_tokenizer
from heuristics_golden import awkward, banned, found, spoilt, steady

from isoflop.config.curation.heuristics import (
    C4Config,
    FineWebConfig,
    GopherQualityConfig,
    GopherRepetitionConfig,
)
from isoflop.config.curation.recipe import Engine
from isoflop.curate.heuristics import heuristic_steps
from isoflop.curate.heuristics.explain import explain

needs_spacy = pytest.mark.skipif(find_spec("spacy") is None, reason="spaCy is not installed")

REPETITION, QUALITY, C4, FINEWEB = (
    GopherRepetitionConfig(),
    GopherQualityConfig(),
    C4Config(),
    FineWebConfig(),
)
PROFILES = {
    "fineweb": (REPETITION, QUALITY, C4, FINEWEB),
    "whitespace": (
        GopherRepetitionConfig(words="whitespace"),
        GopherQualityConfig(words="whitespace"),
        C4Config(words="whitespace", edit_lines=False),
        FineWebConfig(words="whitespace", char_duplicates_ratio=0.01),
    ),
    "odd": (
        GopherRepetitionConfig(
            dup_line_frac=None,
            dup_para_frac=0.0,
            top_n_grams=((4, 0.05), (3, 0.04), (2, 0.03)),
            dup_n_grams=((10, 0.01), (3, 0.05)),
        ),
        GopherQualityConfig(
            min_doc_words=10,
            max_doc_words=350,
            min_avg_word_length=None,
            max_avg_word_length=6,
            max_symbol_word_ratio=None,
            min_stop_words=6,
        ),
        C4Config(
            filter_no_terminal_punct=True,
            min_num_sentences=9,
            max_word_length=40,
            min_words_per_line=1,
            filter_curly_bracket=False,
        ),
        FineWebConfig(short_line_length=60, new_line_ratio=0.08, line_punct_thr=0.5),
    ),
    "off": (
        REPETITION,
        QUALITY,
        C4Config(
            min_num_sentences=-1,
            min_words_per_line=-1,
            max_word_length=-1,
            remove_citations=False,
            filter_lorem_ipsum=False,
            filter_javascript=False,
            filter_policy=False,
        ),
        FINEWEB,
    ),
}
REASONS = {
    *("dup_line_frac", "dup_para_frac", "dup_line_char_frac", "dup_para_char_frac", "empty"),
    *("top_2_gram", "top_3_gram", "top_4_gram", "duplicated_5_n_grams", "duplicated_10_n_grams"),
    *("gopher_short_doc", "gopher_long_doc", "gopher_below_avg_threshold", "gopher_above_avg_threshold"),
    *("gopher_too_many_hashes", "gopher_too_many_ellipsis", "gopher_too_many_bullets"),
    *("gopher_too_many_end_ellipsis", "gopher_below_alpha_threshold", "gopher_enough_stop_words"),
    *("lorem_ipsum", "curly_bracket", "too_few_sentences"),
    *("line_punct_ratio", "short_line_ratio", "char_dup_ratio", "list_ratio"),
}


@cache
def texts() -> tuple[str, ...]:
    return (*found(), *spoilt(), *banned(), *(awkward(seed, 200) for seed in range(1000, 1006)))


def verdicts(steps: list[PipelineStep], text: str) -> list[tuple[bool, str | None, str]]:
    """What each step says of `text` by itself, and the text that it leaves."""
    told = []
    for step in steps:
        document = Document(text=text, id="")
        try:
            kept, reason = get_filter_result(step.filter(document))
        except ZeroDivisionError:  # datatrove's, where a document has no words
            kept, reason = False, "ZeroDivisionError"
        told.append((bool(kept), reason, document.text))
    return told


@cache
def reasons(profile: str) -> tuple[set[str | None], ...]:
    """What each filter gave as its reason, by datatrove and by the exact engine alike."""
    stock, ours = (heuristic_steps(*PROFILES[profile], engine) for engine in ("reference", "exact"))
    steady(load_word_tokenizer("eng"))
    assert [step.name for step in stock] == [step.name for step in ours]
    given: tuple[set[str | None], ...] = tuple(set() for _ in ours)
    for text in texts():
        expected = verdicts(stock, text)
        assert verdicts(ours, text) == expected, text[:300]
        for one, (_, reason, _) in zip(given, expected, strict=True):
            one.add(reason)
    return given


@needs_spacy
@pytest.mark.parametrize("profile", PROFILES)
def test_exact_is_datatrove(profile: str) -> None:
    """Decision, reason and resulting text of every filter on every document."""
    given = reasons(profile)
    assert all(None in one and len(one) > 1 for one in given), given


@needs_spacy
def test_every_reason_was_compared() -> None:
    assert set().union(*(one for profile in PROFILES for one in reasons(profile))) >= REASONS


@needs_spacy
def test_fast_agrees_and_says_why_where_not() -> None:
    fast, exact = (heuristic_steps(*PROFILES["fineweb"], engine) for engine in ("fast", "exact"))
    apart = 0
    documents = [*found(), *spoilt(), *banned()]
    for text in documents:
        (kept, reason), (expected, expected_reason) = chain(fast, text), chain(exact, text)
        apart += kept != expected
        told = explain(text, fast, exact)
        assert (told is None) == (reason == expected_reason)
        if told:
            assert told.first.value != told.second.value
            assert {told.first.reason} <= {reason, expected_reason}
    assert apart <= 0.01 * len(documents)


def chain(steps: list[PipelineStep], text: str) -> tuple[bool, str | None]:
    document = Document(text=text, id="")
    for step in steps:
        kept, reason = get_filter_result(step.filter(document))
        if not kept:
            return False, reason
    return True, None


@needs_spacy
def test_a_disagreement_names_its_rule_and_its_numbers() -> None:
    """`z.B.` is two words to spaCy and three by rule, here between 80 % of words with a letter and less."""
    text = " ".join(["water of the river together and z.B. mountain evening", "78 90"] * 20)
    fast, exact = (heuristic_steps(None, QUALITY, None, None, engine) for engine in ("fast", "exact"))
    assert chain(fast, text) == (False, "gopher_below_alpha_threshold")
    assert chain(exact, text) == (True, None)
    told = explain(text, fast, exact)
    assert told is not None
    assert (told.first.reason, told.first.limit) == ("gopher_below_alpha_threshold", 0.8)
    assert told.first.value == pytest.approx(10 / 13)
    assert told.second.value == pytest.approx(10 / 12)
    assert told.chunks == (("z.B.", 20, ("z", ".", "B."), ("z.", "B.")),)
    assert "0.769231 against 0.833333; 20× z.B. (z . B. / z. B.)" in str(told)


@needs_spacy
@pytest.mark.parametrize("engine", ["fast", "exact"])
def test_statistics_are_datatroves(engine: Engine) -> None:
    """Each counter's total after a run over all documents, in steps that went through pickle."""
    documents = [Document(text=text, id=str(n)) for n, text in enumerate(texts()[::3]) if text.strip()]
    totals = []
    for steps in (heuristic_steps(None, None, C4, FINEWEB, name) for name in ("reference", engine)):
        stream = iter(copy.deepcopy(documents))
        for step in pickle.loads(pickle.dumps(steps)):
            stream = step.run(stream)
            totals.append(step)
        assert [document.text for document in stream]
    counts = [{label: stat.total for label, stat in step.stats.stats.items()} for step in totals]
    assert counts[:2] == counts[2:]
    assert {"line-total", "line-kept", "dropped_too_few_sentences"} <= set(counts[0])


BARE = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "spacy":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Block())
import importlib.util
importlib.util.find_spec = lambda name: None if name == "spacy" else 1 / 0
from datatrove.data import Document
from isoflop.config.base import UserError
from isoflop.config.curation.heuristics import *
from isoflop.curate.heuristics import heuristic_steps
from curation import prose
rules = GopherRepetitionConfig(), GopherQualityConfig(), C4Config(), FineWebConfig()
document = Document(text=prose(1, 300), id="")
print([step.filter(document) for step in heuristic_steps(*rules, "fast")])
for engine in ("exact", "reference"):
    try:
        heuristic_steps(*rules, engine)
    except UserError as fault:
        print(fault)
assert "spacy" not in sys.modules
"""


def test_fast_needs_no_spacy() -> None:
    out = subprocess.run(
        [sys.executable, "-c", BARE],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    told = out.stdout.splitlines()
    assert told[0] == "[True, True, True, True]"
    assert [line.partition(" ")[0] for line in told[1:]] == ["engine=exact", "engine=reference"]
    assert all("pip install spacy" in line for line in told[1:])
