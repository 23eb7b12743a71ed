"""The script that kills runs at random and resumes them in other layouts, once, at a moment of its own."""

import random
import sys

from programs import ROOT, run


def test_a_run_killed_at_random_is_the_run_that_nobody_disturbed() -> None:
    """Its own verdict, and that it did kill and resume; the seed is in the message where it fails."""
    seed = random.randrange(10**6)
    words = ["--kills", "1", "--steps", "16", "--seed", str(seed)]
    done = run([sys.executable, str(ROOT / "benchmarks" / "kills.py"), *words])
    assert done.returncode == 0, f"--seed {seed}\n{done.stdout}\n{done.stderr}"
    *_, row, verdict = done.stdout.splitlines()
    assert verdict == "1 of 1 are the run that nobody disturbed"
    assert "rank" in row or "launcher" in row


def test_the_script_tells_a_run_that_is_another() -> None:
    """A step that is missing, a token too many, a loss beyond the tolerance."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from kills import compare

    alone = [
        {"step": step, "tokens": 8 * step, "flops": 9.0, "lr": 0.1, "loss": 2.0, "grad_norm": 1.0}
        for step in (1, 2, 3)
    ]
    assert compare(alone, alone) == ("", 0.0)
    assert compare(alone[:1] + alone[2:], alone)[0] == "its steps are [1, 3]"
    assert compare([alone[0], alone[1], alone[1], alone[2]], alone)[0] == "its steps are [1, 2, 2, 3]"
    for name, by, fault in (
        ("tokens", 1, "its tokens differ from step 2 on"),
        ("flops", 1, "its flops differ from step 2 on"),
        ("loss", 3e-5, "its losses are others"),
        ("grad_norm", -2e-5, "its losses are others"),
        ("loss", 1e-6, ""),
    ):
        rows = [alone[0], {**alone[1], name: alone[1][name] + by}, alone[2]]
        assert compare(rows, alone)[0] == fault
