"""Who is blamed for a hang: from made-up answers of ranks to one line."""

import traceback
from typing import Any

import pytest

from isoflop.monitor.flight import (
    PACKAGE,
    Operation,
    State,
    group_key,
    innermost,
    last_entered,
    pending,
    waiting_by_stack,
)
from isoflop.monitor.hang import diagnose, ranks_text

PAIR, WORLD = [2, 3], list(range(4))


def operation(kind: str, number: int, group: str = "tensor", ranks: list[int] = PAIR) -> Operation:
    return Operation(kind=kind, number=number, group=group, ranks=ranks, sizes=[[4, 8]])


def answer(rank: int, waits: Operation | None = None, where: str = "parallel/tensor.py:1 f") -> State:
    entered = {} if waits is None else {group_key(waits["group"], waits["ranks"]): waits["number"]}
    return State(
        rank=rank, host="h", time=0.0, doing="step 7", seconds=3.0, where=where, waits=waits, entered=entered,
        stack=[], other_stacks={}, collectives=[],
    )  # fmt: skip


def test_the_rank_outside_is_named_with_its_place() -> None:
    """Rank 2 reads data while its peer waits for it, and the others for the two of them."""
    states = {
        0: answer(0, operation("all_reduce", 9, "shard", WORLD)),
        1: answer(1, operation("all_reduce", 9, "shard", WORLD)),
        2: answer(2, where="data/loader.py:88 read"),
        3: answer(3, operation("all_gather", 42)),
    }
    states[2]["entered"] = {group_key("tensor", PAIR): 41, group_key("shard", WORLD): 9}
    found = diagnose(states, 4)
    assert found.rank == 2
    assert found.cause == (
        "rank 3 waits in all_gather #42 of tensor (ranks 2, 3) and 2 more elsewhere; "
        "rank 2 did not enter: in data/loader.py:88 read (step 7)"
    )


def test_the_collective_named_is_one_that_the_rank_has_not_entered() -> None:
    """Though more ranks wait in another one, which it has entered and left."""
    states = {rank: answer(rank, operation("all_reduce", 5, "shard", WORLD)) for rank in (0, 1)}
    states |= {2: answer(2), 3: answer(3, operation("all_gather", 42))}
    states[2]["entered"] = {group_key("tensor", PAIR): 41, group_key("shard", WORLD): 5}
    assert diagnose(states, 4).cause.startswith("rank 3 waits in all_gather #42 of tensor")
    states[2]["entered"] = {group_key("tensor", PAIR): 42, group_key("shard", WORLD): 4}
    assert diagnose(states, 4).cause.startswith("ranks 0, 1 wait in all_reduce #5 of shard")


def test_a_silent_rank_is_named() -> None:
    """A stopped process answers nothing."""
    states = {rank: answer(rank, operation("all_reduce", 5, "all ranks", WORLD)) for rank in (0, 2, 3)}
    found = diagnose(states, 4)
    assert found.rank == 1
    assert found.cause == (
        "ranks 0, 2, 3 wait in all_reduce #5 of all ranks; "
        "rank 1 did not answer: stopped, or gone with the machine"
    )


def test_ranks_that_wait_for_each_other() -> None:
    """All are in a collective, and not in the same: the odd one out is blamed."""
    states = {rank: answer(rank, operation("all_reduce", 5, "all ranks", WORLD)) for rank in range(3)}
    states[3] = answer(3, operation("broadcast", 5, "all ranks", WORLD))
    found = diagnose(states, 4)
    assert found.rank == 3
    assert "rank 3 waits in broadcast #5 of all ranks" in found.cause
    assert found.cause.endswith("each waits for another")


def test_ranks_that_are_all_there_wait_for_the_network() -> None:
    states = {rank: answer(rank, operation("all_reduce", 5, "all ranks", WORLD)) for rank in range(4)}
    assert "the network or a device does not answer" in diagnose(states, 4).cause


def test_a_rank_alone_is_told_by_its_place() -> None:
    assert diagnose({0: answer(0, where="data/tokens.py:3 read")}, 1).cause == (
        "rank 0 is in data/tokens.py:3 read (step 7)"
    )


@pytest.mark.parametrize(
    ("ranks", "text"),
    [
        ([2], "rank 2"),
        ([0, 1], "ranks 0, 1"),
        ([0, 1, 3], "ranks 0, 1, 3"),
        ([0, 1, 2, 3, 6, 9], "ranks 0–3, 6, 9"),
        (range(0, 20, 2), "ranks 0, 2, 4, 6, … (10 in all)"),
        (range(4096), "ranks 0–4095"),
    ],
)
def test_ranks_are_said_shortly(ranks: Any, text: str) -> None:
    assert ranks_text(ranks) == text


def record(number: int, retired: bool, kind: str = "all_gather", group: str = "7") -> dict[str, Any]:
    """As torch's flight recorder writes one."""
    return {
        "profiling_name": f"gloo:{kind}", "collective_seq_id": number, "p2p_seq_id": 0, "is_p2p": False,
        "retired": retired, "state": "scheduled", "process_group": [group, "mesh_tensor"],
        "input_sizes": [[2, 8]],
    }  # fmt: skip


def test_the_oldest_collective_that_has_not_ended_is_waited_for() -> None:
    noted = [record(1, True), record(2, False), record(3, False)]
    assert pending(noted, {"7": PAIR}) == Operation(
        kind="all_gather", number=2, group="tensor", ranks=PAIR, sizes=[[2, 8]]
    )
    assert pending(noted[:1], {"7": PAIR}) is None
    assert last_entered(noted, {"7": PAIR}) == {"tensor (2,3)": 3}


def stack(*frames: tuple[str, str]) -> traceback.StackSummary:
    return traceback.StackSummary.from_list([(file, 5, name, "") for file, name in frames])


def test_a_stack_tells_who_waits() -> None:
    """In a collective or a pipeline's message below our own code; not where a checkpoint is written."""
    ours = (f"{PACKAGE}/parallel/pipeline.py", "run")
    collective = stack(ours, ("/x/torch/distributed/distributed_c10d.py", "all_reduce"))
    message = stack(ours, ("/x/torch/distributed/pipelining/schedules.py", "step"))
    disk = stack(ours, ("/x/torch/distributed/checkpoint/filesystem.py", "write"))
    back = stack(("/x/torch/distributed/distributed_c10d.py", "all_reduce"), ours)
    assert waiting_by_stack(collective) == Operation(
        kind="all_reduce", number=0, group="", ranks=[], sizes=[]
    )
    assert (waiting_by_stack(message) or {})["kind"] == "a message"
    assert waiting_by_stack(disk) is None
    assert waiting_by_stack(back) is None
    assert innermost(disk) == "parallel/pipeline.py:5 run"
