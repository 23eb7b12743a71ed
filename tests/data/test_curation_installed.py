"""The default corpus: documentation that is here already, as pages of HTML."""

import ast
import json
import subprocess
import sys
from importlib.metadata import version
from inspect import cleandoc, getdoc
from pathlib import Path

import pytest
from curation import curate, texts_of

from isoflop.curate import build
from isoflop.curate.input import installed
from isoflop.curate.input.extract import EXTRACTORS
from isoflop.curate.input.pages import guide_page, module_page

ROOT = Path(__file__).parents[2]

MODULE = '''
"""Say hello.

A paragraph that goes
over two lines::

    hello --world  <now>
      indented

Parameters
----------
name : str
    Whom to greet,
    at length.

- first item
- second
"""

class Greeter:
    """Greets <everyone>."""

    def greet(self, name: str, *, loud: bool = False) -> str:
        """Greet `name`.

        >>> Greeter().greet("x")
        'hello x'
        """

def quiet(): pass
'''


def extracted(page: str | None) -> str:
    assert page is not None
    return str(EXTRACTORS["resiliparse"]().extract(page))


def test_a_module_is_a_page_that_reads_as_written() -> None:
    text = extracted(module_page("greetings", ast.parse(MODULE)))
    for line in (
        "greetings",
        "A paragraph that goes over two lines::",
        "hello --world  <now>\n  indented",
        "Parameters",
        "Whom to greet, at length.",
        "- first item",
        "class Greeter",
        "Greets <everyone>.",
        "Greeter.greet(self, name: str, *, loud: bool=False)",
        ">>> Greeter().greet(\"x\")\n'hello x'",
    ):
        assert line in text, line
    assert "----" not in text
    assert "quiet" not in text
    assert module_page("bare", ast.parse("x = 1")) is None


def test_a_guide_keeps_its_headings_and_its_code() -> None:
    code = "```python\nx = [1,\n\n     2]\n```"
    guide = f"# Title\n\nText with *stars*\nand more.\n\n{code}\n\nSection\n=======\n\nEnd."
    text = extracted(guide_page("readme", guide))
    assert [line for line in text.split("\n") if line.strip()] == [
        "Title",
        "Text with *stars* and more.",
        "x = [1,",
        "     2]",
        "Section",
        "End.",
    ]


def test_every_word_of_a_docstring_is_there() -> None:
    source = Path(json.__file__).read_text()
    text = extracted(module_page("json", ast.parse(source)))
    for documented in (json, json.dumps, json.loads):
        missing = set(cleandoc(getdoc(documented) or "").split()) - set(text.split())
        assert not missing


@pytest.fixture(scope="module")
def pages() -> list[installed.Page]:
    return installed.all_pages()


def test_pages_are_of_the_installed_packages(pages: list[installed.Page]) -> None:
    addresses = [page.address for page in pages]
    assert len(set(addresses)) == len(addresses)
    assert f"{installed.SITE}/python/json/decoder.py" in addresses
    assert f"{installed.SITE}/datatrove/datatrove/data.py" in addresses
    for unwanted in ("/isoflop/", "/tests/", "/test_", "/LICENSE"):
        assert not [address for address in addresses if unwanted in address]
    of_numpy = [page.path for page in pages if page.address.startswith(f"{installed.SITE}/numpy/")]
    assert of_numpy == sorted(of_numpy)
    named = {source["name"]: source for source in installed.sources()}
    assert named["datatrove"]["version"] == version("datatrove")
    assert named["numpy"]["licence"].startswith("BSD")


def test_the_default_corpus_becomes_a_dataset(
    pages: list[installed.Page], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of it, through every stage of the default pipeline."""
    part = [page for page in pages if page.title.startswith(("email", "asyncio", "topics"))]
    monkeypatch.setattr(build.installed, "all_pages", lambda: part)
    manifest = curate([], tmp_path / "out", "data.tasks=3")
    texts = texts_of(tmp_path / "out")
    assert manifest.stages[0].documents_in > 100
    assert manifest.total_documents == len(texts) > 20
    assert manifest.licence == installed.LICENCE
    assert manifest.sources[0]["name"] == "CPython"
    assert (manifest.model_extra or {})["language_model"]["model"].startswith("quantised")
    assert any("event loop" in text for text in texts)


def test_help_and_configuration_import_no_data_library() -> None:
    program = str(ROOT / "launch" / "data.py")
    code = (
        f"import runpy, sys\nrunpy.run_path({program!r}, run_name='__main__')\n"
        "assert not {'torch', 'datatrove', 'tokenizers', 'numpy'} & set(sys.modules)"
    )
    for flags in (["--help"], ["--cfg", "job"]):
        done = subprocess.run([sys.executable, "-c", code, *flags], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "vocab_size" in done.stdout or "pipeline" in done.stdout
