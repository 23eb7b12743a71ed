"""Docstrings and plain-text guides as HTML pages: a heading for each object, paragraphs, code in <pre>."""

import ast
import re
from collections.abc import Iterator
from html import escape
from inspect import cleandoc

UNDERLINE = re.compile(r"^([=\-~^\"'`#*+.])\1{2,}\s*$")
MARKDOWN_HEADING = re.compile(r"^(#{1,6})\s+(.+?)\s*#*$")
BULLET = re.compile(r"^\s*(?:[-*+•]|\d+[.)])\s+")
FENCE = re.compile(r"^\s*(```|~~~)")
DIRECTIVE = re.compile(r"^\s*\.\. ?(?!note|warning|seealso|versionadded|versionchanged|deprecated|tip)")
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def module_page(name: str, tree: ast.Module) -> str | None:
    """A page of every docstring in a module, each under its object's signature; None where there is none."""
    parts: list[str] = []
    for heading, level, text in _docstrings(tree, ""):
        parts += [f"<h{level}>{escape(heading)}</h{level}>"] if heading else []
        parts += blocks(cleandoc(text))
    return _page(name, [f"<h1>{escape(name)}</h1>", *parts]) if parts else None


def topic_page(name: str, text: str) -> str:
    """A page of one of Python's help topics."""
    return _page(name, blocks(text))


def guide_page(address: str, text: str) -> str:
    """A page of a plain-text, reStructuredText or Markdown guide."""
    return _page(address, blocks(text.expandtabs()))


def _page(title: str, parts: Iterator[str] | list[str]) -> str:
    body = "\n".join(parts)
    head = f'<head><meta charset="utf-8"><title>{escape(title)}</title></head>'
    return f"<!DOCTYPE html>\n<html>{head}\n<body><main><article>\n{body}\n</article></main></body></html>\n"


def _docstrings(node: Documented, inside: str) -> Iterator[tuple[str, int, str]]:
    """(heading, level, docstring) of `node` and of what it defines, in the order of the source."""
    text = ast.get_docstring(node, clean=False)
    if text and text.strip():
        yield _heading(node, inside), min(1 + inside.count("."), 4), text
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _docstrings(child, f"{inside}{child.name}.")


def _heading(node: Documented, inside: str) -> str:
    if isinstance(node, ast.Module):
        return ""
    name = inside.rstrip(".")
    if isinstance(node, ast.ClassDef):
        return f"class {name}"
    arguments = ast.unparse(node.args)
    return f"{name}({arguments})" if len(arguments) < 200 else f"{name}(…)"


def blocks(text: str) -> Iterator[str]:
    """HTML of plain text: a paragraph's lines are joined, items and definitions stand alone, code stays."""
    literal = False  # the paragraph before ended with `::`, so what is indented below it is code
    paragraphs = _paragraphs(text)
    for lines in paragraphs:
        stripped = lines[0].lstrip()
        indented = lines[0] != stripped
        if FENCE.match(lines[0]):
            yield _pre(lines[1:-1])
        elif stripped.startswith((">>>", "$ ", "In [")) or (literal and indented):
            yield _pre(lines)
            continue  # the next paragraph may be more of it
        elif not DIRECTIVE.match(lines[0]):
            yield from _prose(lines)
        literal = lines[-1].rstrip().endswith("::")


def _paragraphs(text: str) -> Iterator[list[str]]:
    """Runs of lines between blank ones; a fenced block is one run, whatever is in it."""
    run: list[str] = []
    fenced = False
    for line in [*text.splitlines(), ""]:
        fence = FENCE.match(line) is not None
        if not fenced and (fence or not line.strip()):
            if run:
                yield run
            run = []
        if fenced or line.strip():
            run.append(line)
        if fence:
            if fenced:
                yield run
                run = []
            fenced = not fenced
    if run:
        yield [*run, "```"] if fenced else run


def _prose(lines: list[str]) -> Iterator[str]:
    """Headings, items, definitions and running text of one paragraph."""
    heading = MARKDOWN_HEADING.match(lines[0])
    if heading:
        yield f"<h3>{escape(heading[2])}</h3>"
        lines = lines[1:]
    elif len(lines) > 1 and UNDERLINE.match(lines[1].strip()):
        yield f"<h3>{escape(lines[0].strip())}</h3>"
        lines = lines[2:]
    run: list[str] = []
    indent = 0
    for line in lines:
        if UNDERLINE.match(line.strip()):
            continue
        depth = len(line) - len(line.lstrip())
        if run and (BULLET.match(line) or (depth != indent and not BULLET.match(run[0]))):
            yield _paragraph(run)
            run = []
        indent = depth
        run.append(line.strip())
    if run:
        yield _paragraph(run)


def _paragraph(lines: list[str]) -> str:
    return f"<p>{escape(' '.join(lines))}</p>"


def _pre(lines: list[str]) -> str:
    depth = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return "<pre>" + escape("\n".join(line[depth:].rstrip() for line in lines)) + "</pre>"
