"""What a training step costs beside a bare PyTorch loop on the same model, batch and optimizer.

Both arms take turns in one process, round by round, so that the machine's drift meets both; CPU time
of the process, the median of the rounds' ratios. Equal losses show that both did the same work.

    python benchmarks/step.py [--rounds 9] [--steps 10]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F

from isoflop.config.compose import compose
from isoflop.config.load import load_run
from isoflop.config.schema import RunConfig
from isoflop.data.loader import Batch
from isoflop.dist.env import Ranks
from isoflop.dist.mesh import build_mesh, process_group
from isoflop.engine.native import NativeEngine
from isoflop.model.decoder import Decoder
from isoflop.model.init import initialize

CPU = torch.device("cpu")
Arm = Callable[[int], float]


def main() -> None:
    """Print one row for each size of model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=10, help="in each arm of a round")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.rounds} rounds")
    print(f"{'model':<10}{'ours ms':>10}{'bare ms':>10}{'ratio':>8}  min … max")
    for model, batch_tokens in (("ladder-s", 2048), ("debug", 8192)):
        config = load_run(
            compose(
                "train",
                [
                    f"model={model}",
                    f"train.global_batch_tokens={batch_tokens}",
                    "data.path=none",
                    "model.document_mask=false",
                    "optimizer.decay=matrices",  # as the bare loop decays
                ],
            )
        )
        ours, bare, ratios = compare(config, options.rounds, options.steps)
        low, high = min(ratios), max(ratios)
        print(
            f"{model:<10}{ours:>10.2f}{bare:>10.2f}{statistics.median(ratios):>8.3f}  {low:.3f} … {high:.3f}",
            flush=True,
        )


def compare(config: RunConfig, rounds: int, steps: int) -> tuple[float, float, list[float]]:
    """Median CPU milliseconds a step, ours and the bare loop's, and their ratio in each round."""
    batches = [random_batch(config, seed) for seed in range(steps)]
    with (
        tempfile.TemporaryDirectory() as folder,
        process_group(Ranks(), CPU, config.cluster, dist.FileStore(str(Path(folder) / "store"), 1)),
    ):
        arms = [ours_arm(config, batches), bare_arm(config, batches)]
        seconds: list[list[float]] = [[], []]
        for number in range(rounds + 1):
            losses = []
            for arm in (0, 1) if number % 2 else (1, 0):
                start = time.process_time()
                losses.append([arms[arm](step) for step in range(steps)])
                if number:  # the first round warms up
                    seconds[arm].append((time.process_time() - start) / steps)
            assert np.allclose(losses[0], losses[1], rtol=1e-4), "the arms did not do the same work"
    ratios = [ours / bare for ours, bare in zip(*seconds, strict=True)]
    return 1e3 * statistics.median(seconds[0]), 1e3 * statistics.median(seconds[1]), ratios


def random_batch(config: RunConfig, seed: int) -> Batch:
    """One global batch of random tokens."""
    shape = (config.train.global_batch_tokens // config.train.seq_len, config.train.seq_len)
    draw = torch.Generator().manual_seed(seed)
    tokens = torch.randint(config.model.vocab_size, shape, generator=draw)
    return Batch(tokens, tokens.roll(-1, 1), torch.zeros(shape, dtype=torch.int64))


def ours_arm(config: RunConfig, batches: list[Batch]) -> Arm:
    """One step of the native engine."""
    engine = NativeEngine(config, build_mesh(config.parallel, CPU), CPU)
    n_targets = config.train.global_batch_tokens
    return lambda step: (
        engine.train_step(batches[step], n_targets, config.optimizer.lr, lambda loss, grad_norm: True).loss
    )


def bare_arm(config: RunConfig, batches: list[Batch]) -> Arm:
    """The loop that one would write by hand: microbatches, clip, AdamW."""
    model = Decoder(config.model)
    initialize(model, config.model, config.seed)
    decay = [p for p in model.parameters() if p.ndim >= 2]
    rest = [p for p in model.parameters() if p.ndim < 2]
    optimizer = config.optimizer.build([{"params": decay}, {"params": rest, "weight_decay": 0.0}])

    def step(number: int) -> float:
        total, batch = 0.0, batches[number]
        pieces = batch.tokens.split(config.train.microbatch_sequences)
        for i, tokens in enumerate(pieces):
            targets = batch.targets.split(config.train.microbatch_sequences)[i]
            documents = batch.documents.split(config.train.microbatch_sequences)[i]
            loss = F.cross_entropy(model(tokens, documents).flatten(0, 1), targets.flatten()) / len(pieces)
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.train.clip_grad_norm or float("inf"))
        optimizer.step()
        optimizer.zero_grad()
        return total

    return step


if __name__ == "__main__":
    main()
