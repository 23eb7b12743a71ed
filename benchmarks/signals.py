"""What annotation by RedPajama v2's signals costs a core: documents a second, and where the time goes.

The peer is datatrove's GopherRepetitionFilter on the same documents, with words parted by blanks: it measures
repetition alone, a third of the signals here, and keeps none of its numbers. Rounds take turns in one run;
CPU time of one process.

    python benchmarks/signals.py [SOURCE ...] [--documents 400] [--rounds 5]

Without a source it reads the documentation that is installed here.
"""

import argparse
import hashlib
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datatrove.data import Document
from datatrove.pipeline.filters import GopherRepetitionFilter

from isoflop.config.curation.signals import SignalsConfig
from isoflop.curate.input.extract import EXTRACTORS
from isoflop.curate.input.installed import CollectInstalled, all_pages, warc_path
from isoflop.curate.input.readers import ReadSources
from isoflop.curate.input.sources import SourceFile, find_sources
from isoflop.curate.signals import natural_language as natural
from isoflop.curate.signals.annotate import Annotator
from isoflop.curate.signals.columns import schema
from isoflop.curate.signals.document import Parts
from isoflop.curate.signals.lines import line_signals
from isoflop.curate.signals.minhash import MinHasher, bands
from isoflop.curate.signals.repetition import repetition
from isoflop.curate.signals.stopwords import stop_words
from isoflop.curate.words import WORDS


def documents(sources: list[str], count: int) -> list[Document]:
    """The first `count` documents of `sources`, or as many spread over the installed documentation."""
    with tempfile.TemporaryDirectory() as folder:
        files = find_sources(sources)
        if not files:
            pages = all_pages()
            CollectInstalled(Path(folder), pages[:: max(1, len(pages) // (2 * count))]).run()
            files = [SourceFile(str(warc_path(Path(folder), 0)), "warc", 0, 0)]
        found = EXTRACTORS["resiliparse"]().run(ReadSources(files, "text").run())
        return [document for document, _ in zip(found, range(count), strict=False)]


def seconds(work: Callable[[Any], object], inputs: list[Any]) -> float:
    begin = time.process_time()
    for item in inputs:
        work(item)
    return time.process_time() - begin


def steps(annotator: Annotator) -> dict[str, Callable[[Parts], object]]:
    """Each part of the annotation, given what comes before it."""
    hasher, english = annotator.hasher or MinHasher(), stop_words("en") or frozenset()
    similarities = annotator.config.signatures.similarities if annotator.config.signatures else ()

    def sign(parts: Parts) -> None:
        minima = hasher.minima(parts.words)
        if minima is not None:
            for similarity in similarities:
                bands(minima, similarity)

    return {
        "cut into words and lines": lambda parts: Parts(parts.text),
        "curly_bracket": natural.curly_bracket,
        "lorem_ipsum": natural.lorem_ipsum,
        "num_sentences": lambda parts: natural.SENTENCE.findall(parts.text),
        "lines_end_with_ellipsis": natural.lines_end_with_ellipsis,
        "all_caps, no_alph, symbol_to_word": natural.raw_word_signals,
        "word_count, mean length, unique, entropy": natural.normalized_word_signals,
        "stop_word_fraction": lambda parts: natural.stop_word_fraction(parts, english),
        "9 repetition signals": lambda parts: repetition(parts.word_ids, parts.word_lengths),
        "6 line signals": line_signals,
        "MinHash signatures": sign,
        "sha256": lambda parts: hashlib.sha256(parts.text.encode()).digest(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("sources", nargs="*")
    parser.add_argument("--documents", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    docs = documents(given.sources, given.documents)
    chars = sum(len(doc.text) for doc in docs)
    annotator = Annotator(SignalsConfig())
    parts = [Parts(doc.text) for doc in docs]
    rows = [annotator.row(doc) for doc in docs]  # also warms what is made once a process
    peer = GopherRepetitionFilter(language=WORDS["whitespace"])

    def write(rows: list[dict[str, Any]]) -> None:
        columns = schema(annotator.config)
        pq.write_table(pa.Table.from_pylist(rows, columns), pa.BufferOutputStream(), compression="zstd")

    parted = {name: (work, parts) for name, work in steps(annotator).items()}
    arms: dict[str, tuple[Callable[[Any], object], list[Any]]] = {
        "annotation": (annotator.row, docs),
        "GopherRepetitionFilter": (peer.filter, docs),
        **parted,
        "parquet, zstd": (write, [rows]),
    }
    taken: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(given.rounds):
        for name, (work, inputs) in arms.items():
            taken[name].append(seconds(work, inputs))
    medians = {name: statistics.median(times) for name, times in taken.items()}

    print(f"{len(docs)} documents of {chars / len(docs):,.0f} characters, {given.rounds} rounds, medians\n")
    whole, writing = medians["annotation"], medians["parquet, zstd"]
    print(f"annotated and written: {len(docs) / (whole + writing):,.0f} documents/s, ", end="")
    print(f"{chars / (whole + writing) / 1e6:.2f} M characters/s a core")
    peers = [b / a for a, b in zip(taken["annotation"], taken["GopherRepetitionFilter"], strict=True)]
    print(f"datatrove's GopherRepetitionFilter takes {statistics.median(peers):.2f} ", end="")
    print(f"({min(peers):.2f} … {max(peers):.2f}) of the annotation's time\n")
    print(f"{'part':<42} {'µs a document':>14} {'share':>7}")
    for name in [*parted, "parquet, zstd"]:
        print(
            f"{name:<42} {medians[name] / len(docs) * 1e6:>14,.1f} {medians[name] / (whole + writing):>7.1%}"
        )


if __name__ == "__main__":
    main()
