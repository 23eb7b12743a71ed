"""One rank of a run, from the frozen config to the summary."""

import platform
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh

from isoflop.checkpoint.load import latest, load
from isoflop.checkpoint.marker import Progress, remove_incomplete
from isoflop.checkpoint.source import find_source
from isoflop.config.schema import RunConfig
from isoflop.data.loader import Batches, build_batches
from isoflop.dist.collectives import gather_texts
from isoflop.dist.env import Ranks
from isoflop.dist.mesh import build_mesh, choose_device, process_group, set_timeouts
from isoflop.engine.base import Engine
from isoflop.engine.branch import branch_note
from isoflop.engine.native import NativeEngine
from isoflop.engine.watched import watched
from isoflop.model.flops import flops_per_token, n_params, n_params_non_embed
from isoflop.monitor.folder import RunFolder, Status
from isoflop.monitor.layout import stages_text
from isoflop.monitor.provenance import add_hosts
from isoflop.monitor.sinks import RunIntro, build_sinks
from isoflop.monitor.throughput import reset_peak_memory
from isoflop.monitor.watchdog import PATIENCE, watchdog
from isoflop.plan.memory import as_rows, expected_memory
from isoflop.plan.shapes import stage_ranges, stages_by_rank
from isoflop.train.budget import total_steps
from isoflop.train.loop import train
from isoflop.train.recorder import Recorder
from isoflop.train.signals import stop_request


def run(config: RunConfig, run_id: str, folder: RunFolder, ranks: Ranks, store: dist.Store) -> Status:
    """Train `config` with these ranks, from its last complete checkpoint if there is one."""
    device = choose_device(config.engine, ranks)
    reset_peak_memory(device)
    with (
        stop_request() as asked,
        watchdog(folder, ranks, config.cluster.timeout_seconds) as watch,
        process_group(ranks, device, config.cluster, store),
    ):
        watch.alive("the start", PATIENCE)
        mesh = build_mesh(config.parallel, device)
        engine = build_engine(config, mesh, device)  # model and optimizer, in their layout
        set_timeouts(config.cluster)
        batches = open_batches(config)  # a pure function of the step
        progress = restore(engine, folder, ranks)  # step 0 where there is nothing to restore
        intro = introduce(config, run_id, folder, progress)
        record_hosts(folder)
        recorder = build_recorder(config, run_id, folder, ranks, device, progress)
        recorder.open(intro, progress)
        try:
            engine = watched(engine, watch, progress.step)
            status, progress = train(engine, batches, progress, recorder, asked, folder.path)
        except BaseException:
            recorder.abandon()
            raise
        watch.stop()  # nobody waits for anybody any more
        recorder.close(status, progress, **asked.cause() if status == "preempted" else {})
    return status


def build_engine(config: RunConfig, mesh: DeviceMesh, device: torch.device) -> Engine:
    """The engine that `config.engine` names."""
    return {"native": NativeEngine}[config.engine.name](config, mesh, device)


def open_batches(config: RunConfig) -> Batches:
    """The batches of the run. Who started the ranks has verified the data; here only its size."""
    return build_batches(config.data.model_copy(update={"verify": "size"}), config.train, config.seed)


def restore(engine: Engine, folder: RunFolder, ranks: Ranks) -> Progress:
    """Fill the engine from the last complete checkpoint, and drop what came after it."""
    if ranks.rank == 0:
        remove_incomplete(folder.checkpoints)
    dist.barrier()
    checkpoint, config = latest(folder.checkpoints), engine.config
    if checkpoint is not None:
        return load(engine.state(), checkpoint, config.checkpoint.verify)
    if config.init_from is not None:
        begin_with_weights(engine, config.init_from)
    return Progress()


def begin_with_weights(engine: Engine, init_from: str) -> None:
    """Fill the engine's weights, and nothing else, from those in `init_from`."""
    found = gather_texts(str(find_source(Path(init_from)).checkpoint))[0]  # one for all, while a run goes on
    weights = {"model": engine.state()["model"]}
    load(weights, Path(found), engine.config.checkpoint.verify, otherwise="give another init_from")


def record_hosts(folder: RunFolder) -> None:
    """Write down which machines the ranks have met on."""
    hosts = gather_texts(platform.node())
    if dist.get_rank() == 0:
        add_hosts(folder.provenance, hosts)


def introduce(config: RunConfig, run_id: str, folder: RunFolder, progress: Progress) -> RunIntro:
    """What is known of the run before its first step."""
    rank, memory = expected_memory(config)
    return RunIntro(
        config=config,
        run_id=run_id,
        folder=folder.path,
        n_params=n_params(config.model),
        n_params_non_embed=n_params_non_embed(config.model),
        flops_per_token=flops_per_token(config.model, config.train.seq_len),
        total_steps=total_steps(config),
        resumed_step=progress.step,
        resume_note=branch_note(config, progress.step),
        stages=stages_text(stage_ranges(config), stages_by_rank(config)),
        memory_rank=rank,
        memory_bytes=dict(as_rows(memory)),
    )


def build_recorder(
    config: RunConfig, run_id: str, folder: RunFolder, ranks: Ranks, device: torch.device, progress: Progress
) -> Recorder:
    """Sinks on the first rank; on the others none."""
    steps = total_steps(config)
    sinks = build_sinks(config, folder, run_id, progress.step, steps) if ranks.rank == 0 else []
    return Recorder(config, folder, device, sinks, ranks)
