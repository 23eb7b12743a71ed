"""The heuristic filters in three engines, alone and behind extraction: documents/s a core, and agreement.

The arms take turns over the same documents, in an order that changes from round to round; CPU seconds of the
process and its children, every arm beginning with nothing remembered. A ratio is against stock datatrove in
the same round: median, least and greatest. `equal` is the share of documents whose keep/drop decision is
stock's (in brackets: decision, reason and text); each other one is listed with the rule that it hangs on.

    python benchmarks/filters.py [SOURCES ...] [--documents 600] [--rounds 3] [--all-languages] [--out FILE]

SOURCES are files or folders of WARC, HTML, JSONL or text; none: the documentation that is installed here.
Only English documents are taken, as the recipe's language filter would, unless told otherwise.
"""

import argparse
import copy
import json
import os
import platform
import resource
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.extractors import Trafilatura
from datatrove.pipeline.filters.base_filter import BaseFilter, get_filter_result
from datatrove.utils.text import split_into_words

from isoflop.config.curation.heuristics import (
    C4Config,
    FineWebConfig,
    GopherQualityConfig,
    GopherRepetitionConfig,
)
from isoflop.config.curation.language import LanguageConfig
from isoflop.config.curation.recipe import Engine
from isoflop.curate.filters.language import KeepLanguages
from isoflop.curate.heuristics import heuristic_steps
from isoflop.curate.heuristics.explain import explain
from isoflop.curate.heuristics.lexicon import lexicon
from isoflop.curate.input.extract import EXTRACTORS
from isoflop.curate.input.installed import _render, all_pages
from isoflop.curate.input.readers import ReadSources
from isoflop.curate.input.sources import find_sources

RULES = (GopherRepetitionConfig(), GopherQualityConfig(), C4Config(), FineWebConfig())
ENGINES: tuple[Engine, ...] = ("reference", "exact", "fast")
KINDS = {"exact": "spacy", "fast": "rules"}
Outcome = list[tuple[str | None, str]]  # of each document: why it was dropped, and its text
Work = Callable[[], Outcome]


@dataclass
class Row:
    """One line of the table: its arms, the first of which is stock."""

    name: str
    arms: dict[str, Work]
    seconds: dict[str, list[float]] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)


