"""MinHash signatures beside stock datatrove's: documents a second, memory, recall and false pairs.

Near-duplicates are planted: copies of real documents in which a share of the words, 0.2 to 12 %, is replaced.
The truth of a pair is the exact Jaccard similarity of its 5-grams of simplified words. The arms take turns on
the same slices of the documents in one process, so that the machine's drift meets all; CPU time, one core.

    python benchmarks/minhash.py [FOLDER] [--documents 3000] [--rounds 6] [--out FILE.json] [--plot FILE.html]

FOLDER holds WARC, HTML, text or JSONL files; without one, the docstrings of the installed packages are used.
The arms: stock, datatrove's block as fineweb.py has it (spaCy's words, sha1); whitespace, the same on words
parted by white space, with xxhash; exact, our files of those very bytes; fast, ours.
"""

import argparse
import ast
import importlib.metadata
import json
import multiprocessing
import os
import platform
import random
import statistics
import sys
import sysconfig
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup import MinhashDedupBuckets
from datatrove.utils.text import simplify_text
from loguru import logger
from resiliparse.extract.html2text import extract_plain_text

from isoflop.config.curation.dedup import MinhashConfig
from isoflop.curate.dedup.cluster import SUMMARY, ClusterPairs
from isoflop.curate.dedup.signature import record_type
from isoflop.curate.dedup.stages import datatrove_shape, sign_documents
from isoflop.curate.input.sources import opened
from isoflop.curate.input.warc import read_pages

ARMS = {
    "stock": MinhashConfig(engine="reference", words="spacy", hash_fc="sha1"),
    "whitespace": MinhashConfig(engine="reference"),
    "exact": MinhashConfig(engine="exact"),
    "fast": MinhashConfig(engine="fast"),
}
BINS = (0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 1.0)
FALSE_BELOW = 0.5
FEWEST_CHARS = 300
MEGABYTE = 1e6


@dataclass
class Row:
    """What one arm did."""

    arm: str
    docs_per_second: float
    megabytes_per_second: float
    ratio: float  # of stock's CPU time to this arm's, the median of the rounds
    ratio_min: float
    ratio_max: float
    peak_megabytes: float  # of a worker that signs one slice, and what it had before that
    start_megabytes: float
    pairs: int
    false_pairs: int
    removed: int
    recall: dict[str, float]


def main() -> None:
    """Plant, sign by turns, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--documents", type=int, default=3000, help="before copies are added, two fifths")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--large", type=int, default=200, help="megabytes of one document, for its memory")
    parser.add_argument("--out", type=Path, help="JSON with all numbers")
    parser.add_argument("--plot", type=Path, default=Path("minhash-recall.html"))
    options = parser.parse_args()
    logger.remove()
    texts, copies = plant(documents(options.folder, options.documents), seed=0)
    grams = [shingle_set(text) for text in texts]
    truth = {pair: jaccard(grams[pair[0]], grams[pair[1]]) for pair in copies}
    with tempfile.TemporaryDirectory() as scratch:
        seconds = sign_by_turns(texts, options.rounds, Path(scratch))
        rows = [judge(arm, texts, grams, truth, seconds, Path(scratch) / arm, options.rounds) for arm in ARMS]
        large = peak_memory("fast", [" ".join(texts[:300])], options.large)
    report(rows, texts, truth, large, options)


def documents(folder: Path | None, most: int) -> list[str]:
    """Texts from `folder`, or docstrings, module by module."""
    found: list[str] = []
    for text in files(folder) if folder else docstrings():
        if len(text) >= FEWEST_CHARS:
            found.append(text)
        if len(found) == most:
            return found
    if len(found) < 10:
        sys.exit(
            f"{folder}: {len(found)} documents of {FEWEST_CHARS} characters or more; name a folder with more"
        )
    return found


def files(folder: Path) -> Iterator[str]:
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.name.removesuffix(".gz")
        if name.endswith(".warc"):
            with opened(path) as file:
                for page in read_pages(file):
                    if page.text is not None:
                        html = page.kind == "html"
                        yield extract_plain_text(page.text, main_content=True) if html else page.text
        elif name.endswith(".jsonl"):
            with opened(path) as lines:
                yield from (json.loads(line)["text"] for line in lines)
        elif name.endswith((".html", ".htm")):
            yield extract_plain_text(path.read_text(errors="replace"), main_content=True)
        elif name.endswith((".txt", ".md", ".rst")):
            yield path.read_text(errors="replace")


def docstrings() -> Iterator[str]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    paths = sysconfig.get_paths()
    for path in sorted(Path(paths["purelib"]).rglob("*.py")) + sorted(Path(paths["stdlib"]).rglob("*.py")):
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):  # a template, or source of another Python
            continue
        told = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, kinds)]
        yield "\n\n".join(filter(None, told))


def plant(originals: list[str], seed: int) -> tuple[list[str], list[tuple[int, int]]]:
    """Originals and copies, shuffled; and the places of each copied original and its copy."""
    draw = random.Random(seed)
    vocabulary = [word for text in originals for word in text.split()][::7]
    texts = list(enumerate(originals))
    chosen = draw.sample(range(len(originals)), 2 * len(originals) // 5)
    for number in chosen:
        share = 0.002 * 60 ** draw.random()  # 0.2 % … 12 %, as many in each octave
        words = originals[number].split(" ")
        edit = [draw.choice(vocabulary) if draw.random() < share else word for word in words]
        texts.append((len(texts), " ".join(edit)))
    draw.shuffle(texts)
    place = {number: i for i, (number, _) in enumerate(texts)}
    pairs = [(place[number], place[len(originals) + i]) for i, number in enumerate(chosen)]
    return [text for _, text in texts], pairs


def shingle_set(text: str) -> frozenset[int]:
    words = simplify_text(text).split()
    return frozenset(hash(gram) for gram in zip(*(words[i:] for i in range(5)), strict=False))


def jaccard(a: frozenset[int], b: frozenset[int]) -> float:
    return len(a & b) / (len(a | b) or 1)


def sign_by_turns(texts: list[str], rounds: int, scratch: Path) -> dict[str, list[float]]:
    """CPU seconds of each arm in each round; round r signs the r-th slice, as task r of `rounds`."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for arm in ARMS:  # imports, tables, spaCy's language
        run(sign_documents(ARMS[arm], scratch / "warm" / arm), texts[:20])
    for r in range(rounds):
        order = list(ARMS)[r % len(ARMS) :] + list(ARMS)[: r % len(ARMS)]
        for arm in order:
            steps = sign_documents(ARMS[arm], scratch / arm)
            start = time.process_time()
            run(steps, texts[r::rounds], r, rounds)
            seconds[arm].append(time.process_time() - start)
    return seconds


