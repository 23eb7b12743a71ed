"""`isoflop data inspect` in the terminal."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from isoflop.data.aside import KINDS, Cluster, Member, Sample
from isoflop.monitor import units
from isoflop.report.dataset.compare import Comparison
from isoflop.report.dataset.gather import Dataset, Look
from isoflop.report.dataset.gather import Group as Reason
from isoflop.report.dataset.text import first_lines, printable, visible

BAR = 16  # characters
TOP_TOKENS = 12
LINES = 3  # of a document


def show(console: Console, datasets: Sequence[Dataset], comparison: Comparison | None, look: Look) -> None:
    """Print one dataset, or two and how they differ; then the documents of the first."""
    for dataset in datasets:
        _section(console, _summary(dataset))
    if comparison is not None:
        for part in _comparison(comparison, datasets, look, console.width):
            _section(console, part)
    for dataset in datasets if comparison is None else ():
        _section(console, _funnel(dataset))
    for dataset in datasets:
        _section(console, _lengths(dataset))
        _section(console, _tokens(dataset))
    for part in _documents(datasets[0], look, console.width):
        _section(console, part)


def _section(console: Console, part: RenderableType) -> None:
    console.print(part)
    console.print()


def _summary(dataset: Dataset) -> RenderableType:
    manifest, lengths = dataset.manifest, dataset.lengths
    out = [f"{manifest.total_documents:,} documents"]
    if dataset.documents_in:
        out[0] += f" of {dataset.documents_in:,} ({manifest.total_documents / dataset.documents_in:.1%})"
    out += [f"{units.count(manifest.total_tokens)} tokens", f"vocabulary {manifest.tokenizer.vocab_size:,}"]
    bytes_per_token = dataset.extra.get("bytes_per_token") or dataset.tokens.bytes_per_token
    if bytes_per_token:
        out.append(f"{bytes_per_token:.2f} bytes a token")
    out.append(f"{lengths.mean:,.0f} tokens a document")
    lines = [Text(str(dataset.root), style="bold"), Text(" · ".join(out))]
    return Group(*lines, *(Text(f"note: {printable(note)}", style="yellow") for note in dataset.notes))


def _funnel(dataset: Dataset) -> RenderableType:
    """Every step, what it dropped and why; bars are what is left of all documents."""
    table = _table("documents", "step", ">in", ">out", ">dropped", "|left", "reasons")
    entered = dataset.documents_in or 1
    for step in dataset.manifest.stages:
        reasons = sorted(step.dropped.items(), key=lambda item: (-item[1], item[0]))
        table.add_row(
            step.name,
            f"{step.documents_in:,}",
            f"{step.documents_out:,}",
            f"{1 - step.documents_out / step.documents_in:.1%}" if step.documents_in else "–",
            Text(_bar(step.documents_out / entered), style="cyan"),
            Text(", ".join(f"{name} {count:,}" for name, count in reasons)),
        )
    return table


def _lengths(dataset: Dataset) -> RenderableType:
    lengths = dataset.lengths
    title = f"{dataset.name}: document length in tokens"
    table = _table(title, ">from", ">to", ">documents", "|", ">tokens", "|")
    bins = lengths.bins()
    most_documents = max((row[2] for row in bins), default=1)
    most_tokens = max((row[3] for row in bins), default=1)
    for least, most, documents, tokens in bins:
        table.add_row(
            f"{least:,}",
            f"{most:,}",
            f"{documents:,}",
            Text(_bar(documents / most_documents), style="cyan"),
            units.count(tokens),
            Text(_bar(tokens / most_tokens), style="magenta"),
        )
    marks = " · ".join(f"{f:.0%} ≤ {lengths.quantile(f):,}" for f in (0.01, 0.1, 0.5, 0.9, 0.99))
    return Group(table, Text(f"{marks} · longest {lengths.longest:,}", style="dim"))


def _tokens(dataset: Dataset) -> RenderableType:
    told = dataset.tokens
    table = _table(f"{dataset.name}: most frequent tokens", ">id", "token", ">of tokens", ">of bytes")
    for token in told.top[:TOP_TOKENS]:
        share = "–" if token.of_bytes is None else f"{token.of_bytes:.2%}"
        table.add_row(f"{token.id}", Text(visible(token.shown)), f"{token.of_tokens:.2%}", share)
    notes = [
        f"unigram entropy {told.entropy_nats:.4f} nats",
        f"{told.used:,} of {told.vocab_size:,} ids occur",
    ]
    if told.read < told.total:
        notes.append(f"from {units.count(told.read)} of {units.count(told.total)} tokens")
    if told.by_bytes:
        short = sum(row[1] for row in told.by_bytes if row[0] <= 2)
        notes.append(f"{short:.1%} of tokens are of one or two bytes")
    return Group(table, Text(" · ".join(notes), style="dim"))


def _documents(dataset: Dataset, look: Look, width: int) -> Iterator[RenderableType]:
    """Samples by their fate, and clusters."""
    for kind in KINDS:
        for group in dataset.groups(kind, look):
            yield _reason(kind, group, width)
    for cluster in look.of_clusters(dataset.clusters):
        yield _cluster(cluster, width)


def _reason(kind: str, group: Reason, width: int) -> RenderableType:
    count = f" · {group.count:,}" if group.count is not None else ""
    told = [group.step, *([group.reason] if group.reason != group.step else [])]
    name = f" · {': '.join(told)}" if group.reason else ""
    head = Text.assemble((kind, "bold"), f"{name}{count} · {len(group.samples)} shown")
    return Group(head, *(_sample(sample, width) for sample in group.samples))


def _sample(sample: Sample, width: int) -> RenderableType:
    return _document(sample, f"{sample['characters']:,} characters", width)


def _document(sample: "Sample | Member", note: str, width: int) -> RenderableType:
    url = sample["url"] if sample["url"] != sample["id"] else None
    about = [printable(part) for part in (sample["id"], url, note) if part]
    lines = [Text(line, style="dim") for line in first_lines(sample["text"], LINES, max(20, width - 6))]
    return Padding(Group(Text(" · ".join(about)), *lines), (0, 0, 0, 2))


def _cluster(cluster: Cluster, width: int) -> RenderableType:
    head = Text.assemble(("cluster", "bold"), f" {cluster['cluster']} · {cluster['size']} near-duplicates")
    members = cluster["members"]
    return Group(
        head, *(_document(member, "kept" if member["kept"] else "dropped", width) for member in members)
    )


def _comparison(
    comparison: Comparison, datasets: Sequence[Dataset], look: Look, width: int
) -> Iterator[RenderableType]:
    first, second = (dataset.name for dataset in datasets)
    rows = [*comparison.config, *comparison.beside]
    table = _table("differences" if rows else "no difference in configuration or code", "", first, second)
    for key, a, b in rows:
        table.add_row(Text(key), Text(a), Text(b))
    yield table
    table = _table("documents", "step", f">out of {first}", f">of {second}", "reasons (first → second)")
    for step in comparison.steps:
        out = [f"{s.documents_out:,} of {s.documents_in:,}" if s else "–" for s in (step.first, step.second)]
        told = ", ".join(f"{name} {a:,} → {b:,}" for name, a, b in step.reasons if a != b)
        table.add_row(step.name, *out, Text(told))
    yield table
    if comparison.overlap is None:
        yield Text(
            "without kept_ids.npy in both, what one keeps and the other not is not known", style="yellow"
        )
        return
    overlap = comparison.overlap
    only = [f"only by {root} {n:,}" for root, n in ((first, overlap.first), (second, overlap.second))]
    yield Text(" · ".join([f"kept by both {overlap.both:,}", *only]))
    for here, there, samples in (
        (first, second, comparison.only_first),
        (second, first, comparison.only_second),
    ):
        if samples:
            head = Text.assemble(
                (f"kept by {here}, dropped by {there}", "bold"), f" · {len(samples)} in its samples"
            )
            told_samples = [
                _document(sample, f"{sample['step']}: {sample['reason']}", width)
                for sample in look.chosen(samples)
            ]
            yield Group(head, *told_samples)


def _table(title: str, *columns: str) -> Table:
    """Columns whose names begin with > hold numbers, with | bars: neither is broken over lines."""
    # A title of many words would be broken to the width of a narrow table.
    title = title.replace(" ", "\u00a0")
    table = Table(title=Text(title, style="bold"), title_justify="left", box=None, pad_edge=False)
    for column in columns:
        options: dict[str, Any] = {"overflow": "fold"}
        if column.startswith((">", "|")):
            options = {"no_wrap": True, "justify": "right" if column[0] == ">" else "left"}
        table.add_column(Text(column.lstrip(">|")), **options)
    return table


def _bar(fraction: float) -> str:
    """A bar of at most BAR characters, to an eighth of one."""
    eighths = round(min(1.0, fraction) * BAR * 8)
    return "█" * (eighths // 8) + ("", *"▏▎▍▌▋▊▉")[eighths % 8]
