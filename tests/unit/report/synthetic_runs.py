"""Run folders as training leaves them, with made-up numbers. `python synthetic_runs.py FOLDER`."""

import hashlib
import json
import math
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from isoflop.config.compose import compose
from isoflop.config.load import dump_yaml, load_run
from isoflop.model.flops import flops_per_token, n_params, n_params_non_embed
from isoflop.monitor.folder import RunFolder, RunSummary, metrics_line, write_json

ENTROPY_NATS = 6.318


def stage(name: str, documents_in: int, dropped: dict[str, int], seconds: float) -> dict[str, Any]:
    kept = documents_in - sum(dropped.values())
    return {
        "name": name,
        "documents_in": documents_in,
        "documents_out": kept,
        "dropped": dropped,
        "seconds": seconds,
    }


MANIFEST: dict[str, Any] = {
    "format_version": 1,
    "tokenizer": {"name": "docs-bpe-4096", "sha256": "5e" * 32, "vocab_size": 4096, "eos_id": 0},
    "dtype": "uint16",
    "total_tokens": 4_210_331,
    "total_documents": 2317,
    "shards": [{"file": "00000_docs.ds", "tokens": 4_210_331, "documents": 2317, "sha256": "ab" * 32}],
    "pipeline": {"extract": {"favour_precision": True}, "minhash": {"buckets": 14, "hashes_per_bucket": 8}},
    "stages": [
        stage("extract", 3541, {"empty": 43}, 41.2),
        stage("gopher quality", 3498, {"too short": 604, "symbol ratio": 121, "bullet lines": 53}, 9.8),
        stage("minhash", 2720, {"near duplicate": 403}, 18.4),
        stage("tokenize", 2317, {}, 6.1),
    ],
    "sources": ["CPython 3.11", "numpy 2.4.6", "torch 2.13.0", "pydantic 2.14.3", "rich 15.0.0"],
    "licence": "PSF-2.0, BSD-3-Clause, MIT",
    "unigram_entropy_nats": ENTROPY_NATS,
}
Row = dict[str, float | int]


def write_run(
    root: Path,
    overrides: Sequence[str] = (),
    steps: int = 60,
    noise: Callable[[int], float] = lambda step: 0.0,
    status: str = "finished",
) -> RunFolder:
    """A whole run folder in `root`; `noise(step)` is added to the loss, relative to it."""
    config = load_run(compose("train", ["data.path=datasets/docs", f"train.steps={steps}", *overrides]))
    run_id = hashlib.sha256(dump_yaml(config).encode()).hexdigest()[:10]
    folder = RunFolder(root / f"{config.name}-{run_id}").create()
    rows = [_row(config, step, steps, noise(step)) for step in range(1, steps + 1)]
    folder.config.write_text(dump_yaml(config))
    folder.overrides.write_text("\n".join(overrides) + "\n")
    folder.metrics.write_bytes(b"".join(map(metrics_line, rows)))
    losses = [row["loss"] for row in rows]
    folder.write_summary(
        RunSummary(
            run_id=run_id,
            name=config.name,
            status=status,  # type: ignore[typeddict-item]
            final_loss=losses[-1],
            best_loss=min(losses),
            step=steps,
            tokens=int(rows[-1]["tokens"]),
            flops=rows[-1]["flops"],
            n_params=n_params(config.model),
            n_params_non_embed=n_params_non_embed(config.model),
            wall_seconds=sum(row["step_seconds"] for row in rows),
            restarts=0,
        )
    )
    write_json(folder.provenance, _provenance(config.parallel.ranks))
    for event, step in (("start", 0), ("checkpoint", steps // 2), ("checkpoint", steps), ("finish", steps)):
        folder.append_event(event, step, **({"seconds": 0.31} if event == "checkpoint" else {}))
    return folder


def write_study(root: Path) -> list[RunFolder]:
    """One run in two layouts, and a ladder of three sizes at three budgets."""
    spread = random.Random(7)
    layouts = [
        write_run(root, ["name=debug", "train.seq_len=128", "train.microbatch_sequences=4"], steps=120),
        write_run(
            root,
            ["name=debug", "parallel=2x2x2", "train.seq_len=128", "train.microbatch_sequences=4"],
            steps=120,
            noise=lambda step: spread.gauss(0, 4e-8) * math.sqrt(step),
        ),
    ]
    ladder = [
        write_run(root, ["name=ladder", "monitor.group=ladder", *_shape(width, heads, layers)], steps=steps)
        for width, heads, layers in ((48, 3, 2), (96, 6, 4), (144, 6, 6))
        for steps in (50, 100, 200)
    ]
    return layouts + ladder


def _shape(width: int, heads: int, layers: int) -> list[str]:
    shape = {
        "width": width,
        "n_heads": heads,
        "n_kv_heads": heads,
        "n_layers": layers,
        "d_ff": 8 * width // 3,
    }
    return [f"model.{key}={value}" for key, value in shape.items()]


def _row(config: Any, step: int, steps: int, noise: float) -> Row:
    """A loss like 2.2 + a/N^α + b/D^β with batch noise, the same for the same batch."""
    per_token, batch = flops_per_token(config.model, config.train.seq_len), config.train.global_batch_tokens
    size, tokens = n_params(config.model), step * batch
    batch_noise = random.Random(step).gauss(0, 0.02)
    law = 2.2 + 62 / size**0.34 + 640 / tokens**0.45 * (1 - 0.12 * (step / steps) ** 2)
    floor = 1 / (1 / 8.32 + 1 / law)  # starts at ln(vocabulary)
    loss = (2.1 + floor + batch_noise) * (1 + noise) if step > 1 else 8.32
    seconds = 2.4e-11 * per_token * batch / 2 * config.parallel.ranks**0.2
    seconds *= 1 + 0.05 * random.Random(step + 999).random() + (0.8 if step == 1 else 0.0)
    return {
        "step": step,
        "tokens": tokens,
        "flops": float(tokens * per_token),
        "loss": loss,
        "grad_norm": (0.35 + 2.4 / math.sqrt(step) + 0.1 * abs(batch_noise)) * (1 + 0.5 * noise),
        "lr": 3e-3 * min(1.0, step / (0.05 * steps)) * (0.55 + 0.45 * math.cos(math.pi * step / steps)),
        "tokens_per_second": batch / seconds,
        "step_seconds": seconds,
        "mfu": per_token * batch / seconds / 1.9e11,
        "memory_bytes": 430_000_000 + 40_000 * step + 16 * size,
    }


def _provenance(ranks: int) -> dict[str, Any]:
    return {
        "git_sha": "3b7f8c90d1e2f3a4b5c6d7e8f90a1b2c3d4e5f60",
        "git_dirty": False,
        "diff": "",
        "versions": {"python": "3.11.7", "isoflop": "0.1.0", "torch": "2.13.0+cpu", "datatrove": "0.10.1"},
        "hosts": ["node-17"],
        "ranks": ranks,
        "started": "2026-08-01T12:00:00+00:00",
        "data": [{"path": "datasets/docs", "content_sha256": "c0" * 32, "manifest": MANIFEST}],
    }


if __name__ == "__main__":
    print(json.dumps([str(folder.path) for folder in write_study(Path(sys.argv[1]))], indent=1))