def run(steps: list[PipelineStep], texts: list[str] | None = None, rank: int = 0, tasks: int = 1) -> None:
    data: Any = texts and (Document(text=text, id=str(i)) for i, text in enumerate(texts))
    for step in steps:
        data = step(data, rank, tasks)


def judge(
    arm: str,
    texts: list[str],
    grams: list[frozenset[int]],
    truth: dict[tuple[int, int], float],
    seconds: dict[str, list[float]],
    folder: Path,
    rounds: int,
) -> Row:
    """Recall from the bands themselves; pairs and clusters by the stages that follow in a pipeline."""
    config = ARMS[arm]
    bands = [read_bands(folder, config, bucket, rounds) for bucket in range(config.num_buckets)]
    met = {pair: any(pair[0] in b and b[pair[0]] == b.get(pair[1]) for b in bands) for pair in truth}
    matches, found = folder / "matches", folder / "found"
    for bucket in range(config.num_buckets):
        run(
            [MinhashDedupBuckets(str(folder), str(matches), config=datatrove_shape(config))], None, bucket, 14
        )
    run([ClusterPairs(matches, found, config.num_buckets)])
    quads = np.concatenate([np.fromfile(path, "<u4").reshape(-1, 4) for path in sorted(matches.iterdir())])
    pairs = {(q[1] * rounds + q[0], q[3] * rounds + q[2]) for q in quads.tolist()}
    total = sum(seconds[arm])
    ratios = [stock / own for stock, own in zip(seconds["stock"], seconds[arm], strict=True)]
    start, peak = peak_memory(arm, texts[::rounds])
    return Row(
        arm=arm,
        docs_per_second=len(texts) / total,
        megabytes_per_second=sum(map(len, texts)) / MEGABYTE / total,
        ratio=statistics.median(ratios),
        ratio_min=min(ratios),
        ratio_max=max(ratios),
        peak_megabytes=peak,
        start_megabytes=start,
        pairs=len(pairs),
        false_pairs=sum(jaccard(grams[a], grams[b]) < FALSE_BELOW for a, b in pairs),
        removed=json.loads((found / SUMMARY).read_text())["to_remove"],
        recall={name: statistics.mean(met[p] for p in few) for name, few in binned(truth).items()},
    )


def read_bands(folder: Path, config: MinhashConfig, bucket: int, rounds: int) -> dict[int, bytes]:
    """A bucket's hashes of each document, by its place among all texts."""
    bands: dict[int, bytes] = {}
    for rank in range(rounds):
        path = folder / f"bucket_{bucket:03d}" / f"{rank:05d}.minhash.sig"
        lines = np.fromfile(path, record_type(config.hashes_per_bucket))
        bands.update((int(line["place"]) * rounds + rank, line["hashes"].tobytes()) for line in lines)
    return bands


def binned(truth: dict[tuple[int, int], float]) -> dict[str, list[tuple[int, int]]]:
    """Pairs by similarity."""
    found: dict[str, list[tuple[int, int]]] = {}
    for low, high in pairwise(BINS):
        few = [pair for pair, s in truth.items() if low <= s < high or s == high == 1.0]
        if few:
            found[f"{low:.2f}-{high:.2f}"] = few
    return found


def theory(s: float) -> float:
    return 1 - (1 - s**8) ** 14


