"""datatrove's published FineWeb recipe (its examples/fineweb.py, version 0.10.1), run as a peer.

Blocks, order and arguments are the published ones, the exclusion writers too. Other than published: paths are
local, the language model and the tokenizer are given files, the public-suffix list is not downloaded, and
`languages` is given where asked (the published None keeps every language).

    python benchmarks/stock_fineweb.py {base,minhash,tokenize} --source FOLDER --work FOLDER --tasks N ...
"""

import argparse
from pathlib import Path

from datatrove.executor.local import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup import (
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.extractors import Trafilatura
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
    LanguageFilter,
    URLFilter,
)
from datatrove.pipeline.formatters import PIIFormatter
from datatrove.pipeline.readers import JsonlReader, WarcReader
from datatrove.pipeline.tokens import DocumentTokenizer, TokensCounter
from datatrove.pipeline.tokens.merger import DocumentTokenizerMerger
from datatrove.pipeline.writers.jsonl import JsonlWriter
from datatrove.utils.hashing import HashConfig
from tldextract import TLDExtract

EOS = "<|endoftext|>"


def main() -> None:
    """Run one part of the recipe in `--work`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=["base", "minhash", "tokenize"])
    parser.add_argument("--source", type=Path, required=True, help="folder of WARC files")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--tasks", type=int, required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--language-model", type=Path, required=True)
    parser.add_argument("--languages", nargs="*")
    parser.add_argument("--tokenizer", type=Path, required=True)
    options = parser.parse_args()
    parts = {"base": base, "minhash": minhash, "tokenize": tokenize}
    for name, tasks, steps in parts[options.part](options):
        logs = str(options.work / "logs" / name)
        LocalPipelineExecutor(steps, tasks=tasks, workers=options.workers, logging_dir=logs).run()


Parts = list[tuple[str, int, list[PipelineStep]]]


def base(options: argparse.Namespace) -> Parts:
    """Read, extract and filter."""
    removed = options.work / "removed"

    def writer(name: str) -> JsonlWriter:
        return JsonlWriter(str(removed / name))

    urls = URLFilter(exclusion_writer=writer("1_url"))
    urls.tldextractor = TLDExtract(suffix_list_urls=())
    by_language = JsonlWriter(str(removed / "2_language"), output_filename="${language}/${rank}.jsonl.gz")
    language = LanguageFilter(languages=options.languages, exclusion_writer=by_language)
    language.model.MODEL_URL = str(options.language_model)
    steps = [
        WarcReader(str(options.source)),
        urls,
        Trafilatura(favour_precision=True),
        language,
        GopherRepetitionFilter(exclusion_writer=writer("3_gopher_rep")),
        GopherQualityFilter(exclusion_writer=writer("4_gopher_qual")),
        C4QualityFilter(filter_no_terminal_punct=False, exclusion_writer=writer("5_c4")),
        FineWebQualityFilter(exclusion_writer=writer("6_fineweb_qual")),
        JsonlWriter(str(options.work / "output")),
    ]
    return [("base", options.tasks, steps)]


def minhash(options: argparse.Namespace) -> Parts:
    """The four stages of near-duplicate removal, and PII."""
    config = MinhashConfig(
        hash_config=HashConfig(hash_fc="sha1", precision=64), num_buckets=14, hashes_per_bucket=8, n_grams=5
    )
    signatures, buckets, removed = (str(options.work / name) for name in ("signatures", "buckets", "remove"))
    filtered, kept = str(options.work / "output"), str(options.work / "deduplicated")
    drop = [
        JsonlReader(filtered),
        TokensCounter(str(options.tokenizer)),
        MinhashDedupFilter(input_folder=removed),
        PIIFormatter(),
        JsonlWriter(kept),
    ]
    sign = [JsonlReader(filtered), MinhashDedupSignature(output_folder=signatures, config=config)]
    return [
        ("minhash1", options.tasks, sign),
        ("minhash2", 14, [MinhashDedupBuckets(signatures, buckets, config=config)]),
        ("minhash3", 1, [MinhashDedupCluster(buckets, removed, config=config)]),
        ("minhash4", options.tasks, drop),
    ]


def tokenize(options: argparse.Namespace) -> Parts:
    """Token files, shuffled and merged."""
    tokens = str(options.work / "tokens")
    write = DocumentTokenizer(tokens, str(options.tokenizer), eos_token=EOS, seed=0)
    merge = DocumentTokenizerMerger(tokens, str(options.work / "dataset"), "tokens", seed=0)
    read = JsonlReader(str(options.work / "deduplicated"))
    return [("tokenize", options.tasks, [read, write]), ("merge", 1, [merge])]


if __name__ == "__main__":
    main()
