"""What the tasks of a stage cost: processor time and the most memory that one of them held."""

import json
import resource
import sys
from pathlib import Path
from typing import Any

USAGE = "usage"  # in a stage's logs
KIBIBYTE = 1 if sys.platform == "darwin" else 1024  # the unit of ru_maxrss


def write_usage(folder: Path, rank: int) -> None:
    """Note what this process, a task of its own, has used."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    used = {
        "cpu_seconds": own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime,
        "peak_memory_bytes": max(own.ru_maxrss, children.ru_maxrss) * KIBIBYTE,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{rank:05d}.json").write_text(json.dumps(used))


def stage_usage(folder: Path) -> dict[str, Any]:
    """Over the tasks that noted it: seconds of processor time in all, and the largest task's memory."""
    tasks = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    return {
        "cpu_seconds": round(sum(task["cpu_seconds"] for task in tasks), 3),
        "peak_memory_bytes": max((task["peak_memory_bytes"] for task in tasks), default=0),
    }
