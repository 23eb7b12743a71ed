"""A rank's process: how it meets the others, and what it leaves behind when it fails."""

import os
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from isoflop.config.base import UserError
from isoflop.config.load import read_run_config
from isoflop.config.schema import RunConfig
from isoflop.dist.env import Ranks
from isoflop.engine.run import run
from isoflop.monitor.failures import write_failure
from isoflop.monitor.folder import RunFolder

EXIT_CODES = {"finished": os.EX_OK, "preempted": os.EX_TEMPFAIL}


def spawned_rank(
    rank: int, n_ranks: int, folder: RunFolder, config: Path, run_id: str, meeting: Path, threads: int
) -> int:
    """One rank of `n_ranks` on this machine, which meet at the file `meeting`; its exit code."""
    torch.set_num_threads(threads)  # not by the environment alone: in a sweep torch is imported only once
    ranks = Ranks(rank, n_ranks, rank, n_ranks, "spawned")
    return run_rank(
        folder, read_run_config(config), run_id, ranks, lambda: dist.FileStore(str(meeting), n_ranks)
    )


def launched_rank(folder: RunFolder, config: RunConfig, run_id: str, ranks: Ranks) -> int:
    """One rank that torchrun or Slurm started, which meets the others through the environment."""
    return run_rank(folder, config, run_id, ranks, lambda: meet(config, ranks))


def meet(config: RunConfig, ranks: Ranks) -> dist.Store:
    """The store at the launcher's address. Raises UserError where the ranks do not meet there."""
    timeout = timedelta(seconds=config.cluster.timeout_seconds)
    try:
        return next(iter(dist.rendezvous("env://", ranks.rank, ranks.world_size, timeout=timeout)))[0]
    except (RuntimeError, ValueError) as error:
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise UserError(f"ranks: cannot meet at {where}: {str(error).splitlines()[0]}") from None


def run_rank(
    folder: RunFolder, config: RunConfig, run_id: str, ranks: Ranks, store: Callable[[], dist.Store]
) -> int:
    """Run, and turn how it ended into an exit code; a failure leaves its note in the folder."""
    try:
        return EXIT_CODES[run(config, run_id, folder, ranks, store())]
    except UserError as error:
        cause, code = str(error), error.exit_code
    except KeyboardInterrupt:
        cause, code = "interrupted twice; the last complete checkpoint stands", 130
    except Exception as error:
        folder.logs.mkdir(parents=True, exist_ok=True)
        with folder.log_of_rank(ranks.rank).open("a") as log:
            traceback.print_exc(file=log)
        cause, code = f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}", 1
    write_failure(folder, ranks.rank, cause)
    return code
