"""End to end: datatrove's published FineWeb recipe beside ours, on the same pages, a part at a time.

The pages are cut into slices; the systems take turns on each, with every number of workers. Time is the
processor time of all processes of a part, those that outlive it too, so that other work on the machine
counts little; documents are those that enter the part. The steady rate is without start-up,
which is measured on one page a task (lists and models are loaded there): on a whole crawl it vanishes.
Memory is the most that all processes of a run hold together (proportional set size, sampled).

    python benchmarks/corpus.py FOLDER
    python benchmarks/curation.py FOLDER [--documents 1500] [--slices 3] [--workers 1 2] [--out results.json]
        [--arm NAME="overrides of launch/data.py"]...
"""

import argparse
import json
import math
import os
import platform
import random
import shlex
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from ctypes import CDLL
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psutil
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from isoflop.config.curation.language import LanguageConfig
from isoflop.curate.filters.language import model_path
from isoflop.curate.input.extract import Resiliparse
from isoflop.curate.input.readers import ReadSources
from isoflop.curate.input.sources import find_sources
from isoflop.curate.input.warc import write_pages

ROOT = Path(__file__).parents[1]
STOCK = Path(__file__).with_name("stock_fineweb.py")
PARTS = ("base", "minhash", "tokenize")
OURS = {  # parts of ours, by the stage that each begins with
    "sign": "minhash",
    "tokenizer": "tokenize",
}
SAME = "pipeline=fineweb-code pipeline.language.languages=[en]"  # stock's thresholds
ARMS = {
    "ours, trafilatura": f"{SAME} pipeline.extractor=trafilatura",
    "ours": f"{SAME} pipeline.extractor=resiliparse",
}
PACKAGES = ("datatrove", "trafilatura", "resiliparse", "spacy", "tokenizers")
PR_SET_CHILD_SUBREAPER = 36
VOCAB_SIZE = 32_768
TRAINED_ON = 800  # pages
SAMPLE_SECONDS = 0.3
COMMON = """the of and to that with have be in a is for on are was by from this when which each other time
house garden river people water letter morning window table children market village winter summer story walked
opened carried remembered listened answered watched gathered planted followed quiet small bright heavy narrow
distant early slowly often together almost never always between under around before after school"""


@dataclass
class Cost:
    """What a part cost: processor seconds of all its processes, their memory, and documents in and out."""

    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    peak_bytes: int = 0
    documents_in: int = 0
    documents_out: int = 0
    timed_out: int = 0  # documents that stock's clock lost


def main() -> None:
    """Run, print the table, and write `--out`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--documents", type=int, default=1500)
    parser.add_argument("--slices", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--arm", action="append", default=[], metavar="NAME=OVERRIDES")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--work", type=Path, help="keep what is made here")
    options = parser.parse_args()
    CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # what outlives a run is ours to wait for, and to count
    arms = dict(arm.split("=", 1) for arm in options.arm) or ARMS
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.work or Path(scratch)
        slices, tokenizer = prepare(options, folder)
        results = measure(slices, tokenizer, arms, options.workers, folder)
    described = {
        "date": date.today().isoformat(),
        "machine": f"{os.cpu_count()} cores, {cpu_model()}, Python {platform.python_version()}",
        "versions": {name: version(name) for name in PACKAGES},
        "documents": options.documents,
        "slices": options.slices,
        "arms": arms,
        "results": [{**key, **asdict(cost)} for key, cost in results],
    }
    print(table(described))
    if options.out:
        options.out.write_text(json.dumps(described, indent=1) + "\n")


def prepare(options: argparse.Namespace, folder: Path) -> tuple[list[Path], Path]:
    """The slices, each a folder of as many WARC files as the most workers; slice 0 is for start-up alone."""
    files = find_sources([str(options.corpus)])
    pages = islice(ReadSources(files, "text").run(), options.documents)
    kept = [(str(page.metadata["url"]), page.text) for page in pages]
    tokenizer = train([html for _, html in kept[:TRAINED_ON]], folder / "tokenizer.json")
    n_files = max(options.workers)
    slices = []
    cut = [
        [prose_page(n) for n in range(n_files)],
        *(kept[n :: options.slices] for n in range(options.slices)),
    ]
    for number, part in enumerate(cut):
        slices.append(folder / "slices" / str(number))
        slices[-1].mkdir(parents=True, exist_ok=True)
        for n in range(n_files):
            write_pages(slices[-1] / f"{n}.warc.gz", part[n::n_files])
    return slices, tokenizer


def prose_page(seed: int) -> tuple[str, str]:
    """A short page that every filter lets pass, and that is no duplicate of another."""
    draw, words = random.Random(seed), COMMON.split()
    paragraphs = [
        " ".join(" ".join(draw.choices(words, k=12)).capitalize() + "." for _ in range(5)) for _ in range(8)
    ]
    body = "".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)
    return (
        f"https://prose.example.com/{seed}",
        f"<!doctype html><html><body><article>{body}</article></body></html>",
    )


def train(pages: list[str], path: Path) -> Path:
    """A byte-level BPE as GPT-2's, on some of the corpus."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    extract = Resiliparse().extract
    tokenizer.train_from_iterator(map(extract, pages), trainer)
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path))
    return path


