"""One program at a time trains in a run folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from isoflop.config.base import UserError
from isoflop.monitor.lock import locked

HOLD = """
import sys
from pathlib import Path
from isoflop.monitor.lock import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_second_program_is_refused_until_the_first_dies(tmp_path: Path) -> None:
    """The refusal names the holder and leaves it the lock; a kill, which cleans nothing up, gives it back."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        for _ in range(2):
            with pytest.raises(UserError) as refusal, locked(tmp_path):
                pytest.fail("two hold the lock")
            assert f"{tmp_path}: process {holder.pid} on {os.uname().nodename} is training here" in str(
                refusal.value
            )
    finally:
        holder.kill()
        holder.communicate()
    with locked(tmp_path):
        pass


def test_a_folder_can_be_held_again_and_again(tmp_path: Path) -> None:
    """Also after an error inside; and a refused one learns of the holder, not of an earlier one."""
    (tmp_path / ".lock").write_text("process 1234567890 on a host with quite a long name")
    with pytest.raises(RuntimeError, match="inside"), locked(tmp_path):
        raise RuntimeError("inside")
    with locked(tmp_path), pytest.raises(UserError) as refusal, locked(tmp_path):
        pytest.fail("two hold the lock")
    assert str(refusal.value).startswith(
        f"{tmp_path}: process {os.getpid()} on {os.uname().nodename} is training"
    )


def test_another_folder_is_free(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    with locked(one), locked(other):
        assert (one / ".lock").read_text() == (other / ".lock").read_text()


@pytest.mark.parametrize("make", ["nothing", "a folder", "a device"])
def test_a_lock_that_cannot_be_written_is_the_users_to_mend(tmp_path: Path, make: str) -> None:
    """It is not mistaken for another program, and nothing runs without the lock."""
    folder = tmp_path / "run"
    if make != "nothing":
        folder.mkdir()
    if make == "a folder":
        (folder / ".lock").mkdir()
    if make == "a device":
        (folder / ".lock").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"\.lock: cannot be written: "), locked(folder):
        pytest.fail("runs without a lock")
