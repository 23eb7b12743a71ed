"""What this rank is doing: the collectives in torch's flight recorder, and the Python stack.

Gloo (from torch 2.9 on) and NCCL note every collective in a ring in memory, whose size
`isoflop.dist.mesh` sets. Gloo's point-to-point messages are not noted: a rank that waits for one is known
by its stack.
"""

import json
import platform
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypedDict, TypeVar

import torch
import torch.distributed as dist

import isoflop

Known = TypeVar("Known")
PACKAGE = str(Path(isoflop.__file__).parent)
WAITING = ("torch/distributed/distributed_c10d.py", "torch/distributed/_functional_collectives.py")
PIPELINING = "torch/distributed/pipelining/"
KEPT = 20  # collectives of a rank's own past that are written down


class Operation(TypedDict):
    """A collective that a rank has entered and not left."""

    kind: str  # all_gather, all_reduce, …; "a message" between two ranks
    number: int  # counted in its group from 1; 0 where the flight recorder does not know it
    group: str  # its axis
    ranks: list[int]  # of the group; empty where it is not known
    sizes: list[list[int]]  # of the tensors that went in


class State(TypedDict):
    """What a rank that makes no progress is doing."""

    rank: int
    host: str
    time: float  # seconds since the epoch
    doing: str  # "step 12", "a checkpoint"
    seconds: float  # since its last sign of life
    where: str  # the innermost line of ours: "data/loader.py:88 read"
    waits: Operation | None
    entered: dict[str, int]  # the last collective of each group, as "axis (ranks)": number
    stack: list[str]  # of the main thread, outermost first
    other_stacks: dict[str, list[str]]  # of Python's other threads
    collectives: list[dict[str, Any]]  # the last of the flight recorder


def state(rank: int, doing: str, seconds: float) -> State:
    """What this process's main thread is doing, told from another thread."""
    frames, threads = sys._current_frames(), threading.enumerate()
    stacks = {
        thread.name: traceback.extract_stack(frames[thread.ident])
        for thread in threads
        if thread.ident in frames and thread is not threading.current_thread()
    }
    main = stacks.pop(threading.main_thread().name, traceback.StackSummary())
    noted, ranks = as_far_as_known(flight_recorder) or [], as_far_as_known(groups) or {}
    # A checkpoint may be under way in a thread of its own, with collectives that hold up nobody
    aside = {str(thread.ident) for thread in threads if thread is not threading.main_thread()}
    own = [entry for entry in noted if entry["thread_id"] not in aside or joins(main)]
    return State(
        rank=rank,
        host=platform.node(),
        time=time.time(),
        doing=doing,
        seconds=seconds,
        where=innermost(main),
        waits=pending(own, ranks) or waiting_by_stack(main),
        entered=last_entered(noted, ranks),
        stack=main.format(),
        other_stacks={name: stack.format() for name, stack in stacks.items()},
        collectives=noted[-KEPT:],
    )


def as_far_as_known(read: Callable[[], Known]) -> Known | None:
    """What `read` finds in torch's private state, None where a release has another: a stack alone will do."""
    try:
        return read()
    except Exception:
        return None


def flight_recorder() -> list[dict[str, Any]]:
    """torch's records, oldest first; none where this build or its environment records nothing."""
    entries: list[dict[str, Any]] = []
    for name in ("_dump_fr_trace_json", "_dump_nccl_trace_json"):  # gloo's, NCCL's
        dump = getattr(torch._C._distributed_c10d, name, None)
        if dump is not None:
            entries += json.loads(dump(True, False)).get("entries", [])
    return sorted(entries, key=lambda entry: entry["time_created_ns"])


def groups() -> dict[str, list[int]]:
    """The ranks of each process group of this rank, by the group's name; none before the ranks have met."""
    if not dist.is_initialized():
        return {}
    world = dist.distributed_c10d._world
    return {world.pg_names[group]: sorted(world.pg_group_ranks[group]) for group in world.pg_map}


def pending(noted: Sequence[dict[str, Any]], ranks: dict[str, list[int]]) -> Operation | None:
    """The oldest collective that has not ended."""
    for entry in noted:
        if not entry["retired"] and entry["state"] != "completed":
            name, description = entry["process_group"]
            message = entry["is_p2p"]
            return Operation(
                kind=entry["profiling_name"].partition(":")[2],
                number=entry["p2p_seq_id" if message else "collective_seq_id"],
                group=axis(description),
                ranks=ranks.get(name, []),
                sizes=entry["input_sizes"],
            )
    return None


def last_entered(noted: Sequence[dict[str, Any]], ranks: dict[str, list[int]]) -> dict[str, int]:
    """The number of the last collective of each group."""
    return {
        group_key(axis(entry["process_group"][1]), ranks.get(entry["process_group"][0], [])): entry[
            "collective_seq_id"
        ]
        for entry in noted
        if not entry["is_p2p"]
    }


def group_key(group: str, ranks: Sequence[int]) -> str:
    """A group as the ranks may compare it: torch's own names of groups are not for reading."""
    return f"{group} ({','.join(map(str, ranks))})"


def axis(description: str) -> str:
    """`mesh_tensor` → `tensor`; the group of all ranks is `all ranks`."""
    if description in ("default_pg", "undefined", ""):
        return "all ranks"
    return description.removeprefix("mesh_")


def waiting_by_stack(stack: Sequence[traceback.FrameSummary]) -> Operation | None:
    """What a stack waits for in torch.distributed, below our own innermost line; None: nothing there."""
    ours = max((i for i, frame in enumerate(stack) if frame.filename.startswith(PACKAGE)), default=-1)
    for frame in stack[ours + 1 :]:
        if PIPELINING in frame.filename:
            return Operation(kind="a message", number=0, group="pipeline", ranks=[], sizes=[])
        if frame.filename.endswith(WAITING) and frame.name != "wrapper":
            return Operation(kind=frame.name, number=0, group="", ranks=[], sizes=[])
    return None


def joins(stack: Sequence[traceback.FrameSummary]) -> bool:
    """Whether a stack waits for another thread."""
    return any(frame.name == "join" and frame.filename.endswith("threading.py") for frame in stack)


def innermost(stack: Sequence[traceback.FrameSummary]) -> str:
    """The innermost line of this package, else of anything: `data/loader.py:88 read`."""
    ours = [frame for frame in stack if frame.filename.startswith(PACKAGE)]
    for frame in reversed(ours or list(stack)):
        name = frame.filename.removeprefix(PACKAGE).lstrip("/")
        return f"{name}:{frame.lineno} {frame.name}"
    return "nowhere in Python"
