"""What the URL filter costs each worker, beside datatrove's own: memory, time to load, addresses a second.

Both arms take turns. An arm is `--workers` processes at once, each with its own filter, over the same
addresses: listed hosts and pages, and around them. Memory is what the filter added to the process, once
all workers have answered: resident (counts shared pages in each), and proportional (shares them out).

    python benchmarks/url_filter.py [--rounds 3] [--workers 2] [--addresses 20000]
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tarfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.filters import URLFilter
from datatrove.pipeline.filters.base_filter import BaseFilter, get_filter_result

from isoflop.config.curation.urls import UrlsConfig
from isoflop.curate.filters.urls import ARCHIVE, UrlFilter, open_lists

ARMS = ("datatrove", "isoflop")
COLUMNS = {
    "load_seconds": "load, CPU s",
    "rss_mb": "resident, MB",
    "pss_mb": "proportional, MB",
    "per_second": "addresses/s",
}


def main() -> None:
    """Print one row for each arm, medians over rounds and workers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--addresses", type=int, default=20_000)
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        work(options.arm, options.addresses)
        return
    started = time.process_time()
    open_lists(UrlsConfig())
    print(f"lists compiled, or found compiled, in {time.process_time() - started:.1f} CPU s")
    found: dict[str, list[dict[str, Any]]] = {arm: [] for arm in ARMS}
    for _ in range(options.rounds):
        for arm in ARMS:
            found[arm] += together(arm, options.workers, options.addresses)
    verdicts = {tuple(sorted(record["verdicts"].items())) for records in found.values() for record in records}
    print(f"{options.workers} workers, {options.rounds} rounds; same verdicts: {len(verdicts) == 1}")
    print(f"{'':<10}" + "".join(f"{title:>18}" for title in COLUMNS.values()))
    for arm, records in found.items():
        medians = (statistics.median(record[key] for record in records) for key in COLUMNS)
        print(f"{arm:<10}" + "".join(f"{value:>18,.1f}" for value in medians))
    print("verdicts:", dict(next(iter(verdicts))))


def together(arm: str, workers: int, addresses: int) -> list[dict[str, Any]]:
    """What `workers` processes measured, all of them alive until the last has filtered."""
    command = [sys.executable, __file__, "--arm", arm, "--addresses", str(addresses)]
    pipes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(workers)
    ]
    for process in pipes:
        assert process.stdout is not None
        assert process.stdout.readline() == "filtered\n"
    return [json.loads(process.communicate("measure\n")[0]) for process in pipes]


def work(arm: str, addresses: int) -> None:
    """Filter, wait for the others, and tell."""
    documents = [Document(text="x", id="", metadata={"url": url}) for url in urls(addresses)]
    before = memory_mb()
    started = time.process_time()
    block: BaseFilter = stock() if arm == "datatrove" else UrlFilter(UrlsConfig())
    block.filter(documents[0])
    loaded = time.process_time()
    verdicts: dict[str, int] = {}
    for document in documents:
        reason = str(get_filter_result(block.filter(document))[1])
        verdicts[reason] = verdicts.get(reason, 0) + 1
    per_second = len(documents) / (time.process_time() - loaded)
    print("filtered", flush=True)
    sys.stdin.readline()
    after = memory_mb()
    record = {"load_seconds": loaded - started, "per_second": per_second, "verdicts": verdicts}
    print(json.dumps(record | {key: after[key] - before[key] for key in after}))


def stock() -> URLFilter:
    """datatrove's filter as it is, but for the network."""
    from tldextract import TLDExtract

    block = URLFilter()
    block.tldextractor = TLDExtract(suffix_list_urls=(), cache_dir=None)
    return block


def urls(count: int) -> list[str]:
    """A quarter each: listed hosts, near them, listed pages, and others."""
    draw = random.Random(0)
    with tarfile.open(ARCHIVE) as archive:
        pages, hosts = (
            [line.decode().strip() for line in islice(archive.extractfile(name) or (), count)]
            for name in ("urls", "domains")
        )
    kinds = (
        lambda n: f"http://www.{draw.choice(hosts)}/page/{n}.html",
        lambda n: f"https://x{draw.choice(hosts)}:8080/{n}",
        lambda n: draw.choice(pages),
        lambda n: f"https://docs{n}.example.org/en/latest/library/functions-{n}.html?version=3",
    )
    return [kinds[n % 4](n) for n in range(count)]


def memory_mb() -> dict[str, float]:
    """Of this process, from the kernel (Linux)."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return {"rss_mb": kilobytes["Rss"] / 1000, "pss_mb": kilobytes["Pss"] / 1000}


if __name__ == "__main__":
    main()
