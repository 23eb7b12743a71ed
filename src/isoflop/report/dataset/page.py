"""`isoflop data inspect --out`: the same as one HTML page, which needs no network and can be sent on."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from isoflop import __version__
from isoflop.config.errors import UserError
from isoflop.monitor import units
from isoflop.monitor.folder import write_bytes
from isoflop.report.dataset import figures
from isoflop.report.dataset.compare import Comparison
from isoflop.report.dataset.gather import Dataset, Look
from isoflop.report.dataset.text import printable, visible
from isoflop.report.headline import Tile
from isoflop.report.page import TEMPLATES, script_json, when

HERE = Path(__file__).parent / "template"
QUANTILES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)


def write_page(out: Path, datasets: Sequence[Dataset], comparison: Comparison | None, look: Look) -> None:
    """Write the page of one dataset, or of two and how they differ. Raises UserError where it cannot."""
    if out.is_dir():
        raise UserError(f"{out}: is a folder; give --out a file, such as {out / 'inspect.html'}")
    page = render(datasets, comparison, look)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(out, page.encode())
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {error.strerror}; give another --out") from None


def render(datasets: Sequence[Dataset], comparison: Comparison | None, look: Look) -> str:
    """The page. Its numbers also stand in it as JSON, in the script element with the id `isoflop-data`."""
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise UserError(f"{error.name} is not installed; `pip install 'isoflop[report]'`") from None
    environment = Environment(
        loader=FileSystemLoader([HERE, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": units.count,
        "percent": lambda fraction: f"{100 * fraction:.1f} %",
        "percents": lambda fraction: f"{100 * fraction:.2f} %",
        "when": when,
        "printable": printable,
        "visible": visible,
        "yaml": partial(yaml.safe_dump, sort_keys=False, allow_unicode=True, width=100),
    }
    drawn = {
        "documents": figures.length_chart(datasets, "documents"),
        "tokens": figures.length_chart(datasets, "tokens"),
        "bytes": figures.byte_chart(datasets),
    }
    return environment.get_template("dataset.html").render(
        title=" and ".join(dataset.name for dataset in datasets),
        made=datetime.now(UTC),
        version=__version__,
        datasets=datasets,
        first=datasets[0],
        comparison=comparison,
        look=look,
        tiles=tiles(datasets),
        quantiles=QUANTILES,
        groups={kind: datasets[0].groups(kind, look) for kind in ("kept", "dropped", "failed")},
        clusters=look.of_clusters(datasets[0].clusters),
        charts={place: figure for place, figure in drawn.items() if figure["data"]},
        data=script_json(numbers(datasets, comparison)),
        script_json=script_json,
        plotly=get_plotlyjs(),
    )


def tiles(datasets: Sequence[Dataset]) -> list[Tile]:
    """The few numbers that a reader takes away; of two datasets, one after the other."""
    told = [_headline(dataset) for dataset in datasets]
    names = [name for name in told[0] if all(name in each for each in told)]
    return [
        Tile(
            name,
            " → ".join(each[name][0] for each in told),
            UNITS.get(name, ""),
            " → ".join(dict.fromkeys(each[name][1] for each in told if each[name][1])),
        )
        for name in names
    ]


UNITS = {"Unigram entropy": "nats"}


def _headline(dataset: Dataset) -> dict[str, tuple[str, str]]:
    """(value, note) by name."""
    manifest, entered = dataset.manifest, dataset.documents_in
    share = f"{units.percent(manifest.total_documents / entered)} of {entered:,}" if entered else ""
    told = {
        "Documents": (f"{manifest.total_documents:,}", share),
        "Tokens": (units.count(manifest.total_tokens), f"{dataset.lengths.mean:,.0f} a document"),
    }
    ratio = dataset.extra.get("bytes_per_token") or dataset.tokens.bytes_per_token
    if ratio:
        text = f"{units.count(ratio * manifest.total_tokens)}B of text"
        told["Bytes a token"] = (f"{ratio:.2f}", text)
    nats = dataset.extra.get("unigram_entropy_nats", dataset.tokens.entropy_nats)
    used = f"{dataset.tokens.used:,} of {dataset.tokens.vocab_size:,} ids occur"
    told["Unigram entropy"] = (f"{nats:.3f}", used)
    return told


def numbers(datasets: Sequence[Dataset], comparison: Comparison | None) -> dict[str, Any]:
    """What the page shows, for tools."""
    told: dict[str, Any] = {
        "isoflop": __version__,
        "datasets": [
            {
                "path": str(dataset.root),
                "content_sha256": dataset.manifest.content_sha256,
                "documents": dataset.manifest.total_documents,
                "tokens": dataset.manifest.total_tokens,
                "stages": [stage.model_dump() for stage in dataset.manifest.stages],
                "lengths": dataset.lengths.bins(),
                "quantiles": {f"{q:g}": dataset.lengths.quantile(q) for q in QUANTILES},
                "unigram_entropy_nats": dataset.tokens.entropy_nats,
                "bytes_per_token": dataset.tokens.bytes_per_token,
                "top_tokens": [[token.id, token.count] for token in dataset.tokens.top],
            }
            for dataset in datasets
        ],
    }
    if comparison is not None:
        overlap = comparison.overlap
        told["difference"] = {
            "config": comparison.config,
            "beside": comparison.beside,
            "kept": None if overlap is None else [overlap.both, overlap.first, overlap.second],
        }
    return told