def main() -> None:
    """Measure, print and, where asked, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("sources", nargs="*")
    parser.add_argument("--documents", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--all-languages", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    pages, texts = corpus(options.sources, options.documents, not options.all_languages)
    rows = [*filter_rows(texts), *(extraction_rows(pages) if pages else [])]
    warm_up()
    for number in range(options.rounds):
        for row in rows:
            names = list(row.arms)
            for name in names if number % 2 == 0 else reversed(names):
                seconds, row.outcomes[name] = timed(row.arms[name])
                row.seconds.setdefault(name, []).append(seconds)
    characters = sum(len(doc.text) for doc in texts)
    print(f"{machine()}\n{versions()}")
    print(f"{len(texts)} documents, {characters / 1e6:.1f} M characters of text, {options.rounds} rounds\n")
    results = [result for row in rows for result in results_of(row)]
    for result in results:
        print(line(result))
    told = disagreements(texts)
    print("\n".join(["", f"fast and exact part on {len(told)} of {len(texts)} documents", *told]))
    if options.out:
        about = {"machine": machine(), "versions": versions(), "characters": characters}
        options.out.write_text(json.dumps({**about, "rows": results, "disagreements": told}, indent=1) + "\n")


def corpus(sources: list[str], most: int, english: bool) -> tuple[list[Document], list[Document]]:
    """Up to `most` pages of HTML, taken evenly, and what resiliparse makes of them; or texts alone."""
    found = ReadSources(find_sources(sources), "text").run() if sources else installed(most)
    documents = [doc for doc in found if doc.text.strip()]
    documents = documents[:: max(1, len(documents) // (4 * most))]  # some are of other languages
    texts = list(EXTRACTORS["resiliparse"]().run(iter(copy.deepcopy(documents))))
    if english:
        keep = KeepLanguages(LanguageConfig())
        texts = [doc for doc in texts if get_filter_result(keep.filter(doc))[0]]
    texts = texts[:: max(1, len(texts) // most)][:most]
    wanted = {doc.id for doc in texts}
    return [doc for doc in documents if doc.id in wanted and doc.metadata.get("kind") == "html"], texts


def installed(most: int) -> Iterable[Document]:
    pages = all_pages()
    for page in pages[:: max(1, len(pages) // (8 * most))]:
        for name, html in _render(page):
            yield Document(text=html, id=name, metadata={"kind": "html"})


def filter_rows(texts: list[Document]) -> list[Row]:
    """Words by themselves, each filter by itself, and the four in a row."""
    steps: dict[Engine, list[Any]] = {engine: heuristic_steps(*RULES, engine) for engine in ENGINES}
    rows = [Row("words", {"reference": lambda: split(texts)})]
    for engine, kind in KINDS.items():
        rows[0].arms[engine] = lambda kind=kind: [(None, str(len(lexicon(kind).read(d.text)))) for d in texts]  # type: ignore[misc]
    for place, name in enumerate(["gopher repetition", "gopher quality", "c4", "fineweb"]):
        rows.append(
            Row(name, {e: lambda e=e, place=place: judged(texts, [steps[e][place]]) for e in ENGINES})
        )  # type: ignore[misc]
    rows.append(Row("all four", {e: lambda e=e: judged(texts, steps[e]) for e in ENGINES}))  # type: ignore[misc]
    return rows


def split(texts: list[Document]) -> Outcome:
    return [(None, str(len(split_into_words(doc.text)))) for doc in texts]


def judged(texts: list[Document], steps: list[BaseFilter]) -> Outcome:
    told: Outcome = []
    for original in texts:
        doc = Document(text=original.text, id=original.id)
        reason = None
        for step in steps:
            kept, why = get_filter_result(step.filter(doc))
            if not kept:
                reason = why or "dropped"
                break
        told.append((reason, doc.text))
    return told


def extraction_rows(pages: list[Document]) -> list[Row]:
    """From HTML to filtered documents: the block of the recipe, and behind it the filters as steps."""

    def arm(extractor: Callable[[], PipelineStep], engine: Engine) -> Work:
        return lambda: piped(pages, [extractor(), *heuristic_steps(*RULES, engine)])

    stock = arm(Trafilatura, "reference")
    ours = {name: arm(extractor, "fast") for name, extractor in EXTRACTORS.items()}
    return [
        Row("HTML, trafilatura to four", {"reference": stock, "fast": ours["trafilatura"]}),
        Row("HTML, another extractor", {"reference": stock, "resiliparse + fast": ours["resiliparse"]}),
    ]


def piped(pages: list[Document], steps: list[PipelineStep]) -> Outcome:
    """What comes out at the end; a document that does not has no text."""
    from trafilatura.meta import reset_caches

    reset_caches()
    stream: Any = iter(copy.deepcopy(pages))
    for step in steps:
        stream = step.run(stream)
    kept = {doc.id: doc.text for doc in stream}
    return [(None, kept[page.id]) if page.id in kept else ("dropped", "") for page in pages]


def warm_up() -> None:
    """What a process loads once is not a cost of its documents."""
    sample = [Document(text="Some words, to load what must be loaded. " * 20, id="")]
    for engine in ENGINES:
        judged(sample, heuristic_steps(*RULES, engine))  # type: ignore[arg-type]


def timed(work: Work) -> tuple[float, Outcome]:
    """CPU seconds, those of ended children included."""
    for kind in ("spacy", "rules"):
        lexicon(kind).forget()  # type: ignore[arg-type]
    start = cpu_seconds()
    outcome = work()
    return cpu_seconds() - start, outcome


def cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def results_of(row: Row) -> list[dict[str, Any]]:
    """An entry for each arm of `row`."""
    stock, *_ = row.arms
    documents = len(row.outcomes[stock])
    results = []
    for name, seconds in row.seconds.items():
        ratios = [base / mine for base, mine in zip(row.seconds[stock], seconds, strict=True)]
        pairs = list(zip(row.outcomes[stock], row.outcomes[name], strict=True))
        results.append(
            {
                "row": row.name,
                "arm": name,
                "documents": documents,
                "documents_per_second": documents / statistics.median(seconds),
                "ratio": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)},
                "kept": sum(reason is None for reason, _ in row.outcomes[name]),
                "equal_decisions": sum((a[0] is None) == (b[0] is None) for a, b in pairs) / documents,
                "equal_outcomes": sum(a == b for a, b in pairs) / documents,
            }
        )
    return results


def line(result: dict[str, Any]) -> str:
    ratio = result["ratio"]
    speed = f"{result['documents_per_second']:>9,.1f} docs/s {ratio['median']:>7.2f}×"
    spread = f"({ratio['min']:.2f} … {ratio['max']:.2f})"
    equal = f"{result['equal_decisions']:.2%} ({result['equal_outcomes']:.2%})"
    name = f"{result['row']:<26} {result['arm']:<19}"
    return f"{name} {speed} {spread:<18} kept {result['kept']:>5}  equal {equal}"


def disagreements(texts: list[Document]) -> list[str]:
    fast, exact = (heuristic_steps(*RULES, engine) for engine in ("fast", "exact"))
    told = ((doc.id, explain(doc.text, fast, exact)) for doc in texts)  # type: ignore[arg-type]
    return [f"  {name}: {why}" for name, why in told if why]


def machine() -> str:
    info = Path("/proc/cpuinfo")
    names = [row for row in info.read_text().splitlines() if "model name" in row] if info.is_file() else []
    name = names[0].partition(": ")[2] if names else platform.processor()
    return f"{name}, {os.cpu_count()} cores, Python {platform.python_version()}"


def versions() -> str:
    return ", ".join(
        f"{p} {version(p)}" for p in ("datatrove", "spacy", "trafilatura", "resiliparse", "numpy")
    )


if __name__ == "__main__":
    main()