Results = list[tuple[dict[str, Any], Cost]]


def measure(
    slices: list[Path], tokenizer: Path, arms: dict[str, str], workers: list[int], folder: Path
) -> Results:
    """Every arm on every slice with each number of workers, in turns."""
    results: Results = []
    systems: list[tuple[str, str | None]] = [("stock", None), *arms.items()]
    for number, source in enumerate(slices):
        for n_workers in workers:
            for name, overrides in random.Random(number * 100 + n_workers).sample(systems, len(systems)):
                work = folder / "run"
                shutil.rmtree(work, ignore_errors=True)
                run = stock if overrides is None else ours
                costs = run(source, work, tokenizer, n_workers, overrides or "")
                key = {"arm": name, "slice": number, "workers": n_workers}
                results += [({**key, "part": part}, cost) for part, cost in costs.items()]
                told = ", ".join(f"{part} {cost.cpu_seconds:.1f} s" for part, cost in costs.items())
                left = costs["tokenize"].documents_out
                print(
                    f"slice {number}, {n_workers} workers, {name}: {told}; {left} documents left", flush=True
                )
    return results


def stock(source: Path, work: Path, tokenizer: Path, n_workers: int, _: str) -> dict[str, Cost]:
    """The published recipe, a process for each part."""
    costs = {}
    tasks = len(list(source.iterdir()))
    for part in PARTS:
        command = [sys.executable, str(STOCK), part, "--source", str(source), "--work", str(work)]
        command += ["--tasks", str(tasks), "--workers", str(n_workers), "--tokenizer", str(tokenizer)]
        model = model_path(LanguageConfig(languages=("en",)))
        costs[part] = watched([*command, "--language-model", str(model), "--languages", "en"])
    first = {"base": "base", "minhash": "minhash4", "tokenize": "tokenize"}
    for part, name in first.items():
        steps = json.loads((work / "logs" / name / "stats.json").read_text())
        costs[part].documents_in = int(steps[0]["stats"]["documents"]["total"])
        costs[part].timed_out = sum(step["stats"].get("timeout", 0) for step in steps)
    costs["base"].documents_out = costs["minhash"].documents_in
    costs["minhash"].documents_out = costs["tokenize"].documents_out = costs["tokenize"].documents_in
    return costs


def ours(source: Path, work: Path, tokenizer: Path, n_workers: int, overrides: str) -> dict[str, Cost]:
    """launch/data.py; its parts by what each stage's tasks noted, what the program itself took shared out."""
    output, between = work / "dataset", work / "work"
    command = [sys.executable, str(ROOT / "launch" / "data.py"), *shlex.split(overrides)]
    command += [f"data.sources=[{source}]", f"data.output={output}", f"data.work={between}"]
    command += [f"data.workers={n_workers}", f"tokenizer.path={tokenizer}"]
    whole = watched(command)
    costs = {part: Cost(peak_bytes=whole.peak_bytes) for part in PARTS}
    part = PARTS[0]
    for stage in sorted(between.glob("[0-9][0-9]-*")):
        part = OURS.get(stage.name.split("-")[1], part)
        for usage in (stage / "logs" / "usage").glob("*.json"):
            costs[part].cpu_seconds += json.loads(usage.read_text())["cpu_seconds"]
    elsewhere = whole.cpu_seconds - sum(cost.cpu_seconds for cost in costs.values())
    for cost in costs.values():
        cost.cpu_seconds += elsewhere / len(costs)
    manifest = json.loads((output / "manifest.json").read_text())
    stages = manifest["stages"]
    last = next((n for n, s in enumerate(stages) if "minhash" in s["name"]), len(stages) - 1)
    costs["base"].documents_in = stages[0]["documents_in"]
    costs["base"].documents_out = costs["minhash"].documents_in = stages[last]["documents_in"]
    costs["minhash"].documents_out = costs["tokenize"].documents_in = manifest["total_documents"]
    costs["tokenize"].documents_out = manifest["total_documents"]
    costs["base"].wall_seconds = whole.wall_seconds
    return costs


