"""What the tests of curation share: made-up prose, a build of it, and steps that misbehave."""

import io
import json
import os
import random
import signal
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.pipeline.base import PipelineStep
from rich.console import Console
from tokenizers import Tokenizer

from isoflop.config.compose import compose
from isoflop.config.curation.run import CurateConfig, load_curation
from isoflop.data.manifest import Manifest, read_manifest

COMMON = """the of and to that with have be in a is for on are was by from this when which each other time
house garden river people water letter morning window table children market village winter summer story
walked opened carried remembered listened answered watched gathered planted followed quiet small bright
heavy narrow distant early slowly often together almost never always between under around before after
school teacher picture question answer station journey mountain kitchen bread candle paper music evening"""
WORDS = tuple(COMMON.split())


def prose(seed: int, words: int = 160) -> str:
    """English-looking sentences in paragraphs of their own, the same for the same seed."""
    draw = random.Random(seed)
    sentences: list[str] = []
    while sum(len(s.split()) for s in sentences) < words:
        chosen = [draw.choice(WORDS) for _ in range(draw.randint(9, 16))]
        sentences.append(" ".join(chosen).capitalize() + ".")
    return "\n\n".join(" ".join(sentences[i : i + 4]) for i in range(0, len(sentences), 4))


def edited(text: str, seed: int, fraction: float = 0.02) -> str:
    """`text` with a fraction of its words replaced."""
    draw = random.Random(seed)
    return " ".join(draw.choice(WORDS) if draw.random() < fraction else w for w in text.split(" "))


def write_jsonl(path: Path, texts: Iterable[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def corpus(folder: Path, texts: Sequence[str], files: int = 2) -> Path:
    """`texts` dealt out over JSONL files."""
    for number in range(files):
        write_jsonl(folder / f"{number}.jsonl", texts[number::files])
    return folder


def config_of(sources: Path | Sequence[Path], output: Path, *overrides: str) -> CurateConfig:
    paths = [sources] if isinstance(sources, Path) else sources
    listed = ",".join(str(path) for path in paths)
    small = [f"data.sources=[{listed}]", f"data.output={output}", "tokenizer.vocab_size=400"]
    return load_curation(compose("data", [*small, *overrides]))


def curate(
    sources: Path | Sequence[Path], output: Path, *overrides: str, console: Console | None = None
) -> Manifest:
    """Build the dataset `output` from `sources`."""
    from isoflop.curate.build import build

    config = config_of(sources, output, *overrides)
    recipe = import_module(f"data_pipelines.{config.pipeline.name}").recipe
    return build(config, recipe, console or Console(file=io.StringIO()))


def tokens_of(root: Path) -> list[np.ndarray]:
    """Each document's tokens, read by numpy alone."""
    manifest, documents = read_manifest(root), []
    for shard in manifest.shards:
        tokens = np.fromfile(root / shard.file, dtype=manifest.dtype)
        ends = np.fromfile(root / f"{shard.file}.index", dtype="<u8").astype(int)
        assert ends[-1] == len(tokens)
        documents += np.split(tokens, ends[:-1])
    return documents


def texts_of(root: Path) -> list[str]:
    """Each document's text, decoded from its tokens without the end of text."""
    tokenizer = Tokenizer.from_file(str(root / "tokenizer.json"))
    return [tokenizer.decode(tokens[:-1].tolist(), skip_special_tokens=False) for tokens in tokens_of(root)]


class Counts(PipelineStep):
    """Notes each task that runs; task 1 fails until `folder` has a file `mended`."""

    type = "TEST"
    name = "counts"

    def __init__(self, folder: Path, failure: str = "") -> None:
        super().__init__()
        self.folder, self.failure = folder, failure

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        with (self.folder / f"ran-{rank}").open("a") as file:
            file.write("x")
        if rank == 1 and not (self.folder / "mended").exists():
            if self.failure == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise ValueError("two and two\nare five")
