"""Ranks as torchrun and srun tell them: who this process is, and where it meets the others."""

import subprocess
import sys

import pytest

from isoflop.config.base import UserError
from isoflop.dist.env import Ranks, launched_ranks

TORCHRUN = {
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "10.0.0.1",
    "MASTER_PORT": "29400",
}
BATCH = {  # what an sbatch script's own shell has
    "SLURM_JOB_ID": "4242",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_NTASKS": "8",
    "SLURM_JOB_NODELIST": "gpu[07-08]",
}
SRUN = {
    **BATCH,
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
}


def test_nobody_launched() -> None:
    """A shell on a laptop is no launcher, nor is an sbatch script without srun, nor a step of one task."""
    assert launched_ranks({}) is None
    assert launched_ranks(dict(BATCH)) is None
    lone = {**SRUN, "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}
    assert launched_ranks(lone) is None
    assert "MASTER_ADDR" not in lone


def test_torchrun() -> None:
    """Its ranks are taken as they are, also inside a Slurm step that started one torchrun a node."""
    for env in (dict(TORCHRUN), {**SRUN, **TORCHRUN}):
        before = dict(env)
        assert launched_ranks(env) == Ranks(5, 8, 1, 4, "torchrun")
        assert env == before


def test_torchrun_itself(tmp_path) -> None:
    """Two processes that the real torchrun starts are ranks 0 and 1 of 2."""
    script = tmp_path / "rank.py"
    script.write_text(
        "import sys\n"
        "from isoflop.dist.env import launched_ranks\n"
        "ranks = launched_ranks()\n"
        "open(f'{sys.argv[1]}/{ranks.rank}', 'w').write(repr(ranks))\n"
    )
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        script,
        tmp_path,
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    found = [(tmp_path / str(rank)).read_text() for rank in range(2)]
    assert found == [repr(Ranks(rank, 2, rank, 2, "torchrun")) for rank in range(2)]


def test_srun_meets_on_the_first_node() -> None:
    """Task 5 of 8 on two nodes, which all find the same address and port."""
    env = dict(SRUN)
    assert launched_ranks(env) == Ranks(5, 8, 1, 4, "slurm")
    peer = {**SRUN, "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    assert launched_ranks(peer) == Ranks(0, 8, 0, 4, "slurm")
    assert env["MASTER_ADDR"] == peer["MASTER_ADDR"] == "gpu07"
    assert env["MASTER_PORT"] == peer["MASTER_PORT"]


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("laptop", "laptop"),
        ("a1,b1", "a1"),
        ("gpu[07-08]", "gpu07"),
        ("gpu[12,15-17]", "gpu12"),
        ("gpu[3]-ib,login", "gpu3-ib"),
        ("rack[2-3]node[05-08]", "rack2node05"),
        ("node-1.site.org,gpu[1-2]", "node-1.site.org"),
    ],
)
def test_the_first_of_a_host_list(nodes: str, first: str) -> None:
    """As `scontrol show hostnames` expands it."""
    env = {**SRUN, "SLURM_STEP_NODELIST": nodes}
    launched_ranks(env)
    assert env["MASTER_ADDR"] == first


def test_what_the_user_set_stays() -> None:
    env = {**SRUN, "MASTER_ADDR": "gpu07-ib", "MASTER_PORT": "12345"}
    launched_ranks(env)
    assert (env["MASTER_ADDR"], env["MASTER_PORT"]) == ("gpu07-ib", "12345")


def test_jobs_and_steps_on_one_node_do_not_meet() -> None:
    """Fifty jobs in a row, of fifty steps: no two have one port, and Linux gives none of them away."""
    ports = set()
    for job in range(1_234_567, 1_234_617):
        for step in range(50):
            env = {**SRUN, "SLURM_JOB_ID": str(job), "SLURM_STEP_ID": str(step)}
            launched_ranks(env)
            ports.add(int(env["MASTER_PORT"]))
    assert len(ports) == 50 * 50
    assert min(ports) > 1024
    assert max(ports) < 32_768


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ({**TORCHRUN, "RANK": "five"}, "RANK='five'"),
        ({**TORCHRUN, "WORLD_SIZE": ""}, "WORLD_SIZE=''"),
        ({**TORCHRUN, "RANK": "8"}, "rank 8 of 8"),
        ({**TORCHRUN, "RANK": "-1"}, "rank -1 of 8"),
        ({**TORCHRUN, "LOCAL_RANK": "4"}, "4 of 4 on this node"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "MASTER_ADDR is not"),
        ({**SRUN, "SLURM_STEP_NUM_TASKS": "many"}, "SLURM_STEP_NUM_TASKS='many'"),
        ({**SRUN, "SLURM_PROCID": "8"}, "rank 8 of 8"),
        (
            {name: value for name, value in SRUN.items() if name != "SLURM_LOCALID"},
            "SLURM_LOCALID is not set",
        ),
        ({name: value for name, value in SRUN.items() if name != "SLURM_JOB_ID"}, "SLURM_JOB_ID is not set"),
        (
            {name: value for name, value in SRUN.items() if name != "SLURM_STEP_NODELIST"},
            "SLURM_STEP_NODELIST",
        ),
    ],
)
def test_nonsense_is_the_users_to_mend(env: dict[str, str], named: str) -> None:
    """One line that says which variable."""
    with pytest.raises(UserError, match=r"^ranks: ") as mistake:
        launched_ranks(dict(env))
    assert named in str(mistake.value)
    assert "\n" not in str(mistake.value)