def watched(command: list[str]) -> Cost:
    """Run to the end of its last process, and what all of them took. Ends the benchmark where it fails."""
    cost, done = Cost(), Event()
    with tempfile.TemporaryFile() as told:
        process = psutil.Popen(command, stdout=told, stderr=told)
        sampler = Thread(target=sample_memory, args=(process, cost, done))
        sampler.start()
        started = time.monotonic()
        _, status, usage = os.wait4(process.pid, 0)
        cost.wall_seconds = time.monotonic() - started
        cost.cpu_seconds = usage.ru_utime + usage.ru_stime
        while True:  # those that it left behind
            try:
                _, _, usage = os.wait4(-1, 0)
            except ChildProcessError:
                break
            cost.cpu_seconds += usage.ru_utime + usage.ru_stime
        done.set()
        sampler.join()
        code = os.waitstatus_to_exitcode(status)
        if code:
            told.seek(0)
            sys.exit(f"{shlex.join(command)}\nended with {code}:\n{told.read().decode()[-3000:]}")
    return cost


def sample_memory(process: psutil.Process, cost: Cost, done: Event) -> None:
    """Keep the most that `process` and what it started hold together."""
    while not done.wait(SAMPLE_SECONDS):
        held = 0
        for one in _family(process):
            try:
                held += one.memory_full_info().pss
            except psutil.Error:  # it has just ended
                continue
        cost.peak_bytes = max(cost.peak_bytes, held)


def _family(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def table(described: dict[str, Any]) -> str:
    """Documents a second and core for each part and arm, and the ratios to stock."""
    cells: dict[tuple[str, int, str], list[dict[str, Any]]] = defaultdict(list)
    start: dict[tuple[str, int, str], float] = {}
    for result in described["results"]:
        key = result["arm"], result["workers"], result["part"]
        if result["slice"]:
            cells[key].append(result)
        else:
            start[key] = result["cpu_seconds"]
    arms, workers = ["stock", *described["arms"]], unique(key[1] for key in cells)
    rows = [
        f"{described['machine']}; {', '.join(f'{k} {v}' for k, v in described['versions'].items())}",
        f"{described['documents']} pages in {described['slices']} slices; documents a second and core",
        "",
        "| part | arm | workers | documents | rate | steady | × stock | × stock, steady | memory, MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for n in workers:
        for part in (*PARTS, "all"):
            rates = {arm: rate_of(cells, start, arm, n, part) for arm in arms}
            for arm in arms:
                entered, whole, steady, memory = rates[arm]
                ratio, steady_ratio = whole / rates["stock"][1], steady / rates["stock"][2]
                rows.append(
                    f"| {part} | {arm} | {n} | {entered:,} | {whole:.1f} | {told(steady)} | {ratio:.1f} "
                    f"| {told(steady_ratio)} | {memory / 1e6:,.0f} |"
                )
    lost = sum(result["timed_out"] for result in described["results"])
    left = {arm: sum(r["documents_out"] for r in cells[arm, workers[0], "base"]) for arm in arms}
    counts = "; ".join(f"{arm} {n:,}" for arm, n in left.items())
    return "\n".join(
        [*rows, "", f"Left by the filters: {counts}. Lost in all runs to stock's clock: {lost}."]
    )


def rate_of(
    cells: dict[tuple[str, int, str], list[dict[str, Any]]],
    start: dict[tuple[str, int, str], float],
    arm: str,
    workers: int,
    part: str,
) -> tuple[int, float, float, int]:
    """Documents that entered; their rate, with and without start-up; the most memory."""
    parts = PARTS if part == "all" else (part,)
    results = [result for name in parts for result in cells[arm, workers, name]]
    entered = sum(r["documents_in"] for r in results if r["part"] == parts[0])
    seconds = sum(r["cpu_seconds"] for r in results)
    idle = sum(start.get((arm, workers, name), 0.0) * len(cells[arm, workers, name]) for name in parts)
    memory = (
        round(statistics.median(r["peak_bytes"] for r in results))
        if part != "all"
        else max(r["peak_bytes"] for r in results)
    )
    steady = entered / (seconds - idle) if seconds > 1.2 * idle else float("nan")
    return entered, entered / seconds, steady, memory


def told(rate: float) -> str:
    """A dash where start-up was nearly all of it, and the rest too little to tell."""
    return "–" if math.isnan(rate) else f"{rate:.1f}"


def unique(items: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(items))


def cpu_model() -> str:
    """As Linux names it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(
        (line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine()
    )


if __name__ == "__main__":
    main()
