"""`isoflop <verb>`: questions about runs. Each verb imports what it needs when it is called."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from isoflop.config.errors import UserError

app = typer.Typer(
    name="isoflop",
    help="Questions about training runs. Runs themselves start with `python launch/train.py`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Folders = Annotated[
    list[Path], typer.Argument(metavar="FOLDER", help="Run folders, or folders of run folders.")
]

data = typer.Typer(help="Questions about token datasets.", no_args_is_help=True)
app.add_typer(data, name="data")


@app.callback()
def root() -> None:
    """Questions about training runs. Runs themselves start with `python launch/train.py`."""


@app.command()
def report(
    folders: Folders,
    out: Annotated[Path | None, typer.Option(help="Default: report.html in the first folder.")] = None,
    title: Annotated[str | None, typer.Option(help="Default: the names of the runs.")] = None,
) -> None:
    """One self-contained HTML page: losses, layouts, throughput, data, configuration."""
    from isoflop.report.page import write_report

    path, notes = write_report(folders, out, title)
    for note in notes:
        _warn(note)
    print(path)


@app.command()
def runs(
    folders: Folders,
    out: Annotated[Path, typer.Option(help="Ends in .csv, .jsonl or .parquet.")],
) -> None:
    """One row a run, raw counts: the table that laws are fitted to."""
    from isoflop.report.gather import gather
    from isoflop.report.runs_table import write_runs_table

    rows = write_runs_table(gather(folders, _warn), out, _warn)
    print(f"{rows} run{'s' * (rows != 1)}")
    print(out)


@app.command()
def schema() -> None:
    """The JSON schema of a training run's configuration."""
    import json

    from isoflop.config.jsonschema import run_schema

    print(json.dumps(run_schema(), indent=2))


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A run folder, one of its checkpoints, or an imported model.")],
    out: Annotated[Path, typer.Option(help="The folder to write; must not be there yet.")],
    step: Annotated[int | None, typer.Option(help="Of the checkpoint; default: the last.")] = None,
    dtype: Annotated[Literal["float32", "bfloat16"], typer.Option(help="Of the tensors.")] = "float32",
    shard_bytes: Annotated[int, typer.Option(min=1, help="The most that one file holds.")] = 5_000_000_000,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Folder of its files; default: the run's dataset.")
    ] = None,
) -> None:
    """A checkpoint, saved in whatever layout, as a Hugging Face folder."""
    from isoflop.checkpoint.hf_export import export_checkpoint

    for note in export_checkpoint(run, out, step, dtype, shard_bytes, tokenizer):
        _warn(note)
    print(out)


@app.command("import")
def import_(
    folder: Annotated[Path, typer.Argument(help="A Hugging Face folder: config.json and safetensors.")],
    into: Annotated[Path, typer.Option(help="The folder to write; must not be there yet.")],
) -> None:
    """A Hugging Face folder as a checkpoint, for `init_from=` of a training run."""
    from isoflop.checkpoint.hf_import import import_model

    model = import_model(folder, into)
    print(f"{model.n_layers} layers of width {model.width}, to train on with:")
    print(f"  cp {into}/model.yaml configs/model/{into.name}.yaml")
    print(f"  python launch/train.py model={into.name} init_from={into}")
    print(into)


@data.callback()
def data_root() -> None:
    """Questions about token datasets. One is built with `python launch/data.py`."""


@data.command()
def inspect(
    dataset: Annotated[Path, typer.Argument(help="A folder with a manifest.json.")],
    other: Annotated[Path | None, typer.Argument(help="Another one: shows how it differs.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write an HTML page instead.")] = None,
    reason: Annotated[str | None, typer.Option(help="Only what this reason or step dropped.")] = None,
    n: Annotated[int, typer.Option(min=0, help="Documents of each reason.")] = 5,
    seed: Annotated[int, typer.Option(help="Which of those that were kept aside.")] = 0,
) -> None:
    """What a curation kept and dropped, and why; lengths, tokens, near-duplicates; how two of them differ."""
    from isoflop.report.dataset.inspect import inspect_datasets

    inspect_datasets([dataset, *([other] if other else [])], out, reason, n, seed)


def main() -> None:
    """The program. A user's mistake is one line on stderr and a non-zero exit."""
    try:
        app()
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)
