"""Tokenization beside stock datatrove's: the same files, and how much sooner.

The arms take turns on small batches of the same documents in one process, so that the machine's drift meets
all; processor time, one thread. `encode_batch_fast`, the library's call that computes no offsets, shows what
the memory of words adds to it. The whole blocks, files and shuffle included, begin anew on each half of the
documents. Every id is compared.

    python benchmarks/tokenization.py CORPUS [--documents 2000] [--tokenizer tokenizer.json] [--out FILE.json]

CORPUS is WARC, JSONL, parquet, HTML or text. Without a tokenizer a byte-level BPE is trained on it.
"""

import argparse
import json
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.tokens import DocumentTokenizer
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from isoflop.curate.input.extract import EXTRACTORS
from isoflop.curate.input.readers import ReadSources
from isoflop.curate.input.sources import find_sources
from isoflop.curate.tokens.encode import Encoder
from isoflop.curate.tokens.tokenizer import Tokenize

BATCH = 40
VOCAB_SIZE = 50_257
EOS = "<|endoftext|>"
Arm = Callable[[list[str]], list[bytes]]


def main() -> None:
    """Print one row for each arm."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus")
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    os.environ.update(RAYON_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
    pages = ReadSources(find_sources([options.corpus]), "text").run()
    texts = [page.text for page in islice(EXTRACTORS["resiliparse"]().run(pages), options.documents)]
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    with tempfile.TemporaryDirectory() as scratch:
        path = options.tokenizer or trained(texts, Path(scratch) / "tokenizer.json")
        seconds = {**take_turns(texts, path), **blocks(texts, path, Path(scratch))}
    print(f"tokenizers {version('tokenizers')}, Python {platform.python_version()}, {os.cpu_count()} cores")
    print(f"{len(texts):,} documents, {megabytes:.1f} MB\n")
    print("| arm | MB/s | × its peer, of the sums | median of batches |\n|---|---|---|---|")
    rows = []
    for arm, peer in (("encode_batch", "encode_batch"), ("encode_batch_fast", "encode_batch"),
                      ("Encoder", "encode_batch"), ("DocumentTokenizer", "DocumentTokenizer"),
                      ("Tokenize", "DocumentTokenizer")):  # fmt: skip
        ours, theirs = seconds[arm], seconds[peer]
        median = statistics.median(a / b for a, b in zip(theirs, ours, strict=True))
        row = {
            "arm": arm,
            "mb_per_second": megabytes / sum(ours),
            "ratio": sum(theirs) / sum(ours),
            "median": median,
        }
        rows.append(row)
        print(f"| {arm} | {row['mb_per_second']:.2f} | {row['ratio']:.2f} | {median:.2f} |")
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1) + "\n")


def trained(texts: list[str], path: Path) -> Path:
    """A byte-level BPE as GPT-2's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.save(str(path))
    return path


def take_turns(texts: list[str], path: Path) -> dict[str, list[float]]:
    """Seconds of each arm for each batch. Raises AssertionError where their ids differ."""
    stock, fast = Tokenizer.from_file(str(path)), Tokenizer.from_file(str(path))
    dtype = "<u2" if stock.get_vocab_size() <= 2**16 else "<u4"
    for tokenizer in (stock, fast):
        tokenizer.encode_special_tokens = True
    arms: dict[str, Arm] = {
        "encode_batch": lambda batch: [np.array(e.ids, dtype).tobytes() for e in stock.encode_batch(batch)],
        "encode_batch_fast": lambda batch: [
            np.array(e.ids, dtype).tobytes() for e in fast.encode_batch_fast(batch)
        ],
        "Encoder": Encoder(stock, dtype).encode,
    }
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    draw = random.Random(0)
    for start in range(0, len(texts), BATCH):
        found = []
        for name in draw.sample(list(arms), len(arms)):
            begun = time.process_time()
            found.append(arms[name](texts[start : start + BATCH]))
            seconds[name].append(time.process_time() - begun)
        assert all(other == found[0] for other in found), f"batch at {start}: the ids differ"
    return seconds


def blocks(texts: list[str], path: Path, folder: Path, rounds: int = 2) -> dict[str, list[float]]:
    """Seconds of the whole blocks, files and shuffle included, for each share of the documents."""
    kinds = ("DocumentTokenizer", "Tokenize")
    steps = {
        kinds[0]: DocumentTokenizer(str(folder / kinds[0]), str(path), eos_token=EOS, seed=0),
        kinds[1]: Tokenize(folder / kinds[1], path, EOS, 0),
    }
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(rounds):
        documents = [Document(text=text, id=str(n)) for n, text in enumerate(texts[number::rounds])]
        for name in sorted(kinds, reverse=number % 2 == 1):
            begun = time.process_time()
            steps[name].run(iter(documents), number, rounds)
            seconds[name].append(time.process_time() - begun)
    theirs, ours = ({p.name: p.read_bytes() for p in (folder / name).iterdir()} for name in kinds)
    assert theirs == ours, "the files differ"
    return seconds


if __name__ == "__main__":
    main()