def peak_memory(arm: str, texts: list[str], megabytes: int | None = None) -> tuple[float, float]:
    """Megabytes of a fresh process before and at the most while it signs; of one text cut to `megabytes`."""
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "texts.json"
        saved.write_text(json.dumps(texts))
        ours, theirs = multiprocessing.get_context("spawn").Pipe(duplex=False)
        target: Callable[..., None] = _sign_alone
        process = multiprocessing.get_context("spawn").Process(
            target=target, args=(arm, saved, megabytes, theirs)
        )
        process.start()
        answer: tuple[float, float] = ours.recv()
        process.join()
    return answer


def _sign_alone(arm: str, saved: Path, megabytes: int | None, answer: Any) -> None:
    logger.remove()
    texts = json.loads(saved.read_text())
    if megabytes is not None:
        size = megabytes * 10**6
        texts = [(texts[0] * (1 + size // len(texts[0])))[:size]]
    run(sign_documents(ARMS[arm], saved.parent / "warm"), ["a few words to begin with"])
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark, back to what there is now
    before = _memory("VmRSS")
    run(sign_documents(ARMS[arm], saved.parent / "signed"), texts)
    answer.send((before, _memory("VmHWM")))


def _memory(name: str) -> float:
    """Linux: a line of /proc/self/status, in megabytes."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[name].split()[0]) / 1e3


def report(
    rows: list[Row],
    texts: list[str],
    truth: dict[tuple[int, int], float],
    large: tuple[float, float],
    options: argparse.Namespace,
) -> None:
    """The table, the JSON and the plot."""
    few = binned(truth)
    expected = {name: statistics.mean(theory(truth[pair]) for pair in pairs) for name, pairs in few.items()}
    packages = ("datatrove", "numpy", "spacy", "xxhash")
    versions = {name: importlib.metadata.version(name) for name in packages}
    machine = {"cpu": _cpu(), "cores": os.cpu_count(), "python": platform.python_version(), **versions}
    chars = sum(map(len, texts))
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print(
        f"{len(texts):,} documents, {chars / MEGABYTE:.1f} million characters, {len(truth):,} planted pairs\n"
    )
    print(f"{'arm':<12}{'docs/s':>9}{'MB/s':>7}{'ratio':>8}  {'min … max':<16}{'start MB':>9}{'peak MB':>9}")
    for row in rows:
        spread = f"{row.ratio_min:.1f} … {row.ratio_max:.1f}"
        print(
            f"{row.arm:<12}{row.docs_per_second:>9.0f}{row.megabytes_per_second:>7.2f}{row.ratio:>8.2f}  "
            f"{spread:<16}{row.start_megabytes:>9.0f}{row.peak_megabytes:>9.0f}"
        )
    print(
        f"fast, one document of {options.large} MB: {large[0]:.0f} MB before, {large[1]:.0f} MB at the most\n"
    )
    print(
        f"{'recall':<12}" + "".join(f"{name:>11}" for name in few) + f"{'pairs':>8}{'J<0.5':>7}{'removed':>9}"
    )
    print(f"{'theory':<12}" + "".join(f"{value:>11.3f}" for value in expected.values()))
    for row in rows:
        recall = "".join(f"{value:>11.3f}" for value in row.recall.values())
        print(f"{row.arm:<12}{recall}{row.pairs:>8}{row.false_pairs:>7}{row.removed:>9}")
    print(f"{'pairs in bin':<12}" + "".join(f"{len(pairs):>11}" for pairs in few.values()))
    if options.out:
        counts = {name: len(pairs) for name, pairs in few.items()}
        numbers = {"machine": machine, "documents": len(texts), "characters": chars, "bins": counts}
        numbers |= {"theory": expected, "arms": [asdict(row) for row in rows], "large_document": large}
        options.out.write_text(json.dumps(numbers, indent=1))
    plot(rows, {name: [truth[pair] for pair in pairs] for name, pairs in few.items()}, options.plot)


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())


def plot(rows: list[Row], bins: dict[str, list[float]], path: Path) -> None:
    """Recall against similarity, with two binomial standard errors, on theory's curve."""
    import plotly.graph_objects as go

    curve = np.linspace(0.3, 1, 141)
    figure = go.Figure(go.Scatter(x=curve, y=theory(curve), mode="lines", name="1 - (1 - s⁸)¹⁴"))
    for row in rows:
        sizes = [len(bins[name]) for name in row.recall]
        bars = [2 * (r * (1 - r) / n) ** 0.5 for r, n in zip(row.recall.values(), sizes, strict=True)]
        x = [statistics.mean(bins[name]) for name in row.recall]
        y = list(row.recall.values())
        figure.add_scatter(x=x, y=y, mode="markers", name=row.arm, error_y={"type": "data", "array": bars})
    figure.update_layout(
        title="MinHash 14 × 8: planted near-duplicates found",
        xaxis_title="exact Jaccard similarity of 5-grams",
        yaxis_title="share that meets in a bucket",
    )
    if path.suffix == ".html":
        figure.write_html(path)
    else:
        figure.write_image(path)  # needs kaleido
    print(f"\nplot: {path}")


if __name__ == "__main__":
    main()
