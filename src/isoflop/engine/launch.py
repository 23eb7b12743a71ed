"""From a composed mapping to a run that is under way: validate, preflight, freeze, start the ranks."""

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from isoflop.checkpoint.source import check_weights
from isoflop.config.base import ConfigError, Fault, UserError
from isoflop.config.load import dump_yaml, load_run
from isoflop.config.schema import RunConfig
from isoflop.data.checks import preflight_faults
from isoflop.data.manifest import Manifest, read_manifest
from isoflop.data.tokens import TokenDataset
from isoflop.dist.env import Ranks, launched_ranks
from isoflop.dist.spawn import spawn_ranks
from isoflop.engine.branch import begin_branch, check_branch, is_begun
from isoflop.engine.capabilities import refusals
from isoflop.engine.resume import frozen_config, is_finished, locate
from isoflop.monitor.failures import clear_failures, first_failure, record_failure
from isoflop.monitor.folder import RunFolder, write_bytes, write_json
from isoflop.monitor.lock import locked
from isoflop.monitor.provenance import add_attempt, provenance
from isoflop.optim.checks import schedule_faults
from isoflop.train.budget import total_tokens


def train(composed: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Run the experiment `composed` here. Raises UserError; exits 75 when asked to stop before the end."""
    config = load_run(composed)
    ranks = launched_ranks()
    manifests = preflight(config, ranks)
    folder, run_id = locate(config, [manifest.content_sha256 for manifest in manifests])
    if is_finished(folder):
        if ranks is None or ranks.rank == 0:
            print(f"finished before; nothing to do: {folder.path}")
        return
    if config.branch_from is not None and not is_begun(folder):
        check_branch(config)
    if config.init_from is not None and not is_begun(folder):
        check_weights(config.model, config.init_from)
    if ranks is None or ranks.rank == 0:
        verify_data(config)
        folder.create()
        with locked(folder.path):
            config_file = freeze(config, folder, run_id, manifests, overrides)
            if config.branch_from is not None and not is_begun(folder):
                begin_branch(config, folder)
            ended = (
                _launched(config, folder, run_id, ranks)
                if ranks
                else _spawned(config, folder, run_id, config_file)
            )
            _report_end(folder, ended)
    else:
        ended = _launched(config, folder, run_id, ranks)
        if not _went_well(ended):  # the first rank may be blocked until it is killed
            record_failure(folder, first_failure(folder, ended))
        sys.exit(ended[ranks.rank])


def preflight(config: RunConfig, ranks: Ranks | None) -> list[Manifest]:
    """Everything that can be known before a process starts; ConfigError with all faults."""
    manifests = [read_manifest(Path(entry.path)) for entry in config.data.entries]
    device = None if config.engine.device == "auto" else config.engine.device
    faults = [
        *(refusal.fault() for refusal in refusals(config, device)),
        *preflight_faults(config, manifests),
        *schedule_faults(config.schedule, total_tokens(config), config.train.global_batch_tokens),
    ]
    if ranks is not None and ranks.world_size != config.parallel.ranks:
        names = ("data", "context", "tensor", "pipeline")
        axes = " × ".join(f"{axis} {getattr(config.parallel, axis)}" for axis in names)
        needed, started = config.parallel.ranks, ranks.world_size
        faults.append(
            Fault("parallel", None, f"{axes} needs {needed} ranks, {ranks.launcher} started {started}")
        )
    if faults:
        raise ConfigError(faults)
    return manifests


def verify_data(config: RunConfig) -> None:
    """Read every dataset as `data.verify` asks, before ranks start: none of them must wait for it.

    Raises DatasetError naming the first file that is not what its manifest says.
    """
    for entry in config.data.entries:
        TokenDataset(Path(entry.path), config.data.verify)


def freeze(
    config: RunConfig, folder: RunFolder, run_id: str, manifests: Sequence[Manifest], overrides: Sequence[str]
) -> Path:
    """Write down what is about to run; ranks read the frozen config and nothing else."""
    config_file = frozen_config(folder, config)
    write_bytes(config_file, dump_yaml(config).encode())
    if folder.provenance.exists():
        add_attempt(folder.provenance, config)
    else:
        write_bytes(folder.overrides, "".join(f"{word}\n" for word in overrides).encode())
        write_json(folder.provenance, provenance(config, manifests, run_id))
    clear_failures(folder)
    return config_file


def _spawned(config: RunConfig, folder: RunFolder, run_id: str, config_file: Path) -> dict[int, int]:
    """Start this machine's ranks and wait for them; exit code by rank."""
    n_ranks = config.parallel.ranks
    threads = config.cluster.threads_per_rank or max(1, (os.cpu_count() or 1) // n_ranks)
    with tempfile.TemporaryDirectory(prefix="isoflop-") as meeting:
        arguments = (folder, config_file, run_id, Path(meeting) / "store", threads)
        if n_ranks > 1:
            return spawn_ranks(
                _rank, arguments, n_ranks, folder.logs, threads, preload="isoflop.engine.worker"
            )
        os.environ["OMP_NUM_THREADS"] = str(threads)
        return {0: _rank(0, 1, *arguments)}


def _rank(rank: int, n_ranks: int, *arguments: Any) -> int:
    from isoflop.engine.worker import spawned_rank  # torch, only where a rank runs

    return spawned_rank(rank, n_ranks, *arguments)


def _launched(config: RunConfig, folder: RunFolder, run_id: str, ranks: Ranks) -> dict[int, int]:
    from isoflop.engine.worker import launched_rank

    return {ranks.rank: launched_rank(folder, config, run_id, ranks)}


def _report_end(folder: RunFolder, ended: dict[int, int]) -> None:
    """Say how the run ended: UserError naming the rank that failed first, exit 75 where it was stopped."""
    if not _went_well(ended):
        failure = first_failure(folder, ended)
        record_failure(folder, failure)
        where = f"rank {failure['rank']}: " if len(ended) > 1 else ""
        raise UserError(f"{where}{failure['cause']}\nrun folder: {folder.path}")
    if any(ended.values()):
        print(f"stopped; run the same command again to go on\nrun folder: {folder.path}", file=sys.stderr)
        sys.exit(os.EX_TEMPFAIL)
    print(f"run folder: {folder.path}")


def _went_well(ended: dict[int, int]) -> bool:
    return all(code in (os.EX_OK, os.EX_TEMPFAIL) for code in ended.values())
