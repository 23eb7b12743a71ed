"""A page that breaks its extractor is lost alone, and counted; all others come out as they would anyway."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from curation import prose
from datatrove.data import Document
from datatrove.pipeline.extractors import Trafilatura
from resiliparse.extract.html2text import extract_plain_text

from isoflop.config.base import UserError
from isoflop.config.curation.samples import SamplesConfig
from isoflop.curate.input.extract import EXTRACTORS, Resiliparse
from isoflop.curate.input.sandbox import CallError, Sandbox
from isoflop.curate.samples.keep import KeepAside
from isoflop.data.aside import read_records

PAGE = "<!doctype html><html><body><nav>Home</nav><main><p>{}</p><pre>{}</pre></main></body></html>"
DEEP = "<html><body>" + "<div>" * 60_000 + "<p>text</p>" + "</div>" * 60_000  # seconds of CPU and more


def html(pages: list[str]) -> Iterator[Document]:
    yield from (Document(text=page, id=str(n), metadata={"kind": "html"}) for n, page in enumerate(pages))


def misbehave(text: str) -> str | None:
    """What C code can do to its process, by name."""
    if text == "crash":
        ctypes.string_at(0)
    if text == "loop":
        sum(range(10**13))
    if text == "eat":
        return str(len(b"x" * 800_000_000))
    if text == "raise":
        raise RecursionError("too deep")
    if text == "wait":
        time.sleep(1.0)
    if text == "exit":
        os._exit(3)
    if text == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    return None if text == "nothing" else text.upper()


def test_what_a_call_may_do_to_its_process() -> None:
    with Sandbox(misbehave, cpu_seconds=0.3, memory_bytes=400_000_000) as call:
        for text, reason in (
            ("crash", "crashed"),
            ("loop", "too_slow"),
            ("eat", "failed"),
            ("raise", "failed"),
            ("exit", "crashed"),
        ):
            with pytest.raises(CallError) as failure:
                call(text)
            assert failure.value.reason == reason, text
            assert call("next") == "NEXT"
        assert call("wait") == "WAIT", "a clock ran, not CPU time"
        assert call("nothing") is None
        assert call("\ud83d lone") == "\ud83d LONE"
        assert call("x" * 5_000_000) == "X" * 5_000_000
        with pytest.raises(UserError, match="killed; out of memory"):
            call("kill")


def test_a_sandbox_dies_with_its_task(tmp_path: Path) -> None:
    """Also in the middle of a call that takes long."""
    code = (
        "import os, time\nfrom isoflop.curate.input.sandbox import Sandbox\n"
        "def work(text):\n    print(os.getpid(), flush=True)\n    time.sleep(60)\n"
        "Sandbox(work)('text')\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 10
    while _alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_pages_that_a_parser_cannot_bear_are_counted(tmp_path: Path) -> None:
    good = [PAGE.format(prose(n), "x = 1\n  y = 2") for n in range(3)]
    step = Resiliparse()
    step.cpu_seconds = 0.5
    step.failed_writer = KeepAside(tmp_path, "extract", SamplesConfig(), "failed")
    step.exclusion_writer = KeepAside(tmp_path, "extract", SamplesConfig())
    pages = [good[0], DEEP, good[1], "<html></html>", good[2]]
    kept = list(step.run(html(pages), 0, 1))
    plain = [extract_plain_text(page, preserve_formatting=True, main_content=True).strip() for page in good]
    assert [document.text for document in kept] == plain
    assert {key: stat.total for key, stat in step.stats.stats.items() if "doc_len" not in key} == {
        "total": 5,
        "forwarded": 3,
        "dropped": 2,
        "dropped_extractor_too_slow": 1,
        "dropped_no_text": 1,
    }
    (failed,) = read_records(tmp_path / "failed" / "extract" / "00000.jsonl.zst")
    assert (failed["reason"], failed["id"], failed["characters"]) == ("extractor_too_slow", "1", len(DEEP))
    (dropped,) = read_records(tmp_path / "dropped" / "extract" / "00000.jsonl.zst")
    assert (dropped["reason"], dropped["id"]) == ("no_text", "3")


def test_trafilatura_gives_what_datatroves_gives() -> None:
    pages = [PAGE.format(prose(n) + "</p><p>" + prose(n % 3), "x = 1") for n in range(9)]
    theirs = [document.text for document in Trafilatura(timeout=30).run(html(pages))]
    assert len(theirs) > 5
    for _ in range(2):  # a second task begins without the first one's memory of passages
        step = EXTRACTORS["trafilatura"]()
        assert [document.text for document in step.run(html(pages))] == theirs


def test_text_passes_as_it_is() -> None:
    document = Document(text="<p>no page</p>\n", id="1", metadata={"kind": "text"})
    for name in EXTRACTORS:
        assert [kept.text for kept in EXTRACTORS[name]().run(iter([document]))] == ["<p>no page</p>\n"]
